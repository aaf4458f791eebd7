//! Links: from raw outputs to predictions.

use serde::Serialize;

use super::{cells, softmax};
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
    /// Predictions from raw outputs, whole rows one after the other.
    pub fn apply(self, raw: &[f32], predicted: &mut [f32]) {
        match self {
            Link::Identity => predicted.copy_from_slice(raw),
            Link::Sigmoid => cells::sigmoid(raw, predicted),
            Link::Softmax { classes } => softmax::link(classes, raw, predicted),
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
