//! The drive of losses of class probabilities: sixteen rows at once, transposed, or a wide row on its own.

use std::array::from_fn;

use super::{Batch, Targets};
use crate::real::{LANES, Real};

/// Widest row that is transposed.
const NARROW: usize = 64;

/// A loss of one row: `value` and its gradient `p_k (hit + S) - spread_k - [k = y] hit` with `S` the sum of all spreads.
pub(super) trait Row<T: Real> {
    /// The part of every row's target that does not depend on its label.
    #[inline(always)]
    fn spread(&self, _class: usize) -> T {
        T::ZERO
    }

    /// The weight of a class.
    #[inline(always)]
    fn own(&self, _class: usize) -> T {
        T::ONE
    }

    /// Value and `hit`, from `ln p_y`, the spread's cross-entropy and the class's weight.
    fn judge(&self, log_p: T, spread: T, own: T) -> (T, T);
}

/// Weight of the labelled rows.
pub(super) fn weight<T: Real>(targets: Targets<'_, T>, weights: Option<&[T]>, own: impl Fn(usize) -> f64) -> f64 {
    let classes = targets.classes().iter();
    match weights {
        None => classes.filter(|c| **c >= 0).map(|c| own(*c as usize)).sum(),
        Some(weights) => classes.zip(weights).filter(|(c, _)| **c >= 0).map(|(c, w)| own(*c as usize) * w.wide()).sum(),
    }
}

/// Sum of weighted losses; fills the gradient.
pub(super) fn evaluate<T: Real>(row: &impl Row<T>, batch: Batch<'_, T>) -> f64 {
    batch.assert_fits(1);
    let total = (0..batch.width).fold(T::ZERO, |sum, class| sum + row.spread(class));
    pulp::Arch::new().dispatch(Drive { row, total, classes: batch.targets.classes(), batch })
}

struct Drive<'a, 'b, T, R> {
    row: &'a R,
    /// Sum of all spreads.
    total: T,
    classes: &'b [i32],
    batch: Batch<'b, T>,
}

/// Sixteen labels: class, class weight, row weight; rows without a label weigh nothing.
struct Picks<T> {
    class: [i32; LANES],
    own: [T; LANES],
    weight: [T; LANES],
}

impl<T: Real, R: Row<T>> pulp::NullaryFnOnce for Drive<'_, '_, T, R> {
    type Output = f64;

    #[inline(always)]
    fn call(mut self) -> f64 {
        match self.batch.width {
            2 => self.blocks(&mut [[T::ZERO; LANES]; 2]),
            3 => self.blocks(&mut [[T::ZERO; LANES]; 3]),
            4 => self.blocks(&mut [[T::ZERO; LANES]; 4]),
            width if width <= NARROW => self.blocks(&mut [[T::ZERO; LANES]; NARROW][..width]),
            _ => (0..self.batch.rows).map(|row| self.wide(row)).sum(),
        }
    }
}

impl<T: Real, R: Row<T>> Drive<'_, '_, T, R> {
    /// All rows, sixteen at a time, `[width][16]` in scratch.
    #[inline(always)]
    fn blocks(&mut self, scratch: &mut [[T; LANES]]) -> f64 {
        let rows = self.batch.rows;
        let mut total = [0.0; LANES];
        let full = rows - rows % LANES;
        for row in (0..full).step_by(LANES) {
            self.block(row, LANES, scratch, &mut total);
        }
        if full < rows {
            self.block(full, rows - full, scratch, &mut total);
        }
        total.iter().sum()
    }

    #[inline(always)]
    fn block(&mut self, row: usize, count: usize, scratch: &mut [[T; LANES]], total: &mut [f64; LANES]) {
        let picks = self.picks(row, count);
        self.load(row, count, scratch);
        let values = self.judge(&picks, scratch);
        for l in 0..LANES {
            let value = values[l] * picks.weight[l];
            total[l] += if picks.weight[l] != T::ZERO { value.wide() } else { 0.0 };
        }
        self.store(row, count, scratch);
    }

    #[inline(always)]
    fn picks(&self, row: usize, count: usize) -> Picks<T> {
        let class: [i32; LANES] = from_fn(|l| if l < count { self.classes[row + l] } else { -1 });
        let own = from_fn(|l| self.row.own(class[l].max(0) as usize));
        let given: [T; LANES] = match self.batch.weights {
            None => [T::ONE; LANES],
            Some(weights) => from_fn(|l| if l < count { weights[row + l] } else { T::ZERO }),
        };
        Picks { weight: from_fn(|l| if class[l] >= 0 { given[l] } else { T::ZERO }), own, class }
    }

