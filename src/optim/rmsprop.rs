//! RMSprop.

use super::rows::sweep_rows;
use super::{Optimizer, Rule, TensorStep, Updated, rates, sweep};
use crate::parameters::touched::Touched;
use crate::parameters::{PerGroup, Segment};

crate::component! {
    /// RMSprop (Hinton, Neural Networks for Machine Learning, lecture 6, 2012; centered: Graves, Generating Sequences
    /// with Recurrent Neural Networks, 2013).
    ///
    /// `g += weight_decay w`, `s = alpha s + (1 - alpha) g^2`, `d = g / (sqrt(s) + eps)`; centered, `s` is replaced by
    /// `s - a^2` with `a` the running mean of `g`; `b = momentum b + d`, `w -= lr b`. The numbers are those of
    /// `torch.optim.RMSprop`; biases and norms do not decay.
    ///
    /// Of a sparse table a step touches the rows of its batch alone: the means and momenta of all other rows stay as they
    /// are, and those rows do not move.
    pub struct RmsProp = "RMSprop" {
        /// Learning rate, or learning rates by group.
        lr: PerGroup = PerGroup::All(1e-2), in 0.0..;
        /// Decay rate of the running means.
        alpha: f64 = 0.99, in 0.0..=1.0;
        /// Added to the denominator.
        eps: f64 = 1e-8, in 0.0..;
        /// Weight decay, or weight decays by group.
        weight_decay: PerGroup = PerGroup::All(0.0), in 0.0..;
        /// Momentum.
        momentum: f64 = 0.0, in 0.0..;
        /// Divide by the standard deviation instead of the root mean square.
        centered: bool = false;
    }
}

/// One segment's step; buffers are square, mean, momentum.
struct Means {
    scale: f32,
    pull: f32,
    rate: f32,
    keep: f32,
    add: f32,
    /// 1 if centered, else 0.
    center: f32,
    momentum: f32,
    eps: f32,
}

impl Rule<3> for Means {
    #[inline(always)]
    fn apply(&self, parameter: f32, gradient: f32, [square, mean, buffer]: &mut [f32; 3]) -> f32 {
        let gradient = gradient * self.scale + self.pull * parameter;
        *square = self.keep * *square + self.add * gradient * gradient;
        *mean = self.keep * *mean + self.add * gradient;
        let spread = *square - self.center * *mean * *mean;
        *buffer = self.momentum * *buffer + gradient / (spread.max(0.0).sqrt() + self.eps);
        parameter - self.rate * *buffer
    }
}

impl RmsProp {
    fn rule(&self, scale: f32, segment: &Segment) -> Means {
        Means {
            scale,
            pull: segment.weight_decay as f32,
            rate: segment.lr as f32,
            keep: self.alpha as f32,
            add: (1.0 - self.alpha) as f32,
            center: if self.centered { 1.0 } else { 0.0 },
            momentum: self.momentum as f32,
            eps: self.eps as f32,
        }
    }
}

impl Optimizer for RmsProp {
    rates!();

    fn slots(&self) -> &'static [&'static str] {
        &["square", "mean", "momentum"]
    }

    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        let [square, mean, buffer] = step.state else { unreachable!("three slots") };
        let gradients = step.pulled();
        let square = square * self.alpha + gradients.square() * (1.0 - self.alpha);
        let mean = mean * self.alpha + &gradients * (1.0 - self.alpha);
        let spread = if self.centered { &square - mean.square() } else { square.shallow_clone() };
        let buffer = buffer * self.momentum + gradients / (spread.clamp_min(0.0).sqrt() + self.eps);
        Updated { parameters: step.parameters - step.rate() * &buffer, state: vec![square, mean, buffer] }
    }

    fn update(
        &self,
        _step: u64,
        gradient_scale: f32,
        segments: &[Segment],
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    ) {
        sweep(segments, parameters, gradients, state, |segment| self.rule(gradient_scale, segment));
    }

    fn update_rows(
        &self,
        _step: u64,
        gradient_scale: f32,
        segment: &Segment,
        table: &mut [f32],
        touched: &Touched<f32>,
        state: &mut [&mut [f32]],
    ) {
        sweep_rows(&self.rule(gradient_scale, segment), table, touched, state);
    }
}
