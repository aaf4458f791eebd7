//! Binary cross-entropy of one or many labels.

use tch::{Reduction, Tensor};

use super::cells::{self, Cell};
use super::formula::like;
use super::{Batch, Link, Loops, Loss};
use crate::error::Result;
use crate::label::{Counts, LabelWeights, Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Cross-entropy between sigmoid probabilities and labels between 0 and 1, one or several a row.
    ///
    /// `L = mean of -(w y ln p + (1 - y) ln(1 - p))`, `p = 1 / (1 + exp(-z))`, over the labelled cells, with `w` the
    /// weight of positive labels. The numbers are those of `torch.nn.BCEWithLogitsLoss`. Predictions are
    /// probabilities `[rows, outputs]`.
    pub struct BinaryCrossEntropy = "BinaryCrossEntropy" {
        /// Weight of positive labels: one number, one a label, or `"balanced"`, negatives over positives of the
        /// training labels.
        pos_weight: Option<LabelWeights> = None, in 0.0..;
    }
}

impl<T: Real> Cell<T, 1> for BinaryCrossEntropy {
    #[inline(always)]
    fn uniform(&self) -> bool {
        self.pos_weight.as_ref().is_none_or(LabelWeights::uniform)
    }

    #[inline(always)]
    fn own(&self, column: usize, _repeat: usize) -> T {
        self.pos_weight.as_ref().map_or(T::ONE, |weights| T::of(weights.of(column)))
    }

    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, own: T) -> (T, [T; 1]) {
        let (hit, miss, p, q) = cells::logistic(z);
        let yes = own * y;
        let no = T::ONE - y;
        (yes * hit + no * miss, [no * p - yes * q])
    }
}

impl<T: Real> Loops<T> for BinaryCrossEntropy {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        cells::weight(targets, weights)
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        cells::evaluate(self, batch)
    }
}

impl Loss for BinaryCrossEntropy {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        let columns = super::columns("BinaryCrossEntropy", classes, outputs)?;
        if let Some(weights) = &self.pos_weight {
            weights.check("BinaryCrossEntropy: argument `pos_weight`", columns)?;
        }
        Ok(Labels::Binary { columns })
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let of = |weights: &LabelWeights| {
            like(&(0..labels.size()[1]).map(|j| weights.of(j as usize)).collect::<Vec<_>>(), raw)
        };
        let own = self.pos_weight.as_ref().map(of);
        raw.binary_cross_entropy_with_logits(labels, None::<Tensor>, own, Reduction::None)
    }

    fn link(&self, _labels: Labels) -> Link {
        Link::Sigmoid
    }

    fn balance(&mut self, counts: &mut dyn FnMut() -> Result<Counts>) -> Result<()> {
        self.pos_weight.as_mut().map_or(Ok(()), |weights| weights.balance(counts))
    }
}
