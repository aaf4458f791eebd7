//! The drive of losses that judge each cell on its own: a block of them at once, down the rows or along a row.

use std::array::from_fn;

use super::Batch;
use crate::label::Targets;
use crate::machine::level;
use crate::machine::real::{LANES, Real};
use crate::vectorised;

/// Cells treated at once: enough vectors to keep the loops over them long, few enough to stay in the first cache.
pub(super) const BLOCK: usize = 4 * LANES;

/// A loss of one cell, `P` raw outputs against one number.
pub(super) trait Cell<T: Real, const P: usize> {
    /// How often each label is judged, by raw outputs of their own (quantiles).
    #[inline(always)]
    fn repeats(&self) -> usize {
        1
    }

    /// Whether [`Cell::own`] is the same for all columns.
    #[inline(always)]
    fn uniform(&self) -> bool {
        true
    }

    /// A number that belongs to a column and repeat (a weight, a quantile).
    #[inline(always)]
    fn own(&self, _column: usize, _repeat: usize) -> T {
        T::ONE
    }

    /// Loss and its derivatives.
    fn cell(&self, raw: [T; P], target: T, own: T) -> (T, [T; P]);
}

/// Weight of the labelled cells.
pub(super) fn weight<T: Real>(targets: Targets<'_, T>, weights: Option<&[T]>) -> f64 {
    let values = targets.values();
    match weights {
        None => values.chunks(1 << 20).map(labelled).sum(),
        Some([]) => 0.0,
        Some(weights) => {
            let columns = (values.len() / weights.len()).max(1);
            values.chunks_exact(columns).zip(weights).map(|(row, weight)| labelled(row) * weight.wide()).sum()
        }
    }
}

/// How many cells are labelled, of no more than an `u32` counts.
fn labelled<T: Real>(cells: &[T]) -> f64 {
    f64::from(cells.iter().map(|y| u32::from(!y.is_nan())).sum::<u32>())
}

/// Sum of weighted losses; fills the gradient.
pub(super) fn evaluate<T: Real, const P: usize>(cell: &impl Cell<T, P>, batch: Batch<'_, T>) -> f64 {
    let repeats = cell.repeats();
    let columns = batch.width / (P * repeats);
    batch.assert_fits(columns);
    let mut drive = Drive { cell, columns, repeats, labels: batch.targets.values(), batch };
    if P == 1 && repeats == 1 && cell.uniform() {
        drive.flatten();
    }
    level::run(drive)
}

struct Drive<'a, 'b, T, C, const P: usize> {
    cell: &'a C,
    columns: usize,
    repeats: usize,
    labels: &'b [T],
    batch: Batch<'b, T>,
}

/// Up to [`BLOCK`] cells: where they start and how far apart they lie.
#[derive(Clone, Copy)]
struct Tile {
    raw: usize,
    raw_step: usize,
    label: usize,
    label_step: usize,
    count: usize,
}

impl<T: Real, C: Cell<T, P>, const P: usize> pulp::NullaryFnOnce for Drive<'_, '_, T, C, P> {
    type Output = f64;

    #[inline(always)]
    fn call(mut self) -> f64 {
        let mut total = [0.0; LANES];
        let columns = self.columns;
        let repeats = self.repeats;
        for repeat in 0..repeats {
            if columns < LANES {
                for column in 0..columns {
                    self.down(column, repeat, &mut total);
                }
            } else {
                for row in 0..self.batch.rows {
                    self.along(row, repeat, &mut total);
                }
            }
        }
        total.iter().sum()
    }
}

impl<T: Real, C: Cell<T, P>, const P: usize> Drive<'_, '_, T, C, P> {
    /// Contiguous cells that share one weight are one long column.
    fn flatten(&mut self) {
        if self.batch.stride == self.columns && (self.columns == 1 || self.batch.weights.is_none()) {
            self.batch.rows *= self.columns;
            self.columns = 1;
            self.batch.width = 1;
            self.batch.stride = 1;
        }
    }

    /// One column.
    #[inline(always)]
    fn down(&mut self, column: usize, repeat: usize, total: &mut [f64; LANES]) {
        let own = [self.cell.own(column, repeat); BLOCK];
        let rows = self.batch.rows;
        let stride = self.batch.stride;
        let columns = self.columns;
        let raw = (column * self.repeats + repeat) * P;
        let mut weights = [T::ONE; BLOCK];
        for row in (0..rows).step_by(BLOCK) {
            let count = BLOCK.min(rows - row);
            if let Some(given) = self.batch.weights {
                copy(&given[row..row + count], &mut weights);
            }
            let raw = row * stride + raw;
            let label = row * columns + column;
            let tile = Tile { raw, raw_step: stride, label, label_step: columns, count };
            self.judge(tile, &weights, &own, total);
        }
    }

