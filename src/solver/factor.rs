//! A factor of a principal submatrix that grows and shrinks by some indices at a time.

use pulp::Simd;

use crate::machine::lent::Lent;

/// Rows of a column that are treated at once; aligned, as a vector that was just written can only be read as it was.
const LANES: usize = 8;

/// Numbers that [`Factor::solve`] and its parts need room for if they are given `n`.
pub fn room(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// `A_SS = L D L^T` for a growing and shrinking list of indices `S`, where `L` has a diagonal of ones.
///
/// `L` is kept by columns and by rows, so that solving adds multiples of contiguous vectors in both directions: no sum is
/// in an order that a processor's vectors would change. What lies beyond the kept rows is of no meaning.
#[derive(Debug, Clone)]
pub struct Factor {
    n: usize,
    width: usize,
    kept: Lent<usize>,
    /// Column `k` of `L` starts at `k * width`; from the last multiple of [`LANES`] to its diagonal are zeros.
    columns: Aligned,
    /// Row `k` of `L` starts at `k * width`; from its diagonal on are zeros.
    rows: Aligned,
    /// `D`.
    pivots: Lent<f64>,
    /// Reciprocals of `D`.
    shares: Lent<f64>,
    /// Indices that [`Factor::retain`] moves.
    moved: Lent<usize>,
    /// What [`Factor::remove`] spreads over the rows that stay.
    spread: Aligned,
}

/// Numbers that start where a line of the processor's cache does.
#[derive(Debug)]
pub struct Aligned {
    numbers: Lent<f64>,
    start: usize,
}

impl Aligned {
    /// Zeros.
    pub fn new(len: usize) -> Self {
        let numbers = Lent::<f64>::zeros(len + LANES - 1);
        let start = numbers.as_ptr().align_offset(size_of::<[f64; LANES]>()).min(LANES - 1);
        Self { numbers, start }
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.len());
        clone.copy_from_slice(self);
        clone
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f64];

    #[inline(always)]
    fn deref(&self) -> &[f64] {
        let end = self.numbers.len() + 1 + self.start - LANES;
        &self.numbers[self.start..end]
    }
}

impl std::ops::DerefMut for Aligned {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f64] {
        let end = self.numbers.len() + 1 + self.start - LANES;
        &mut self.numbers[self.start..end]
    }
}

/// `y - factor x` in `y`.
#[inline(always)]
pub fn subtract<S: Simd>(simd: S, y: &mut [f64], factor: f64, x: &[f64]) {
    let (vectors, rest) = S::as_mut_simd_f64s(y);
    let (others, other) = S::as_simd_f64s(x);
    let factors = simd.splat_f64s(factor);
    for (y, x) in vectors.iter_mut().zip(others) {
        *y = simd.sub_f64s(*y, simd.mul_f64s(factors, *x));
    }
    for (y, x) in rest.iter_mut().zip(other) {
        *y -= factor * x;
    }
}

/// The last multiple of [`LANES`] that is not above `k`.
#[inline(always)]
fn aligned(k: usize) -> usize {
    k / LANES * LANES
}

impl Factor {
    /// That of no index, for matrices `[n, n]`.
    pub fn new(n: usize) -> Self {
        let width = room(n) + LANES;
        Self {
            n,
            width,
            kept: Lent::with_capacity(n),
            columns: Aligned::new(n * width),
            rows: Aligned::new(n * width),
            pivots: Lent::zeros(n),
            shares: Lent::zeros(n),
            moved: Lent::with_capacity(n),
            spread: Aligned::new(width),
        }
    }

    /// The indices, in the order in which they came.
    #[inline(always)]
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Lets all indices go.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// What the kept indices leave of `A_ii`: 0 if row `i` depends on theirs. Prepares [`Factor::push`].
    #[inline(always)]
    pub fn pivot<S: Simd>(&mut self, simd: S, matrix: &[f64], i: usize) -> f64 {
        let k = self.kept.len();
        let row = &mut self.rows[k * self.width..][..room(k)];
        for (x, index) in row.iter_mut().zip(&self.kept) {
            *x = matrix[i * self.n + index];
        }
        forward(simd, &self.columns, self.width, k, row);
        row[k..].fill(0.0);
        let mut pivot = matrix[i * self.n + i];
        for (x, share) in row[..k].iter_mut().zip(&self.shares) {
            let whole = *x;
            *x *= share;
            pivot -= whole * *x;
        }
        pivot
    }

