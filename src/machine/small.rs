//! Products of small matrices by loops, where a call of libtorch would take longer than the product.

use crate::machine::real::{LANES, Real};
use crate::vectorised;

/// A matrix whose entry `(i, k)` stands at `i * row + k * column`, which may be one turned on its side.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a, T> {
    /// The memory.
    pub from: &'a [T],
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub column: usize,
}

/// Whole multiples of the lanes of a register that so many numbers fill.
pub fn padded(count: usize) -> usize {
    count.next_multiple_of(LANES)
}

vectorised! {
/// `c = a b`, or `c += a b`, with `a` `[m, k]`; rows of `b` and `c` are `width` numbers each, whole multiples of [`LANES`].
pub fn multiply<T: Real>([m, k]: [usize; 2], a: Strided<'_, T>, b: &[T], c: &mut [T], width: usize, add: bool) {
    for start in (0..width).step_by(LANES) {
        let mut i = 0;
        while i + 6 <= m {
            block::<T, 6>(i, k, a, b, c, [width, start], add);
            i += 6;
        }
        while i + 2 <= m {
            block::<T, 2>(i, k, a, b, c, [width, start], add);
            i += 2;
        }
        if i < m {
            block::<T, 1>(i, k, a, b, c, [width, start], add);
        }
    }
}
}

/// `R` rows from `i` on of some columns, in registers.
#[inline(always)]
fn block<T: Real, const R: usize>(
    i: usize,
    k: usize,
    a: Strided<'_, T>,
    b: &[T],
    c: &mut [T],
    [width, start]: [usize; 2],
    add: bool,
) {
    let mut sums = [[T::ZERO; LANES]; R];
    for p in 0..k {
        let b = &b[p * width + start..][..LANES];
        for (r, sums) in sums.iter_mut().enumerate() {
            let a = a.from[(i + r) * a.row + p * a.column];
            for l in 0..LANES {
                sums[l] += a * b[l];
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let c = &mut c[(i + r) * width + start..][..LANES];
        for l in 0..LANES {
            c[l] = if add { c[l] } else { T::ZERO } + sums[l];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::random::Stream;

    #[test]
    fn products_are_sums_of_products() {
        let stream = Stream::new(1, &[]);
        let numbers = |from: u64, len: usize| (0..len as u64).map(|i| stream.normal(from + i)).collect::<Vec<_>>();
        for (m, k, width) in [(1, 1, 16), (7, 3, 32), (13, 5, 16), (6, 0, 16), (0, 4, 16)] {
            let (a, b) = (numbers(0, m * k), numbers(1000, k * width));
            let before = numbers(2000, m * width);
            // As it is, and turned.
            let turned: Vec<_> = (0..k).flat_map(|p| (0..m).map(move |i| (i, p))).map(|(i, p)| a[i * k + p]).collect();
            let whole = Strided { from: &a, row: k, column: 1 };
            for (a, add) in [(whole, false), (Strided { from: &turned, row: 1, column: m }, true)] {
                let mut c = before.clone();
                multiply([m, k], a, &b, &mut c, width, add);
                for i in 0..m {
                    for j in 0..width {
                        let sum: f64 = (0..k).map(|p| whole.from[i * k + p] * b[p * width + j]).sum();
                        let want = if add { before[i * width + j] } else { 0.0 } + sum;
                        assert!((c[i * width + j] - want).abs() < 1e-12, "{m} {k} {width} {i} {j}");
                    }
                }
            }
        }
        assert_eq!([0, 1, 16, 17].map(padded), [0, 16, 16, 32]);
    }
}