    /// Values of sixteen rows; their logits become their gradients.
    #[inline(always)]
    fn judge(&self, picks: &Picks<T>, logits: &mut [[T; LANES]]) -> [T; LANES] {
        let mut top = [T::LOWEST; LANES];
        for column in logits.iter() {
            top = from_fn(|l| top[l].max(column[l]));
        }
        let (mut sum, mut picked, mut smooth) = ([T::ZERO; LANES], [T::ZERO; LANES], [T::ZERO; LANES]);
        for (k, column) in logits.iter_mut().enumerate() {
            let spread = self.row.spread(k);
            for l in 0..LANES {
                let z = column[l] - top[l];
                picked[l] = if picks.class[l] == k as i32 { z } else { picked[l] };
                smooth[l] += spread * z;
                column[l] = z.exp();
                sum[l] += column[l];
            }
        }
        let (mut values, mut hits, mut share) = ([T::ZERO; LANES], [T::ZERO; LANES], [T::ZERO; LANES]);
        for l in 0..LANES {
            let log_sum = sum[l].ln();
            (values[l], hits[l]) = self.row.judge(picked[l] - log_sum, self.total * log_sum - smooth[l], picks.own[l]);
            share[l] = (hits[l] + self.total) / sum[l];
        }
        for (k, column) in logits.iter_mut().enumerate() {
            let spread = self.row.spread(k);
            for l in 0..LANES {
                let hit = if picks.class[l] == k as i32 { hits[l] } else { T::ZERO };
                let slope = (column[l] * share[l] - spread - hit) * (picks.weight[l] * self.batch.scale);
                column[l] = if picks.weight[l] != T::ZERO { slope } else { T::ZERO };
            }
        }
        values
    }

    #[inline(always)]
    fn load(&self, row: usize, count: usize, scratch: &mut [[T; LANES]]) {
        for l in 0..count {
            let start = (row + l) * self.batch.stride;
            for (k, column) in scratch.iter_mut().enumerate() {
                // SAFETY: `Batch::assert_fits` bounds `rows` and `width`.
                column[l] = unsafe { *self.batch.outputs.get_unchecked(start + k) };
            }
        }
    }

    #[inline(always)]
    fn store(&mut self, row: usize, count: usize, scratch: &[[T; LANES]]) {
        let Some(gradient) = &mut self.batch.gradient else { return };
        for l in 0..count {
            let start = (row + l) * self.batch.stride;
            for (k, column) in scratch.iter().enumerate() {
                // SAFETY: `Batch::assert_fits` bounds `rows` and `width`.
                unsafe { *gradient.get_unchecked_mut(start + k) = column[l] };
            }
        }
    }

    /// One row of many classes.
    #[inline(always)]
    fn wide(&mut self, row: usize) -> f64 {
        let (width, start) = (self.batch.width, row * self.batch.stride);
        let class = self.classes[row];
        let weight = self.batch.weights.map_or(T::ONE, |w| w[row]);
        let logits = &self.batch.outputs[start..start + width];
        let mut gradient = self.batch.gradient.as_mut().map(|g| &mut g[start..start + width]);
        if class < 0 || weight == T::ZERO {
            gradient.iter_mut().for_each(|g| g.fill(T::ZERO));
            return 0.0;
        }
        let top = fold(width, T::LOWEST, T::max, |k| logits[k]);
        let sum = fold(width, T::ZERO, T::add, |k| (logits[k] - top).exp());
        let smooth = fold(width, T::ZERO, T::add, |k| self.row.spread(k) * (logits[k] - top));
        let (log_sum, class) = (sum.ln(), class as usize);
        let (value, hit) =
            self.row.judge(logits[class] - top - log_sum, self.total * log_sum - smooth, self.row.own(class));
        if let Some(gradient) = gradient {
            let (share, factor) = ((hit + self.total) / sum, weight * self.batch.scale);
            for (k, slope) in gradient.iter_mut().enumerate() {
                *slope = ((logits[k] - top).exp() * share - self.row.spread(k)) * factor;
            }
            gradient[class] += -hit * factor;
        }
        (value * weight).wide()
    }
}

/// Folds `0..width` in sixteen lanes, so that the loop over them vectorises.
#[inline(always)]
fn fold<T: Real>(width: usize, start: T, join: impl Fn(T, T) -> T, at: impl Fn(usize) -> T) -> T {
    let mut lanes = [start; LANES];
    let full = width - width % LANES;
    for first in (0..full).step_by(LANES) {
        lanes = from_fn(|l| join(lanes[l], at(first + l)));
    }
    let tail = (full..width).fold(start, |sum, k| join(sum, at(k)));
    lanes.into_iter().fold(tail, join)
}

/// Probabilities of whole rows of logits.
pub(super) fn link(width: usize, raw: &[f32], predicted: &mut [f32]) {
    for (logits, probabilities) in raw.chunks_exact(width).zip(predicted.chunks_exact_mut(width)) {
        let top = logits.iter().copied().fold(f32::LOWEST, Real::max);
        let mut sum = 0.0;
        for (z, p) in logits.iter().zip(&mut *probabilities) {
            *p = Real::exp(z - top);
            sum += *p;
        }
        probabilities.iter_mut().for_each(|p| *p /= sum);
    }
}
