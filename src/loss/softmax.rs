//! The drive of losses of class probabilities: a block of rows at once, transposed, or a wide row on its own.

use super::Batch;
use super::cells::{BLOCK, add, copy};
use super::transpose::{load, store};
use crate::label::Targets;
use crate::machine::level;
use crate::machine::real::{LANES, Real};

/// Widest row that is transposed.
const NARROW: usize = 32;

/// A loss of one row: `value` and its gradient `p_k (hit + S) - spread_k - [k = y] hit` with `S` the sum of all spreads.
pub(super) trait Row<T: Real> {
    /// The part of every row's target that does not depend on its label.
    #[inline(always)]
    fn spread(&self, _class: usize) -> T {
        T::ZERO
    }

    /// Whether all classes have the same weight.
    fn uniform(&self) -> bool;

    /// The weight of a class.
    fn own(&self, class: usize) -> T;

    /// Value and `hit`, from `ln p_y`, the spread's cross-entropy and the class's weight.
    fn judge(&self, log_p: T, spread: T, own: T) -> (T, T);
}

/// The negative logarithm of a class's probability, for outputs that are logarithms of probabilities already.
pub(super) struct Likelihood;

impl<T: Real> Row<T> for Likelihood {
    #[inline(always)]
    fn uniform(&self) -> bool {
        true
    }

    #[inline(always)]
    fn own(&self, _: usize) -> T {
        T::ONE
    }

    #[inline(always)]
    fn judge(&self, log_p: T, _: T, own: T) -> (T, T) {
        (-log_p, own)
    }
}

/// Weight of the labelled rows.
pub(super) fn weight<T: Real>(targets: Targets<'_, T>, weights: Option<&[T]>, own: impl Fn(usize) -> f64) -> f64 {
    let mut total = 0.0;
    for (row, &class) in targets.classes().iter().enumerate().filter(|(_, class)| **class >= 0) {
        let weight = weights.map_or(1.0, |weights| weights[row].wide());
        total += own(class as usize) * weight;
    }
    total
}

/// Sum of weighted losses; fills the gradient.
pub(super) fn evaluate<T: Real>(row: &impl Row<T>, batch: Batch<'_, T>) -> f64 {
    batch.assert_fits(1);
    let total = (0..batch.width).fold(T::ZERO, |sum, class| sum + row.spread(class));
    level::run(Drive { row, total, classes: batch.targets.classes(), batch })
}

struct Drive<'a, 'b, T, R> {
    row: &'a R,
    /// Sum of all spreads.
    total: T,
    classes: &'b [i32],
    batch: Batch<'b, T>,
}

/// The labels of a block: class, class weight, row weight; rows without a label weigh nothing.
struct Picks<T> {
    class: [i32; BLOCK],
    own: [T; BLOCK],
    weight: [T; BLOCK],
}

impl<T: Real, R: Row<T>> pulp::NullaryFnOnce for Drive<'_, '_, T, R> {
    type Output = f64;

    #[inline(always)]
    fn call(mut self) -> f64 {
        match self.batch.width {
            2 => self.blocks::<2>(&mut [[T::ZERO; BLOCK]; 2]),
            3 => self.blocks::<3>(&mut [[T::ZERO; BLOCK]; 3]),
            4 => self.blocks::<4>(&mut [[T::ZERO; BLOCK]; 4]),
            width if width <= NARROW => self.blocks::<0>(&mut [[T::ZERO; BLOCK]; NARROW][..width]),
            _ => self.rows(),
        }
    }
}

impl<T: Real, R: Row<T>> Drive<'_, '_, T, R> {
    /// All rows, a block at a time, `[width][block]` in scratch; `W` is the width where it is known, or 0.
    #[inline(always)]
    fn blocks<const W: usize>(&mut self, scratch: &mut [[T; BLOCK]]) -> f64 {
        let rows = self.batch.rows;
        let stride = self.batch.stride;
        let mut total = [0.0; LANES];
        let mut picks = Picks { class: [-1; BLOCK], own: [self.row.own(0); BLOCK], weight: [T::ONE; BLOCK] };
        for row in (0..rows).step_by(BLOCK) {
            let count = BLOCK.min(rows - row);
            self.pick(row, count, &mut picks);
            load::<T, W>(&self.batch.outputs[row * stride..], stride, count, scratch);
            let values = self.judge::<W>(&picks, scratch);
            add(&values, &mut total);
            if let Some(gradient) = &mut self.batch.gradient {
                store::<T, W>(&mut gradient[row * stride..], stride, count, scratch);
            }
        }
        total.iter().sum()
    }

    #[inline(always)]
    fn pick(&self, row: usize, count: usize, picks: &mut Picks<T>) {
        copy(&self.classes[row..row + count], &mut picks.class);
        picks.class[count..].fill(-1);
        match self.batch.weights {
            Some(weights) => copy(&weights[row..row + count], &mut picks.weight),
            None => picks.weight.fill(T::ONE),
        }
        for l in 0..BLOCK {
            picks.weight[l] = if picks.class[l] < 0 { T::ZERO } else { picks.weight[l] };
        }
        if !self.row.uniform() {
            for l in 0..BLOCK {
                picks.own[l] = self.row.own(picks.class[l].max(0) as usize);
            }
        }
    }

