//! The negative logarithm of a path of labels' probability.

use tch::{Reduction, Tensor};

use super::{Batch, Link, Loops, Loss, Together, softmax};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Labels of positions as a linear-chain conditional random field (Lafferty, McCallum & Pereira, Conditional Random Fields,
    /// ICML 2001): the score of a row's labels `y` is `start[y_1] + sum_t x[t, y_t] + sum_t moves[y_(t-1), y_t] + end[y_n]`,
    /// where `x` are the task's raw scores and moves, start and end are learned, from 0 on; their probability is the softmax
    /// of it over all paths of labels.
    ///
    /// `L = sum_i -ln p(known labels of row i) / known labels`, found exactly, over all labels that are missing. What
    /// is predicted for a position are the probabilities of its labels over all paths (marginals), `[classes]`; metrics judge
    /// them. For tasks with `per`, on positions within rows.
    pub struct Crf = "CRF" {}
}

impl<T: Real> Loops<T> for Crf {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        softmax::weight(targets, weights, |_| 1.0)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        softmax::evaluate(&softmax::Likelihood, batch)
    }
}

impl Loss for Crf {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        super::class_labels("CRF", classes, outputs)
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        raw.cross_entropy_loss::<Tensor>(labels, None, Reduction::None, -100, 0.0)
    }

    fn link(&self, labels: Labels) -> Link {
        Link::Softmax { classes: labels.width() }
    }

    fn together(&self) -> Option<Together> {
        Some(Together::Chain)
    }
}
