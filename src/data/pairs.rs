//! Labels of pairs of positions, of which few are said.

use super::array::Array;
use super::{Asked, Entries, Offsets, Rows};
use crate::bail;
use crate::error::Result;
use crate::label::Pairing;

/// Triples of rows: the first position of a pair, the second and the class, -1 where it is missing; of a row that has no labels at
/// all one triple of -1.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    triples: &'a Array,
    of_rows: &'a Offsets,
    /// The positions of each row.
    positions: &'a Offsets,
    pairing: Pairing,
}

impl<'a> Pairs<'a> {
    /// Labels `[triples, 3]` of rows with such positions.
    pub(super) fn new(labels: Entries<'a>, positions: &'a Offsets, pairing: Pairing) -> Option<Self> {
        Some(Self { triples: labels.values, of_rows: labels.offsets?, positions, pairing })
    }

    /// Class indices of all pairs of some rows, -1 where missing and beyond them.
    pub fn classes(&self, rows: Rows<'_>, out: &mut [i32]) {
        let mut filled = 0;
        rows.for_each(|row| {
            let count = self.positions.span(row).len();
            let pairs = &mut out[filled..filled + count * count];
            pairs.fill(self.pairing.rest());
            for triple in self.of_rows.span(row) {
                let [first, second, class] = self.triple(triple);
                match (usize::try_from(first), usize::try_from(second)) {
                    (Ok(first), Ok(second)) if first < count && second < count => pairs[first * count + second] = class,
                    _ => pairs.fill(-1),
                }
            }
            filled += count * count;
        });
        out[filled..].fill(-1);
    }

    /// Numbers of rows `[rows]`, each repeated for all pairs of its row.
    pub fn repeat(&self, numbers: &Array, rows: Rows<'_>, out: &mut [f32]) {
        let mut filled = 0;
        rows.for_each(|row| {
            let pairs = self.positions.span(row).len().pow(2);
            out[filled..filled + pairs].fill(numbers.at(row, 0) as f32);
            filled += pairs;
        });
        out[filled..].fill(0.0);
    }

    /// How many pairs some rows have.
    pub fn count(&self, rows: Rows<'_>) -> usize {
        self.positions.sum(rows, |count| count.saturating_mul(count))
    }

    /// Checks that triples name positions of their rows, and classes; gives whether there is any label.
    ///
    /// # Errors
    /// What was expected and what came.
    pub(super) fn check(&self, called: &str, asked: &Asked) -> Result<bool> {
        let classes = asked.labels.width() as f64;
        let shape = self.triples.shape();
        if shape.len() != 2 || shape[1] != 3 {
            bail!("{called} should be triples (first, second, class), [triples, 3]; got shape {shape:?}");
        }
        if self.of_rows.rows() != self.positions.rows() {
            bail!("{called} should have {} rows; got {}", self.positions.rows(), self.of_rows.rows());
        }
        let mut labelled = false;
        for row in 0..self.of_rows.rows() {
            let count = self.positions.span(row).len();
            let mut known = self.pairing == Pairing::Free && count > 0;
            for at in self.of_rows.span(row) {
                let triple = [0, 1, 2].map(|column| self.triples.at(at, column));
                if triple == [-1.0; 3] {
                    known = false;
                    continue;
                }
                let within = |x: f64, end: f64, least: f64| x.fract() == 0.0 && x >= least && x < end;
                if !triple[..2].iter().all(|&x| within(x, count as f64, 0.0)) || !within(triple[2], classes, -1.0) {
                    bail!(
                        "{called} should be triples of positions below {count} and a class below {classes}; got {triple:?} \
                         at row {row}"
                    );
                }
                known |= triple[2] >= 0.0;
            }
            labelled |= known;
        }
        Ok(labelled)
    }

    fn triple(&self, at: usize) -> [i32; 3] {
        [0, 1, 2].map(|column| self.triples.at(at, column) as i32)
    }
}
