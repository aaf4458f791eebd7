//! Adagrad.

use super::rows::{RowRule, sweep_rows};
use super::{Optimizer, Rule, TensorStep, Updated, rates, sweep};
use crate::parameters::touched::Touched;
use crate::parameters::{PerGroup, Segment};

crate::component! {
    /// Adagrad (Duchi, Hazan and Singer, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization,
    /// JMLR 2011).
    ///
    /// `g += weight_decay w`, `s += g^2`, `w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)`. The numbers are those
    /// of `torch.optim.Adagrad`; biases and norms do not decay.
    ///
    /// A row of a sparse table has one sum, to which it adds the mean of its `g^2`: row-wise Adagrad, as DLRM (Naumov et
    /// al., 2019) and FBGEMM have it, which takes a `width`-th of the memory. A step touches the rows of its batch alone.
    pub struct Adagrad = "Adagrad" {
        /// Learning rate, or learning rates by group.
        lr: PerGroup = PerGroup::All(1e-2), in 0.0..;
        /// How the learning rate falls with the steps.
        lr_decay: f64 = 0.0, in 0.0..;
        /// Weight decay, or weight decays by group.
        weight_decay: PerGroup = PerGroup::All(0.0), in 0.0..;
        /// What the sums of squares begin with.
        initial_accumulator_value: f64 = 0.0, in 0.0..;
        /// Added to the denominator.
        eps: f64 = 1e-10, in 0.0..;
    }
}

/// One segment's step.
struct Sum {
    scale: f32,
    pull: f32,
    rate: f32,
    eps: f32,
}

impl Rule<1> for Sum {
    #[inline(always)]
    fn apply(&self, parameter: f32, gradient: f32, [sum]: &mut [f32; 1]) -> f32 {
        let gradient = gradient * self.scale + self.pull * parameter;
        *sum += gradient * gradient;
        parameter - self.rate * gradient / (sum.sqrt() + self.eps)
    }
}

/// A row's step with one sum for all of it.
struct RowSum(Sum);

impl RowRule<1> for RowSum {
    #[inline(always)]
    fn apply_to_row(&self, parameters: &mut [f32], gradient: &[f32], [sum]: [&mut [f32]; 1]) {
        let Sum { scale, pull, rate, eps } = self.0;
        let squares: f32 = parameters.iter().zip(gradient).map(|(w, g)| (g * scale + pull * w).powi(2)).sum();
        sum[0] += squares / parameters.len() as f32;
        let rate = rate / (sum[0].sqrt() + eps);
        for (w, g) in parameters.iter_mut().zip(gradient) {
            *w -= rate * (g * scale + pull * *w);
        }
    }
}

impl Adagrad {
    fn rule(&self, step: u64, scale: f32, segment: &Segment) -> Sum {
        let fall = 1.0 + step.saturating_sub(1) as f64 * self.lr_decay;
        let rate = (segment.lr / fall) as f32;
        Sum { scale, pull: segment.weight_decay as f32, rate, eps: self.eps as f32 }
    }
}

impl Optimizer for Adagrad {
    rates!();

    fn slots(&self) -> &'static [&'static str] {
        &["square"]
    }

    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        let gradients = step.pulled();
        let sum = &step.state[0] + gradients.square();
        let fall = (step.number - 1.0) * self.lr_decay + 1.0;
        let rate = (step.lr / fall).to_kind(sum.kind());
        Updated { parameters: step.parameters - rate * gradients / (sum.sqrt() + self.eps), state: vec![sum] }
    }

    fn initial(&self, _slot: usize) -> f32 {
        self.initial_accumulator_value as f32
    }

    fn update(
        &self,
        step: u64,
        gradient_scale: f32,
        segments: &[Segment],
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    ) {
        sweep(segments, parameters, gradients, state, |segment| self.rule(step, gradient_scale, segment));
    }

    fn row_state(&self, _slot: usize, _width: usize) -> usize {
        1
    }

    fn update_rows(
        &self,
        step: u64,
        gradient_scale: f32,
        segment: &Segment,
        table: &mut [f32],
        touched: &Touched<f32>,
        state: &mut [&mut [f32]],
    ) {
        sweep_rows(&RowSum(self.rule(step, gradient_scale, segment)), table, touched, state);
    }
}
