//! Poisson negative log-likelihood of counts.

use tch::Tensor;

use super::cells::{self, Cell};
use super::{Batch, Link, Loops, Loss};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

/// Largest log-rate whose exponential is taken: beyond all counts, and far from the largest `f32`.
const STEEPEST: f64 = 60.0;

crate::component! {
    /// Negative log-likelihood of counts under a Poisson law whose log-rate is the raw output:
    /// `L = mean of exp(z) - y z` over the labelled cells, without the constant `ln y!`, as
    /// `torch.nn.PoissonNLLLoss(log_input=True)`. Beyond `z = 60` the exponential continues as its tangent.
    /// Labels are at least 0; predictions are rates `[rows, outputs]`.
    pub struct Poisson = "Poisson" {}
}

impl<T: Real> Cell<T, 1> for Poisson {
    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, _own: T) -> (T, [T; 1]) {
        let top = T::of(STEEPEST);
        let rate = z.min(top).exp();
        (rate * (T::ONE + (z - top).max(T::ZERO)) - y * z, [rate - y])
    }
}

impl<T: Real> Loops<T> for Poisson {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for Poisson {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Counts { columns: super::columns("Poisson", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let rate = raw.clamp_max(STEEPEST).exp();
        rate * ((raw - STEEPEST).relu() + 1.0) - labels * raw
    }

    fn link(&self, _labels: Labels) -> Link {
        Link::Exponential { most: STEEPEST }
    }
}
