//! Stochastic gradient descent.

use super::rows::sweep_rows;
use super::{Optimizer, Rule, TensorStep, Updated, rates, sweep};
use crate::bail;
use crate::error::Result;
use crate::parameters::touched::Touched;
use crate::parameters::{PerGroup, Segment};

crate::component! {
    /// Stochastic gradient descent with momentum (Sutskever et al., On the Importance of Initialization and Momentum
    /// in Deep Learning, ICML 2013, in PyTorch's form).
    ///
    /// `g += weight_decay w`, `b = momentum b + (1 - dampening) g` (`b = g` in the first step), `w -= lr b`, or with
    /// Nesterov's momentum `w -= lr (g + momentum b)`. The numbers are those of `torch.optim.SGD`; biases and norms
    /// do not decay. Of a sparse table a step touches the rows of its batch alone: the momenta of all other rows stay as
    /// they are, and those rows do not move.
    pub struct Sgd = "SGD" {
        /// Learning rate, or learning rates by group.
        lr: PerGroup = PerGroup::All(1e-3), in 0.0..;
        /// Momentum.
        momentum: f64 = 0.0, in 0.0..;
        /// How much less a new gradient counts in the momentum.
        dampening: f64 = 0.0, in 0.0..=1.0;
        /// Weight decay, or weight decays by group.
        weight_decay: PerGroup = PerGroup::All(0.0), in 0.0..;
        /// Look ahead along the momentum.
        nesterov: bool = false;
    }
    check: coherent;
}

fn coherent(sgd: &Sgd) -> Result<()> {
    if sgd.nesterov && (sgd.momentum == 0.0 || sgd.dampening != 0.0) {
        let momentum = sgd.momentum;
        let dampening = sgd.dampening;
        bail!("SGD: argument `nesterov` needs momentum > 0 and dampening = 0; got {momentum} and {dampening}");
    }
    Ok(())
}

/// Without momentum.
struct Plain {
    scale: f32,
    pull: f32,
    rate: f32,
}

impl Plain {
    fn new(scale: f32, segment: &Segment) -> Self {
        Self { scale, pull: segment.weight_decay as f32, rate: segment.lr as f32 }
    }
}

impl Rule<0> for Plain {
    #[inline(always)]
    fn apply(&self, parameter: f32, gradient: f32, []: &mut [f32; 0]) -> f32 {
        parameter - self.rate * (gradient * self.scale + self.pull * parameter)
    }
}

/// With momentum: the step is `direct` times the gradient plus `along` times the buffer.
struct Heavy {
    plain: Plain,
    keep: f32,
    add: f32,
    direct: f32,
    along: f32,
}

impl Rule<1> for Heavy {
    #[inline(always)]
    fn apply(&self, parameter: f32, gradient: f32, [buffer]: &mut [f32; 1]) -> f32 {
        let gradient = gradient * self.plain.scale + self.plain.pull * parameter;
        *buffer = self.keep * *buffer + self.add * gradient;
        parameter - self.plain.rate * (self.direct * gradient + self.along * *buffer)
    }
}

impl Sgd {
    fn heavy(&self, step: u64, plain: Plain) -> Heavy {
        let momentum = self.momentum as f32;
        let (keep, add) = if step == 1 { (0.0, 1.0) } else { (momentum, (1.0 - self.dampening) as f32) };
        let (direct, along) = if self.nesterov { (1.0, momentum) } else { (0.0, 1.0) };
        Heavy { plain, keep, add, direct, along }
    }
}

impl Optimizer for Sgd {
    rates!();

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum"] }
    }

    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        let gradients = step.pulled();
        let [before] = step.state else {
            return Updated { parameters: step.parameters - step.rate() * gradients, state: Vec::new() };
        };
        let keep = step.first_or(0.0, self.momentum);
        let add = step.first_or(1.0, 1.0 - self.dampening);
        let buffer = keep * before + add * &gradients;
        let along = if self.nesterov { gradients + &buffer * self.momentum } else { buffer.shallow_clone() };
        Updated { parameters: step.parameters - step.rate() * along, state: vec![buffer] }
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
        let plain = |segment: &Segment| Plain::new(gradient_scale, segment);
        if self.momentum == 0.0 {
            sweep(segments, parameters, gradients, state, plain);
        } else {
            sweep(segments, parameters, gradients, state, |segment| self.heavy(step, plain(segment)));
        }
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
        let plain = Plain::new(gradient_scale, segment);
        if self.momentum == 0.0 {
            sweep_rows(&plain, table, touched, state);
        } else {
            sweep_rows(&self.heavy(step, plain), table, touched, state);
        }
    }
}
