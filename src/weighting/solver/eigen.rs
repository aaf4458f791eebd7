//! Eigenvalues and eigenvectors of symmetric matrices, and the pseudo-inverse.

use super::{add, dot};
use crate::vectorised;

/// `A = sum_k values_k v_k v_k^T`, the largest eigenvalue first.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// Eigenvalues, falling.
    pub values: Vec<f64>,
    /// Their eigenvectors, one a row.
    pub vectors: Vec<f64>,
}

impl Eigen {
    /// Of a symmetric matrix `[n, n]`: Householder's tridiagonal form, then implicit QR steps with Wilkinson's shift
    /// (Golub & Van Loan, Matrix Computations, chapter 8).
    pub fn of(matrix: &[f64], n: usize) -> Self {
        let largest = matrix.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let scale = if largest > 0.0 && largest.is_finite() { largest } else { 1.0 };
        let mut a: Vec<f64> = matrix.iter().map(|x| x / scale).collect();
        let mut vectors: Vec<f64> = (0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.0 }).collect();
        let diagonal = decompose(&mut a, &mut vectors, n);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| diagonal[j].total_cmp(&diagonal[i]));
        Self {
            values: order.iter().map(|&i| diagonal[i] * scale).collect(),
            vectors: order.iter().flat_map(|&i| vectors[i * n..][..n].iter().copied()).collect(),
        }
    }

    /// The eigenvectors whose eigenvalues are above `tolerance` times the largest.
    pub fn above(&self, tolerance: f64) -> impl Iterator<Item = (f64, &[f64])> {
        let least = tolerance * self.values.first().copied().unwrap_or(0.0).max(0.0);
        let pairs = self.values.iter().copied().zip(self.vectors.chunks_exact(self.values.len().max(1)));
        pairs.filter(move |(value, _)| *value > least)
    }

    /// `sum_k f(values_k) v_k (v_k^T x)` over the eigenvalues [above](Eigen::above) a tolerance.
    pub fn apply(&self, tolerance: f64, f: impl Fn(f64) -> f64, x: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; x.len()];
        for (value, vector) in self.above(tolerance) {
            add(&mut sum, f(value) * dot(vector, x), vector);
        }
        sum
    }
}

/// An eigenvalue this small beside the largest of a Gramian `[n, n]` is rounding.
pub fn rank_tolerance(n: usize) -> f64 {
    1e-14 * n as f64
}

/// `A^+ x` for a positive semidefinite `A`, `[n, n]`.
pub fn pseudo_solve(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    Eigen::of(matrix, x.len()).apply(rank_tolerance(x.len()), f64::recip, x)
}

/// The pseudo-inverse `A^+` of a positive semidefinite `A`, `[n, n]`.
pub fn pinv(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for (value, vector) in Eigen::of(matrix, n).above(rank_tolerance(n)) {
        for i in 0..n {
            add(&mut inverse[i * n..][..n], vector[i] / value, vector);
        }
    }
    inverse
}

vectorised! {
/// The eigenvalues of `a`; takes the rows of `basis` to its eigenvectors.
fn decompose(a: &mut [f64], basis: &mut [f64], n: usize) -> Vec<f64> {
    tridiagonalise(a, basis, n);
    let mut diagonal = vec![0.0; n];
    let mut beside = vec![0.0; n.saturating_sub(1)];
    for i in 0..n {
        diagonal[i] = a[i * n + i];
        if i > 0 {
            beside[i - 1] = a[i * n + i - 1];
        }
    }
    diagonalise(&mut diagonal, &mut beside, basis, n);
    diagonal
}
}

/// Reflects `a` to a tridiagonal matrix, and the rows of `basis` with it.
#[inline(always)]
fn tridiagonalise(a: &mut [f64], basis: &mut [f64], n: usize) {
    for k in 0..n.saturating_sub(2) {
        let first = k + 1;
        let mut v: Vec<f64> = (first..n).map(|i| a[i * n + k]).collect();
        let below = dot(&v[1..], &v[1..]);
        if below == 0.0 {
            continue;
        }
        let length = (v[0] * v[0] + below).sqrt().copysign(v[0]);
        v[0] += length;
        let beta = 2.0 / (v[0] * v[0] + below);
        // A - v w^T - w v^T with w = p - (beta / 2) (p^T v) v, p = beta A v.
        let mut w: Vec<f64> = (first..n).map(|i| beta * dot(&a[i * n + first..(i + 1) * n], &v)).collect();
        let share = 0.5 * beta * dot(&w, &v);
        add(&mut w, -share, &v);
        for i in first..n {
            let row = &mut a[i * n + first..(i + 1) * n];
            add(row, -v[i - first], &w);
            add(row, -w[i - first], &v);
            (a[i * n + k], a[k * n + i]) = (0.0, 0.0);
        }
        (a[first * n + k], a[k * n + first]) = (-length, -length);
        reflect(&mut basis[first * n..], &v, beta, n);
    }
}

/// `(I - beta v v^T) B` for the rows of `B`.
#[inline(always)]
fn reflect(rows: &mut [f64], v: &[f64], beta: f64, n: usize) {
    let mut product = vec![0.0; n];
    for (row, x) in rows.chunks_exact(n).zip(v) {
        add(&mut product, *x, row);
    }
    for (row, x) in rows.chunks_exact_mut(n).zip(v) {
        add(row, -beta * x, &product);
    }
}

