//! The positive fixed point of fair allocations: `G w = (targets / w)^(1/alpha)`.

use pulp::{Simd, WithSimd};

use crate::machine::lent::Lent;
use crate::machine::level::vectors;
use crate::solver::eigen::Eigen;
use crate::solver::factor::{Factor, room};
use crate::solver::ridge::noise;
use crate::solver::{Cosines, add, dot, times};

/// Added to the squared length of every unit row, so that there is a solution where rows oppose each other.
pub const RIDGE: f64 = 1e-12;

/// Most steps of Newton's method; some tens are usual.
const LIMIT: usize = 300;

/// Weights `w > 0` with `G w = (t / w)^(1/alpha)`, element by element, for a Gramian `G`, `[n, n]`, and positive targets
/// `t`: the minimum of `1/2 w^T G w - sum_i t_i^p w_i^(1-p) / (1-p)` with `p = 1/alpha` (a logarithm for `p = 1`), which
/// is convex. Damped Newton steps, in unit rows, until rounding errors are left.
///
/// Without a solution (a combination of rows with positive weights is zero, or nearly), the weights would grow without
/// end; here each row's squared length counts `1 + 1e-12` times, which bounds a unit row's weight by about `1e6`.
/// Where a solution exists with weights of moderate size, it is off by `1e-12` times their squares. Weights of such a size
/// that cosines, known up to `rounding`, say nothing of the direction's length are found again with `rounding` or four
/// times that in place of `1e-12`, times the number of rows. A row of zeros has weight 0.
pub fn fixed_point(gramian: &[f64], targets: &[f64], alpha: f64, rounding: f64) -> Fair {
    let n = targets.len();
    let cosines = Cosines::of(gramian, n);
    let p = 1.0 / alpha;
    // In unit rows, v = length * w: C v = b v^-p with b = t^p length^(p-1). Only ratios of b matter but for a factor.
    let lengths = &cosines.lengths;
    let present: Lent<usize> = (0..n).filter(|&i| lengths[i] > 0.0).collect();
    let mut logs = Lent::zeros(n);
    for &i in &present {
        logs[i] = p * targets[i].ln() + (p - 1.0) * lengths[i].ln();
    }
    let largest = present.iter().map(|&i| logs[i]).fold(f64::NEG_INFINITY, f64::max);
    let mut b = Lent::filled(1.0, n);
    for &i in &present {
        b[i] = (logs[i] - largest).exp();
    }
    let mut newton = Newton { matrix: &cosines.matrix, b, p, ridge: RIDGE };
    let noise = noise(n, rounding);
    let mut weights = newton.solve().0;
    for ridge in [noise, 4.0 * noise] {
        if newton.holds(&weights, noise) {
            break;
        }
        newton.ridge = newton.ridge.max(ridge);
        weights = newton.solve().0;
    }
    // A matrix that is further from one of cosines than its rounding explains.
    if !newton.holds(&weights, noise) {
        let least = Eigen::of(&cosines.matrix, n).values.last().copied().unwrap_or(0.0);
        newton.ridge += 2.0 * (-least).max(0.0);
        weights = newton.solve().0;
    }
    let factor = (largest / (1.0 + p)).exp();
    let terms = present.iter().map(|&i| newton.b[i] * newton.power(weights[i]) * weights[i]);
    let square = terms.sum::<f64>() * factor * factor;
    cosines.unscale(&mut weights);
    for (i, weight) in weights.iter_mut().enumerate() {
        *weight = if lengths[i] > 0.0 { *weight * factor } else { 0.0 };
    }
    Fair { weights, square: if square > 0.0 { square } else { 0.0 } }
}

/// Weights, and what they make of the gradients.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fair {
    /// `w`.
    pub weights: Lent<f64>,
    /// The squared length of the direction, `sum_i t_i^p w_i^(1-p)`, of which what squared lengths count more is a part:
    /// the direction itself is shorter where rows cancel, and surely not more than a sixth longer.
    pub square: f64,
}

/// `(C + ridge) v = b v^-p`.
struct Newton<'a> {
    matrix: &'a [f64],
    b: Lent<f64>,
    p: f64,
    ridge: f64,
}

