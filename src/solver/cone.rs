//! Projections on the cone of directions that conflict with no row.

use crate::machine::lent::Lent;
use crate::machine::level::vectors;
use crate::solver::factor::Aligned;
use crate::solver::quadratic::Program;
use crate::solver::ridge::{Ladder, RESIDUAL, noise};
use crate::solver::{Cosines, add, dot};

/// Programs that are predicted side by side, one in each lane of a vector.
const LANES: usize = 8;

/// Rounds of the prediction: more would find more of the active set, but cost more than they save.
const ROUNDS: usize = 6;

/// Weights `v >= u` that minimise `v^T G v` for a Gramian `G`, `[n, n]`, whose cosines are known up to `rounding`: those
/// of the projection of `J^T u` on the dual cone of the rows of `J`. The direction is unique; the weights are not where
/// rows depend on each other.
///
/// It is never longer than the lengths of what it projects together, as far as a Gramian that is rounded can tell.
/// Where the solution is not good enough for that, as among rows that are opposed up to rounding, squared lengths count
/// a little more: as much as it takes, and that is little more than rounding.
pub fn project(gramian: &[f64], weights: &[f64], rounding: f64) -> Lent<f64> {
    let n = weights.len();
    let cosines = Cosines::of(gramian, n);
    let mut projected: Lent<f64> = weights.iter().zip(&cosines.lengths).map(|(u, length)| u * length).collect();
    let rows = cosines.matrix.chunks_exact(n.max(1));
    let linear: Lent<f64> = rows.map(|row| -dot(row, &projected)).collect();
    let mut program = Program::new(&cosines.matrix, n);
    program.minimise_bounded(&linear);
    if fits(&program, &projected, noise(n, rounding), 0.0) {
        add(&mut projected, 1.0, &program.solution);
    } else {
        let ladder = Ladder::new(&cosines.matrix, n, rounding);
        let raised = safe(&ladder, &projected, noise(n, rounding));
        add(&mut projected, 1.0, &raised);
    }
    restore(&cosines, &mut projected, weights);
    projected
}

/// The sum of the projections of the rows one by one, row `i` times `weights[i]`, each as for [`project`].
pub fn project_each(gramian: &[f64], weights: &[f64], rounding: f64) -> Lent<f64> {
    let n = weights.len();
    let cosines = Cosines::of(gramian, n);
    let mut program = Program::new(&cosines.matrix, n);
    let mut sum = Lent::zeros(n);
    let mut linear = Lent::zeros(n);
    let mut active = Lent::with_capacity(n);
    let mut predicted = Aligned::new(n * LANES);
    let mut least = Aligned::new(n * LANES);
    let mut predicts = true;
    let noise = noise(n, rounding);
    let mut row = Lent::zeros(n);
    let mut ladder = None;
    for i in 0..n {
        if predicts {
            if i % LANES == 0 {
                let weights = &mut *predicted;
                let least = &mut *least;
                vectors().dispatch(Prediction { matrix: &cosines.matrix, n, first: i, weights, least });
            }
            active.clear();
            active.extend((0..n).rev().filter(|&j| predicted[j * LANES + i % LANES] > f64::from(u8::from(i == j))));
            program.guess(&active);
            // Where rows depend on each other, the last active set says more.
            predicts = 4 * program.positive().len() >= 3 * active.len();
        }
        for (f, cosine) in linear.iter_mut().zip(&cosines.matrix[i * n..]) {
            *f = -cosine;
        }
        program.minimise_bounded(&linear);
        row[i] = f64::from(u8::from(cosines.lengths[i] > 0.0));
        let share = weights[i] * cosines.lengths[i];
        if fits(&program, &row, noise, 0.0) {
            add(&mut sum, share, &program.solution);
        } else {
            let ladder = ladder.get_or_insert_with(|| Ladder::new(&cosines.matrix, n, rounding));
            add(&mut sum, share, &safe(ladder, &row, noise));
        }
        row[i] = 0.0;
        sum[i] += share;
    }
    restore(&cosines, &mut sum, weights);
    sum
}

