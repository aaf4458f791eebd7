//! Absolute error.

use tch::{Reduction, Tensor};

use super::cells::{self, Cell};
use super::{Batch, Loops, Loss};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Absolute error: `L = mean of |z - y|` over the labelled cells, as `torch.nn.L1Loss`; slope 0 at `z = y`.
    pub struct MeanAbsolute = "MeanAbsolute" {}
}

impl<T: Real> Cell<T, 1> for MeanAbsolute {
    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, _own: T) -> (T, [T; 1]) {
        let error = z - y;
        (error.abs(), [cells::sign(error)])
    }
}

impl<T: Real> Loops<T> for MeanAbsolute {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for MeanAbsolute {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Numbers { columns: super::columns("MeanAbsolute", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        raw.l1_loss(labels, Reduction::None)
    }
}