impl Newton<'_> {
    /// Whether the equation holds, as far as its terms can be added up, and squares of unit rows that may be off by `noise`
    /// leave the direction about as long as it says. Of a matrix of no rows Newton's method may end anywhere.
    fn holds(&self, v: &[f64], noise: f64) -> bool {
        let terms = v.iter().zip(&self.b).map(|(v, b)| b * self.power(*v) * v);
        let total = terms.sum::<f64>();
        let sum = dot(v, v);
        let apart = (dot(&times(self.matrix, v), v) + self.ridge * sum - total).abs();
        let lost = 16.0 * v.len() as f64 * f64::EPSILON * sum;
        noise * sum <= total / 3.0 && apart <= 1e-6 * total + lost
    }

    /// The solution, and how many steps it took.
    fn solve(&self) -> (Lent<f64>, usize) {
        // The solution of rows at right angles.
        let mut v: Lent<f64> = self.b.iter().map(|b| b.powf(1.0 / (1.0 + self.p))).collect();
        let mut last = f64::INFINITY;
        let mut work = Work::new(v.len());
        for turn in 0..LIMIT {
            let pulls: Lent<f64> = v.iter().zip(&self.b).map(|(v, b)| b * self.power(*v)).collect();
            let mut gradient = times(self.matrix, &v);
            for (i, slope) in gradient.iter_mut().enumerate() {
                *slope += self.ridge * v[i] - pulls[i];
            }
            let slopes: Lent<f64> = pulls.iter().zip(&v).map(|(pull, v)| self.ridge + self.p * pull / v).collect();
            vectors().dispatch(NewtonStep {
                matrix: self.matrix,
                slopes: &slopes,
                gradient: &gradient,
                work: &mut work,
            });
            let step = &work.step[..v.len()];
            let slope = dot(&gradient, step);
            // How much the weights change, each in its own size. From whole steps it falls quickly once small, until
            // rounding holds it.
            let change = step.iter().zip(&v).map(|(s, v)| (s / v).abs()).fold(0.0, f64::max);
            if slope.is_nan() || slope >= 0.0 || (change < 1e-2 && change > 0.25 * last) {
                return (v, turn);
            }
            // So near, whole steps are safe, and the slope may be too small to judge them by.
            let length = if change < 1e-6 { 1.0 } else { self.search(&v, step, slope) };
            last = if length == 1.0 { change } else { f64::INFINITY };
            add(&mut v, length, step);
        }
        (v, LIMIT)
    }

    /// `v^-p`; a general power takes long.
    fn power(&self, v: f64) -> f64 {
        if self.p == 1.0 {
            1.0 / v
        } else if self.p == 0.5 {
            1.0 / v.sqrt()
        } else {
            v.powf(-self.p)
        }
    }

    /// How far to go: to where the slope along the step has nearly gone, and never to a weight of 0.
    fn search(&self, v: &[f64], step: &[f64], slope: f64) -> f64 {
        let bounds = v.iter().zip(step).filter(|(_, s)| **s < 0.0).map(|(v, s)| -0.99 * v / s);
        let mut length = bounds.fold(1.0, f64::min);
        let from = dot(&times(self.matrix, v), step);
        let rate = dot(&times(self.matrix, step), step);
        for _ in 0..60 {
            let mut ahead = 0.0;
            for (i, s) in step.iter().enumerate() {
                let there = v[i] + length * s;
                ahead += (self.ridge * there - self.b[i] * self.power(there)) * s;
            }
            if from + length * rate + ahead <= 0.1 * slope.abs() {
                break;
            }
            length *= 0.5;
        }
        length
    }
}

/// `-(C + diag(slopes))^-1 gradient`, in `step`.
struct NewtonStep<'a> {
    matrix: &'a [f64],
    slopes: &'a [f64],
    gradient: &'a [f64],
    work: &'a mut Work,
}

/// What every step needs again.
struct Work {
    all: Lent<usize>,
    hessian: Lent<f64>,
    factor: Factor,
    step: Lent<f64>,
}

impl Work {
    fn new(n: usize) -> Self {
        let hessian = Lent::zeros(n * n);
        let step = Lent::zeros(room(n));
        Self { all: (0..n).collect(), hessian, factor: Factor::new(n), step }
    }
}

