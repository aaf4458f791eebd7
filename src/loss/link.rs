//! Links: from raw outputs to predictions.

use serde::Serialize;
use tch::Tensor;

use super::{cells, ordinal, softmax};
use crate::error::Result;
use crate::machine::real::Real;

/// How raw outputs become predictions, one number each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Link {
    /// They are predictions.
    Identity,
    /// `1 / (1 + exp(-z))`.
    Sigmoid,
    /// `exp(z) / sum of exp(z)` over so many numbers side by side.
    Softmax {
        /// How many.
        classes: usize,
    },
    /// Probabilities of so many ordered classes, of one number less side by side, each the logit of a label's being more than
    /// a class if it is at least that.
    Ordinal {
        /// How many.
        classes: usize,
    },
    /// `exp(z)`.
    Exponential {
        /// The largest `z` that is taken; larger ones count as that.
        most: f64,
    },
    /// Of a mean and `s` side by side, the mean and the variance `ln(1 + exp(s)) + epsilon`.
    MeanAndVariance {
        /// Smallest variance.
        epsilon: f64,
    },
}

impl Link {
    /// Whether the largest of raw outputs stands where the largest prediction does.
    pub fn keeps_order(self) -> bool {
        !matches!(self, Link::Ordinal { .. })
    }

    /// The raw outputs, `[rows, width]`, whose prediction is the mean of the members' predictions, `[rows, members, width]`; of
    /// means and variances those of the mixture.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn of_members(self, raw: &Tensor) -> Result<Tensor> {
        let less = (raw.size()[1] as f64).ln();
        // Logarithms of means, so that nothing that is all but sure rounds to it.
        let mean = |logarithms: &Tensor| logarithms.f_logsumexp([1_i64], false);
        Ok(match self {
            Link::Identity => raw.f_mean_dim(1_i64, false, raw.kind())?,
            Link::Sigmoid => mean(&raw.f_log_sigmoid()?)?.f_sub(&mean(&raw.f_neg()?.f_log_sigmoid()?)?)?,
            Link::Softmax { classes } => {
                let size = raw.size();
                let each = raw.f_reshape([size[0], size[1], -1, classes as i64])?.f_log_softmax(-1, raw.kind())?;
                mean(&each)?.f_reshape([size[0], size[2]])?.f_sub_scalar(less)?
            }
            Link::Ordinal { classes } => {
                let size = raw.size();
                let each = raw.f_reshape([size[0], size[1], -1, classes as i64 - 1])?;
                let on = each.f_log_sigmoid()?;
                let beyond = on.f_cumsum(-1, raw.kind())?;
                let there = beyond.f_sub(&on)?.f_add(&each.f_neg()?.f_log_sigmoid()?)?;
                mean(&beyond)?.f_sub(&mean(&there)?)?.f_reshape([size[0], size[2]])?
            }
            Link::Exponential { most } => mean(&raw.f_clamp_max(most)?)?.f_sub_scalar(less)?,
            Link::MeanAndVariance { .. } => {
                let size = raw.size();
                let each = raw.f_reshape([size[0], size[1], -1, 2])?;
                let of_member = each.f_select(3, 0)?;
                let variance = each.f_select(3, 1)?.f_softplus()?;
                let center = of_member.f_mean_dim(1_i64, true, raw.kind())?;
                let apart = of_member.f_sub(&center)?.f_square()?;
                // The softplus undone: ln(exp(v) - 1).
                let whole = variance.f_add(&apart)?.f_mean_dim(1_i64, false, raw.kind())?;
                let whole = whole.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
                let undone = whole.f_add(&whole.f_neg()?.f_expm1()?.f_neg()?.f_log()?)?;
                Tensor::f_stack(&[center.f_squeeze_dim(1)?, undone], 2)?.f_reshape([size[0], size[2]])?
            }
        })
    }

    /// Predictions from raw outputs, whole rows one after the other.
    pub fn apply(self, raw: &[f32], predicted: &mut [f32]) {
        match self {
            Link::Identity => predicted.copy_from_slice(raw),
            Link::Sigmoid => cells::sigmoid(raw, predicted),
            Link::Softmax { classes } => softmax::link(classes, raw, predicted),
            Link::Ordinal { classes } => ordinal::link(classes, raw, predicted),
            Link::Exponential { most } => {
                for (z, rate) in raw.iter().zip(predicted) {
                    *rate = Real::exp(Real::min(*z, most as f32));
                }
            }
            Link::MeanAndVariance { epsilon } => {
                for (raw, predicted) in raw.chunks_exact(2).zip(predicted.chunks_exact_mut(2)) {
                    predicted[0] = raw[0];
                    predicted[1] = Real::softplus(raw[1]) + epsilon as f32;
                }
            }
        }
    }
}
