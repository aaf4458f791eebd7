//! The logarithm of the hyperbolic cosine.

use tch::Tensor;

use super::cells::{self, Cell};
use super::{Batch, Loops, Loss};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// `L = mean of ln cosh(z - y)` over the labelled cells: a square near the target, absolute far from it.
    pub struct LogCosh = "LogCosh" {}
}

impl<T: Real> Cell<T, 1> for LogCosh {
    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, _own: T) -> (T, [T; 1]) {
        let error = (z - y).wide();
        // ln cosh x = |x| + ln(1 + exp(-2 |x|)) - ln 2, which does not overflow.
        let value = error.abs() + (-2.0 * error.abs()).exp().ln_1p() - std::f64::consts::LN_2;
        (T::of(value), [T::of(error.tanh())])
    }
}

impl<T: Real> Loops<T> for LogCosh {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for LogCosh {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Numbers { columns: super::columns("LogCosh", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let size = (raw - labels).abs();
        (&size * -2.0).exp().log1p() + size - std::f64::consts::LN_2
    }
}
