//! A Cholesky factor of a principal submatrix that grows and shrinks by one index at a time.

use super::{add, dot};

/// `L` of `A_SS = L L^T` for a growing and shrinking list of indices `S`.
#[derive(Debug, Clone)]
pub struct Factor {
    width: usize,
    kept: Vec<usize>,
    /// Row `k` of `L` starts at `k * width`; its diagonal holds the reciprocal, as solving needs it.
    rows: Vec<f64>,
}

impl Factor {
    /// That of no index, for matrices `[n, n]`.
    pub fn new(n: usize) -> Self {
        Self { width: n, kept: Vec::with_capacity(n), rows: vec![0.0; n * n] }
    }

    /// The whole of a symmetric matrix; pivots are kept at `floor` or above.
    pub fn whole(matrix: &[f64], n: usize, floor: f64) -> Self {
        let mut factor = Self::new(n);
        for i in 0..n {
            let pivot = factor.pivot(matrix, i);
            factor.push(i, pivot.max(floor));
        }
        factor
    }

    /// The indices, in the order in which they came.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    fn row(&self, k: usize) -> &[f64] {
        &self.rows[k * self.width..][..k + 1]
    }

    /// What the kept indices leave of `A_ii`: 0 if row `i` depends on theirs. Prepares [`Factor::push`].
    pub fn pivot(&mut self, matrix: &[f64], i: usize) -> f64 {
        let (k, width) = (self.kept.len(), self.width);
        let (before, row) = self.rows.split_at_mut(k * width);
        for (j, index) in self.kept.iter().enumerate() {
            let known = &before[j * width..][..j + 1];
            row[j] = (matrix[i * width + index] - dot(&row[..j], &known[..j])) * known[j];
        }
        matrix[i * width + i] - dot(&row[..k], &row[..k])
    }

    /// Keeps index `i`, whose positive [`Factor::pivot`] was just asked for.
    pub fn push(&mut self, i: usize, pivot: f64) {
        let k = self.kept.len();
        self.rows[k * self.width + k] = 1.0 / pivot.sqrt();
        self.kept.push(i);
    }

    /// Lets the indices go that `keep` refuses.
    pub fn retain(&mut self, matrix: &[f64], floor: f64, keep: impl Fn(usize) -> bool) {
        let first = self.kept.iter().position(|&i| !keep(i)).unwrap_or(self.kept.len());
        for i in self.kept.split_off(first).into_iter().filter(|&i| keep(i)) {
            let pivot = self.pivot(matrix, i);
            self.push(i, pivot.max(floor));
        }
    }

    /// `L^-1 b`, in place.
    pub fn forward(&self, b: &mut [f64]) {
        for k in 0..self.kept.len() {
            let row = self.row(k);
            b[k] = (b[k] - dot(&row[..k], &b[..k])) * row[k];
        }
    }

    /// `L^-T b`, in place.
    pub fn backward(&self, b: &mut [f64]) {
        for k in (0..self.kept.len()).rev() {
            let row = self.row(k);
            b[k] *= row[k];
            let x = b[k];
            add(&mut b[..k], -x, &row[..k]);
        }
    }

    /// `A_SS^-1 b`, in place.
    pub fn solve(&self, b: &mut [f64]) {
        self.forward(b);
        self.backward(b);
    }

    /// `-A_SS^-1 A_Si` of the index whose [`Factor::pivot`] was just asked for: the combination of kept rows that is
    /// nearest to minus row `i`.
    pub fn opposing(&self) -> Vec<f64> {
        let k = self.kept.len();
        let mut combination: Vec<f64> = self.rows[k * self.width..][..k].iter().map(|x| -x).collect();
        self.backward(&mut combination);
        combination
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::solver::cases;

    #[test]
    fn a_factor_solves_what_it_keeps() {
        let n = 6;
        let gramian = cases::gramian(&cases::normal(1, n, 9), n);
        let mut factor = Factor::whole(&gramian, n, 0.0);
        factor.retain(&gramian, 0.0, |i| i != 2 && i != 5);
        assert_eq!(factor.kept(), [0, 1, 3, 4]);
        let right = [1.0, -2.0, 0.5, 3.0];
        let mut x = right;
        factor.solve(&mut x);
        for (row, expected) in factor.kept().iter().zip(right) {
            let product: f64 = factor.kept().iter().zip(x).map(|(j, x)| gramian[row * n + j] * x).sum();
            assert!((product - expected).abs() < 1e-12, "{product} {expected}");
        }
        let pivot = factor.pivot(&gramian, 5);
        let opposing = factor.opposing();
        let left: f64 = factor.kept().iter().zip(&opposing).map(|(j, x)| gramian[5 * n + j] * x).sum();
        assert!((gramian[35] + left - pivot).abs() < 1e-12, "the pivot is what the combination leaves");
    }
}
