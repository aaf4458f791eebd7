//! Adagrad.

use super::{Optimizer, PerGroup, Rule, Segment, rates, sweep};

crate::component! {
    /// Adagrad (Duchi, Hazan and Singer, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization,
    /// JMLR 2011).
    ///
    /// `g += weight_decay w`, `s += g^2`, `w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)`. The numbers are those
    /// of `torch.optim.Adagrad`; biases and norms do not decay.
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

impl Optimizer for Adagrad {
    rates!();

    fn slots(&self) -> &'static [&'static str] {
        &["square"]
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
        let fall = 1.0 + step.saturating_sub(1) as f64 * self.lr_decay;
        sweep(segments, parameters, gradients, state, |segment| Sum {
            scale: gradient_scale,
            pull: segment.weight_decay as f32,
            rate: (segment.lr / fall) as f32,
            eps: self.eps as f32,
        });
    }
}
