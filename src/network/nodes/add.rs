//! The sum of values of one shape: residual connections.

use serde_json::{Value, json};

use super::concat::Pieces;
use super::segments::{covers, take};
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::Prepare;
use crate::network::{Network, ValueId};

/// `y = x_1 + x_2 + ...`.
#[derive(Debug)]
pub struct Add {
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it fills.
    pub output: ValueId,
}

struct AddKernel<T> {
    inputs: Vec<Buffer<T>>,
    y: Buffer<T>,
    passes: PerPass<Pieces<T>>,
}

impl Node for Add {
    fn name(&self) -> &'static str {
        "Add"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let sum = given.inputs[1..].iter().fold(given.input(0).shallow_clone(), |sum, x| sum + x);
        Ok(sum.into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for Add {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let inputs = self.inputs.iter().map(|&x| at.value(x)).collect();
        let starts = vec![0; self.inputs.len()];
        let passes = at.each_pass(|pass| Ok(Pieces::new(at, self.output, &starts, pass)))?;
        by_loops(AddKernel { inputs, y: at.value(self.output), passes })
    }
}

impl<T: Real> Kernel for AddKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        self.y.slice_mut().copy_from_slice(self.inputs[0].slice());
        self.inputs[1..].iter().for_each(|x| take(self.y.slice_mut(), x.slice(), true));
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        self.passes.of(pass).give_back(step);
        Ok(())
    }
}
