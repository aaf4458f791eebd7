//! The way that is taken where rounding hides whether rows oppose each other: squared lengths that count a little more.

use crate::machine::lent::Lent;
use crate::solver::eigen::Eigen;

/// How far from its conditions a solution may be, in products with unit rows, relative to the sum of its weights.
pub const RESIDUAL: f64 = 1e-12;

/// What rounding may make of `v^T C v` for unit rows, beside `|v|^2`: their cosines are known up to `rounding`.
pub fn noise(n: usize, rounding: f64) -> f64 {
    n as f64 * rounding
}

/// A matrix of unit rows with more and more on its diagonal, from what rounding makes of its least eigenvalue to what
/// leaves nothing of its cosines.
///
/// With four times the [`noise`], a solution is surely short enough. Let `C` be the matrix of the rows themselves, `C'`
/// the rounded one, and `v` have `v^T (C' + 4 noise) v <= u^T (C' + 4 noise) u`; then
/// `v^T C v <= v^T (C' + noise) v <= u^T (C + 5 noise) u`, the squared length of `u` up to rounding.
#[derive(Debug, Clone)]
pub struct Ladder<'a> {
    matrix: &'a [f64],
    n: usize,
    least: f64,
}

impl<'a> Ladder<'a> {
    /// That of a matrix `[n, n]` of cosines that are known up to `rounding`.
    pub fn new(matrix: &'a [f64], n: usize, rounding: f64) -> Self {
        let lowest = Eigen::of(matrix, n).values.last().copied().unwrap_or(0.0);
        Self { matrix, n, least: (16.0 * noise(n, f64::EPSILON)).max(rounding).max(-2.0 * lowest) }
    }

    /// The first answer of `solve`, which is given the matrix and what was added; `None` if there is none, as for numbers
    /// that are not finite.
    pub fn climb<T>(&self, solve: impl Fn(&[f64], f64) -> Option<T>) -> Option<T> {
        let Self { matrix, n, least: mut ridge } = *self;
        let mut raised = Lent::from(matrix);
        while ridge <= 4.0 * n as f64 {
            for i in (0..n).filter(|i| matrix[i * (n + 1)] > 0.0) {
                raised[i * (n + 1)] = 1.0 + ridge;
            }
            let answer = solve(&raised, ridge);
            if answer.is_some() {
                return answer;
            }
            ridge *= 4.0;
        }
        None
    }
}