impl WithSimd for NewtonStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let n = self.slopes.len();
        let Work { all, hessian, factor, step } = self.work;
        hessian.copy_from_slice(self.matrix);
        for (i, slope) in self.slopes.iter().enumerate() {
            hessian[i * n + i] += slope;
        }
        for (step, gradient) in step.iter_mut().zip(self.gradient) {
            *step = -gradient;
        }
        factor.clear();
        factor.extend(simd, hessian, all, None, RIDGE);
        factor.solve(simd, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::cases;

    #[test]
    fn rows_that_rounding_made_impossible_have_finite_weights() {
        let (norms, near) =
            ([0.183_824_56, 0.170_689_4, 0.001_278_23], [0.999_999_986_5, -1.000_000_015_1, -1.000_000_035_9]);
        let cosines = [1.0, near[0], near[1], near[0], 1.0, near[2], near[1], near[2], 1.0];
        let gramian: Vec<f64> = (0..9).map(|at| cosines[at] * norms[at / 3] * norms[at % 3]).collect();
        for alpha in [0.5, 1.0, 2.0] {
            let weights = fixed_point(&gramian, &[1.0; 3], alpha, f64::EPSILON).weights;
            assert!(weights.iter().all(|w| *w > 0.0 && *w < 1e12), "{alpha}: {weights:?}");
        }
    }

    #[test]
    fn every_equation_holds() {
        for case in cases::all() {
            let n = case.n;
            let gramian = &case.gramian;
            for alpha in [0.1, 0.5, 1.0, 2.0, 10.0] {
                let targets: Vec<f64> = (0..n).map(|i| 1.0 + (i % 3) as f64).collect();
                let weights = fixed_point(gramian, &targets, alpha, f64::EPSILON).weights;
                for i in 0..n {
                    let own = gramian[i * n + i];
                    if own == 0.0 {
                        assert_eq!(weights[i], 0.0);
                        continue;
                    }
                    let terms = (0..n).map(|j| gramian[i * n + j] * weights[j]);
                    let (left, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    let left = left + RIDGE * own * weights[i];
                    let right = (targets[i] / weights[i]).powf(1.0 / alpha);
                    // A relative error, or rounding of the products.
                    let error = (left - right).abs() / (right + 1e-4 * size);
                    assert!(weights[i] > 0.0 && error < 1e-9, "{case} alpha={alpha}: row {i} {error:e}");
                }
            }
        }
    }

    #[test]
    fn newton_settles_long_before_its_limit() {
        for case in cases::all() {
            let cosines = Cosines::of(&case.gramian, case.n);
            for p in [0.1, 0.5, 1.0, 2.0, 10.0] {
                let (_, turns) =
                    Newton { matrix: &cosines.matrix, b: Lent::filled(1.0, case.n), p, ridge: RIDGE }.solve();
                assert!(turns < 100, "{case} p={p}: {turns}");
            }
        }
    }

    #[test]
    fn by_hand() {
        assert_eq!(fixed_point(&[], &[], 1.0, 0.0).weights, [0.0; 0]);
        assert_eq!(fixed_point(&[0.0; 4], &[1.0, 1.0], 1.0, 0.0).weights, [0.0, 0.0]);
        // 4 w = 1 / w, and 4 w = 9 / w^2 turned round: w^(3/2) = 3 / 4 for alpha = 2 and a target of 9.
        assert!((fixed_point(&[4.0], &[1.0], 1.0, 0.0).weights[0] - 0.5).abs() < 1e-12);
        assert!((fixed_point(&[4.0], &[9.0], 2.0, 0.0).weights[0] - 0.75_f64.powf(2.0 / 3.0)).abs() < 1e-12);
        // Rows at right angles are each on their own.
        let weights = fixed_point(&[1.0, 0.0, 0.0, 1e20], &[1.0, 1.0], 1.0, 0.0).weights;
        assert!((weights[0] - 1.0).abs() < 1e-12 && (weights[1] - 1e-10).abs() < 1e-22);
        // Opposed rows: alike, and bounded.
        let weights = fixed_point(&[1.0, -1.0, -1.0, 1.0], &[1.0, 1.0], 1.0, 0.0).weights;
        assert!(weights.iter().all(|w| (w * 1e-6 - 1.0).abs() < 1e-3), "{weights:?}");
    }
}
