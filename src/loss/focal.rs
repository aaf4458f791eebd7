//! Focal loss, for classes or binary labels.

use tch::{Kind, Reduction, Tensor};

use super::cells::{self, Cell};
use super::formula::like;
use super::{Batch, Link, Loops, Loss, softmax};
use crate::error::Result;
use crate::label::{Counts, LabelWeights, Labels, Targets};
use crate::machine::real::Real;

crate::component! {
    /// Focal loss (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017).
    ///
    /// `L = mean of -alpha (1 - p_t)^gamma ln p_t` over the labelled rows (or cells). With `classes`, `p_t` is the
    /// softmax probability of the label; otherwise `p_t = y p + (1 - y)(1 - p)` with a sigmoid `p` for each output,
    /// and `ln p_t` the cross-entropy, as in `torchvision.ops.sigmoid_focal_loss`. Predictions are probabilities.
    pub struct Focal = "Focal" {
        /// How much less an easy row counts; 0 is cross-entropy.
        gamma: f64 = 2.0, in 0.0..;
        /// With `classes`, one weight a class or `"balanced"`; otherwise the weight of positive labels (negative ones
        /// get `1 - alpha`), one number, one a label, or `"balanced"`, the share of negatives.
        alpha: Option<LabelWeights> = None, in 0.0..;
    }
}

/// Smallest number whose logarithm is taken.
const TINY: f64 = 1e-37;

impl Focal {
    /// `-alpha (1 - p_t)^gamma ln p_t` of softmax probabilities.
    fn of_classes(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let log = raw.log_softmax(1, raw.kind()).gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
        let modulation = (-log.expm1()).clamp_min(TINY).pow_tensor_scalar(self.gamma);
        let alphas = self.alphas(raw, raw.size()[1]).map(|alphas| alphas.index_select(0, labels));
        -alphas.map_or(modulation.shallow_clone(), |alphas| alphas * &modulation) * log
    }

    /// The same of a sigmoid for each output.
    fn of_values(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        let entropy = raw.binary_cross_entropy_with_logits(labels, None::<Tensor>, None::<Tensor>, Reduction::None);
        let no: Tensor = labels * -1.0 + 1.0;
        let miss = labels * (-raw).sigmoid() + &no * raw.sigmoid();
        let losses = entropy * miss.clamp_min(TINY).pow_tensor_scalar(self.gamma);
        match self.alphas(raw, labels.size()[1]) {
            Some(alphas) => losses * (&alphas * labels + (&alphas * -1.0 + 1.0) * no),
            None => losses,
        }
    }

    /// `alpha` of so many classes or outputs; none for ones.
    fn alphas(&self, raw: &Tensor, count: i64) -> Option<Tensor> {
        let alphas: Vec<_> = (0..count as usize).map(|column| self.alpha(column)).collect();
        alphas.iter().all(|alpha| !alpha.is_nan()).then(|| like(&alphas, raw))
    }

    #[inline(always)]
    fn alpha(&self, column: usize) -> f64 {
        match &self.alpha {
            None | Some(LabelWeights::Balanced(_)) => f64::NAN,
            Some(alpha) => alpha.of(column),
        }
    }

    /// `(1 - p)^gamma`.
    #[inline(always)]
    fn modulation<T: Real>(&self, miss: T) -> T {
        (T::of(self.gamma) * miss.max(T::of(TINY)).ln()).exp()
    }
}

/// `1 - exp(-u)` for `u >= 0`, accurate near 0.
#[inline(always)]
fn miss<T: Real>(u: T) -> T {
    let series = (2..=8).rev().fold(T::ONE, |sum, i| T::ONE - u * sum * T::of(1.0 / f64::from(i)));
    if u < T::of(0.0625) { u * series } else { T::ONE - (-u).exp() }
}

impl<T: Real> softmax::Row<T> for Focal {
    #[inline(always)]
    fn uniform(&self) -> bool {
        self.alpha.is_none()
    }

    #[inline(always)]
    fn own(&self, class: usize) -> T {
        let alpha = self.alpha(class);
        if alpha.is_nan() { T::ONE } else { T::of(alpha) }
    }

    #[inline(always)]
    fn judge(&self, log_p: T, _spread: T, own: T) -> (T, T) {
        let surprise = -log_p;
        let miss = miss(surprise).max(T::of(TINY));
        let scale = own * self.modulation(miss);
        let bend = T::of(self.gamma) * (T::ONE - miss) * (surprise / miss);
        (scale * surprise, scale * (T::ONE + bend))
    }
}

impl<T: Real> Cell<T, 1> for Focal {
    #[inline(always)]
    fn uniform(&self) -> bool {
        self.alpha.as_ref().is_none_or(LabelWeights::uniform)
    }

    #[inline(always)]
    fn own(&self, column: usize, _repeat: usize) -> T {
        T::of(self.alpha(column))
    }

    #[inline(always)]
    fn cell(&self, [z]: [T; 1], y: T, alpha: T) -> (T, [T; 1]) {
        let (hit, fail, p, q) = cells::logistic(z);
        let no = T::ONE - y;
        let entropy = y * hit + no * fail;
        let miss = (y * q + no * p).max(T::of(TINY));
        let balance = if alpha.is_nan() { T::ONE } else { alpha * y + (T::ONE - alpha) * no };
        let scale = balance * self.modulation(miss);
        let bend = T::of(self.gamma) * (entropy / miss) * (p * q * (y - no));
        (scale * entropy, [scale * (no * p - y * q - bend)])
    }
}

impl<T: Real> Loops<T> for Focal {
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
        match targets {
            Targets::Classes(_) => softmax::weight(targets, weights, |_| 1.0),
            Targets::Values(_) => cells::weight(targets, weights),
        }
    }

    fn evaluate(&self, batch: Batch<'_, T>) -> f64 {
        match batch.targets {
            Targets::Classes(_) => softmax::evaluate(self, batch),
            Targets::Values(_) => cells::evaluate(self, batch),
        }
    }
}

impl Loss for Focal {
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels> {
        let labels = match classes {
            Some(_) => super::class_labels("Focal", classes, outputs)?,
            None => Labels::Binary { columns: super::columns("Focal", classes, outputs)? },
        };
        match (&self.alpha, labels) {
            (Some(LabelWeights::All(alpha)), Labels::Classes(k)) => {
                crate::bail!("Focal: argument `alpha` should be a list of {k} weights, one a class; got {alpha}")
            }
            (Some(alpha), Labels::Classes(k)) => alpha.check("Focal: argument `alpha`", k)?,
            (Some(alpha), _) => {
                alpha.check("Focal: argument `alpha`", outputs)?;
                if !crate::component::Argument::within(alpha, &(0.0..=1.0)) {
                    crate::bail!("Focal: argument `alpha` should be at least 0 and at most 1 for binary labels");
                }
            }
            (None, _) => {}
        }
        Ok(labels)
    }

    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor {
        if labels.kind() == Kind::Int64 { self.of_classes(raw, labels) } else { self.of_values(raw, labels) }
    }

    fn link(&self, labels: Labels) -> Link {
        match labels {
            Labels::Classes(classes) => Link::Softmax { classes },
            _ => Link::Sigmoid,
        }
    }

    fn balance(&mut self, counts: &mut dyn FnMut() -> Result<Counts>) -> Result<()> {
        self.alpha.as_mut().map_or(Ok(()), |alpha| alpha.resolve(counts, Counts::alphas))
    }
}
