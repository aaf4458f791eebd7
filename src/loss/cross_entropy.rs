//! Cross-entropy of class probabilities.

use tch::{Reduction, Tensor};

use super::formula::like;
use super::{Batch, Link, Loops, Loss, softmax};
use crate::error::Result;
use crate::label::{ClassWeights, Counts, Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Cross-entropy between softmax probabilities and one class a row.
    ///
    /// `L = sum_i r_i sum_k t_ik (-ln p_ik) / sum_i r_i w_(y_i)` with
    /// `t_ik = (1 - s) w_(y_i) [k = y_i] + s w_k / classes`: row weights `r`, class weights `w`, label smoothing `s`
    /// (Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016). The numbers are those
    /// of `torch.nn.CrossEntropyLoss`. Predictions are probabilities `[rows, classes]`.
    pub struct CrossEntropy = "CrossEntropy" {
        /// One weight a class, or `"balanced"`: `rows / (classes * rows of the class)` of the training labels.
        class_weights: Option<ClassWeights> = None, in 0.0..;
        /// Share of each label that is spread evenly over the classes.
        label_smoothing: f64 = 0.0, in 0.0..=1.0;
    }
}

impl CrossEntropy {
    /// One weight a class, as a tensor like the raw outputs.
    fn class_weights(&self, raw: &Tensor) -> Tensor {
        let classes = raw.size()[1] as usize;
        like(&(0..classes).map(|class| self.class_weight(class)).collect::<Vec<_>>(), raw)
    }

    #[inline(always)]
    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights.of(class))
    }
}

/// The loss for tasks of so many classes.
struct Judge<'a, T> {
    loss: &'a CrossEntropy,
    keep: T,
    spread: T,
}

impl<T: Real> softmax::Row<T> for Judge<'_, T> {
    #[inline(always)]
    fn spread(&self, class: usize) -> T {
        self.spread * T::of(self.loss.class_weight(class))
    }

    #[inline(always)]
    fn uniform(&self) -> bool {
        self.loss.class_weights.is_none()
    }

    #[inline(always)]
    fn own(&self, class: usize) -> T {
        self.keep * T::of(self.loss.class_weight(class))
    }

    #[inline(always)]
    fn judge(&self, log_p: T, spread: T, own: T) -> (T, T) {
        (spread - own * log_p, own)
    }
}

impl<T: Real> Loops<T> for CrossEntropy {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        softmax::weight(targets, weights, |class| self.class_weight(class))
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        let keep = T::of(1.0 - self.label_smoothing);
        let spread = T::of(self.label_smoothing / batch.width as f64);
        softmax::evaluate(&Judge { loss: self, keep, spread }, batch)
    }
}

impl Loss for CrossEntropy {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        let labels = super::class_labels("CrossEntropy", classes, outputs)?;
        if let (Some(weights), Some(k)) = (&self.class_weights, classes) {
            weights.check("CrossEntropy: argument `class_weights`", k)?;
        }
        Ok(labels)
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let own = self.class_weights(raw);
        raw.cross_entropy_loss(labels, Some(own), Reduction::None, -100, self.label_smoothing)
    }

    fn label_weights(&self, raw: &Tensor, labels: &Tensor) -> Option<Tensor> {
        Some(self.class_weights(raw).index_select(0, labels))
    }

    fn link(&self, labels: Labels) -> Link {
        Link::Softmax { classes: labels.width() }
    }

    fn balance(&mut self, counts: &mut dyn FnMut() -> Result<Counts>) -> Result<()> {
        self.class_weights.as_mut().map_or(Ok(()), |weights| weights.balance(counts))
    }
}