/// QR steps until nothing is left beside the diagonal; rotates the rows of `vectors` along.
#[inline(always)]
fn diagonalise(d: &mut [f64], e: &mut [f64], vectors: &mut [f64], n: usize) {
    let mut last = n.saturating_sub(1);
    // Two or three steps an eigenvalue are usual; the limit is for matrices that are not finite.
    for _ in 0..50 * n {
        let small = |k: usize, d: &[f64], e: &[f64]| e[k].abs() <= f64::EPSILON * (d[k].abs() + d[k + 1].abs());
        while last > 0 && small(last - 1, d, e) {
            e[last - 1] = 0.0;
            last -= 1;
        }
        if last == 0 {
            return;
        }
        let first = (0..last).rev().find(|&k| small(k, d, e)).map_or(0, |k| k + 1);
        step(&mut d[first..=last], &mut e[first..last], &mut vectors[first * n..], n);
    }
}

/// One implicit QR step of an unreduced block.
#[inline(always)]
fn step(d: &mut [f64], e: &mut [f64], vectors: &mut [f64], n: usize) {
    let m = d.len() - 1;
    let half = 0.5 * (d[m - 1] - d[m]);
    let shift = d[m] - e[m - 1] * e[m - 1] / (half + half.hypot(e[m - 1]).copysign(half));
    let (mut x, mut z) = (d[0] - shift, e[0]);
    for k in 0..m {
        let square = x * x + z * z;
        let r = if square > 1e-280 { square.sqrt() } else { x.hypot(z) };
        let (c, s) = if r > 0.0 { (x / r, z / r) } else { (1.0, 0.0) };
        if k > 0 {
            e[k - 1] = r;
        }
        let (a, b, g) = (d[k], e[k], d[k + 1]);
        d[k] = c * c * a + 2.0 * c * s * b + s * s * g;
        d[k + 1] = s * s * a - 2.0 * c * s * b + c * c * g;
        e[k] = c * s * (g - a) + (c * c - s * s) * b;
        if k + 1 < m {
            (x, z) = (e[k], s * e[k + 1]);
            e[k + 1] *= c;
        }
        let (upper, lower) = vectors[k * n..][..2 * n].split_at_mut(n);
        rotate(upper, lower, c, s);
    }
}

/// Turns two rows by an angle with this cosine and sine.
#[inline(always)]
fn rotate(upper: &mut [f64], lower: &mut [f64], c: f64, s: f64) {
    for (p, q) in upper.iter_mut().zip(lower) {
        (*p, *q) = (c * *p + s * *q, c * *q - s * *p);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::solver::{cases, times};

    #[test]
    fn by_hand() {
        let eigen = Eigen::of(&[2.0, 1.0, 1.0, 2.0], 2);
        assert!((eigen.values[0] - 3.0).abs() < 1e-15 && (eigen.values[1] - 1.0).abs() < 1e-15);
        assert_eq!(Eigen::of(&[], 0).values, [0.0; 0]);
        assert_eq!(Eigen::of(&[-3.0], 1), Eigen { values: vec![-3.0], vectors: vec![1.0] });
        assert_eq!(Eigen::of(&[0.0; 9], 3).values, [0.0; 3]);
        assert_eq!(pinv(&[0.0; 4], 2), [0.0; 4]);
        let inverse = pinv(&[1.0, 1.0, 1.0, 1.0], 2);
        assert!(inverse.iter().all(|x| (x - 0.25).abs() < 1e-15));
    }

    #[test]
    fn vectors_are_orthonormal_and_make_the_matrix_again() {
        for case in cases::all() {
            let (n, matrix) = (case.n, &case.gramian);
            let eigen = Eigen::of(matrix, n);
            let largest = matrix.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            assert!(eigen.values.windows(2).all(|pair| pair[0] >= pair[1]), "{case}");
            for k in 0..n {
                let vector = &eigen.vectors[k * n..][..n];
                let image = times(matrix, vector);
                for i in 0..n {
                    let error = (image[i] - eigen.values[k] * vector[i]).abs();
                    assert!(error <= 1e-13 * largest * n as f64, "{case}: {error:e}");
                    let inner = dot(vector, &eigen.vectors[i * n..][..n]) - if i == k { 1.0 } else { 0.0 };
                    assert!(inner.abs() < 1e-13, "{case}: {inner:e}");
                }
            }
        }
    }

    #[test]
    fn a_pseudo_inverse_undoes_what_can_be_undone() {
        for case in
            cases::all().into_iter().filter(|case| case.n <= 16 && !["graded", "nearly the same"].contains(&case.what))
        {
            let (n, matrix) = (case.n, &case.gramian);
            let point = cases::normal(5, 1, n);
            let right = times(matrix, &point);
            let again = times(matrix, &pseudo_solve(matrix, &right));
            let largest = right.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            for (a, b) in again.iter().zip(&right) {
                assert!((a - b).abs() <= 1e-8 * largest, "{case}: {a} {b}");
            }
            let inverse = pinv(matrix, n);
            let other = times(&inverse, &right);
            let first = pseudo_solve(matrix, &right);
            let most = first.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            assert!(first.iter().zip(other).all(|(a, b)| (a - b).abs() <= 1e-6 * most), "{case}");
        }
    }
}
