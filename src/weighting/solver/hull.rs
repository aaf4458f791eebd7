//! The point of the convex hull of gradients that is nearest to the origin.

use super::quadratic::Program;
use super::ridge::{Ladder, RESIDUAL, noise};
use super::{Cosines, dot, times};

/// Weights `w` on the probability simplex that minimise `w^T G w` for a Gramian `G`, `[n, n]`, whose cosines are known
/// up to `rounding`. Rows of zeros share the weight if there are any. The direction is unique; the weights are not where
/// rows depend on each other.
///
/// It is never longer than the shortest row, as far as a Gramian that is rounded can tell: where the solution is not good
/// enough for that, squared lengths count a little more.
pub fn min_norm(gramian: &[f64], n: usize, rounding: f64) -> Vec<f64> {
    let Cosines { matrix, lengths } = Cosines::of(gramian, n);
    let zeros = lengths.iter().filter(|length| **length <= 0.0).count();
    if zeros > 0 {
        return lengths.iter().map(|length| if *length > 0.0 { 0.0 } else { 1.0 / zeros as f64 }).collect();
    }
    let noise = noise(n, rounding);
    let solve = |matrix: &[f64], ridge: f64| {
        let weights = nearest(matrix, &lengths);
        fits(matrix, &lengths, &weights, noise, ridge).then_some(weights)
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
pub(super) fn nearest(matrix: &[f64], lengths: &[f64]) -> Vec<f64> {
    let shortest = lengths.iter().copied().fold(f64::INFINITY, f64::min);
    let linear: Vec<f64> = lengths.iter().map(|length| shortest / length).collect();
    let mut program = Program::new(matrix, lengths.len());
    let mut weights = program.minimise(&linear).unwrap_or(program.solution);
    for (weight, share) in weights.iter_mut().zip(linear) {
        *weight = (*weight * share).max(0.0);
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// Whether every row is as far along the direction as the direction itself, those that it is made of no further, and the
/// direction no longer than the shortest row, if squares of `n` unit rows may be off by `noise`; `ridge` is what the
/// diagonal of the matrix has above 1.
fn fits(matrix: &[f64], lengths: &[f64], weights: &[f64], noise: f64, ridge: f64) -> bool {
    let shortest = lengths.iter().copied().fold(f64::INFINITY, f64::min);
    let units: Vec<f64> = weights.iter().zip(lengths).map(|(weight, length)| weight * (length / shortest)).collect();
    let (along, size) = (times(matrix, &units), units.iter().sum::<f64>());
    let (square, sum) = (dot(&along, &units), dot(&units, &units));
    let wrong = (0..units.len()).map(|i| {
        let short = square * (shortest / lengths[i]) - along[i];
        if weights[i] > 0.0 { short.abs() } else { short }
    });
    let short = (square - ridge * sum).max(0.0) + noise * sum <= 1.0 + 4.0 * noise;
    short && wrong.fold(0.0, f64::max) <= RESIDUAL * size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::solver::{cases, square};

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
            let (n, gramian) = (case.n, &case.gramian);
            let weights = min_norm(gramian, n, f64::EPSILON);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-14 && weights.iter().all(|w| *w >= 0.0), "{case}");
            let (along, norm) = (times(gramian, &weights), square(gramian, &weights));
            let length: f64 = (0..n).map(|i| weights[i] * gramian[i * n + i].sqrt()).sum();
            for i in 0..n {
                let slack = (along[i] - norm) / (gramian[i * n + i].sqrt() * length).max(f64::MIN_POSITIVE);
                assert!(slack > -1e-12, "{case}: row {i} {slack:e}");
                assert!(weights[i] == 0.0 || slack < 1e-12, "{case}: row {i} {slack:e}");
            }
        }
    }
}
