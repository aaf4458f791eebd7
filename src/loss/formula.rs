//! Losses by their formulas: what of a batch is missing, and what the rest weighs.

use tch::{Kind, Tensor};

use super::Loss;
use crate::machine::crossing::constant;

/// One task's part of a batch, as tensors.
#[derive(Debug)]
pub struct TensorBatch<'a> {
    /// Raw outputs `[rows, width]`.
    pub raw: &'a Tensor,
    /// Classes `[rows]` of `i64`, negative where missing, or numbers `[rows, outputs]`, NaN where missing.
    pub labels: &'a Tensor,
    /// Row weights `[rows]`; none means ones.
    pub weights: Option<&'a Tensor>,
}

/// Two sums over the labelled rows (or cells) of a batch, tensors without dimensions.
#[derive(Debug)]
pub struct Sums {
    /// Of weight times loss.
    pub loss: Tensor,
    /// Of weights.
    pub weight: Tensor,
}

/// The sums of a loss that has a formula.
pub(super) fn sums(loss: &(impl Loss + ?Sized), batch: &TensorBatch<'_>) -> Sums {
    let TensorBatch { raw, labels, weights } = batch;
    let kind = raw.kind();
    let classes = labels.kind() == Kind::Int64;
    let mut there = if classes { labels.ge(0) } else { labels.isnan().logical_not() };
    let weights = weights.map(|rows| if classes { rows.shallow_clone() } else { rows.unsqueeze(1) });
    if let Some(rows) = &weights {
        there = there.logical_and(&rows.ne(0.0));
    }
    let clean = if classes { labels.clamp_min(0) } else { labels.where_self(&there, &labels.zeros_like()) };
    // What stands at outputs without a label or weight must not matter, not even as 0 * inf in a gradient.
    let wide = if classes { there.unsqueeze(1) } else { there.repeat_interleave_self_int(ratio(raw, labels), 1, None) };
    let raw = raw.where_self(&wide, &raw.zeros_like());
    let counts = there.to_kind(kind);
    let weight = weights.map_or(counts.shallow_clone(), |rows| rows * counts);
    let losses = loss.formula(&raw, &clean) * &weight;
    let counted = loss.label_weights(&raw, &clean).map_or(weight.shallow_clone(), |own| own * &weight);
    Sums { loss: losses.sum(kind), weight: counted.sum(kind) }
}

/// Raw outputs of a label.
fn ratio(raw: &Tensor, labels: &Tensor) -> i64 {
    raw.size()[1] / labels.size()[1].max(1)
}

/// Numbers that never change as a tensor like another.
pub(super) fn like(numbers: &[f64], other: &Tensor) -> Tensor {
    constant(numbers, other.kind(), other.device()).expect("libtorch has room for a loss's own numbers")
}
