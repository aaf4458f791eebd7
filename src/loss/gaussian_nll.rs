//! Gaussian negative log-likelihood with a variance of its own for every row.

use tch::Tensor;

use super::cells::{self, Cell};
use super::{Batch, Link, Loops, Loss};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Negative log-likelihood under a normal law whose mean and variance are both predicted (Nix and Weigend,
    /// Estimating the Mean and Variance of the Target Probability Distribution, ICNN 1994).
    ///
    /// `L = mean of (ln v + (y - m)^2 / v) / 2` over the labelled cells, without the constant `ln(2 pi) / 2`, as
    /// `torch.nn.GaussianNLLLoss`, with `v = ln(1 + exp(s)) + epsilon` (Lakshminarayanan et al., NeurIPS 2017).
    /// Raw outputs are `[rows, outputs * 2]`, `m` and `s` of one output side by side; predictions likewise `m` and `v`.
    pub struct GaussianNll = "GaussianNLL" {
        /// Smallest variance.
        epsilon: f64 = 1e-6, in 1e-12..;
    }
}

impl<T: Real> Cell<T, 2> for GaussianNll {
    #[inline(always)]
    fn cell(&self, [mean, s]: [T; 2], y: T, _own: T) -> (T, [T; 2]) {
        let (_, softplus, slope, _) = cells::logistic(s);
        let variance = softplus + T::of(self.epsilon);
        let half = T::of(0.5);
        let error = mean - y;
        let pull = error / variance;
        let value = half * (variance.ln() + error * pull);
        (value, [pull, half * slope * ((T::ONE - error * pull) / variance)])
    }
}

impl<T: Real> Loops<T> for GaussianNll {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for GaussianNll {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Numbers { columns: super::columns("GaussianNLL", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let pairs = raw.reshape([raw.size()[0], -1, 2]);
        let variance = pairs.select(2, 1).softplus() + self.epsilon;
        let error = pairs.select(2, 0) - labels;
        (variance.log() + error.square() / variance) * 0.5
    }

    fn width(&self, _classes: Option<usize>, outputs: usize) -> usize {
        outputs * 2
    }

    fn link(&self, _labels: Labels) -> Link {
        Link::MeanAndVariance { epsilon: self.epsilon }
    }
}
