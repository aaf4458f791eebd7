//! Losses: value and gradient at the raw outputs in one pass, with row weights and missing labels.

use std::fmt::Debug;

use crate::real::Real;

/// What a task's labels look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Labels {
    /// Class indices `0..k`; `-1` is missing.
    Classes(usize),
    /// Numbers within bounds, so many a row; NaN is missing.
    Values {
        /// Numbers a row.
        columns: usize,
        /// Smallest allowed.
        low: f64,
        /// Largest allowed.
        high: f64,
    },
}

/// The labels of one batch of one task.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a, T> {
    /// `[rows]`, negative where missing.
    Classes(&'a [i32]),
    /// `[rows, columns]`, NaN where missing.
    Values(&'a [T]),
}

/// One task's part of a batch.
#[derive(Debug)]
pub struct Batch<'a, T> {
    /// Rows.
    pub rows: usize,
    /// Raw outputs; row `r` starts at `r * stride`.
    pub outputs: &'a [T],
    /// Where the gradient goes, laid out as `outputs`; rows without a label get zeros.
    pub gradient: Option<&'a mut [T]>,
    /// Distance between rows of `outputs` and `gradient`.
    pub stride: usize,
    /// The labels.
    pub targets: Targets<'a, T>,
    /// Row weights `[rows]`; none means ones.
    pub weights: Option<&'a [T]>,
    /// Factor on the gradient: the task's lambda over the total label weight of the whole (accumulated) batch.
    pub scale: T,
}

/// The numeric half of a loss, for one element type.
pub trait Kernel<T: Real> {
    /// Total weight of the labelled rows (or cells): the denominator of the mean.
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64;
    /// Sum over labelled rows (or cells) of weight times loss; fills `scale` times its gradient.
    fn evaluate(&self, batch: Batch<'_, T>) -> f64;
}
