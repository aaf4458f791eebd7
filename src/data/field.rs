//! Entries of rows: one a row, or so many a row as it has positions.

use super::array::{Array, Element, with_dtype};
use super::ragged::Offsets;
use super::rows::Rows;
use crate::error::Result;
use crate::label::Labels;

/// What there is an entry for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// Each row.
    Rows,
    /// Each position of each row.
    Positions,
}

/// Values of rows, `[rows, ...]`, or of their positions, `[positions, ...]` with offsets.
#[derive(Debug, Clone)]
pub struct Field {
    values: Array,
    offsets: Option<Offsets>,
}

impl Field {
    /// One entry a row.
    pub fn plain(values: Array) -> Self {
        Self { values, offsets: None }
    }

    /// One entry a position; errors call the values `name`.
    ///
    /// # Errors
    /// What [`Offsets::new`] refuses.
    pub fn ragged(values: Array, offsets: Array, name: &str) -> Result<Self> {
        let offsets = Offsets::new(offsets, values.rows(), name)?;
        Ok(Self { values, offsets: Some(offsets) })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.offsets.as_ref().map_or(self.values.rows(), Offsets::rows)
    }

    /// What there is an entry for.
    pub fn along(&self) -> Along {
        if self.offsets.is_some() { Along::Positions } else { Along::Rows }
    }

    /// Where the positions of each row lie, where there are some.
    pub fn offsets(&self) -> Option<&Offsets> {
        self.offsets.as_ref()
    }

    /// The entries.
    pub fn entries(&self) -> Entries<'_> {
        Entries { values: &self.values, offsets: self.offsets.as_ref(), mask: None }
    }

    /// The values, and the offsets of those of positions.
    pub fn parts(self) -> (Array, Option<Offsets>) {
        (self.values, self.offsets)
    }

    /// A copy that does not depend on the owners' memory.
    pub fn detach(&self) -> Self {
        match &self.offsets {
            None => Self::plain(self.values.detach()),
            Some(offsets) => Self { values: self.values.detach_rows(offsets.all()), offsets: Some(offsets.detach()) },
        }
    }
}

/// Borrowed values of rows or positions, and which of them are missing.
///
/// Entries of some rows are gathered one after the other, the positions of a row in their order; what a longer buffer
/// has beyond them is filled, and a shorter one panics.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    pub(super) values: &'a Array,
    pub(super) offsets: Option<&'a Offsets>,
    /// Not zero where a value is missing; shaped as the values.
    pub(super) mask: Option<&'a Array>,
}

impl<'a> Entries<'a> {
    /// One a row, of which none is missing.
    pub(super) fn of(values: &'a Array) -> Self {
        Self { values, offsets: None, mask: None }
    }

    /// Numbers an entry.
    pub fn width(&self) -> usize {
        self.values.columns()
    }

    /// The shape of an entry.
    pub fn shape(&self) -> &'a [usize] {
        &self.values.shape()[1..]
    }

    /// Entries of some rows.
    pub fn count(&self, rows: Rows<'_>) -> usize {
        match self.offsets {
            None => rows.len(),
            Some(offsets) => offsets.sum(rows, |count| count),
        }
    }

    /// Numbers `[entries, width]`.
    pub fn numbers(&self, rows: Rows<'_>, out: &mut [f32], rest: f32) {
        self.fill(rows, out, rest, |rows, out| narrow(self.values, rows, out));
    }

    /// Codes `[entries, width]`; -1 becomes [`NOTHING`](crate::input::NOTHING).
    pub fn codes(&self, rows: Rows<'_>, out: &mut [u32], rest: u32) {
        self.fill(rows, out, rest, |rows, out| {
            with_dtype!(self.values.dtype(), T => self.values.gather(rows, out, |x: T| x.whole() as u32));
        });
    }

    /// Class indices `[entries]`, -1 where missing and beyond them.
    pub fn classes(&self, rows: Rows<'_>, out: &mut [i32]) {
        self.fill(rows, out, -1, |rows, out| {
            classes(self.values, rows.clone(), out);
            self.hide(rows, out, -1);
        });
    }

    /// Labels that are numbers `[entries, width]`, NaN where missing and beyond them; `labels` says whether -1 is
    /// missing too.
    pub fn labels(&self, labels: Labels, rows: Rows<'_>, out: &mut [f32]) {
        self.fill(rows, out, f32::NAN, |rows, out| {
            narrow(self.values, rows.clone(), out);
            if labels.minus_one_is_missing() {
                out.iter_mut().filter(|x| **x == -1.0).for_each(|x| *x = f32::NAN);
            }
            self.hide(rows, out, f32::NAN);
        });
    }

    /// Makes gathered labels of some rows `[entries, width]` shares of the sum of each row's, column by column; NaN where that
    /// is 0.
    pub fn share(&self, rows: Rows<'_>, out: &mut [f32]) {
        let width = self.width();
        let mut first = 0;
        rows.for_each(|row| {
            let last = first + self.offsets.map_or(1, |offsets| offsets.span(row).len());
            for column in 0..width {
                let each = (first..last).map(|at| at * width + column);
                let sum: f64 = each.clone().map(|at| f64::from(out[at])).filter(|y| !y.is_nan()).sum();
                each.for_each(|at| out[at] = if sum > 0.0 { (f64::from(out[at]) / sum) as f32 } else { f32::NAN });
            }
            first = last;
        });
    }

    /// Numbers of rows `[rows]`, each repeated for all entries of its row.
    pub fn repeat(&self, numbers: &Array, rows: Rows<'_>, out: &mut [f32], rest: f32) {
        let Some(offsets) = self.offsets else { return Entries::of(numbers).numbers(rows, out, rest) };
        let mut filled = 0;
        rows.for_each(|row| {
            let count = offsets.span(row).len();
            out[filled..filled + count].fill(numbers.at(row, 0) as f32);
            filled += count;
        });
        out[filled..].fill(rest);
    }

    /// Calls `gather` with places in the values and the part of `out` that they fill.
    fn fill<O: Copy>(&self, rows: Rows<'_>, out: &mut [O], rest: O, gather: impl Fn(Rows<'_>, &mut [O])) {
        let width = self.width();
        let mut filled = 0;
        match self.offsets {
            None => {
                filled = rows.len() * width;
                gather(rows, &mut out[..filled]);
            }
            Some(offsets) => offsets.for_each_span(rows, |span| {
                let end = filled + span.len() * width;
                gather(Rows::Range(span), &mut out[filled..end]);
                filled = end;
            }),
        }
        out[filled..].fill(rest);
    }

    /// Overwrites what the mask declares missing.
    fn hide<O: Copy>(&self, places: Rows<'_>, out: &mut [O], missing: O) {
        let Some(mask) = self.mask else { return };
        mask.overwrite(places, out, missing);
    }
}

fn narrow(array: &Array, rows: Rows<'_>, out: &mut [f32]) {
    if array.is_plain() {
        return array.copy(rows, out);
    }
    with_dtype!(array.dtype(), T => array.gather(rows, out, |x: T| x.narrow()));
}

fn classes(array: &Array, rows: Rows<'_>, out: &mut [i32]) {
    // NaN becomes 0 when cast: floats say themselves what is missing.
    if array.dtype().is_float() {
        let class = |x: f64| if x.is_nan() { -1 } else { x as i32 };
        return with_dtype!(array.dtype(), T => array.gather(rows, out, |x: T| class(x.wide())));
    }
    with_dtype!(array.dtype(), T => array.gather(rows, out, |x: T| x.whole() as i32));
}
