//! What a node is: a description, and a kernel for each number type that plans work in.

use std::fmt::Debug;

use serde_json::Value;
use tch::Tensor;

use super::axis::Link;
use super::formula::{Computed, Operands};
use super::pass::{Pass, Step};
use super::prepare::Prepare;
use super::{InputId, Network, ValueId};
use crate::error::Result;
use crate::machine::foreign::Foreign;
use crate::machine::real::Real;
use crate::parameters::ParamId;

/// What every node's description offers.
pub trait Node: Prepares<f32> + Prepares<f64> + Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// The values it reads.
    fn inputs(&self) -> Vec<ValueId>;
    /// The value it fills.
    fn output(&self) -> ValueId;
    /// The inputs whose codes it reads.
    fn codes(&self) -> Vec<InputId> {
        Vec::new()
    }
    /// The links between axes along which it moves, to or from: its output need not be on the axis of its inputs.
    fn along(&self) -> Vec<Link> {
        Vec::new()
    }
    /// What it computes, as tensor algebra that libtorch can differentiate.
    ///
    /// # Errors
    /// What code of the caller's own making raises.
    fn formula(&self, given: &Operands<'_>) -> Result<Computed>;
    /// The parameters it uses.
    fn params(&self) -> Vec<ParamId> {
        Vec::new()
    }
    /// The caller's own code that computes it instead of a formula, if there is some.
    fn foreign(&self) -> Option<ForeignCode<'_>> {
        None
    }
    /// What its mathematics depends on beside values and parameters, as [`Network::describe`] shows it; none of a node that
    /// means nothing outside of the core.
    fn attributes(&self) -> Option<Value> {
        None
    }
    /// Names of the terms that it adds to the objective.
    fn terms(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Whether its contribution covers its inputs' whole gradients (in the lanes it touches).
    fn covers_input(&self, _net: &Network) -> bool {
        true
    }
    /// Whether it can work through the slab of a parameter's per-task gradients in tiles.
    fn tiles(&self, _param: ParamId) -> bool {
        false
    }
    /// The weight `W`, if it computes `x W^T` of its only input, whatever comes after that.
    fn multiplies(&self) -> Option<ParamId> {
        None
    }
    /// Whether what it computes is affine: nothing comes after products and sums.
    fn affine(&self) -> bool {
        false
    }
}

/// Code of the caller's own as a node's function.
#[derive(Debug)]
pub struct ForeignCode<'a> {
    /// The function.
    pub function: &'a dyn Foreign,
    /// Where its parameters and buffers stand.
    pub path: &'a str,
    /// Its buffers in the flat state.
    pub buffers: &'a [Piece],
}

/// A piece of the flat state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts.
    pub start: usize,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A kernel of loops, if a node has some.
pub type MaybeKernel = Option<Box<dyn Kernel>>;

/// The half of a node that is made for one number type. A node without loops of its own is differentiated by libtorch.
pub trait Prepares<T: Real> {
    /// Makes the kernel: every view and buffer, once.
    ///
    /// # Errors
    /// What libtorch refuses.
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let _ = at;
        Ok(None)
    }
}

/// What [`Prepares::prepare`] gives of a kernel.
pub fn by_loops(kernel: impl Kernel + 'static) -> Result<MaybeKernel> {
    Ok(Some(Box::new(kernel)))
}

/// A number type that plans work in.
pub trait Number: Real {
    /// A node's kernel for it.
    ///
    /// # Errors
    /// What libtorch refuses.
    fn kernel(node: &dyn Node, at: &Prepare<'_, Self>) -> Result<MaybeKernel>;
}

impl Number for f32 {
    fn kernel(node: &dyn Node, at: &Prepare<'_, f32>) -> Result<MaybeKernel> {
        node.prepare(at)
    }
}

impl Number for f64 {
    fn kernel(node: &dyn Node, at: &Prepare<'_, f64>) -> Result<MaybeKernel> {
        node.prepare(at)
    }
}

/// A node's loops over the buffers of one plan.
pub trait Kernel: Send {
    /// Fills the output from the inputs.
    fn forward(&mut self, step: &Step<'_>) -> Result<()>;
    /// Fills the inputs' and parameters' gradients from the output's, which it may overwrite.
    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()>;
    /// The terms of the objective that the last forward gave, in the order of the node's names of them: while training,
    /// times the step's share. Backward adds their gradients.
    fn terms(&self) -> Terms<'_> {
        Terms::Numbers(&[])
    }
}

/// Terms of the objective where they are.
#[derive(Debug)]
pub enum Terms<'a> {
    /// Of loops.
    Numbers(&'a [f64]),
    /// Of formulas, `f64` without dimensions each.
    Tensors(&'a [Tensor]),
}
