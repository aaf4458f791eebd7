//! Rows of different lengths, whose positions lie end to end: where those of each row begin and end.

use std::ops::Range;

use super::array::{Array, Dtype};
use super::rows::{Rows, each_row};
use crate::bail;
use crate::error::Result;

/// Where the positions of each row lie in values that hold those of all rows one after the other: row `i` has positions
/// `offsets[i]..offsets[i + 1]`. They need not begin at 0, nor end with the values. A row may be empty.
#[derive(Debug, Clone)]
pub struct Offsets(Array);

impl Offsets {
    /// Offsets `[rows + 1]`, borrowed, of values `[positions, ...]`, which errors call `name`.
    ///
    /// # Errors
    /// Offsets that are no `int32` or `int64` of one dimension, that go down, or that leave the values.
    pub fn new(array: Array, positions: usize, name: &str) -> Result<Self> {
        let shape = array.shape();
        if shape.len() != 1 || shape[0] == 0 || !matches!(array.dtype(), Dtype::I32 | Dtype::I64) {
            let dtype = array.dtype().name();
            bail!("the offsets of {name} should be int32 or int64 of shape [rows + 1]; got {dtype} of shape {shape:?}");
        }
        let offsets = Self(array);
        let mut before = 0;
        for row in 0..=offsets.rows() {
            let offset = offsets.signed(row);
            if !(0..=positions as i64).contains(&offset) {
                bail!("the offsets of {name} should lie within its {positions} positions; got {offset} at {row}");
            }
            if offset < before {
                bail!("the offsets of {name} should not go down; got {offset} after {before} at {row}");
            }
            before = offset;
        }
        Ok(offsets)
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.0.rows() - 1
    }

    /// The positions of a row.
    pub fn span(&self, row: usize) -> Range<usize> {
        self.at(row)..self.at(row + 1)
    }

    /// The positions of all rows.
    pub fn all(&self) -> Range<usize> {
        self.at(0)..self.at(self.rows())
    }

    /// The sum of what a function gives of how many positions each of some rows has.
    pub fn sum(&self, rows: Rows<'_>, of: impl Fn(usize) -> usize) -> usize {
        let mut sum = 0_usize;
        rows.for_each(|row| sum = sum.saturating_add(of(self.span(row).len())));
        sum
    }

    /// Where each of some rows starts once they are laid end to end, and where the last one ends: `[rows + 1]`.
    ///
    /// # Panics
    /// If there are 2^31 positions or more.
    pub fn starts(&self, rows: Rows<'_>, out: &mut [i32]) {
        assert_eq!(out.len(), rows.len() + 1, "a start for each row, and an end");
        let mut filled = 0;
        out[0] = 0;
        let mut ends = out[1..].iter_mut();
        each_row!(rows, rows => rows.zip(&mut ends).for_each(|(row, end)| {
            filled += self.span(row).len();
            *end = i32::try_from(filled).expect("a batch has fewer than 2^31 positions");
        }));
    }

    /// Calls `visit` with the positions of some rows, in their order: of each row, or of all at once where they are
    /// neighbours.
    pub fn for_each_span(&self, rows: Rows<'_>, mut visit: impl FnMut(Range<usize>)) {
        match rows {
            Rows::Range(range) if range.is_empty() => {}
            Rows::Range(range) => visit(self.at(range.start)..self.at(range.end)),
            Rows::Index(index) => index.iter().for_each(|&row| visit(self.span(row as usize))),
        }
    }

    /// The row that holds one of the positions of all rows, and which one of the row's own it is.
    pub fn place(&self, position: usize) -> Option<(usize, usize)> {
        let mut rows = (0..self.rows()).map(|row| (row, self.span(row)));
        rows.find(|(_, span)| span.contains(&position)).map(|(row, span)| (row, position - span.start))
    }

    /// The first row that has another length in the other; both must have equally many rows.
    pub fn difference(&self, other: &Self) -> Option<usize> {
        (0..self.rows()).find(|&row| self.span(row).len() != other.span(row).len())
    }

    /// A copy that does not depend on the owner's memory, and begins at 0.
    pub fn detach(&self) -> Self {
        let first = self.signed(0);
        Self(Array::own((0..=self.rows()).map(|row| self.signed(row) - first).collect(), 1))
    }

    fn signed(&self, row: usize) -> i64 {
        match self.0.dtype() {
            Dtype::I32 => i64::from(self.0.entry::<i32>(row)),
            _ => self.0.entry::<i64>(row),
        }
    }

    // note: offsets are read anew each time, and their owner may write to them: what then leaves the values is refused
    // where it is gathered.
    fn at(&self, row: usize) -> usize {
        self.signed(row) as usize
    }
}
