//! Products of two vectors, row by row: the scores of attention.

use serde_json::{Value, json};

use super::route::Fork;
use super::segments::covers;
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::real::Real;
use crate::machine::rows::dot;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::Prepare;
use crate::network::{Network, ValueId};
use crate::vectorised;

/// `y = scale * <a, b>` in each row of each group.
#[derive(Debug)]
pub struct Dot {
    /// `a` and `b`.
    pub inputs: [ValueId; 2],
    /// What it fills, of width 1.
    pub output: ValueId,
    /// A factor.
    pub scale: f64,
}

struct DotKernel<T> {
    inputs: [Buffer<T>; 2],
    y: Buffer<T>,
    scale: T,
    passes: PerPass<Option<Fork<T>>>,
}

impl Node for Dot {
    fn name(&self) -> &'static str {
        "Dot"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.to_vec()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"scale": self.scale}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let products = given.input(0) * given.input(1);
        Ok((products.sum_dim_intlist(2_i64, true, given.kind()) * self.scale).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for Dot {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes = at.each_pass(|pass| Ok(Fork::new(at, self.output, pass)))?;
        let inputs = self.inputs.map(|x| at.value(x));
        by_loops(DotKernel { inputs, y: at.value(self.output), scale: T::of(self.scale), passes })
    }
}

impl<T: Real> Kernel for DotKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let [a, b] = &self.inputs;
        products(a.layout.width, self.scale, a.slice(), b.slice(), self.y.slice_mut());
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let [a, b] = &self.inputs;
        if let Some(fork) = self.passes.of(pass) {
            fork.give(step, [b.slice(), a.slice()], self.scale);
        }
        Ok(())
    }
}

vectorised! {
fn products<T: Real>(width: usize, scale: T, a: &[T], b: &[T], y: &mut [T]) {
    for ((y, a), b) in y.iter_mut().zip(a.chunks_exact(width)).zip(b.chunks_exact(width)) {
        *y = scale * dot::<8, T>(a, b);
    }
}
}
