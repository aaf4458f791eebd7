//! Learning to rank the positions of a row.

use tch::Tensor;

use super::cells::{self, Cell};
use super::{Batch, Loops, Loss, Together};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Learning to rank the positions of each row, such as the documents found for a query or the items shown to a user, by
    /// the cross-entropy of the list (ListNet with the top-one probability: Cao, Qin, Liu, Tsai & Li, Learning to Rank: From
    /// Pairwise Approach to Listwise Approach, ICML 2007, with shares of the relevance instead of its softmax: Bruch, Wang,
    /// Bendersky & Najork, An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank with Binary Relevance, ICTIR
    /// 2019).
    ///
    /// `L = sum_i r_i sum_j (y_ij / sum_k y_ik) (ln sum_k exp(z_ik) - z_ij) / sum_i r_i` with row weights `r`, scores `z`
    /// and relevances `y`, numbers from 0 on such as 1 for a click or 0 to 4 for degrees. All sums are over positions whose
    /// relevance is known: one that is missing (NaN) is no part of its row's list. Rows without a position that is relevant
    /// say nothing about the order, and count neither above nor below. Of several outputs each has lists of its own.
    ///
    /// Predictions are scores, of which only the order and the differences within a row mean something; `"ndcg"`,
    /// `"ndcg@10"` and `"mrr"` judge them. For tasks with `per`, on positions within rows.
    pub struct Ranking = "Ranking" {}
}

/// The cross-entropy of one position's share: `z` is the logarithm of what it should be, and missing ones are 0.
impl<T: Real> Cell<T, 1> for Ranking {
    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, _own: T) -> (T, [T; 1]) {
        (-(y * z), [-y])
    }
}

impl<T: Real> Loops<T> for Ranking {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        let shares = targets.values();
        let columns = weights.map_or(1, |weights| (shares.len() / weights.len().max(1)).max(1));
        let row = |row: &[T]| row.iter().filter(|y| !y.is_nan()).map(|y| y.wide()).sum::<f64>();
        match weights {
            None => row(shares),
            Some(weights) => shares.chunks_exact(columns).zip(weights).map(|(y, w)| row(y) * w.wide()).sum(),
        }
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for Ranking {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        Ok(Labels::Counts { columns: super::columns("Ranking", classes, outputs)? })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        -(raw * labels)
    }

    fn label_weights(&self, _raw: &Tensor, labels: &Tensor) -> Option<Tensor> {
        Some(labels.shallow_clone())
    }

    fn together(&self) -> Option<Together> {
        Some(Together::List)
    }
}
