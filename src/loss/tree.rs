//! The negative logarithm of the probability that positions are attached as they are.

use tch::{Reduction, Tensor};

use super::{Batch, Link, Loops, Loss, Together, softmax};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Positions that are attached to one position of their row each, with a kind, as the words of a sentence in a dependency
    /// tree (Dozat & Manning, Deep Biaffine Attention for Neural Dependency Parsing, ICLR 2017):
    /// `p(i, j, k) = p(j | i) p(k | i, j)`, the softmax of scores of arcs over all positions `j` of the row, `i` itself included,
    /// which stands for the root, and that of scores of kinds.
    ///
    /// `L = -mean over labelled positions i of ln p(i, j, k)`. What is predicted for a pair are the probabilities that `i`
    /// is not attached to `j`, and that it is, by each kind, `[1 + kinds]`. For tasks with `per="pair"` and `tree=True`.
    pub struct Tree = "Tree" {}
}

impl<T: Real> Loops<T> for Tree {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        softmax::weight(targets, weights, |_| 1.0)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        softmax::evaluate(&softmax::Likelihood, batch)
    }
}

impl Loss for Tree {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        super::class_labels("Tree", classes, outputs)
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        raw.cross_entropy_loss::<Tensor>(labels, None, Reduction::None, -100, 0.0)
    }

    fn link(&self, labels: Labels) -> Link {
        Link::Softmax { classes: labels.width() }
    }

    fn together(&self) -> Option<Together> {
        Some(Together::Tree)
    }
}
