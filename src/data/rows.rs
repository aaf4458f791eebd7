//! Which rows to gather.

use std::ops::Range;

/// Some rows of a data set.
#[derive(Debug, Clone)]
pub enum Rows<'a> {
    /// Neighbouring rows.
    Range(Range<usize>),
    /// Rows by index.
    Index(&'a [u32]),
}

/// Runs `$body` with `$rows` bound to an iterator of row numbers, compiled for each kind of [`Rows`].
macro_rules! each_row {
    ($kind:expr, $rows:ident => $body:expr) => {
        match $kind {
            Rows::Range(range) => {
                let $rows = range;
                $body
            }
            Rows::Index(index) => {
                let $rows = index.iter().map(|&row| row as usize);
                $body
            }
        }
    };
}

pub(super) use each_row;

impl Rows<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Rows::Range(range) => range.len(),
            Rows::Index(index) => index.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` for each row number.
    pub fn for_each(self, visit: impl FnMut(usize)) {
        each_row!(self, rows => rows.for_each(visit));
    }

    /// Whether every row is one of the first `count`.
    pub fn lie_within(&self, count: usize) -> bool {
        match self {
            Rows::Range(range) => range.is_empty() || range.end <= count,
            // Without a way out in the middle, so that the loop vectorises.
            Rows::Index(index) => index.iter().fold(true, |within, &row| within & ((row as usize) < count)),
        }
    }
}