    /// Keeps index `i`, whose positive [`Factor::pivot`] was just asked for.
    #[inline(always)]
    pub fn push(&mut self, i: usize, pivot: f64) {
        let k = self.kept.len();
        let width = self.width;
        for j in 0..k {
            self.columns[j * width + k] = self.rows[k * width + j];
        }
        self.columns[k * width..][aligned(k)..=k].fill(0.0);
        self.pivots[k] = pivot;
        self.shares[k] = 1.0 / pivot;
        self.kept.push(i);
    }

    /// Keeps some more indices: all of them, or those whose pivots are above `least` when it is their turn. Pivots count
    /// as `floor` at least.
    #[inline(always)]
    pub fn extend<S: Simd>(&mut self, simd: S, matrix: &[f64], indices: &[usize], least: Option<f64>, floor: f64) {
        let first = self.kept.len();
        self.kept.extend_from_slice(indices);
        self.gather(matrix, first);
        for j in 0..first {
            self.eliminate(simd, j, first);
        }
        let refused = |pivot: f64| least.is_some_and(|least| pivot.is_nan() || pivot <= least);
        let mut j = first;
        while j < self.kept.len() {
            let pivot = self.columns[j * self.width + j];
            if refused(pivot) {
                // Pivots only fall, so the last one's turn need not come either if it is small already.
                let last = self.kept.len() - 1;
                if last > j && refused(self.columns[last * self.width + last]) {
                    self.kept.pop();
                } else {
                    self.refuse(j);
                }
                continue;
            }
            let pivot = pivot.max(floor);
            self.pivots[j] = pivot;
            self.shares[j] = 1.0 / pivot;
            self.columns[j * self.width..][aligned(j)..=j].fill(0.0);
            self.eliminate(simd, j, j + 1);
            j += 1;
        }
    }

    /// Numbers of the matrix that belong to the indices from the `first` on.
    #[inline(always)]
    fn gather(&mut self, matrix: &[f64], first: usize) {
        for (j, index) in self.kept.iter().enumerate() {
            let row = &matrix[index * self.n..][..self.n];
            let from = first.max(j);
            let column = &mut self.columns[j * self.width..][from..];
            for (x, &index) in column.iter_mut().zip(&self.kept[from..]) {
                *x = row[index];
            }
        }
    }

    /// Takes from the rows from `first` on what index `j` explains of them.
    #[inline(always)]
    fn eliminate<S: Simd>(&mut self, simd: S, j: usize, first: usize) {
        let end = self.kept.len();
        let width = self.width;
        let share = self.shares[j];
        let (before, after) = self.columns.split_at_mut((j + 1) * width);
        let rows = &mut *self.rows;
        let column = &mut before[j * width..];
        // These have rows before `first`, which stay.
        let span = first..first + room(end - first);
        for l in j + 1..first {
            subtract(simd, &mut after[(l - j - 1) * width..][span.clone()], rows[l * width + j], &column[span.clone()]);
        }
        for l in first..end {
            let factor = column[l] * share;
            rows[l * width + j] = factor;
            let span = aligned(l)..room(end);
            subtract(simd, &mut after[(l - j - 1) * width..][span.clone()], factor, &column[span]);
        }
        let from = if first == j + 1 { aligned(j)..room(end) } else { span };
        column[from].iter_mut().for_each(|x| *x *= share);
    }

    /// Puts the last of the indices that wait in the place of the one whose turn it is.
    #[inline(always)]
    fn refuse(&mut self, j: usize) {
        let last = self.kept.len() - 1;
        let width = self.width;
        self.kept.swap_remove(j);
        for k in 0..j {
            self.columns[k * width + j] = self.columns[k * width + last];
            self.rows[j * width + k] = self.rows[last * width + k];
        }
        self.columns[j * width + j] = self.columns[last * width + last];
        for k in j + 1..last {
            self.columns[j * width + k] = self.columns[k * width + last];
        }
    }

