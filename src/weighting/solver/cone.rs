//! Projections on the cone of directions that conflict with no row.

use super::quadratic::Program;
use super::{Cosines, dot};

/// Projections with one Gramian: each starts from the rows that were active in the last.
#[derive(Debug)]
pub struct Dual<'a> {
    cosines: &'a Cosines,
    program: Program<'a>,
}

impl<'a> Dual<'a> {
    /// Of the rows with these cosines.
    pub fn new(cosines: &'a Cosines) -> Self {
        Self { cosines, program: Program::new(&cosines.matrix, cosines.lengths.len()) }
    }

    /// The weights `v` of the projection of `J^T u` on `{d : J d >= 0}`, both in unit rows: `min v^T C v` over
    /// `v >= u`.
    fn project(&mut self, weights: &[f64]) -> Vec<f64> {
        let rows = self.cosines.matrix.chunks_exact(weights.len().max(1));
        let linear: Vec<f64> = rows.map(|row| -dot(row, weights)).collect();
        self.program.minimise_bounded(&linear);
        weights.iter().zip(&self.program.solution).map(|(u, x)| u + x).collect()
    }
}

/// Weights `v >= u` that minimise `v^T G v` for a Gramian `G`, `[n, n]`: those of the projection of `J^T u` on the dual
/// cone of the rows of `J`. The direction is unique; the weights are not where rows depend on each other.
pub fn project(gramian: &[f64], weights: &[f64]) -> Vec<f64> {
    let cosines = Cosines::of(gramian, weights.len());
    let scaled: Vec<f64> = weights.iter().zip(&cosines.lengths).map(|(u, length)| u * length).collect();
    let mut projected = Dual::new(&cosines).project(&scaled);
    restore(&cosines, &mut projected, weights);
    projected
}

/// The sum of the projections of the rows one by one, row `i` times `weights[i]`.
pub fn project_each(gramian: &[f64], weights: &[f64]) -> Vec<f64> {
    let cosines = Cosines::of(gramian, weights.len());
    let mut dual = Dual::new(&cosines);
    let (mut sum, mut row) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
    for i in 0..weights.len() {
        row[i] = 1.0;
        let projected = dual.project(&row);
        super::add(&mut sum, weights[i] * cosines.lengths[i], &projected);
        row[i] = 0.0;
    }
    restore(&cosines, &mut sum, weights);
    sum
}

/// Weights of the rows as they are, no smaller than `weights`; a row of zeros keeps its own.
fn restore(cosines: &Cosines, projected: &mut [f64], weights: &[f64]) {
    cosines.unscale(projected);
    for ((projected, weight), length) in projected.iter_mut().zip(weights).zip(&cosines.lengths) {
        *projected = if *length > 0.0 { projected.max(*weight) } else { *weight };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::solver::{cases, times};

    /// Nonconflicting, no more than needed: `J d >= 0`, and `= 0` where a weight was raised.
    fn check(case: &cases::Case, before: &[f64], after: &[f64]) {
        let (n, gramian) = (case.n, &case.gramian);
        let along = times(gramian, after);
        let size: f64 = (0..n).map(|i| after[i].abs() * gramian[i * n + i].sqrt()).sum();
        for i in 0..n {
            let scale = gramian[i * n + i].sqrt();
            let relative = along[i] / (scale * size).max(f64::MIN_POSITIVE);
            assert!(after[i] >= before[i], "{case}: row {i}");
            assert!(relative > -1e-12, "{case}: row {i} conflicts by {relative:e}");
            let raised = (after[i] - before[i]) * scale > 1e-14 * size;
            assert!(!raised || relative < 1e-12, "{case}: row {i} was raised to {relative:e}");
        }
    }

    #[test]
    fn projections_do_not_conflict_and_raise_no_more_than_they_must() {
        for case in cases::all() {
            let mean = vec![1.0 / case.n as f64; case.n];
            check(&case, &mean, &project(&case.gramian, &mean));
            let mut sum = vec![0.0; case.n];
            for i in 0..case.n {
                let mut own = vec![0.0; case.n];
                own[i] = 1.0;
                let projected = project(&case.gramian, &own);
                check(&case, &own, &projected);
                super::super::add(&mut sum, 1.0, &projected);
            }
            // Warm starts may end at other weights of dependent rows, but not at another direction.
            let together = project_each(&case.gramian, &vec![1.0; case.n]);
            let apart: Vec<f64> = sum.iter().zip(&together).map(|(a, b)| a - b).collect();
            let size: f64 = (0..case.n).map(|i| together[i] * case.gramian[i * (case.n + 1)].sqrt()).sum();
            let left = crate::weighting::solver::square(&case.gramian, &apart).sqrt();
            assert!(left <= 1e-6 * size, "{case}: {left:e} {size:e}");
        }
    }

    #[test]
    fn by_hand() {
        let gramian = [18.0, -22.0, -22.0, 38.0];
        // The mean (1, 1, 1) against (-4, 1, 1): away from it by 2/18 of that row.
        let weights = project(&gramian, &[0.5, 0.5]);
        assert!((weights[0] - (0.5 + 1.0 / 9.0)).abs() < 1e-15 && weights[1] == 0.5, "{weights:?}");
        assert_eq!(project(&gramian, &[]), [0.0; 0]);
        assert_eq!(project(&[0.0], &[0.25]), [0.25]);
        assert_eq!(project_each(&[0.0, 0.0, 0.0, 4.0], &[0.5, 0.5]), [0.5, 0.5]);
        // Opposed rows: nothing is left of either.
        let weights = project_each(&[1.0, -1.0, -1.0, 1.0], &[0.5, 0.5]);
        assert_eq!(weights, [1.0, 1.0]);
    }
}
