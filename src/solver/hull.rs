//! The point of the convex hull of gradients that is nearest to the origin.

use crate::machine::lent::Lent;
use crate::solver::quadratic::Program;
use crate::solver::ridge::{Ladder, RESIDUAL, noise};
use crate::solver::{Cosines, times};

/// Weights `w` on the probability simplex that minimise `w^T G w` for a Gramian `G`, `[n, n]`, whose cosines are known
/// up to `rounding`. Rows of zeros share the weight if there are any. The direction is unique; the weights are not where
/// rows depend on each other.
///
/// It is never longer than the shortest row, as far as a Gramian that is rounded can tell: where the solution is not good
/// enough for that, squared lengths count a little more.
pub fn min_norm(gramian: &[f64], n: usize, rounding: f64) -> Lent<f64> {
    let Cosines { matrix, lengths } = Cosines::of(gramian, n);
    let zeros = lengths.iter().filter(|length| **length <= 0.0).count();
    if zeros > 0 {
        return lengths.iter().map(|length| if *length > 0.0 { 0.0 } else { 1.0 / zeros as f64 }).collect();
    }
    let noise = noise(n, rounding);
    let shares = shares(&lengths);
    let solve = |matrix: &[f64], ridge: f64| {
        let mut program = Program::new(matrix, n);
        let (y, good) = match program.minimise(&shares) {
            Some(mut ray) => {
                ray.iter_mut().for_each(|y| *y = y.max(0.0));
                let along = times(matrix, &ray);
                let good = fits(&ray, |i| along[i], &shares, noise, ridge);
                (ray, good)
            }
            None => {
                let slopes = program.slopes();
                let good = fits(&program.solution, |i| shares[i] - slopes[i], &shares, noise, ridge);
                (program.solution, good)
            }
        };
        good.then(|| onto_simplex(y, &shares))
    };
    let found = solve(&matrix, 0.0).or_else(|| Ladder::new(&matrix, n, rounding).climb(solve));
    found.unwrap_or_else(|| {
        let shortest = (0..n).min_by(|&i, &j| lengths[i].total_cmp(&lengths[j]));
        (0..n).map(|i| f64::from(u8::from(Some(i) == shortest))).collect()
    })
}

/// The weights for unit rows with a matrix of cosines, and their lengths.
///
/// With `w = t v` the ray of the best `v >= 0` is that of `min 1/2 v^T G v - sum(v)`, a program without the constraint
/// `sum(w) = 1`; it has no minimum just where the hull holds the origin, and then the way down is the answer.
pub(super) fn nearest(matrix: &[f64], lengths: &[f64]) -> Lent<f64> {
    let shares = shares(lengths);
    let mut program = Program::new(matrix, lengths.len());
    let y = program.minimise(&shares).unwrap_or(program.solution);
    onto_simplex(y, &shares)
}

/// The length of the shortest row, relative to each.
fn shares(lengths: &[f64]) -> Lent<f64> {
    let shortest = lengths.iter().copied().fold(f64::INFINITY, f64::min);
    lengths.iter().map(|length| shortest / length).collect()
}

/// Weights that sum to 1 of the rows from those of the unit rows.
fn onto_simplex(mut weights: Lent<f64>, shares: &[f64]) -> Lent<f64> {
    for (weight, share) in weights.iter_mut().zip(shares) {
        *weight = (*weight * share).max(0.0);
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// Whether every row is as far along the direction as the direction itself, those that it is made of no further, and the
/// direction no longer than the shortest row, if squares of `n` unit rows may be off by `noise`; `y` are weights of the unit
/// rows, of any sum, `along` gives the products of their direction with them, and `ridge` is what the diagonal of the matrix
/// has above 1.
fn fits(y: &[f64], along: impl Fn(usize) -> f64, shares: &[f64], noise: f64, ridge: f64) -> bool {
    let mut total = 0.0;
    let mut square = 0.0;
    let mut sum = 0.0;
    let mut size = 0.0;
    for (i, (y, share)) in y.iter().zip(shares).enumerate() {
        total += y * share;
        square += y * along(i);
        sum += y * y;
        size += y;
    }
    let wrong = (0..y.len()).map(|i| {
        let short = square * shares[i] - total * along(i);
        if y[i] > 0.0 { short.abs() } else { short }
    });
    let short = (square - ridge * sum).max(0.0) + noise * sum <= (1.0 + 4.0 * noise) * total * total;
    short && wrong.fold(0.0, f64::max) <= RESIDUAL * size * total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::{cases, square};

    #[test]
    fn by_hand() {
        assert_eq!(min_norm(&[], 0, 0.0), [0.0; 0]);
        assert_eq!(min_norm(&[3.0], 1, 0.0), [1.0]);
        assert_eq!(min_norm(&[0.0; 4], 2, 0.0), [0.5, 0.5]);
        // [[-4, 1, 1], [6, 1, 1]] meet at (0, 1, 1).
        let weights = min_norm(&[18.0, -22.0, -22.0, 38.0], 2, 0.0);
        assert!((weights[0] - 0.6).abs() < 1e-15 && (weights[1] - 0.4).abs() < 1e-15);
        // The shorter of two rows of one direction.
        assert_eq!(min_norm(&[4.0, 2.0, 2.0, 1.0], 2, 0.0), [0.0, 1.0]);
        // A row of length 1e-10 beside its opposite of length 1: they meet at 0.
        let weights = min_norm(&[1e-20, -1e-10, -1e-10, 1.0], 2, 0.0);
        assert!((weights[1] - 1e-10 / (1.0 + 1e-10)).abs() < 1e-25, "{weights:?}");
    }

    #[test]
    fn every_row_is_at_least_as_far_along_the_direction_as_the_direction_itself() {
        for case in cases::all() {
            let n = case.n;
            let gramian = &case.gramian;
            let weights = min_norm(gramian, n, f64::EPSILON);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-14 && weights.iter().all(|w| *w >= 0.0), "{case}");
            let along = times(gramian, &weights);
            let norm = square(gramian, &weights);
            let length: f64 = (0..n).map(|i| weights[i] * gramian[i * n + i].sqrt()).sum();
            for i in 0..n {
                let slack = (along[i] - norm) / (gramian[i * n + i].sqrt() * length).max(f64::MIN_POSITIVE);
                assert!(slack > -1e-12, "{case}: row {i} {slack:e}");
                assert!(weights[i] == 0.0 || slack < 1e-12, "{case}: row {i} {slack:e}");
            }
        }
    }
}
