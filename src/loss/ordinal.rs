//! Ordered classes, by how likely each is among those that are at least it.

use tch::{Reduction, Tensor};

use super::cells::{self, BLOCK, add, copy};
use super::formula::like;
use super::transpose::{load, store};
use super::{Batch, Link, Loops, Loss, softmax};
use crate::error::Result;
use crate::label::{ClassWeights, Counts, Labels, Targets};
use crate::machine::level;
use crate::machine::real::{LANES, Real};

crate::component! {
    /// Ordered classes (ratings, degrees of severity), counted from the least one on, by conditional probabilities (CORN:
    /// Shi, Cao & Raschka, Deep Neural Networks for Rank-Consistent Ordinal Regression Based on Conditional
    /// Probabilities, Pattern Analysis and Applications 2023; for linear models the continuation-ratio model).
    ///
    /// Raw outputs are `[rows, classes - 1]`, of which number `k` says whether a label that is at least `k` is more:
    /// `p(y > k | y >= k) = 1 / (1 + exp(-z_k))`. So `p(y > k)` is the product of the first `k + 1` of these, which never
    /// rises with `k`, and predictions are the probabilities of classes `[rows, classes]`.
    ///
    /// `L = sum_i r_i w_(y_i) (-ln p(y_i)) / sum_i r_i w_(y_i)` with row weights `r` and class weights `w`, where
    /// `-ln p(y) = sum_(k < y) ln(1 + exp(-z_k)) + [y < classes - 1] ln(1 + exp(z_y))`. The authors divide by the number
    /// of such terms instead, which differs from batch to batch.
    pub struct Ordinal = "Ordinal" {
        /// One weight a class, or `"balanced"`: `rows / (classes * rows of the class)` of the training labels.
        class_weights: Option<ClassWeights> = None, in 0.0..;
    }
}

/// Steps between classes that are transposed at once.
const STEPS: usize = 32;

impl Ordinal {
    #[inline(always)]
    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights.of(class))
    }

    /// The weight of each label.
    fn weights(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let classes = raw.size()[1] as usize + 1;
        like(&(0..classes).map(|class| self.class_weight(class)).collect::<Vec<_>>(), raw).index_select(0, labels)
    }
}

struct Drive<'a, 'b, T> {
    loss: &'a Ordinal,
    classes: &'b [i32],
    batch: Batch<'b, T>,
}

impl<T: Real> pulp::NullaryFnOnce for Drive<'_, '_, T> {
    type Output = f64;

    #[inline(always)]
    fn call(mut self) -> f64 {
        let mut total = [0.0; LANES];
        let mut scratch = [[T::ZERO; BLOCK]; STEPS];
        for row in (0..self.batch.rows).step_by(BLOCK) {
            let count = BLOCK.min(self.batch.rows - row);
            let mut classes = [-1; BLOCK];
            copy(&self.classes[row..row + count], &mut classes);
            let weights = self.weights(row, count, &classes);
            for first in (0..self.batch.width).step_by(STEPS) {
                let steps = &mut scratch[..STEPS.min(self.batch.width - first)];
                let start = row * self.batch.stride + first;
                load::<T, 0>(&self.batch.outputs[start..], self.batch.stride, count, steps);
                let values = self.judge(first, &classes, &weights, steps);
                add(&values, &mut total);
                if let Some(gradient) = &mut self.batch.gradient {
                    store::<T, 0>(&mut gradient[start..], self.batch.stride, count, steps);
                }
            }
        }
        total.iter().sum()
    }
}

impl<T: Real> Drive<'_, '_, T> {
    /// What each row of a block counts; nothing without a label.
    #[inline(always)]
    fn weights(&self, row: usize, count: usize, classes: &[i32; BLOCK]) -> [T; BLOCK] {
        let mut weights = [T::ONE; BLOCK];
        if let Some(given) = self.batch.weights {
            copy(&given[row..row + count], &mut weights);
        }
        for l in 0..BLOCK {
            let own = T::of(self.loss.class_weight(classes[l].max(0) as usize));
            weights[l] = if classes[l] < 0 { T::ZERO } else { weights[l] * own };
        }
        weights
    }

    /// Values of a block at some steps between classes; their logits become their gradients.
    #[inline(always)]
    fn judge(
        &self,
        first: usize,
        classes: &[i32; BLOCK],
        weights: &[T; BLOCK],
        steps: &mut [[T; BLOCK]],
    ) -> [T; BLOCK] {
        let mut values = [T::ZERO; BLOCK];
        for (k, column) in steps.iter_mut().enumerate() {
            let step = (first + k) as i32;
            for l in 0..BLOCK {
                let (more, no_more, p, q) = cells::logistic(column[l]);
                let past = step < classes[l];
                let asked = step <= classes[l] && weights[l] != T::ZERO;
                let (value, slope) = if past { (more, -q) } else { (no_more, p) };
                values[l] += if asked { value * weights[l] } else { T::ZERO };
                column[l] = if asked { slope * (weights[l] * self.batch.scale) } else { T::ZERO };
            }
        }
        values
    }
}

impl<T: Real> Loops<T> for Ordinal {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        softmax::weight(targets, weights, |class| self.class_weight(class))
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        batch.assert_fits(1);
        level::run(Drive { loss: self, classes: batch.targets.classes(), batch })
    }
}

impl Loss for Ordinal {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        let labels = super::class_labels("Ordinal", classes, outputs)?;
        if let (Some(weights), Some(k)) = (&self.class_weights, classes) {
            weights.check("Ordinal: argument `class_weights`", k)?;
        }
        Ok(labels)
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let steps = like(&(0..raw.size()[1]).map(|step| step as f64).collect::<Vec<_>>(), raw);
        let labels_here = labels.unsqueeze(1).to_kind(raw.kind());
        let past = steps.lt_tensor(&labels_here).to_kind(raw.kind());
        let asked = steps.le_tensor(&labels_here);
        let each = raw.binary_cross_entropy_with_logits(&past, None::<Tensor>, None::<Tensor>, Reduction::None);
        let each = each.where_self(&asked, &each.zeros_like());
        each.sum_dim_intlist(1_i64, false, raw.kind()) * self.weights(raw, labels)
    }

    fn label_weights(&self, raw: &Tensor, labels: &Tensor) -> Option<Tensor> {
        Some(self.weights(raw, labels))
    }

    fn width(&self, classes: Option<usize>, outputs: usize) -> usize {
        classes.map_or(outputs, |classes| classes - 1)
    }

    fn predicted_width(&self, classes: Option<usize>, outputs: usize) -> usize {
        classes.unwrap_or(outputs)
    }

    fn link(&self, labels: Labels) -> Link {
        Link::Ordinal { classes: labels.width() }
    }

    fn balance(&mut self, counts: &mut dyn FnMut() -> Result<Counts>) -> Result<()> {
        self.class_weights.as_mut().map_or(Ok(()), |weights| weights.balance(counts))
    }
}

/// Probabilities of classes from the logits of going on from each to more.
pub(super) fn link(classes: usize, raw: &[f32], predicted: &mut [f32]) {
    for (logits, probabilities) in raw.chunks_exact(classes - 1).zip(predicted.chunks_exact_mut(classes)) {
        let mut left = 1.0;
        for (z, p) in logits.iter().zip(&mut *probabilities) {
            *p = left * Real::sigmoid(-*z);
            left *= Real::sigmoid(*z);
        }
        probabilities[classes - 1] = left;
    }
}
