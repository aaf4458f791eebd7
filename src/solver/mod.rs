//! Small exact solvers on Gramians: convex programs and linear algebra for some tens of tasks, in `f64`.
//!
//! Matrices are row-major slices. Nothing here has an absolute tolerance: rows are brought to unit length first (see
//! [`Cosines`]), so gradients may be of any scale, and rows of very different scales may meet. Programs are solved by
//! active sets or by Newton's method until rounding errors are all that is left.

use crate::machine::lent::Lent;
use crate::machine::rows;

pub mod cone;
pub mod conflict_averse;
pub mod eigen;
pub mod factor;
pub mod fair;
pub mod hull;
pub mod partition;
pub mod quadratic;
pub mod ridge;
pub mod simplex;

#[cfg(test)]
pub mod cases;

/// A Gramian taken apart: `G_ij = lengths_i C_ij lengths_j`, where `C` has a unit diagonal, or a row of zeros for a row
/// of zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct Cosines {
    /// `C`, `[rows, rows]`, symmetric.
    pub matrix: Lent<f64>,
    /// Lengths of the rows of the Jacobian.
    pub lengths: Lent<f64>,
}

impl Cosines {
    /// Those of a Gramian `[n, n]`.
    pub fn of(gramian: &[f64], n: usize) -> Self {
        let lengths: Lent<f64> = (0..n).map(|i| gramian[i * n + i].max(0.0).sqrt()).collect();
        let mut matrix = Lent::zeros(n * n);
        for i in 0..n {
            matrix[i * n + i] = if lengths[i] > 0.0 { 1.0 } else { 0.0 };
            for j in 0..i {
                let inner = 0.5 * (gramian[i * n + j] + gramian[j * n + i]);
                // Two divisions: the product of two lengths could under- or overflow.
                let cosine = if inner == 0.0 { 0.0 } else { inner / lengths[i] / lengths[j] };
                let cosine = if lengths[i] > 0.0 && lengths[j] > 0.0 { cosine.clamp(-1.0, 1.0) } else { 0.0 };
                matrix[i * n + j] = cosine;
                matrix[j * n + i] = cosine;
            }
        }
        Self { matrix, lengths }
    }

    /// Weights of the rows from weights of the unit rows; those of zero rows stay as they are.
    pub fn unscale(&self, weights: &mut [f64]) {
        for (weight, length) in weights.iter_mut().zip(&self.lengths) {
            if *length > 0.0 {
                *weight /= length;
            }
        }
    }
}

/// `sum_i a_i b_i` of vectors as long as there are tasks.
#[inline(always)]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    rows::dot::<4, f64>(a, b)
}

/// Adds `factor * x` to `y`.
#[inline(always)]
pub fn add(y: &mut [f64], factor: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// `A x` for a square matrix.
pub fn times(matrix: &[f64], x: &[f64]) -> Lent<f64> {
    matrix.chunks_exact(x.len().max(1)).map(|row| dot(row, x)).collect()
}

/// `x^T A x`, the squared length of a combination if `A` is a Gramian; never below 0.
pub fn square(matrix: &[f64], x: &[f64]) -> f64 {
    dot(&times(matrix, x), x).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gramian_is_its_cosines_and_lengths() {
        let gramian = [4.0, 3.0, 0.0, 3.0, 9.0, 0.0, 0.0, 0.0, 0.0];
        let cosines = Cosines::of(&gramian, 3);
        assert_eq!(cosines.lengths, [2.0, 3.0, 0.0]);
        assert_eq!(cosines.matrix, [1.0, 0.5, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let tiny: Vec<f64> = gramian.iter().map(|x| x * 1e-300).collect();
        let again = Cosines::of(&tiny, 3);
        assert!(again.matrix.iter().zip(&cosines.matrix).all(|(a, b)| (a - b).abs() < 1e-15));
    }

    #[test]
    fn products_of_any_length() {
        let a: Vec<f64> = (1..=7).map(f64::from).collect();
        for n in 0..=7 {
            assert_eq!(dot(&a[..n], &a), (1..=n as u32).map(|i| f64::from(i * i)).sum::<f64>());
        }
        assert_eq!(times(&[1.0, 2.0, 3.0, 4.0], &[1.0, -1.0]), [-1.0, -1.0]);
        assert_eq!(square(&[1.0, 2.0, 2.0, 5.0], &[1.0, 1.0]), 10.0);
        assert_eq!(times(&[], &[]), [0.0; 0]);
    }

    #[test]
    fn gradients_that_are_not_finite_end_in_time() {
        for bad in [f64::NAN, f64::INFINITY] {
            for at in [0, 1, 4] {
                let mut gramian = cases::gramian(&cases::normal(1, 3, 5), 3);
                gramian[at] = bad;
                let sizes = [
                    hull::min_norm(&gramian, 3, f64::EPSILON).len(),
                    cone::project_each(&gramian, &[1.0; 3], f64::EPSILON).len(),
                    conflict_averse::weights(&gramian, 3, 0.5, f64::EPSILON).len(),
                    fair::fixed_point(&gramian, &[1.0; 3], 1.0, f64::EPSILON).weights.len(),
                    eigen::Eigen::of(&gramian, 3).values.len(),
                ];
                assert_eq!(sizes, [3; 5]);
            }
        }
    }
}
