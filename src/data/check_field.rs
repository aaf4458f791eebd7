//! Checks of entries, of rows or of positions: what is wrong with which one.

use std::ops::Range;

use super::array::Array;
use super::{Along, Entries, Field, Offsets};
use crate::bail;
use crate::error::{Result, brief};
use crate::input::{Codes, Holds};

impl Field {
    /// Checks an input of numbers, for so many rows, with an entry of this shape along rows or positions.
    ///
    /// # Errors
    /// What was expected and what came.
    pub fn check_numbers(&self, name: &str, rows: usize, along: Along, shape: &[usize]) -> Result<()> {
        self.check_form(name, rows, along, shape)?;
        self.entries().check_numbers(name)
    }

    /// Checks an input of codes, which are all of one kind.
    ///
    /// # Errors
    /// As [`Field::check_numbers`].
    pub fn check_codes(&self, name: &str, rows: usize, along: Along, shape: &[usize], codes: Codes) -> Result<()> {
        self.check_form(name, rows, along, shape)?;
        let entries = self.entries();
        entries.check_codes(name, &vec![codes; entries.width()])
    }

    /// The same of positions where each column has a kind of its own.
    ///
    /// # Errors
    /// As [`Field::check_numbers`].
    pub fn check_columns(&self, name: &str, rows: usize, columns: &[Codes]) -> Result<()> {
        self.check_form(name, rows, Along::Positions, &[columns.len()])?;
        self.entries().check_codes(name, columns)
    }

    fn check_form(&self, name: &str, rows: usize, along: Along, shape: &[usize]) -> Result<()> {
        let entries = self.entries();
        let got = entries.values.shape();
        match (along, self.along()) {
            (Along::Positions, Along::Rows) => {
                bail!("{name} should have positions in each row, and offsets; got an entry a row, of shape {got:?}")
            }
            (Along::Rows, Along::Positions) => bail!("{name} should have an entry a row; got positions in each row"),
            _ => {}
        }
        entries.check_rows(name, rows)?;
        let single = got.len() <= 2 && entries.width() == 1 && matches!(shape, [] | [1]);
        if self.rows() != rows || (got[1..] != *shape && !single) {
            let first = if along == Along::Rows { rows.to_string() } else { "positions".to_owned() };
            let wanted = |first| std::iter::once(first).chain(shape.iter().map(usize::to_string)).collect::<Vec<_>>();
            if along == Along::Rows && got == shape {
                let wanted = wanted("rows".to_owned()).join(", ");
                bail!("{name} should have shape [{wanted}]; got {got:?}: one row is an array of rows too, `x[None]`");
            }
            let wanted = wanted(first);
            bail!("{name} should have shape [{}]; got {got:?}", wanted.join(", "));
        }
        Ok(())
    }
}

/// Checks that what is of positions has the same ones in each row as something else, such as labels and tokens.
///
/// # Errors
/// The first row in which they differ.
pub fn check_lengths(name: &str, offsets: &Offsets, other_name: &str, other: &Offsets) -> Result<()> {
    if offsets.rows() != other.rows() {
        bail!("{name} should have {} rows, as {other_name}; got {}", other.rows(), offsets.rows());
    }
    let Some(row) = offsets.difference(other) else { return Ok(()) };
    let [got, wanted] = [offsets, other].map(|each| each.span(row).len());
    bail!("{name} should have {wanted} positions in row {row}, as {other_name}; got {got}");
}

