//! Steps of equal length in every coordinate.

use super::rows::sweep_rows;
use super::{Optimizer, Rule, TensorStep, Updated, rates, sweep};
use crate::parameters::touched::Touched;
use crate::parameters::{PerGroup, Segment};

crate::component! {
    /// signSGD (Bernstein et al., ICML 2018): `w -= lr sign(g)`.
    pub struct SignSgd = "SignSGD" {
        /// Learning rate, or learning rates by group.
        lr: PerGroup = PerGroup::All(1e-2), in 0.0..;
        /// Weight decay, or weight decays by group.
        weight_decay: PerGroup = PerGroup::All(0.0), in 0.0..;
    }
}

struct Sign {
    pull: f32,
    rate: f32,
}

impl Sign {
    fn new(segment: &Segment) -> Self {
        Self { pull: segment.weight_decay as f32, rate: segment.lr as f32 }
    }
}

impl Rule<0> for Sign {
    #[inline(always)]
    fn apply(&self, parameter: f32, gradient: f32, []: &mut [f32; 0]) -> f32 {
        let gradient = gradient + self.pull * parameter;
        let sign = f32::from(i8::from(gradient > 0.0) - i8::from(gradient < 0.0));
        parameter - self.rate * sign
    }
}

impl Optimizer for SignSgd {
    rates!();

    fn slots(&self) -> &'static [&'static str] {
        &[]
    }

    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        Updated { parameters: step.parameters - step.rate() * step.pulled().sign(), state: Vec::new() }
    }

    fn update(
        &self,
        _step: u64,
        _gradient_scale: f32,
        segments: &[Segment],
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    ) {
        sweep(segments, parameters, gradients, state, Sign::new);
    }

    fn update_rows(
        &self,
        _step: u64,
        _gradient_scale: f32,
        segment: &Segment,
        table: &mut [f32],
        touched: &Touched<f32>,
        state: &mut [&mut [f32]],
    ) {
        sweep_rows(&Sign::new(segment), table, touched, state);
    }
}
