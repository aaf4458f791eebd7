//! Squared error.

use tch::{Reduction, Tensor};

use super::cells::{self, Cell};
use super::{Batch, Loops, Loss};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Squared error: `L = mean of (z - y)^2` over the labelled cells, as `torch.nn.MSELoss`.
    pub struct MeanSquared = "MeanSquared" {}
}

impl<T: Real> Cell<T, 1> for MeanSquared {
    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, _own: T) -> (T, [T; 1]) {
        let error = z - y;
        (error * error, [error + error])
    }
}

impl<T: Real> Loops<T> for MeanSquared {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for MeanSquared {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Numbers { columns: super::columns("MeanSquared", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        raw.mse_loss(labels, Reduction::None)
    }
}