/// Whether `u + y` of a program that was just solved, with `ridge` on the diagonal of its matrix, conflicts with no row
/// and is no longer than the rows of `u` together, if squares of `n` unit rows may be off by `noise`.
fn fits(program: &Program<'_>, u: &[f64], noise: f64, ridge: f64) -> bool {
    let mut square = 0.0;
    let mut weights = 0.0;
    let mut size = 0.0;
    let mut bound = 0.0;
    let mut wrong = 0.0_f64;
    for (i, &slope) in program.slopes().iter().enumerate() {
        let y = program.solution[i];
        let v = u[i] + y;
        square -= slope * v;
        weights += v * v;
        size += v;
        bound += u[i];
        wrong = wrong.max(if y > 0.0 { slope.abs() } else { slope });
    }
    let square = (square - ridge * weights).max(0.0) + noise * weights;
    square <= (1.0 + 4.0 * noise) * bound * bound && wrong <= RESIDUAL * size
}

/// `v - u`, where rounding hides whether rows oppose each other; zeros for numbers that are not finite.
fn safe(ladder: &Ladder<'_>, u: &[f64], noise: f64) -> Lent<f64> {
    let n = u.len();
    let solve = |matrix: &[f64], ridge: f64| {
        let linear: Lent<f64> = matrix.chunks_exact(n).map(|row| -dot(row, u)).collect();
        let mut program = Program::new(matrix, n);
        program.minimise_bounded(&linear);
        fits(&program, u, noise, ridge).then_some(program.solution)
    };
    ladder.climb(solve).unwrap_or_else(|| Lent::zeros(n))
}

/// Some rounds of coordinate descent for the unit rows from the `first` on, side by side: near the minimum of `v^T C v`
/// over `v >= e_i`.
struct Prediction<'a> {
    matrix: &'a [f64],
    n: usize,
    first: usize,
    /// `v`, `[n, LANES]`, one program a lane.
    weights: &'a mut [f64],
    /// `e_i` as `v`.
    least: &'a mut [f64],
}

impl pulp::WithSimd for Prediction<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let n = self.n;
        let vectors = LANES / S::F64_LANES;
        self.least.fill(0.0);
        for lane in 0..LANES.min(n - self.first) {
            self.least[(self.first + lane) * LANES + lane] = 1.0;
        }
        self.weights.copy_from_slice(self.least);
        let weights = S::as_mut_simd_f64s(self.weights).0;
        let least = S::as_simd_f64s(self.least).0;
        for _ in 0..ROUNDS {
            for (j, row) in self.matrix.chunks_exact(n).enumerate() {
                let (blocks, rest) = row.as_chunks::<4>();
                for vector in 0..vectors {
                    let mut sums = [simd.splat_f64s(0.0); 4];
                    let (four, last) = weights.split_at(4 * vectors * blocks.len());
                    for (cosines, weights) in blocks.iter().zip(four.chunks_exact(4 * vectors)) {
                        for k in 0..4 {
                            let product = simd.mul_f64s(simd.splat_f64s(cosines[k]), weights[k * vectors + vector]);
                            sums[k] = simd.add_f64s(sums[k], product);
                        }
                    }
                    for (k, cosine) in rest.iter().enumerate() {
                        let product = simd.mul_f64s(simd.splat_f64s(*cosine), last[k * vectors + vector]);
                        sums[k] = simd.add_f64s(sums[k], product);
                    }
                    let slope = simd.add_f64s(simd.add_f64s(sums[0], sums[1]), simd.add_f64s(sums[2], sums[3]));
                    let at = j * vectors + vector;
                    weights[at] = simd.max_f64s(simd.sub_f64s(weights[at], slope), least[at]);
                }
            }
        }
    }
}

