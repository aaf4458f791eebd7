//! The direction near the mean gradient that helps the worst-off row most.

use crate::machine::lent::Lent;
use crate::solver::quadratic::Program;
use crate::solver::ridge::{Ladder, noise};
use crate::solver::{Cosines, dot, hull, square, times};

/// Weights of the direction `d` that is `max_d min_i <g_i, d>` over `|d - g_0| <= c |g_0|`, where `g_0` is the mean of
/// the rows with Gramian `G`, `[n, n]`.
///
/// The dual is `min <g_w, g_0> + c |g_0| |g_w|` over `w` on the probability simplex, with `d = g_0 + c |g_0| g_w / |g_w|`.
/// For a guess `z` of the optimal value, `y = c |g_0| w / |g_w|` solves the quadratic program
/// `min 1/2 y^T G y - (z 1 - G 1/n)^T y` over `y >= 0`, and the right `z` is the one for which `J^T y` is as long as
/// `c |g_0|`. That length grows with `z`, and on each active set the right `z` is the root of a quadratic equation.
///
/// Where the convex hull of the rows holds the origin, `z` is at most 0 (no direction helps all), and if it is 0 then
/// `g_w / |g_w|` is not defined: every direction of the ball that conflicts with no row is as good. Of these, this is the
/// one nearest to `g_0`.
///
/// Cosines are known up to `rounding`. Where a solution may be out of the ball for that, or the dual shows that it is not
/// the best, squared lengths count a little more; if nothing helps, it is the mean.
pub fn weights(gramian: &[f64], n: usize, c: f64, rounding: f64) -> Lent<f64> {
    let cosines = Cosines::of(gramian, n);
    let longest = cosines.lengths.iter().copied().fold(0.0, f64::max);
    let mean = 1.0 / n.max(1) as f64;
    let mut weights = Lent::filled(mean, n);
    if longest > 0.0 {
        let lengths: Lent<f64> = cosines.lengths.iter().map(|length| length / longest).collect();
        let solve = |matrix: &[f64], ridge: f64| {
            let ball = Ball::new(matrix, &lengths, c);
            let most = ball.most();
            let extra = ball.solve(most);
            ball.fits(&extra, most, noise(n, rounding), ridge).then_some(extra)
        };
        let extra = solve(&cosines.matrix, 0.0).or_else(|| Ladder::new(&cosines.matrix, n, rounding).climb(solve));
        for (i, extra) in extra.unwrap_or_default().iter().enumerate().filter(|(i, _)| lengths[*i] > 0.0) {
            weights[i] += extra / lengths[i];
        }
    }
    weights
}

/// How far below the dual objective a gain may be, relative to the lengths that it is made of.
const GAP: f64 = 1e-10;

/// The problem in unit rows.
struct Ball<'a> {
    matrix: &'a [f64],
    lengths: &'a [f64],
    /// `<g_i, g_0> / |g_i|`.
    along: Lent<f64>,
    /// `1 / |g_i|`.
    shares: Lent<f64>,
    /// `c |g_0|`.
    radius: f64,
    c: f64,
}

impl<'a> Ball<'a> {
    fn new(matrix: &'a [f64], lengths: &'a [f64], c: f64) -> Self {
        let mean: Lent<f64> = lengths.iter().map(|length| length / lengths.len() as f64).collect();
        let along = times(matrix, &mean);
        let norm = dot(&along, &mean);
        let radius = if norm > rounding(lengths.len(), mean.iter().sum()) { c * norm.sqrt() } else { 0.0 };
        let shares = lengths.iter().map(|length| if *length > 0.0 { 1.0 / length } else { 0.0 }).collect();
        Self { matrix, lengths, along, shares, radius, c }
    }

    /// `z 1 - G 1/n`, in unit rows.
    fn linear(&self, value: f64) -> Lent<f64> {
        self.along.iter().zip(&self.shares).map(|(along, share)| value * share - along).collect()
    }

