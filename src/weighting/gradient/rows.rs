//! Arithmetic on rows of gradients, in passes that vectorise.

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::real::LANES;
use crate::{bail, vectorised};

/// Columns treated at once, so that a block of every row stays in the cache.
const BLOCK: usize = 4096;

vectorised! {
/// The product of two rows, summed in double precision.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += f64::from(a) * f64::from(b);
    }
    lanes.iter().sum()
}
}

vectorised! {
/// `out += factor row`.
fn add(out: &mut [f32], row: &[f32], factor: f32) {
    for (out, &x) in out.iter_mut().zip(row) {
        *out += factor * x;
    }
}
}

/// The length of a row.
pub(super) fn width(jacobian: &[f32], rows: usize) -> usize {
    jacobian.len() / rows.max(1)
}

/// `A B^T` of two matrices of so many rows, `[rows, rows]`.
pub(super) fn products(a: &[f32], b: &[f32], rows: usize) -> Lent<f64> {
    let width = width(a, rows);
    let mut out = Lent::zeros(rows * rows);
    for start in (0..width).step_by(BLOCK) {
        let end = width.min(start + BLOCK);
        for (index, out) in out.iter_mut().enumerate() {
            let (i, j) = (index / rows * width, index % rows * width);
            *out += dot(&a[i + start..i + end], &b[j + start..j + end]);
        }
    }
    out
}

/// The products of so many rows with each other, `[rows, rows]`; `row(i)` gives them, all of this width.
pub(super) fn gramian<'a>(rows: usize, width: usize, row: impl Fn(usize) -> &'a [f32]) -> Lent<f64> {
    let mut out = Lent::zeros(rows * rows);
    for start in (0..width).step_by(BLOCK) {
        let end = width.min(start + BLOCK);
        for (i, j) in (0..rows).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            out[i * rows + j] += dot(&row(i)[start..end], &row(j)[start..end]);
            out[j * rows + i] = out[i * rows + j];
        }
    }
    out
}

/// `out = sum_i weights_i row_i`; `row(i)` gives the rows, all of this width.
pub(super) fn combine<'a>(weights: &[f64], width: usize, row: impl Fn(usize) -> &'a [f32], out: &mut Vec<f32>) {
    out.clear();
    out.resize(width, 0.0);
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        for (i, &weight) in weights.iter().enumerate() {
            add(out, &row(i)[block * BLOCK..][..out.len()], weight as f32);
        }
    }
}

/// Zeros for each task the first time, `[tasks, width]`.
///
/// # Errors
/// What is remembered belongs to other parameters.
pub(super) fn fit(remembered: &mut Vec<f32>, tasks: usize, width: usize, class: &str) -> Result<()> {
    if remembered.is_empty() {
        remembered.resize(tasks * width, 0.0);
    }
    if remembered.len() != tasks * width {
        bail!(
            "{class}: its state has {} numbers; {tasks} tasks and {width} shared parameters need {}",
            remembered.len(),
            tasks * width
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_combinations_agree_with_plain_sums_across_blocks() {
        let (rows, width) = (3, 2 * BLOCK + 21);
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 8.0;
        let a: Vec<f32> = (0..rows * width).map(value).collect();
        let b: Vec<f32> = (0..rows * width).map(|i| value(i + 7)).collect();
        let product = products(&a, &b, rows);
        for (index, got) in product.iter().enumerate() {
            let (i, j) = (index / rows, index % rows);
            let want: f64 = (0..width).map(|k| f64::from(a[i * width + k]) * f64::from(b[j * width + k])).sum();
            assert_eq!(*got, want, "{i} {j}");
        }
        assert_eq!(gramian(rows, width, |i| &a[i * width..][..width]), products(&a, &a, rows));
        let mut out = vec![9.0];
        combine(&[1.0, -2.0, 0.5], width, |i| &a[i * width..][..width], &mut out);
        assert_eq!(out.len(), width);
        assert!((0..width).all(|k| out[k] == a[k] - 2.0 * a[width + k] + 0.5 * a[2 * width + k]));
    }
}