    /// Lets the indices go that `keep` refuses.
    #[inline(always)]
    pub fn retain<S: Simd>(&mut self, simd: S, matrix: &[f64], floor: f64, keep: impl Fn(usize) -> bool) {
        let first = self.kept.iter().position(|&i| !keep(i)).unwrap_or(self.kept.len());
        let staying = self.kept[first..].iter().filter(|&&i| keep(i)).count();
        // What few leave behind is spread one by one; what many leave is made anew.
        if 4 * (self.kept.len() - first - staying) <= staying {
            for position in (first..self.kept.len()).rev() {
                if !keep(self.kept[position]) {
                    self.remove(simd, position);
                }
            }
            return;
        }
        let mut moved = std::mem::take(&mut self.moved);
        moved.clear();
        moved.extend(self.kept.drain(first..).filter(|&i| keep(i)));
        if !moved.is_empty() {
            self.extend(simd, matrix, &moved, None, floor);
        }
        self.moved = moved;
    }

    /// Lets one index go: the rows behind it are no longer explained by it, so `L D L^T` of theirs grows by a matrix of
    /// rank one (Gill, Golub, Murray & Saunders, Mathematics of Computation, 1974, method C1).
    #[inline(always)]
    fn remove<S: Simd>(&mut self, simd: S, position: usize) {
        let k = self.kept.len();
        let width = self.width;
        let columns = &mut *self.columns;
        let rows = &mut *self.rows;
        let spread = &mut *self.spread;
        let mut weight = self.pivots[position];
        spread[..room(k)].copy_from_slice(&columns[position * width..][..room(k)]);
        for j in position + 1..k {
            let x = spread[j];
            let before = self.pivots[j];
            let pivot = before + weight * x * x;
            let share = 1.0 / pivot;
            let factor = weight * x * share;
            weight *= before * share;
            let span = aligned(j)..room(k);
            let column = &mut columns[j * width..][span.clone()];
            subtract(simd, &mut spread[span.clone()], x, column);
            subtract(simd, column, -factor, &spread[span]);
            self.pivots[j - 1] = pivot;
            self.shares[j - 1] = share;
        }
        for j in 0..position {
            columns.copy_within(j * width + position + 1..j * width + k, j * width + position);
        }
        for j in position + 1..k {
            columns.copy_within(j * width + j + 1..j * width + k, (j - 1) * width + j);
            columns[(j - 1) * width..][aligned(j - 1)..j].fill(0.0);
            rows.copy_within(j * width..j * width + position, (j - 1) * width);
            for l in j..k - 1 {
                rows[l * width + j - 1] = columns[(j - 1) * width + l];
            }
        }
        self.kept.remove(position);
    }

    /// `A_SS^-1 b`, in place; `b` has [`room`] for as many numbers as there are indices.
    #[inline(always)]
    pub fn solve<S: Simd>(&self, simd: S, b: &mut [f64]) {
        let k = self.kept.len();
        forward(simd, &self.columns, self.width, k, b);
        for (x, share) in b[..k].iter_mut().zip(&self.shares) {
            *x *= share;
        }
        self.backward(simd, b);
    }

    /// `L^-T b`, in place.
    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, b: &mut [f64]) {
        for k in (1..self.kept.len()).rev() {
            let x = b[k];
            let span = 0..room(k);
            subtract(simd, &mut b[span.clone()], x, &self.rows[k * self.width..][span]);
        }
    }

    /// `-A_SS^-1 A_Si` of the index whose [`Factor::pivot`] was just asked for: the combination of kept rows that is
    /// nearest to minus row `i`. In `combination`, with [`room`] as for [`Factor::solve`].
    #[inline(always)]
    pub fn opposing<S: Simd>(&self, simd: S, combination: &mut [f64]) {
        let k = self.kept.len();
        for (x, row) in combination[..k].iter_mut().zip(&self.rows[k * self.width..]) {
            *x = -row;
        }
        self.backward(simd, combination);
    }
}

