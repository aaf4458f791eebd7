//! Huber's loss.

use tch::{Reduction, Tensor};

use super::cells::{self, Cell};
use super::{Batch, Loops, Loss};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Huber's loss (Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 1964), as
    /// `torch.nn.HuberLoss`: with `e = z - y`, `L = mean of e^2 / 2` where `|e| < delta`, `delta (|e| - delta / 2)`
    /// elsewhere, over the labelled cells.
    pub struct Huber = "Huber" {
        /// Where the parabola ends and the lines begin.
        delta: f64 = 1.0, in f64::MIN_POSITIVE..;
    }
}

impl<T: Real> Cell<T, 1> for Huber {
    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, _own: T) -> (T, [T; 1]) {
        let error = z - y;
        let delta = T::of(self.delta);
        let bent = error.max(-delta).min(delta);
        (bent * (error - T::of(0.5) * bent), [bent])
    }
}

impl<T: Real> Loops<T> for Huber {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for Huber {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Numbers { columns: super::columns("Huber", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        raw.huber_loss(labels, Reduction::None, self.delta)
    }
}
