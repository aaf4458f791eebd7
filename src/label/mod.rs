//! Labels: their kinds, their numbers, and weights against imbalance among them.

mod balance;

pub use balance::{ClassWeights, Counts, LabelWeights};

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

impl Labels {
    /// Classes, or numbers a row.
    pub fn width(self) -> usize {
        match self {
            Labels::Classes(classes) => classes,
            Labels::Values { columns, .. } => columns,
        }
    }
}

/// The labels of one batch of one task.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a, T> {
    /// `[rows]`, negative where missing.
    Classes(&'a [i32]),
    /// `[rows, columns]`, NaN where missing.
    Values(&'a [T]),
}

impl<'a, T> Targets<'a, T> {
    /// The class indices; a loss whose [`Loss::labels`] are classes is handed nothing else.
    pub(crate) fn classes(self) -> &'a [i32] {
        match self {
            Targets::Classes(classes) => classes,
            Targets::Values(_) => panic!("this loss asked for class indices"),
        }
    }

    /// The numbers; a loss whose [`Loss::labels`] are values is handed nothing else.
    pub(crate) fn values(self) -> &'a [T] {
        match self {
            Targets::Values(values) => values,
            Targets::Classes(_) => panic!("this loss asked for values"),
        }
    }
}