    /// Values of a block; their logits become their gradients.
    #[inline(always)]
    fn judge<const W: usize>(&self, picks: &Picks<T>, logits: &mut [[T; BLOCK]]) -> [T; BLOCK] {
        let mut top = [T::LOWEST; BLOCK];
        for column in logits.iter() {
            for l in 0..BLOCK {
                top[l] = top[l].max(column[l]);
            }
        }
        let mut picked = [T::ZERO; BLOCK];
        let mut smooth = [T::ZERO; BLOCK];
        for (k, column) in logits.iter_mut().enumerate() {
            for l in 0..BLOCK {
                let z = column[l] - top[l];
                picked[l] = if picks.class[l] == k as i32 { z } else { picked[l] };
                column[l] = z;
            }
        }
        if self.total != T::ZERO {
            for (k, column) in logits.iter().enumerate() {
                let spread = self.row.spread(k);
                for l in 0..BLOCK {
                    smooth[l] += spread * column[l];
                }
            }
        }
        let mut sum = exponentials::<T, W>(logits);
        let mut hits = [T::ZERO; BLOCK];
        for l in 0..BLOCK {
            let weight = picks.weight[l];
            let log_sum = sum[l].ln();
            let spread = self.total * log_sum - smooth[l];
            let (value, hit) = self.row.judge(picked[l] - log_sum, spread, picks.own[l]);
            let factor = weight * self.batch.scale;
            smooth[l] = if weight == T::ZERO { T::ZERO } else { value * weight };
            hits[l] = hit * factor;
            sum[l] = (hit + self.total) * factor / sum[l];
            top[l] = factor;
        }
        for (k, column) in logits.iter_mut().enumerate() {
            let spread = self.row.spread(k);
            for l in 0..BLOCK {
                let hit = if picks.class[l] == k as i32 { hits[l] } else { T::ZERO };
                let slope = column[l] * sum[l] - (spread * top[l] + hit);
                column[l] = if picks.weight[l] == T::ZERO { T::ZERO } else { slope };
            }
        }
        smooth
    }

    /// All rows, one at a time.
    #[inline(always)]
    fn rows(&mut self) -> f64 {
        let mut total = 0.0;
        for row in 0..self.batch.rows {
            total += self.wide(row);
        }
        total
    }

    /// One row of many classes.
    #[inline(always)]
    fn wide(&mut self, row: usize) -> f64 {
        let width = self.batch.width;
        let start = row * self.batch.stride;
        let weight = self.batch.weights.map_or(T::ONE, |w| w[row]);
        let mut gradient = self.batch.gradient.as_mut().map(|g| &mut g[start..start + width]);
        if self.classes[row] < 0 || weight == T::ZERO {
            gradient.iter_mut().for_each(|g| g.fill(T::ZERO));
            return 0.0;
        }
        let logits = &self.batch.outputs[start..start + width];
        let class = self.classes[row] as usize;
        let top = lanes(logits, T::LOWEST, |top, z| top.max(z)).into_iter().fold(T::LOWEST, T::max);
        let sum = lanes(logits, T::ZERO, |sum, z| sum + (z - top).exp()).into_iter().fold(T::ZERO, T::add);
        let log_sum = sum.ln();
        let mut smooth = T::ZERO;
        if self.total != T::ZERO {
            for (k, z) in logits.iter().enumerate() {
                smooth += self.row.spread(k) * (log_sum - (*z - top));
            }
        }
        let (value, hit) = self.row.judge(logits[class] - top - log_sum, smooth, self.row.own(class));
        if let Some(gradient) = &mut gradient {
            let factor = weight * self.batch.scale;
            slopes(logits, top, (hit + self.total) * factor / sum, gradient);
            if self.total != T::ZERO {
                for (k, slope) in gradient.iter_mut().enumerate() {
                    *slope += -self.row.spread(k) * factor;
                }
            }
            gradient[class] += -hit * factor;
        }
        (value * weight).wide()
    }
}

/// Up to a block of a row, filled with the lowest number.
#[inline(always)]
fn piece<T: Real>(logits: &[T], first: usize) -> [T; BLOCK] {
    let mut piece = [T::LOWEST; BLOCK];
    copy(&logits[first..logits.len().min(first + BLOCK)], &mut piece);
    piece
}

/// Folds a row in a block of lanes, so that the loop over them vectorises.
#[inline(always)]
fn lanes<T: Real>(logits: &[T], start: T, join: impl Fn(T, T) -> T) -> [T; BLOCK] {
    let mut lanes = [start; BLOCK];
    for first in (0..logits.len()).step_by(BLOCK) {
        let piece = piece(logits, first);
        for l in 0..BLOCK {
            lanes[l] = join(lanes[l], piece[l]);
        }
    }
    lanes
}

/// `share * exp(z - top)` of a row.
#[inline(always)]
fn slopes<T: Real>(logits: &[T], top: T, share: T, gradient: &mut [T]) {
    for first in (0..logits.len()).step_by(BLOCK) {
        let mut piece = piece(logits, first);
        for z in &mut piece {
            *z = (*z - top).exp() * share;
        }
        let gradient = &mut gradient[first..];
        match gradient.first_chunk_mut::<BLOCK>() {
            Some(block) => *block = piece,
            None => gradient.copy_from_slice(&piece[..gradient.len()]),
        }
    }
}

/// Exponentials of logits whose largest is 0, and their sums.
#[inline(always)]
fn exponentials<T: Real, const W: usize>(logits: &mut [[T; BLOCK]]) -> [T; BLOCK] {
    let mut sum = [T::ZERO; BLOCK];
    if W == 2 {
        // One of the two is 0, so that one exponential serves both.
        let [first, second] = logits else { return sum };
        for l in 0..BLOCK {
            let e = (first[l] + second[l]).exp();
            first[l] = if first[l] < T::ZERO { e } else { T::ONE };
            second[l] = if second[l] < T::ZERO { e } else { T::ONE };
            sum[l] = T::ONE + e;
        }
        return sum;
    }
    for column in logits {
        for l in 0..BLOCK {
            column[l] = column[l].exp();
            sum[l] += column[l];
        }
    }
    sum
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
