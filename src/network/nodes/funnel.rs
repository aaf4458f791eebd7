//! The logit of two events that follow each other.

use serde_json::{Value, json};
use tch::Tensor;

use super::route::Fork;
use super::segments::covers;
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::Prepare;
use crate::network::{Network, ValueId};
use crate::vectorised;

/// `y = logit(sigmoid(a) sigmoid(b)) = a + b - ln(1 + e^a + e^b)` (Ma et al., SIGIR 2018), without overflow and without a
/// difference of large numbers.
#[derive(Debug)]
pub struct Funnel {
    /// `a` and `b`, of width 1.
    pub inputs: [ValueId; 2],
    /// What it fills.
    pub output: ValueId,
}

struct FunnelKernel<T> {
    inputs: [Buffer<T>; 2],
    y: Buffer<T>,
    slopes: [Buffer<T>; 2],
    passes: PerPass<Option<Fork<T>>>,
}

impl Node for Funnel {
    fn name(&self) -> &'static str {
        "Funnel"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.to_vec()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let a = given.input(0);
        let b = given.input(1);
        let any = Tensor::stack(&[a.zeros_like(), a.shallow_clone(), b.shallow_clone()], 0).logsumexp(0_i64, false);
        Ok((a + b - any).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for Funnel {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes = at.each_pass(|pass| Ok(Fork::new(at, self.output, pass)))?;
        let inputs = self.inputs.map(|x| at.value(x));
        let slopes = [at.scratch(self.output)?, at.scratch(self.output)?];
        by_loops(FunnelKernel { inputs, y: at.value(self.output), slopes, passes })
    }
}

impl<T: Real> Kernel for FunnelKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let [a, b] = &self.inputs;
        let [of_a, of_b] = &mut self.slopes;
        narrow(a.slice(), b.slice(), self.y.slice_mut(), of_a.slice_mut(), of_b.slice_mut());
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let [of_a, of_b] = &self.slopes;
        if let Some(fork) = self.passes.of(pass) {
            fork.give(step, [of_a.slice(), of_b.slice()], T::ONE);
        }
        Ok(())
    }
}

vectorised! {
/// Values and slopes `(1 + e^b) / (1 + e^a + e^b)` and `(1 + e^a) / (1 + e^a + e^b)`.
fn narrow<T: Real>(a: &[T], b: &[T], y: &mut [T], of_a: &mut [T], of_b: &mut [T]) {
    for (i, y) in y.iter_mut().enumerate() {
        let low = a[i].min(b[i]);
        let high = a[i].max(b[i]);
        let top = high.max(T::ZERO);
        let one = (T::ZERO - top).exp();
        let x = (a[i] - top).exp();
        let z = (b[i] - top).exp();
        let sum = one + x + z;
        *y = low + high.min(T::ZERO) - sum.ln();
        of_a[i] = (one + z) / sum;
        of_b[i] = (one + x) / sum;
    }
}
}