    /// One row.
    #[inline(always)]
    fn along(&mut self, row: usize, repeat: usize, total: &mut [f64; LANES]) {
        let weights = [self.batch.weights.map_or(T::ONE, |w| w[row]); BLOCK];
        let step = self.repeats * P;
        let columns = self.columns;
        let raw = row * self.batch.stride + repeat * P;
        let mut own = [T::ONE; BLOCK];
        for column in (0..columns).step_by(BLOCK) {
            let count = BLOCK.min(columns - column);
            for (l, own) in own[..count].iter_mut().enumerate() {
                *own = self.cell.own(column + l, repeat);
            }
            let raw = raw + column * step;
            let label = row * columns + column;
            self.judge(Tile { raw, raw_step: step, label, label_step: 1, count }, &weights, &own, total);
        }
    }

    #[inline(always)]
    fn judge(&mut self, tile: Tile, weights: &[T; BLOCK], own: &[T; BLOCK], total: &mut [f64; LANES]) {
        let n = tile.count.next_multiple_of(LANES).min(BLOCK);
        let mut labels = [T::ZERO; BLOCK];
        load(self.labels, tile.label, tile.label_step, tile.count, &mut labels);
        let mut raw = [[T::ZERO; BLOCK]; P];
        for (p, raw) in raw.iter_mut().enumerate() {
            load(self.batch.outputs, tile.raw + p, tile.raw_step, tile.count, raw);
        }
        labels[tile.count..n].fill(T::of(f64::NAN));
        let mut values = [T::ZERO; BLOCK];
        for l in 0..n {
            let weight = if labels[l].is_nan() { T::ZERO } else { weights[l] };
            let label = if labels[l].is_nan() { T::ZERO } else { labels[l] };
            let (value, slope) = self.cell.cell(from_fn(|p| raw[p][l]), label, own[l]);
            values[l] = if weight == T::ZERO { T::ZERO } else { value * weight };
            let factor = weight * self.batch.scale;
            for p in 0..P {
                raw[p][l] = if weight == T::ZERO { T::ZERO } else { slope[p] * factor };
            }
        }
        add(&values[..n], total);
        if let Some(gradient) = &mut self.batch.gradient {
            for (p, slope) in raw.iter().enumerate() {
                store(gradient, tile.raw + p, tile.raw_step, &slope[..tile.count]);
            }
        }
    }
}

/// Adds whole vectors of values to the lanes of a sum.
#[inline(always)]
pub(super) fn add<T: Real>(values: &[T], total: &mut [f64; LANES]) {
    for values in values.chunks_exact(LANES) {
        for l in 0..LANES {
            total[l] += values[l].wide();
        }
    }
}

/// Copies up to a block; a whole block without a call.
#[inline(always)]
pub(super) fn copy<T: Copy>(from: &[T], into: &mut [T; BLOCK]) {
    match from.first_chunk::<BLOCK>() {
        Some(block) => *into = *block,
        None => into[..from.len()].copy_from_slice(from),
    }
}

/// `count` numbers `step` apart.
#[inline(always)]
fn load<T: Real>(from: &[T], start: usize, step: usize, count: usize, into: &mut [T; BLOCK]) {
    if step == 1 {
        return copy(&from[start..start + count], into);
    }
    for (l, into) in into[..count].iter_mut().enumerate() {
        debug_assert!(start + l * step < from.len());
        // SAFETY: `Batch::assert_fits` bounds every index of the rows and columns the drive walks.
        *into = unsafe { *from.get_unchecked(start + l * step) };
    }
}

/// Writes where [`load`] would read.
#[inline(always)]
fn store<T: Real>(to: &mut [T], start: usize, step: usize, values: &[T]) {
    if step == 1 {
        let to = &mut to[start..start + values.len()];
        match (to.first_chunk_mut::<BLOCK>(), values.first_chunk::<BLOCK>()) {
            (Some(to), Some(values)) => *to = *values,
            _ => to.copy_from_slice(values),
        }
        return;
    }
    for (l, value) in values.iter().enumerate() {
        debug_assert!(start + l * step < to.len());
        // SAFETY: as in `load`.
        unsafe { *to.get_unchecked_mut(start + l * step) = *value };
    }
}

/// `-ln p`, `-ln(1 - p)`, `p` and `1 - p` of `p = 1 / (1 + exp(-z))`, each without cancellation.
#[inline(always)]
pub(super) fn logistic<T: Real>(z: T) -> (T, T, T, T) {
    let e = (-z.abs()).exp();
    let large = T::ONE / (T::ONE + e);
    let small = e * large;
    let log = (T::ONE + e).ln();
    let (p, q) = if z > T::ZERO { (large, small) } else { (small, large) };
    ((-z).max(T::ZERO) + log, z.max(T::ZERO) + log, p, q)
}

vectorised! {
    /// Probabilities of logits.
    pub(super) fn sigmoid(raw: &[f32], predicted: &mut [f32]) {
        for (z, p) in raw.iter().zip(predicted) {
            *p = Real::sigmoid(*z);
        }
    }
}

/// The derivative of the absolute value, 0 at 0.
#[inline(always)]
pub(super) fn sign<T: Real>(x: T) -> T {
    let positive = if x > T::ZERO { T::ONE } else { T::ZERO };
    if x < T::ZERO { -T::ONE } else { positive }
}
