//! Eigenvalues and eigenvectors of symmetric matrices, and the pseudo-inverse.

use crate::machine::lent::Lent;
use crate::solver::{add, dot};
use crate::vectorised;

/// `A = sum_k values_k v_k v_k^T`, the largest eigenvalue first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Eigen {
    /// Eigenvalues, falling.
    pub values: Lent<f64>,
    /// Their eigenvectors, one a row.
    pub vectors: Lent<f64>,
    room: Room,
}

/// Squares below this lose digits; the largest number of a matrix is 1 here.
const TINY: f64 = 1e-280;

/// Memory that is used again from one matrix to the next.
#[derive(Debug, Clone, Default, PartialEq)]
struct Room {
    matrix: Lent<f64>,
    beside: Lent<f64>,
    reflector: Lent<f64>,
    products: Lent<f64>,
}

impl Eigen {
    /// Of a symmetric matrix `[n, n]`.
    pub fn of(matrix: &[f64], n: usize) -> Self {
        let mut eigen = Self::default();
        eigen.take(matrix, n);
        eigen
    }

    /// Takes another symmetric matrix `[n, n]` apart: Householder's tridiagonal form, then implicit QR steps with
    /// Wilkinson's shift (Golub & Van Loan, Matrix Computations, chapter 8).
    pub fn take(&mut self, matrix: &[f64], n: usize) {
        let Self { values, vectors, room } = self;
        let largest = matrix.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let scale = if largest > 0.0 && largest.is_finite() { largest } else { 1.0 };
        room.matrix.emptied(n * n).extend(matrix.iter().map(|x| x / scale));
        room.beside.emptied(n);
        room.reflector.emptied(n);
        room.products.emptied(n);
        vectors.emptied(n * n).extend((0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.0 }));
        values.emptied(n).resize(n, 0.0);
        decompose(room, values, vectors, n);
        values.iter_mut().for_each(|value| *value *= scale);
        sort(values, vectors, n);
    }

    /// `sum_k f(k, values_k) v_k v_k^T`, `[n, n]`.
    pub fn assemble(&self, f: impl Fn(usize, f64) -> f64, into: &mut Vec<f64>) {
        let n = self.values.len();
        into.clear();
        into.resize(n * n, 0.0);
        for (k, (&value, vector)) in self.values.iter().zip(self.vectors.chunks_exact(n.max(1))).enumerate() {
            let factor = f(k, value);
            for (i, row) in into.chunks_exact_mut(n).enumerate() {
                add(&mut row[..=i], factor * vector[i], vector);
            }
        }
        // The other triangle is the same to the bit.
        for i in 0..n {
            for j in 0..i {
                into[j * n + i] = into[i * n + j];
            }
        }
    }

    /// The eigenvectors whose eigenvalues are above `tolerance` times the largest, or above half of it if that is less.
    pub fn above(&self, tolerance: f64) -> impl Iterator<Item = (f64, &[f64])> {
        let least = tolerance.min(0.5) * self.values.first().copied().unwrap_or(0.0).max(0.0);
        let pairs = self.values.iter().copied().zip(self.vectors.chunks_exact(self.values.len().max(1)));
        pairs.filter(move |(value, _)| *value > least)
    }

    /// `A^+ x` for a positive semidefinite matrix: over the eigenvalues [above](Eigen::above) a tolerance. If what these
    /// eigenvectors have of `x` is no more than rounding, all together, it is 0.
    pub fn solve(&self, tolerance: f64, x: &[f64]) -> Lent<f64> {
        let mut sum = Lent::zeros(x.len());
        let mut square = 0.0;
        for (value, vector) in self.above(tolerance) {
            let part = dot(vector, x);
            add(&mut sum, part / value, vector);
            square += part * part;
        }
        if square <= tolerance * tolerance * dot(x, x) {
            sum.fill(0.0);
        }
        sum
    }

    /// `sum_k f(values_k) v_k (v_k^T x)` over the eigenvalues [above](Eigen::above) a tolerance.
    pub fn apply(&self, tolerance: f64, f: impl Fn(f64) -> f64, x: &[f64]) -> Lent<f64> {
        let mut sum = Lent::zeros(x.len());
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

/// As [`rank_tolerance`], if the Gramian's cosines are known up to `rounding`. Errors of single products are of either sign,
/// so that they add up like the root of their number.
pub fn rounded_tolerance(n: usize, rounding: f64) -> f64 {
    rank_tolerance(n).max(4.0 * (n as f64).sqrt() * rounding)
}

/// The pseudo-inverse `A^+` of a positive semidefinite `A`, `[n, n]`.
pub fn pinv(matrix: &[f64], n: usize) -> Lent<f64> {
    let mut inverse = Lent::zeros(n * n);
    for (value, vector) in Eigen::of(matrix, n).above(rank_tolerance(n)) {
        for i in 0..n {
            add(&mut inverse[i * n..][..n], vector[i] / value, vector);
        }
    }
    inverse
}

vectorised! {
/// The eigenvalues of the room's matrix; takes the rows of `basis` to its eigenvectors.
fn decompose(room: &mut Room, diagonal: &mut [f64], basis: &mut [f64], n: usize) {
    let Room { matrix: a, beside, reflector, products } = room;
    tridiagonalise(a, basis, reflector, products, n);
    beside.clear();
    beside.resize(n.saturating_sub(1), 0.0);
    for i in 0..n {
        diagonal[i] = a[i * n + i];
        if i > 0 {
            beside[i - 1] = a[i * n + i - 1];
        }
    }
    diagonalise(diagonal, beside, basis, n);
}
}

/// Puts the largest eigenvalue first.
fn sort(values: &mut [f64], vectors: &mut [f64], n: usize) {
    for i in 0..n {
        let most = (i..n).rev().max_by(|&j, &k| values[j].total_cmp(&values[k])).expect("i is among them");
        if most != i {
            values.swap(i, most);
            let (upper, lower) = vectors.split_at_mut(most * n);
            upper[i * n..][..n].swap_with_slice(&mut lower[..n]);
        }
    }
}

/// Reflects `a` to a tridiagonal matrix, and the rows of `basis` with it.
#[inline(always)]
fn tridiagonalise(a: &mut [f64], basis: &mut [f64], v: &mut Vec<f64>, w: &mut Vec<f64>, n: usize) {
    for k in 0..n.saturating_sub(2) {
        let first = k + 1;
        v.clear();
        v.extend((first..n).map(|i| a[i * n + k]));
        let below = dot(&v[1..], &v[1..]);
        // Rows that hardly differ leave less and less; by numbers whose squares underflow nothing can be divided.
        if below <= TINY {
            continue;
        }
        let length = (v[0] * v[0] + below).sqrt().copysign(v[0]);
        v[0] += length;
        let beta = 2.0 / (v[0] * v[0] + below);
        // A - v w^T - w v^T with w = p - (beta / 2) (p^T v) v, p = beta A v.
        w.clear();
        w.extend((first..n).map(|i| beta * dot(&a[i * n + first..(i + 1) * n], v)));
        let share = 0.5 * beta * dot(w, v);
        add(w, -share, v);
        for i in first..n {
            let row = &mut a[i * n + first..(i + 1) * n];
            add(row, -v[i - first], w);
            add(row, -w[i - first], v);
            a[i * n + k] = 0.0;
            a[k * n + i] = 0.0;
        }
        a[first * n + k] = -length;
        a[k * n + first] = -length;
        reflect(&mut basis[first * n..], v, beta, w, n);
    }
}

/// `(I - beta v v^T) B` for the rows of `B`.
#[inline(always)]
fn reflect(rows: &mut [f64], v: &[f64], beta: f64, product: &mut Vec<f64>, n: usize) {
    product.clear();
    product.resize(n, 0.0);
    for (row, x) in rows.chunks_exact(n).zip(v) {
        add(product, *x, row);
    }
    for (row, x) in rows.chunks_exact_mut(n).zip(v) {
        add(row, -beta * x, product);
    }
}

/// QR steps until nothing is left beside the diagonal; rotates the rows of `vectors` along.
#[inline(always)]
fn diagonalise(d: &mut [f64], e: &mut [f64], vectors: &mut [f64], n: usize) {
    let mut last = n.saturating_sub(1);
    // Two or three steps an eigenvalue are usual; the limit is for matrices that are not finite.
    for _ in 0..50 * n {
        while last > 0 && is_small(last - 1, d, e) {
            e[last - 1] = 0.0;
            last -= 1;
        }
        if last == 0 {
            return;
        }
        let first = (0..last).rev().find(|&k| is_small(k, d, e)).map_or(0, |k| k + 1);
        step(&mut d[first..=last], &mut e[first..last], &mut vectors[first * n..], n);
    }
}

/// Whether a number beside the diagonal is nothing but rounding.
#[inline(always)]
fn is_small(k: usize, d: &[f64], e: &[f64]) -> bool {
    e[k].abs() <= f64::EPSILON * (d[k].abs() + d[k + 1].abs())
}

/// One implicit QR step of an unreduced block.
#[inline(always)]
fn step(d: &mut [f64], e: &mut [f64], vectors: &mut [f64], n: usize) {
    let m = d.len() - 1;
    let half = 0.5 * (d[m - 1] - d[m]);
    let shift = d[m] - e[m - 1] * e[m - 1] / (half + half.hypot(e[m - 1]).copysign(half));
    let mut x = d[0] - shift;
    let mut z = e[0];
    for k in 0..m {
        let square = x * x + z * z;
        let r = if square > TINY { square.sqrt() } else { x.hypot(z) };
        let (c, s) = if r > 0.0 { (x / r, z / r) } else { (1.0, 0.0) };
        if k > 0 {
            e[k - 1] = r;
        }
        let a = d[k];
        let b = e[k];
        let g = d[k + 1];
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
    use crate::solver::{cases, times};

    #[test]
    fn by_hand() {
        let eigen = Eigen::of(&[2.0, 1.0, 1.0, 2.0], 2);
        assert!((eigen.values[0] - 3.0).abs() < 1e-15 && (eigen.values[1] - 1.0).abs() < 1e-15);
        assert_eq!(Eigen::of(&[], 0).values, [0.0; 0]);
        let single = Eigen::of(&[-3.0], 1);
        assert!(single.values == [-3.0] && single.vectors == [1.0]);
        assert_eq!(Eigen::of(&[0.0; 9], 3).values, [0.0; 3]);
        assert_eq!(pinv(&[0.0; 4], 2), [0.0; 4]);
        let inverse = pinv(&[1.0, 1.0, 1.0, 1.0], 2);
        assert!(inverse.iter().all(|x| (x - 0.25).abs() < 1e-15));
    }

    #[test]
    fn vectors_are_orthonormal_and_make_the_matrix_again() {
        for case in cases::all() {
            let n = case.n;
            let matrix = &case.gramian;
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
            let mut again = Vec::new();
            eigen.assemble(|_, value| value, &mut again);
            let error = again.iter().zip(matrix).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
            assert!(error <= 1e-13 * largest * n as f64, "{case}: {error:e}");
        }
    }

    #[test]
    fn rows_that_hardly_differ_leave_numbers_too_small_to_divide_by() {
        for n in [2, 27, 55, 61, 66, 100] {
            // All the same but one, which is a little longer, or a little longer and further along the others.
            for along in [0.0, 1e-7] {
                let mut matrix = vec![1.0; n * n];
                let at = n / 2;
                matrix[at * (n + 1)] += 1e-7 + along;
                for i in (0..n).filter(|&i| i != at) {
                    (matrix[i * n + at], matrix[at * n + i]) = (1.0 + along, 1.0 + along);
                }
                let mut again = Vec::new();
                Eigen::of(&matrix, n).assemble(|_, value| value, &mut again);
                let good = again.iter().zip(&matrix).all(|(a, b)| (a - b).abs() <= 1e-14 * n as f64);
                assert!(good, "{n} {along:e}: {:?}", &again[..2]);
            }
        }
    }

    #[test]
    fn some_eigenvalue_counts_whatever_is_rounding() {
        let eigen = Eigen::of(&[2.0, 0.0, 0.0, 0.8], 2);
        assert_eq!(eigen.above(0.3).count(), 2);
        assert_eq!(eigen.above(7.0).map(|(value, _)| value).collect::<Vec<_>>(), [2.0]);
        // All parts of a sum count, or none.
        let n = 64;
        let identity: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at % (n + 1) == 0))).collect();
        assert_eq!(Eigen::of(&identity, n).solve(0.25, &vec![1.0; n]), vec![1.0; n]);
        assert_eq!(Eigen::of(&[1.0, -1.0, -1.0, 1.0], 2).solve(1e-14, &[1.0, 1.0 + 1e-15]), [0.0; 2]);
    }

    #[test]
    fn a_pseudo_inverse_undoes_what_can_be_undone() {
        for case in
            cases::all().into_iter().filter(|case| case.n <= 16 && !["graded", "nearly the same"].contains(&case.what))
        {
            let n = case.n;
            let matrix = &case.gramian;
            let point = cases::normal(5, 1, n);
            let right = times(matrix, &point);
            let again = times(matrix, &Eigen::of(matrix, right.len()).solve(rank_tolerance(right.len()), &right));
            let largest = right.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            for (a, b) in again.iter().zip(&right) {
                assert!((a - b).abs() <= 1e-8 * largest, "{case}: {a} {b}");
            }
            let inverse = pinv(matrix, n);
            let other = times(&inverse, &right);
            let first = Eigen::of(matrix, right.len()).solve(rank_tolerance(right.len()), &right);
            let most = first.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
            assert!(first.iter().zip(&other).all(|(a, b)| (a - b).abs() <= 1e-6 * most), "{case}");
        }
    }
}