/// `L^-1 b`, in place, for the first `k` columns.
#[inline(always)]
fn forward<S: Simd>(simd: S, columns: &[f64], width: usize, k: usize, b: &mut [f64]) {
    for j in 0..k {
        let x = b[j];
        let span = aligned(j)..room(k);
        subtract(simd, &mut b[span.clone()], x, &columns[j * width..][span]);
    }
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;
    use crate::solver::cases;

    /// `A_SS x = b`, for some `b`.
    fn check(factor: &Factor, gramian: &[f64], n: usize) {
        let kept = factor.kept();
        let right = cases::normal(7, 1, room(kept.len()));
        let mut x = right.clone();
        factor.solve(Scalar::new(), &mut x);
        for (row, expected) in kept.iter().zip(right) {
            let product: f64 = kept.iter().zip(&x).map(|(j, x)| gramian[row * n + j] * x).sum();
            assert!((product - expected).abs() < 1e-11, "{product} {expected}");
        }
    }

    #[test]
    fn a_factor_solves_what_it_keeps() {
        for n in [6, 8, 21] {
            let gramian = cases::gramian(&cases::normal(1, n, 2 * n), n);
            let mut factor = Factor::new(n);
            factor.extend(Scalar::new(), &gramian, &[0, 1, 2], None, 0.0);
            factor.extend(Scalar::new(), &gramian, &(3..n).collect::<Vec<_>>(), None, 0.0);
            assert_eq!(factor.kept().len(), n);
            check(&factor, &gramian, n);
            factor.retain(Scalar::new(), &gramian, 0.0, |i| i != 2 && i != 5);
            assert_eq!(factor.kept()[..4], [0, 1, 3, 4]);
            check(&factor, &gramian, n);
            if n == 21 {
                // Few of many, one by one; then many at once.
                factor.retain(Scalar::new(), &gramian, 0.0, |i| i != 3 && i != 19);
                assert_eq!(factor.kept().len(), 17);
                check(&factor, &gramian, n);
                factor.retain(Scalar::new(), &gramian, 0.0, |i| i % 2 == 0);
                assert_eq!(factor.kept(), [0, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
                check(&factor, &gramian, n);
            }
            let pivot = factor.pivot(Scalar::new(), &gramian, 5);
            let mut opposing = vec![0.0; room(n)];
            factor.opposing(Scalar::new(), &mut opposing);
            let left: f64 = factor.kept().iter().zip(&opposing).map(|(j, x)| gramian[5 * n + j] * x).sum();
            assert!((gramian[5 * n + 5] + left - pivot).abs() < 1e-11, "the pivot is what the combination leaves");
            factor.push(5, pivot);
            assert_eq!(factor.kept().last(), Some(&5));
            check(&factor, &gramian, n);
        }
    }

    #[test]
    fn rows_that_depend_on_others_are_refused() {
        let n = 20;
        // Rows 1, 3, 5, ... are twice the ones before them; of each pair one stays, whichever comes first.
        let mut jacobian = cases::normal(3, n, n + 3);
        for i in (1..n).step_by(2) {
            for column in 0..n + 3 {
                jacobian[i * (n + 3) + column] = 2.0 * jacobian[(i - 1) * (n + 3) + column];
            }
        }
        let gramian = cases::gramian(&jacobian, n);
        let mut factor = Factor::new(n);
        factor.extend(Scalar::new(), &gramian, &[4, 1], Some(1e-8), 0.0);
        factor.extend(
            Scalar::new(),
            &gramian,
            &(0..n).filter(|i| ![1, 4].contains(i)).collect::<Vec<_>>(),
            Some(1e-8),
            0.0,
        );
        let mut pairs: Vec<usize> = factor.kept().iter().map(|i| i / 2).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, (0..n / 2).collect::<Vec<_>>());
        check(&factor, &gramian, n);
    }
}
