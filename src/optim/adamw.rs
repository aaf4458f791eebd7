//! Adam with decoupled weight decay.

use tch::Tensor;

use super::adam::{Moments, moments};
use super::rows::sweep_rows;
use super::{Optimizer, TensorStep, Updated, rates, sweep};
use crate::parameters::touched::Touched;
use crate::parameters::{PerGroup, Segment};

crate::component! {
    /// Adam with weight decay beside the gradient (Loshchilov and Hutter, Decoupled Weight Decay Regularization,
    /// ICLR 2019): `w -= lr weight_decay w` before Adam's step. The numbers are those of `torch.optim.AdamW`; biases
    /// and norms do not decay. Sparse tables learn as under `pt.optim.Adam`, and a row shrinks only when it is touched.
    pub struct AdamW = "AdamW" {
        /// Learning rate, or learning rates by group.
        lr: PerGroup = PerGroup::All(1e-3), in 0.0..;
        /// Decay rates of the two moments.
        betas: [f64; 2] = [0.9, 0.999], in 0.0..1.0;
        /// Added to the denominator.
        eps: f64 = 1e-8, in 0.0..;
        /// Weight decay, or weight decays by group.
        weight_decay: PerGroup = PerGroup::All(1e-2), in 0.0..;
    }
}

/// The rule of step `step` for a segment.
pub(super) fn decoupled(step: u64, scale: f32, betas: [f64; 2], eps: f64, segment: &Segment) -> Moments {
    Moments::new(step, scale, betas, eps, segment.lr).shrunk(1.0 - segment.lr * segment.weight_decay)
}

/// The parameters after decay beside the gradient.
pub(super) fn shrunk(step: &TensorStep<'_>) -> Tensor {
    step.parameters * ((step.rate() * step.weight_decay.to_kind(step.parameters.kind())) * -1.0 + 1.0)
}

impl AdamW {
    fn rule(&self, step: u64, scale: f32, segment: &Segment) -> Moments {
        decoupled(step, scale, self.betas, self.eps, segment)
    }
}

impl Optimizer for AdamW {
    rates!();

    fn slots(&self) -> &'static [&'static str] {
        &["first_moment", "second_moment"]
    }

    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        moments(step, step.gradients, self.betas, self.eps, &shrunk(step))
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

    fn update_rows(
        &self,
        step: u64,
        gradient_scale: f32,
        segment: &Segment,
        table: &mut [f32],
        touched: &Touched<f32>,
        state: &mut [&mut [f32]],
    ) {
        sweep_rows(&self.rule(step, gradient_scale, segment), table, touched, state);
    }
}