    /// The dual objective at the point of the hull nearest to the origin: no less than the optimal value. `None` where
    /// that point is the origin.
    fn most(&self) -> Option<f64> {
        if self.lengths.contains(&0.0) {
            return None;
        }
        let weights = hull::nearest(self.matrix, self.lengths);
        let unit: Lent<f64> = weights.iter().zip(self.lengths).map(|(w, length)| w * length).collect();
        let norm = square(self.matrix, &unit);
        let size = unit.iter().sum::<f64>();
        (norm > rounding(unit.len(), size)).then(|| dot(&unit, &self.along) + self.radius * norm.sqrt())
    }

    /// Whether `y` stays in the ball, if squares of `n` unit rows may be off by `noise`, and the row that gains least
    /// gains as much as the dual allows; `ridge` is what the diagonal of the matrix has above 1.
    fn fits(&self, y: &[f64], most: Option<f64>, noise: f64, ridge: f64) -> bool {
        let n = y.len() as f64;
        let more = times(self.matrix, y);
        let lengths = self.lengths.iter().sum::<f64>() / n;
        let square = dot(&more, y).max(0.0);
        let sum = dot(y, y);
        let radius = self.radius + 2.0 * self.c * noise.sqrt() * lengths;
        let inside = (square - ridge * sum).max(0.0) + noise * sum <= radius * radius;
        // No gain of all rows is above a dual objective: that of the extra weights, or that of the hull.
        let size = lengths + y.iter().sum::<f64>();
        let total = dot(y, &self.shares);
        let norm = if square > rounding(y.len(), y.iter().sum()) { square.sqrt() } else { 0.0 };
        let dual = if total > 0.0 { (dot(&self.along, y) + self.radius * norm) / total } else { f64::INFINITY };
        let (dual, weighted) = if total > 0.0 { (dual, y.iter().sum::<f64>() / total) } else { (f64::INFINITY, 0.0) };
        let most = most.unwrap_or(0.0);
        let (bound, weighted) = if dual < most { (dual, weighted) } else { (most, 0.0) };
        let gap = |i: usize| (bound - self.lengths[i] * (self.along[i] + more[i])) / (self.lengths[i] + weighted);
        let gaps = (0..y.len()).filter(|&i| self.lengths[i] > 0.0).map(gap);
        inside && (self.radius == 0.0 || gaps.fold(0.0, f64::max) <= GAP * size)
    }

    /// `y`, given the dual objective at the point of the hull nearest to the origin.
    fn solve(&self, mut most: Option<f64>) -> Lent<f64> {
        if self.radius == 0.0 {
            return Lent::zeros(self.lengths.len());
        }
        let n = self.lengths.len();
        let mut program = Program::new(self.matrix, n);
        let mut value = most.unwrap_or(0.0);
        let mut least = self.lengths.iter().zip(&self.along).map(|(l, a)| l * a).fold(f64::INFINITY, f64::min);
        let mut before = Lent::<usize>::with_capacity(n);
        // Each turn meets another active set, from the right; the limit is for rounding errors.
        for _ in 0..10 * (n + 1) {
            let linear = self.linear(value);
            if value > 0.0 {
                if program.minimise(&linear).is_some() {
                    most = None;
                    value = 0.0;
                    continue;
                }
            } else {
                program.minimise_bounded(&linear);
            }
            let long = square(self.matrix, &program.solution).sqrt() > self.radius;
            if program.positive().is_empty()
                || (most.is_none() && value == 0.0 && !long)
                || before == program.positive()
            {
                break;
            }
            let high = if long { value } else { most.unwrap_or(0.0) };
            least = if long { least } else { value };
            most = Some(high);
            let root = self.root(&program);
            let rounding = 8.0 * f64::EPSILON * value.abs();
            // A root outside belongs to an active set that does not reach so far.
            let reached = root >= least - rounding && root <= high + rounding;
            value = if reached { root } else { 0.5 * (least + high) };
            before.clear();
            before.extend_from_slice(if reached { program.positive() } else { &[] });
        }
        program.solution
    }