/// Weights of the rows as they are, no smaller than `weights`; a row of zeros keeps its own.
fn restore(cosines: &Cosines, projected: &mut [f64], weights: &[f64]) {
    cosines.unscale(projected);
    for (i, &weight) in weights.iter().enumerate() {
        projected[i] = if cosines.lengths[i] > 0.0 { projected[i].max(weight) } else { weight };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::{cases, times};

    /// Nonconflicting, no more than needed: `J d >= 0`, and `= 0` where a weight was raised.
    fn check(case: &cases::Case, before: &[f64], after: &[f64]) {
        let n = case.n;
        let gramian = &case.gramian;
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
            check(&case, &mean, &project(&case.gramian, &mean, f64::EPSILON));
            let mut sum = vec![0.0; case.n];
            for i in 0..case.n {
                let mut own = vec![0.0; case.n];
                own[i] = 1.0;
                let projected = project(&case.gramian, &own, f64::EPSILON);
                check(&case, &own, &projected);
                super::super::add(&mut sum, 1.0, &projected);
            }
            // Warm starts may end at other weights of dependent rows, but not at another direction.
            let together = project_each(&case.gramian, &vec![1.0; case.n], f64::EPSILON);
            let apart: Vec<f64> = sum.iter().zip(&together).map(|(a, b)| a - b).collect();
            let size: f64 = (0..case.n).map(|i| together[i] * case.gramian[i * (case.n + 1)].sqrt()).sum();
            let left = crate::solver::square(&case.gramian, &apart).sqrt();
            assert!(left <= 1e-6 * size, "{case}: {left:e} {size:e}");
        }
    }

    #[test]
    fn predictions_are_near_and_the_same_for_all_processors() {
        use pulp::WithSimd;
        for n in [5, 8, 13] {
            let cosines = Cosines::of(&cases::gramian(&cases::normal(n as u64, n, 4 * n), n), n);
            for first in (0..n).step_by(LANES) {
                let predict = |wide: bool| {
                    let mut weights = vec![0.0; n * LANES];
                    let mut least = vec![0.0; n * LANES];
                    let matrix = &cosines.matrix;
                    let into = &mut weights;
                    let least = &mut least;
                    let prediction = Prediction { matrix, n, first, weights: into, least };
                    if wide {
                        vectors().dispatch(prediction);
                    } else {
                        prediction.with_simd(pulp::Scalar::new());
                    }
                    weights
                };
                let predicted = predict(true);
                assert_eq!(predicted, predict(false));
                for lane in 0..LANES.min(n - first) {
                    let mut row = vec![0.0; n];
                    row[first + lane] = 1.0;
                    let exact = project(&cosines.matrix, &row, f64::EPSILON);
                    for j in 0..n {
                        let error = predicted[j * LANES + lane] - exact[j];
                        assert!(error.abs() < 1e-2, "n={n}: {j} of {}: {error:e}", first + lane);
                    }
                }
            }
        }
    }

    #[test]
    fn by_hand() {
        let gramian = [18.0, -22.0, -22.0, 38.0];
        // The mean (1, 1, 1) against (-4, 1, 1): away from it by 2/18 of that row.
        let weights = project(&gramian, &[0.5, 0.5], 0.0);
        assert!((weights[0] - (0.5 + 1.0 / 9.0)).abs() < 1e-15 && weights[1] == 0.5, "{weights:?}");
        assert_eq!(project(&gramian, &[], 0.0), [0.0; 0]);
        assert_eq!(project(&[0.0], &[0.25], 0.0), [0.25]);
        assert_eq!(project_each(&[0.0, 0.0, 0.0, 4.0], &[0.5, 0.5], 0.0), [0.5, 0.5]);
        // Opposed rows: nothing is left of either.
        let weights = project_each(&[1.0, -1.0, -1.0, 1.0], &[0.5, 0.5], 0.0);
        assert_eq!(weights, [1.0, 1.0]);
    }
}
