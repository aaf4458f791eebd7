//! Adam.

use tch::Tensor;

use super::rows::sweep_rows;
use super::{Optimizer, Rule, TensorStep, Updated, rates, sweep};
use crate::parameters::touched::Touched;
use crate::parameters::{PerGroup, Segment};

crate::component! {
    /// Adam (Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015).
    ///
    /// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    /// `w -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`; weight decay adds `weight_decay w` to `g`. The
    /// numbers are those of `torch.optim.Adam`; biases and norms do not decay.
    ///
    /// Of a sparse table a step touches the rows of its batch alone, as `torch.optim.SparseAdam` does: the moments of all
    /// other rows stay as they are instead of fading, those rows do not move, and `weight_decay` pulls at a row only when
    /// it is touched; `t` counts all steps. A table touched as a whole in every step learns as under dense Adam.
    /// `SparseAdam` differs in `eps`, which it adds before `v` is corrected, and knows no decay.
    pub struct Adam = "Adam" {
        /// Learning rate, or learning rates by group.
        lr: PerGroup = PerGroup::All(1e-3), in 0.0..;
        /// Decay rates of the two moments.
        betas: [f64; 2] = [0.9, 0.999], in 0.0..1.0;
        /// Added to the denominator.
        eps: f64 = 1e-8, in 0.0..;
        /// Weight decay, or weight decays by group.
        weight_decay: PerGroup = PerGroup::All(0.0), in 0.0..;
    }
}

/// Adam and AdamW on one segment.
pub(super) struct Moments {
    scale: f32,
    keep: [f32; 2],
    add: [f32; 2],
    /// What is left of a parameter before the step.
    shrink: f32,
    /// How much of a parameter is added to its gradient.
    pull: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

impl Moments {
    /// The rule of step `step`.
    pub(super) fn new(step: u64, scale: f32, [b1, b2]: [f64; 2], eps: f64, lr: f64) -> Self {
        let steps = step as f64;
        Self {
            scale,
            keep: [b1 as f32, b2 as f32],
            add: [(1.0 - b1) as f32, (1.0 - b2) as f32],
            shrink: 1.0,
            pull: 0.0,
            rate: (lr / (1.0 - b1.powf(steps))) as f32,
            root: (1.0 / (1.0 - b2.powf(steps)).sqrt()) as f32,
            eps: eps as f32,
        }
    }

    /// Decay through the gradient.
    pub(super) fn pulled(self, weight_decay: f64) -> Self {
        Self { pull: weight_decay as f32, ..self }
    }

    /// Decay beside the gradient.
    pub(super) fn shrunk(self, factor: f64) -> Self {
        Self { shrink: factor as f32, ..self }
    }
}

impl Rule<2> for Moments {
    #[inline(always)]
    fn apply(&self, parameter: f32, gradient: f32, [m, v]: &mut [f32; 2]) -> f32 {
        let gradient = gradient * self.scale + self.pull * parameter;
        *m = self.keep[0] * *m + self.add[0] * gradient;
        *v = self.keep[1] * *v + self.add[1] * gradient * gradient;
        parameter * self.shrink - self.rate * *m / (v.sqrt() * self.root + self.eps)
    }
}

/// Adam's step from such gradients, on parameters as they are before it.
pub(super) fn moments(
    step: &TensorStep<'_>,
    gradients: &Tensor,
    [b1, b2]: [f64; 2],
    eps: f64,
    parameters: &Tensor,
) -> Updated {
    let first = &step.state[0] * b1 + gradients * (1.0 - b1);
    let second = &step.state[1] * b2 + gradients.square() * (1.0 - b2);
    let rate = (step.lr / step.warmed(b1)).to_kind(first.kind());
    let root = step.warmed(b2).sqrt().reciprocal().to_kind(first.kind());
    let parameters = parameters - rate * &first / (second.sqrt() * root + eps);
    Updated { parameters, state: vec![first, second] }
}

impl Adam {
    fn rule(&self, step: u64, scale: f32, segment: &Segment) -> Moments {
        Moments::new(step, scale, self.betas, self.eps, segment.lr).pulled(segment.weight_decay)
    }
}

impl Optimizer for Adam {
    rates!();

    fn slots(&self) -> &'static [&'static str] {
        &["first_moment", "second_moment"]
    }

    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        moments(step, &step.pulled(), self.betas, self.eps, step.parameters)
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