    /// The value for which `J^T y` has the right length if the active set stays.
    fn root(&self, program: &Program<'_>) -> f64 {
        let p = program.solve_positive(&self.shares);
        let k = program.solve_positive(&self.along);
        let mut a = 0.0;
        let mut b = 0.0;
        let mut d = 0.0;
        for (at, &i) in program.positive().iter().enumerate() {
            a += p[at] * self.shares[i];
            b += p[at] * self.along[i];
            d += k[at] * self.along[i];
        }
        (b + (b * b - a * (d - self.radius * self.radius)).max(0.0).sqrt()) / a
    }
}

/// What is left of the squared length of a combination that is 0, if its `n` members have lengths that sum to `size`.
fn rounding(n: usize, size: f64) -> f64 {
    4.0 * n as f64 * f64::EPSILON * size * size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::cases;

    #[test]
    fn the_worst_off_row_gains_as_much_as_the_dual_allows() {
        for case in cases::all() {
            let n = case.n;
            let gramian = &case.gramian;
            for c in [0.1, 0.5, 0.9] {
                let weights = weights(gramian, n, c, f64::EPSILON);
                let mean = vec![1.0 / n as f64; n];
                let radius = c * square(gramian, &mean).sqrt();
                let extra: Vec<f64> = weights.iter().map(|w| (w - 1.0 / n as f64).max(0.0)).collect();
                let sizes: Vec<f64> = (0..n).map(|i| gramian[i * n + i].sqrt()).collect();
                let size = dot(&weights, &sizes);
                let length = square(gramian, &extra).sqrt();
                // What a Gramian knows of a vector that is nearly 0 is the rounding of its square.
                let rounding = 1e-15 * n as f64 * size * size;
                assert!(
                    length * length <= radius * radius * (1.0 + 1e-9) + rounding,
                    "{case} c={c}: {length:e} {radius:e}"
                );
                let gains = times(gramian, &weights);
                let alone = times(gramian, &mean);
                // No row-wise minimum is above a dual objective: that of the extra weights or, where the hull holds
                // the origin, that of the origin.
                let dual = |w: &[f64]| {
                    let norm = square(gramian, w);
                    let size = dot(w, &sizes);
                    let total = w.iter().sum::<f64>();
                    let norm = if norm > super::rounding(n, size) { norm } else { 0.0 };
                    ((dot(&alone, w) + radius * norm.sqrt()) / total, size / total)
                };
                let nearest = dual(&hull::min_norm(gramian, n, f64::EPSILON));
                let extra = dual(&extra);
                let (bound, weighted) = if extra.0 < nearest.0 { extra } else { nearest };
                for i in 0..n {
                    let gap = (bound - gains[i]) / (size * (sizes[i] + weighted)).max(f64::MIN_POSITIVE);
                    assert!(gap < 1e-9, "{case} c={c}: row {i} {gap:e}");
                }
            }
        }
    }

    #[test]
    fn by_hand() {
        // J = [[-4, 1, 1], [6, 1, 1]], c = 0.5: g_0 = (1, 1, 1), radius sqrt(3) / 2.
        let weights = super::weights(&[18.0, -22.0, -22.0, 38.0], 2, 0.5, 0.0);
        let direction = [-4.0 * weights[0] + 6.0 * weights[1], weights[0] + weights[1]];
        assert!((direction[0] - 0.1835).abs() < 5e-5 && (direction[1] - 1.2041).abs() < 5e-5, "{direction:?}");
        assert_eq!(super::weights(&[18.0, -22.0, -22.0, 38.0], 2, 0.0, 0.0), [0.5, 0.5]);
        assert_eq!(super::weights(&[], 0, 0.5, 0.0), [0.0; 0]);
        assert!((super::weights(&[7.0], 1, 0.5, 0.0)[0] - 1.5).abs() < 1e-15);
        assert_eq!(super::weights(&[0.0; 4], 2, 0.5, 0.0), [0.5, 0.5]);
        // Opposed rows (1), (-2): only 0 conflicts with none, and with c = 0.5 it is out of reach: as near as can be.
        let weights = super::weights(&[1.0, -2.0, -2.0, 4.0], 2, 0.5, 0.0);
        assert!((weights[0] - 2.0 * weights[1] + 0.25).abs() < 1e-12, "{weights:?}");
    }
}
