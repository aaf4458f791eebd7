//! The point of the convex hull of gradients that is nearest to the origin.

use super::Cosines;
use super::quadratic::Program;

/// Weights `w` on the probability simplex that minimise `w^T G w` for a Gramian `G`, `[n, n]`.
///
/// With `w = t v` the ray of the best `v >= 0` is that of `min 1/2 v^T G v - sum(v)`, a program without the constraint
/// `sum(w) = 1`; it has no minimum just where the hull holds the origin, and then the way down is the answer. Rows of
/// zeros share the weight if there are any. The direction is unique; the weights are not where rows depend on each
/// other.
pub fn min_norm(gramian: &[f64], n: usize) -> Vec<f64> {
    let cosines = Cosines::of(gramian, n);
    let zeros = cosines.lengths.iter().filter(|length| **length <= 0.0).count();
    if zeros > 0 {
        return cosines.lengths.iter().map(|length| if *length > 0.0 { 0.0 } else { 1.0 / zeros as f64 }).collect();
    }
    let shortest = cosines.lengths.iter().copied().fold(f64::INFINITY, f64::min);
    let linear: Vec<f64> = cosines.lengths.iter().map(|length| shortest / length).collect();
    let mut program = Program::new(&cosines.matrix, n);
    let mut weights = program.minimise(&linear).unwrap_or(program.solution);
    for (weight, share) in weights.iter_mut().zip(linear) {
        *weight = (*weight * share).max(0.0);
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::solver::{cases, square, times};

    #[test]
    fn by_hand() {
        assert_eq!(min_norm(&[], 0), [0.0; 0]);
        assert_eq!(min_norm(&[3.0], 1), [1.0]);
        assert_eq!(min_norm(&[0.0; 4], 2), [0.5, 0.5]);
        // [[-4, 1, 1], [6, 1, 1]] meet at (0, 1, 1).
        let weights = min_norm(&[18.0, -22.0, -22.0, 38.0], 2);
        assert!((weights[0] - 0.6).abs() < 1e-15 && (weights[1] - 0.4).abs() < 1e-15);
        // The shorter of two rows of one direction.
        assert_eq!(min_norm(&[4.0, 2.0, 2.0, 1.0], 2), [0.0, 1.0]);
        // A row of length 1e-10 beside its opposite of length 1: they meet at 0.
        let weights = min_norm(&[1e-20, -1e-10, -1e-10, 1.0], 2);
        assert!((weights[1] - 1e-10 / (1.0 + 1e-10)).abs() < 1e-25, "{weights:?}");
    }

    #[test]
    fn every_row_is_at_least_as_far_along_the_direction_as_the_direction_itself() {
        for case in cases::all() {
            let (n, gramian) = (case.n, &case.gramian);
            let weights = min_norm(gramian, n);
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
