//! The drive of losses that judge each cell on its own: sixteen cells at once, down the rows or along a wide row.

use std::array::from_fn;

use super::{Batch, Targets};
use crate::real::{LANES, Real};

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
    let labelled = |row: &[T]| row.iter().map(|y| u32::from(!y.is_nan())).sum::<u32>();
    match weights {
        None => values.chunks(1 << 20).map(|part| f64::from(labelled(part))).sum(),
        Some(weights) if weights.is_empty() => 0.0,
        Some(weights) => {
            let columns = (values.len() / weights.len()).max(1);
            values.chunks_exact(columns).zip(weights).map(|(row, w)| f64::from(labelled(row)) * w.wide()).sum()
        }
    }
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
    pulp::Arch::new().dispatch(drive)
}

struct Drive<'a, 'b, T, C, const P: usize> {
    cell: &'a C,
    columns: usize,
    repeats: usize,
    labels: &'b [T],
    batch: Batch<'b, T>,
}

/// Sixteen cells or fewer: where they start and how far apart they lie.
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
        let (columns, repeats) = (self.columns, self.repeats);
        for repeat in 0..repeats {
            if columns < LANES {
                (0..columns).for_each(|column| self.down(column, repeat, &mut total));
            } else {
                (0..self.batch.rows).for_each(|row| self.along(row, repeat, &mut total));
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
            (self.columns, self.batch.width, self.batch.stride) = (1, 1, 1);
        }
    }

    /// One column, sixteen rows at a time.
    #[inline(always)]
    fn down(&mut self, column: usize, repeat: usize, total: &mut [f64; LANES]) {
        let own = [self.cell.own(column, repeat); LANES];
        let (rows, stride, columns) = (self.batch.rows, self.batch.stride, self.columns);
        let raw = (column * self.repeats + repeat) * P;
        let tile = |row: usize, count| Tile {
            raw: row * stride + raw,
            raw_step: stride,
            label: row * columns + column,
            label_step: columns,
            count,
        };
        let full = rows - rows % LANES;
        for row in (0..full).step_by(LANES) {
            let weights = self.row_weights(row, LANES);
            self.judge(tile(row, LANES), weights, own, total);
        }
        if full < rows {
            let weights = self.row_weights(full, rows - full);
            self.judge(tile(full, rows - full), weights, own, total);
        }
    }

    /// One row, sixteen columns at a time.
    #[inline(always)]
    fn along(&mut self, row: usize, repeat: usize, total: &mut [f64; LANES]) {
        let weights = [self.batch.weights.map_or(T::ONE, |w| w[row]); LANES];
        let (step, columns) = (self.repeats * P, self.columns);
        let raw = row * self.batch.stride + repeat * P;
        let tile = |column: usize, count| Tile {
            raw: raw + column * step,
            raw_step: step,
            label: row * columns + column,
            label_step: 1,
            count,
        };
        let full = columns - columns % LANES;
        for column in (0..full).step_by(LANES) {
            let own = from_fn(|l| self.cell.own(column + l, repeat));
            self.judge(tile(column, LANES), weights, own, total);
        }
        if full < columns {
            let own = from_fn(|l| self.cell.own(full + l, repeat));
            self.judge(tile(full, columns - full), weights, own, total);
        }
    }

    #[inline(always)]
    fn row_weights(&self, row: usize, count: usize) -> [T; LANES] {
        match self.batch.weights {
            None => [T::ONE; LANES],
            Some(weights) => from_fn(|l| if l < count { weights[row + l] } else { T::ZERO }),
        }
    }

    #[inline(always)]
    fn judge(&mut self, tile: Tile, weights: [T; LANES], own: [T; LANES], total: &mut [f64; LANES]) {
        let raw: [[T; LANES]; P] = from_fn(|p| load(self.batch.outputs, tile.raw + p, tile.raw_step, tile.count));
        let labels = load(self.labels, tile.label, tile.label_step, tile.count);
        let mut slopes = [[T::ZERO; LANES]; P];
        for l in 0..LANES {
            let present = l < tile.count && !labels[l].is_nan() && weights[l] != T::ZERO;
            let label = if present { labels[l] } else { T::ZERO };
            let (value, slope) = self.cell.cell(from_fn(|p| raw[p][l]), label, own[l]);
            total[l] += if present { (value * weights[l]).wide() } else { 0.0 };
            let factor = weights[l] * self.batch.scale;
            for p in 0..P {
                slopes[p][l] = if present { slope[p] * factor } else { T::ZERO };
            }
        }
        if let Some(gradient) = &mut self.batch.gradient {
            for (p, slope) in slopes.iter().enumerate() {
                store(gradient, tile.raw + p, tile.raw_step, tile.count, slope);
            }
        }
    }
}

/// Up to sixteen numbers `step` apart; zeros fill the rest.
#[inline(always)]
fn load<T: Real>(from: &[T], start: usize, step: usize, count: usize) -> [T; LANES] {
    debug_assert!(start + (count - 1) * step < from.len());
    // SAFETY: `Batch::assert_fits` bounds every index of the rows and columns the drive walks.
    let at = |l: usize| unsafe { *from.get_unchecked(start + l * step) };
    match (count, step) {
        (LANES, 1) => from_fn(|l| at(l)),
        (LANES, _) => from_fn(|l| at(l)),
        _ => from_fn(|l| if l < count { at(l) } else { T::ZERO }),
    }
}

/// Writes what [`load`] would read.
#[inline(always)]
fn store<T: Real>(to: &mut [T], start: usize, step: usize, count: usize, values: &[T; LANES]) {
    debug_assert!(start + (count - 1) * step < to.len());
    if count == LANES && step == 1 {
        // SAFETY: as in `load`.
        unsafe { to.get_unchecked_mut(start..start + LANES) }.copy_from_slice(values);
        return;
    }
    for (l, value) in values.iter().enumerate().take(count) {
        // SAFETY: as in `load`.
        unsafe { *to.get_unchecked_mut(start + l * step) = *value };
    }
}

/// `-ln p`, `-ln(1 - p)`, `p` and `1 - p` of `p = 1 / (1 + exp(-z))`, each without cancellation.
#[inline(always)]
pub(super) fn logistic<T: Real>(z: T) -> (T, T, T, T) {
    let e = (-z.abs()).exp();
    let large = T::ONE / (T::ONE + e);
    let (small, log) = (e * large, (T::ONE + e).ln());
    let (p, q) = if z > T::ZERO { (large, small) } else { (small, large) };
    ((-z).max(T::ZERO) + log, z.max(T::ZERO) + log, p, q)
}

/// Probabilities of logits.
pub(super) fn sigmoid(raw: &[f32], predicted: &mut [f32]) {
    for (z, p) in raw.iter().zip(predicted) {
        *p = Real::sigmoid(*z);
    }
}

/// The derivative of the absolute value, 0 at 0.
#[inline(always)]
pub(super) fn sign<T: Real>(x: T) -> T {
    let positive = if x > T::ZERO { T::ONE } else { T::ZERO };
    if x < T::ZERO { -T::ONE } else { positive }
}
