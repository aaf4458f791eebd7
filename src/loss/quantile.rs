//! Quantile regression by the pinball loss.

use tch::Tensor;

use super::cells::{self, Cell};
use super::formula::like;
use super::{Batch, Loops, Loss};
use crate::bail;
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Pinball loss of several quantiles at once (Koenker and Bassett, Regression Quantiles, Econometrica 1978).
    ///
    /// `L = mean of max(q (y - z_q), (q - 1) (y - z_q))` over the quantiles `q` and the labelled cells; slope 0 at
    /// `z_q = y`. Raw outputs and predictions are `[rows, outputs * quantiles]`, the quantiles of one output side by
    /// side.
    pub struct Quantile = "Quantile" {
        /// The quantiles, each between 0 and 1.
        quantiles: Vec<f64> = vec![0.1, 0.5, 0.9], in 0.0..=1.0;
    }
    check: not_empty;
}

fn not_empty(loss: &Quantile) -> Result<()> {
    if loss.quantiles.is_empty() {
        bail!("Quantile: argument `quantiles` should have at least one number; got an empty list");
    }
    Ok(())
}

impl<T: Real> Cell<T, 1> for Quantile {
    #[inline(always)]
    fn repeats(&self) -> usize {
        self.quantiles.len()
    }

    #[inline(always)]
    fn uniform(&self) -> bool {
        false
    }

    #[inline(always)]
    fn own(&self, _column: usize, repeat: usize) -> T {
        T::of(self.quantiles[repeat])
    }

    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, quantile: T) -> (T, [T; 1]) {
        let error = y - z;
        let share = T::of(1.0 / self.quantiles.len() as f64);
        let slope = if error > T::ZERO { quantile } else { quantile - T::ONE };
        let slope = if error == T::ZERO { T::ZERO } else { slope * share };
        (slope * error, [-slope])
    }
}

impl<T: Real> Loops<T> for Quantile {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for Quantile {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Numbers { columns: super::columns("Quantile", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let quantiles = like(&self.quantiles, raw);
        let error = labels.unsqueeze(2) - raw.reshape([raw.size()[0], labels.size()[1], -1]);
        let slopes = quantiles - error.lt(0.0).to_kind(raw.kind());
        let pinball = slopes * error.ne(0.0).to_kind(raw.kind()) * error;
        pinball.mean_dim(2_i64, false, raw.kind())
    }

    fn width(&self, _classes: Option<usize>, outputs: usize) -> usize {
        outputs * self.quantiles.len()
    }
}
