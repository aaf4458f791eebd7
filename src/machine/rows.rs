//! Products and weighted sums of rows.

use crate::machine::real::{LANES, Real};
use crate::vectorised;

/// Columns treated at once, so that a block of every row stays in the cache.
const BLOCK: usize = 4096;

/// `sum_k a_k b_k` in so many lanes, 4 or a multiple by two, that a processor adds side by side; compiled where it stands.
#[inline(always)]
pub fn dot<const LANES: usize, T: Real>(a: &[impl Real], b: &[impl Real]) -> T {
    let (blocks, rest) = a.as_chunks::<LANES>();
    let (others, other) = b[..a.len()].as_chunks::<LANES>();
    let mut lanes = [T::ZERO; LANES];
    for (x, y) in blocks.iter().zip(others) {
        for lane in 0..LANES {
            lanes[lane] += T::of(x[lane].wide()) * T::of(y[lane].wide());
        }
    }
    let mut half = LANES / 2;
    while half >= 4 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    let mut tail = T::ZERO;
    for (x, y) in rest.iter().zip(other) {
        tail += T::of(x.wide()) * T::of(y.wide());
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + tail
}

vectorised! {
/// The product of two long rows, summed in double precision.
pub fn long_dot<A: Real, B: Real>(a: &[A], b: &[B]) -> f64 {
    dot::<LANES, f64>(a, b)
}
}

/// `out = sum_i weights_i row_i`; `row(i)` gives the rows, all as long as `out`.
pub fn combine<'a, A: Real, T: Real>(weights: &[f64], row: impl Fn(usize) -> &'a [A], out: &mut [T]) {
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        out.fill(T::ZERO);
        for (i, &weight) in weights.iter().enumerate() {
            add(out, T::of(weight), &row(i)[block * BLOCK..][..out.len()]);
        }
    }
}

vectorised! {
/// `out += factor row`.
fn add<T: Real, A: Real>(out: &mut [T], factor: T, row: &[A]) {
    for (out, x) in out.iter_mut().zip(row) {
        *out += factor * T::of(x.wide());
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 37 % 101) as f32 - 50.0) / 8.0
    }

    #[test]
    fn products_of_any_length_and_type() {
        for size in 0..=40 {
            let a: Vec<f32> = (0..size).map(value).collect();
            let b: Vec<f64> = (0..size + 3).map(|i| value(i + 7).wide()).collect();
            let want: f64 = a.iter().zip(&b).map(|(&a, b)| f64::from(a) * b).sum();
            assert_eq!(long_dot(&a, &b), want, "{size}");
            assert_eq!(dot::<4, f64>(&a, &b), want, "{size}");
            assert_eq!(dot::<8, f32>(&a, &b).wide(), want, "{size}");
        }
    }

    #[test]
    fn combinations_are_weighted_sums_across_blocks() {
        let width = 2 * BLOCK + 21;
        let a: Vec<f32> = (0..3 * width).map(value).collect();
        let mut single = vec![f32::NAN; width];
        combine(&[1.0, -2.0, 0.5], |i| &a[i * width..][..width], &mut single);
        let mut double = vec![f64::NAN; width];
        combine(&[1.0, -2.0, 0.5], |i| &a[i * width..][..width], &mut double);
        for k in 0..width {
            assert_eq!(single[k], a[k] - 2.0 * a[width + k] + 0.5 * a[2 * width + k]);
            assert_eq!(double[k], single[k].wide());
        }
        let mut none = [f64::NAN; 2];
        combine(&[], |_| -> &[f32] { &[] }, &mut none);
        assert_eq!(none, [0.0; 2]);
    }
}
