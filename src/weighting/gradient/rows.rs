//! Arithmetic on rows of gradients, in passes that vectorise.

use crate::bail;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::rows::long_dot;

/// Columns treated at once, so that a block of every row stays in the cache.
const BLOCK: usize = 4096;

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
            let i = index / rows * width;
            let j = index % rows * width;
            *out += long_dot(&a[i + start..i + end], &b[j + start..j + end]);
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
            out[i * rows + j] += long_dot(&row(i)[start..end], &row(j)[start..end]);
            out[j * rows + i] = out[i * rows + j];
        }
    }
    out
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
    fn products_agree_with_plain_sums_across_blocks() {
        let rows = 3;
        let width = 2 * BLOCK + 21;
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 8.0;
        let a: Vec<f32> = (0..rows * width).map(value).collect();
        let b: Vec<f32> = (0..rows * width).map(|i| value(i + 7)).collect();
        let product = products(&a, &b, rows);
        for (index, got) in product.iter().enumerate() {
            let i = index / rows;
            let j = index % rows;
            let want: f64 = (0..width).map(|k| f64::from(a[i * width + k]) * f64::from(b[j * width + k])).sum();
            assert_eq!(*got, want, "{i} {j}");
        }
        assert_eq!(gramian(rows, width, |i| &a[i * width..][..width]), products(&a, &a, rows));
    }
}
