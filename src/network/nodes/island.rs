//! What is not worth a node: one node whose forward runs under libtorch's autograd, or is code of the caller's own.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::{Value, json};
use tch::Tensor;

use crate::bail;
use crate::error::Result;
use crate::machine::foreign::Foreign;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{ForeignCode, Node, Piece, Prepares};
use crate::parameters::{Init, ParamId};

/// A differentiable function of tensors with parameters of its own.
pub trait Module: Debug + Send + Sync {
    /// Numbers a row of the output.
    fn width(&self) -> usize;
    /// Name, shape and start of each parameter.
    fn parameters(&self) -> Vec<(String, Vec<usize>, Init)>;
    /// Name, shape and start of each buffer, which code of the caller's own keeps from step to step.
    fn buffers(&self) -> Vec<(String, Vec<usize>, Vec<f64>)> {
        Vec::new()
    }
    /// From inputs `[rows, width]` and parameters to `[rows, self.width()]`.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    fn forward(&self, inputs: &[Tensor], parameters: &[Tensor], training: bool) -> Result<Tensor>;
    /// The code of the caller's own that is asked instead of [`Module::forward`].
    fn foreign(&self) -> Option<&dyn Foreign> {
        None
    }
}

/// A [`Module`] as a node; costs what autograd costs, everything around it stays static.
#[derive(Debug)]
pub struct Island {
    /// Where its parameters and buffers stand.
    pub path: String,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it fills.
    pub output: ValueId,
    /// Its parameters.
    pub params: Vec<ParamId>,
    /// Its buffers in the flat state.
    pub buffers: Vec<Piece>,
    /// The function.
    pub module: Arc<dyn Module>,
}

impl Node for Island {
    fn name(&self) -> &'static str {
        if self.module.foreign().is_some() { "Module" } else { "Island" }
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        // A function of the core's own has no name elsewhere.
        let starts: Vec<_> = self.buffers.iter().map(|piece| piece.start).collect();
        self.module.foreign().map(|_| json!({"path": self.path, "buffers": starts}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let inputs: Vec<_> = given.inputs.iter().map(|x| x.squeeze_dim(0)).collect();
        let output = self.module.forward(&inputs, given.params, given.training)?;
        let shape = [given.input(0).size()[1], self.module.width() as i64];
        if output.size() != shape || output.kind() != given.kind() {
            bail!(
                "an island's forward should give {shape:?} of {:?}; got {:?} of {:?}",
                given.kind(),
                output.size(),
                output.kind()
            );
        }
        Ok(output.unsqueeze(0).into())
    }

    fn params(&self) -> Vec<ParamId> {
        self.params.clone()
    }

    fn foreign(&self) -> Option<ForeignCode<'_>> {
        Some(ForeignCode { function: self.module.foreign()?, path: &self.path, buffers: &self.buffers })
    }
}

impl<T: Real> Prepares<T> for Island {}