impl Entries<'_> {
    /// Checks that there are so many rows; gives how many values there should be.
    pub(super) fn check_rows(&self, name: &str, rows: usize) -> Result<usize> {
        let Some(offsets) = self.offsets else { return Ok(rows) };
        if offsets.rows() != rows {
            bail!("{name} should have {rows} rows; got {}", offsets.rows());
        }
        let [end, there] = [offsets.all().end, self.values.rows()];
        if end > there {
            bail!("the offsets of {name} should lie within its {there} positions; got {end} at {rows}");
        }
        Ok(there)
    }

    pub(super) fn check_numbers(&self, name: &str) -> Result<()> {
        if !self.values.dtype().is_float() {
            return Ok(());
        }
        // What is finite as f64 may still overflow f32, in which the network computes.
        match self.find(|entry, column, x| (!(x as f32).is_finite()).then_some((entry, column, x))) {
            Some((entry, column, x)) => {
                let [place, column] = [self.place(entry), self.column(column)];
                bail!("{name} should hold finite numbers; got {} at {place}{column}", brief(x))
            }
            None => Ok(()),
        }
    }

    /// Checks numbers that are not just any; whole ones are handed on in `f32`, which has them up to 2^24.
    pub(super) fn check_held(&self, name: &str, holds: Holds) -> Result<()> {
        let most = match holds {
            Holds::Numbers => return Ok(()),
            Holds::Whole => f64::from(1 << 24),
            Holds::Truths => 1.0,
        };
        let least = if holds == Holds::Truths { 0.0 } else { -most };
        let wrong = |x: f64| x.fract() != 0.0 || !(least..=most).contains(&x);
        match self.find(|entry, column, x| wrong(x).then_some((entry, column, x))) {
            Some((entry, column, x)) => {
                let [place, column] = [self.place(entry), self.column(column)];
                bail!("{name} should hold whole numbers from {least} to {most}; got {} at {place}{column}", brief(x))
            }
            None => Ok(()),
        }
    }

    pub(super) fn check_codes(&self, name: &str, columns: &[Codes]) -> Result<()> {
        if self.values.holds_codes(self.all(), columns) {
            return Ok(());
        }
        let wrong = self.find(|entry, column, x| (!columns[column].holds(x)).then_some((entry, column, x)));
        if let Some((entry, column, x)) = wrong {
            let Codes { count, gaps } = columns[column];
            let or = if gaps { ", or -1 for none," } else { "" };
            let [place, column] = [self.place(entry), self.column(column)];
            let column = column.replace(", ", " in ");
            let most = count.saturating_sub(1);
            bail!("{name} should hold codes from 0 to {most}{or}{column}; got {} at {place}", brief(x));
        }
        Ok(())
    }

    /// Visits all numbers that entries have.
    pub(super) fn find<R>(&self, look: impl FnMut(usize, usize, f64) -> Option<R>) -> Option<R> {
        self.values.find(self.all(), look)
    }

    /// Where all entries lie in the values.
    fn all(&self) -> Range<usize> {
        self.offsets.map_or(0..self.values.rows(), Offsets::all)
    }

    /// Where an entry is, in words.
    pub(super) fn place(&self, entry: usize) -> String {
        match self.offsets.and_then(|offsets| offsets.place(entry)) {
            Some((row, position)) => format!("row {row}, position {position}"),
            None => format!("row {entry}"),
        }
    }

    /// Which number of an entry it is, in words.
    fn column(&self, column: usize) -> String {
        match &self.values.shape()[1..] {
            [] if self.offsets.is_some() => String::new(),
            [] | [_] => format!(", column {column}"),
            inner => format!(", index {:?}", unravelled(column, inner)),
        }
    }
}

/// Where a number stands in an array of this shape.
fn unravelled(mut number: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (at, length) in index.iter_mut().zip(shape).rev() {
        *at = number % length;
        number /= length;
    }
    index
}

/// Checks that there are `count` entries of so many columns, or of one number each.
pub(super) fn check_shape(name: &str, array: &Array, count: usize, columns: Option<usize>) -> Result<()> {
    let got = array.shape();
    let fits = match (columns, got) {
        (Some(columns), &[rows, each]) => each == columns && rows == count,
        (Some(columns), &[rows]) => columns == 1 && rows == count,
        (None, &[rows]) => rows == count,
        _ => false,
    };
    if !fits {
        let wanted = columns.map_or(format!("[{count}]"), |columns| format!("[{count}, {columns}]"));
        if columns == Some(got[0]) && got.len() == 1 {
            bail!("{name} should have shape [rows, {}]; got {got:?}: one row is [1, {0}]", got[0]);
        }
        bail!("{name} should have shape {wanted}; got {got:?}");
    }
    Ok(())
}
