//! Loops over what corresponds between tasks, seen as rows of one matrix that lie anywhere in the flat parameters.

use super::{Piece, Stack};
use crate::machine::real::{LANES, Real};
use crate::machine::rows::dot;
use crate::vectorised;

/// Columns treated at once, so that all rows' parts stay in a near cache; no power of two, or rows of equal length would
/// share its sets.
pub const BLOCK: usize = 480;

vectorised! {
/// Copies the columns from `first` on of rows that begin at `starts` to a matrix in double precision.
pub fn widen<T: Real>(starts: &[usize], first: usize, flat: &[T], into: &mut [f64]) {
    let count = into.len() / starts.len().max(1);
    for (start, out) in starts.iter().zip(into.chunks_exact_mut(count.max(1))) {
        let row = &flat[start + first..][..count];
        for k in 0..count {
            out[k] = row[k].wide();
        }
    }
}
}

vectorised! {
/// Adds the products of the rows of a matrix with each other to `gramian`, `[rows, rows]`.
pub fn add_products(matrix: &[f64], rows: usize, gramian: &mut [f64]) {
    let size = matrix.len() / rows.max(1);
    for i in 0..rows {
        for j in (0..=i).step_by(4) {
            let others = std::array::from_fn(|k| &matrix[(j + k).min(i) * size..][..size]);
            let products = products(&matrix[i * size..][..size], others);
            for (k, product) in (j..=i).zip(products) {
                gramian[i * rows + k] += product;
                if k < i {
                    gramian[k * rows + i] += product;
                }
            }
        }
    }
}
}

/// `W . matrix W`, which is added to the gradient of `W`.
pub fn mix<T: Real>(stacks: &[Stack], matrix: &[f64], flat: &[T], mut gradient: Option<&mut [T]>) -> f64 {
    let mut total = 0.0;
    for stack in stacks {
        total += mix_rows(&stack.starts, stack.size, matrix, flat, gradient.as_deref_mut());
    }
    total
}

vectorised! {
/// For rows that begin at `starts`: adds `sum_s matrix[t, s] row_s` to the gradient of row `t`, and gives its product with
/// row `t`, summed over rows.
pub fn mix_rows<T: Real>(
    starts: &[usize],
    size: usize,
    matrix: &[f64],
    flat: &[T],
    gradient: Option<&mut [T]>,
) -> f64 {
    let mut gradient = gradient;
    let mut total = 0.0;
    for first in (0..size).step_by(BLOCK) {
        let count = (size - first).min(BLOCK);
        for (&to, weights) in starts.iter().zip(matrix.chunks_exact(starts.len().max(1))) {
            let mut mixed = [T::ZERO; BLOCK];
            let mixed = &mut mixed[..count];
            let (fours, rest) = starts.as_chunks::<4>();
            let (by_fours, by_rest) = weights.as_chunks::<4>();
            for (from, weights) in fours.iter().zip(by_fours) {
                let [a, b, c, d] = from.map(|start| &flat[start + first..][..count]);
                let [u, v, w, x] = weights.map(T::of);
                for k in 0..count {
                    mixed[k] += (u * a[k] + v * b[k]) + (w * c[k] + x * d[k]);
                }
            }
            for (start, &weight) in rest.iter().zip(by_rest) {
                let row = &flat[start + first..][..count];
                let weight = T::of(weight);
                for k in 0..count {
                    mixed[k] += weight * row[k];
                }
            }
            total += dot::<LANES, T>(mixed, &flat[to + first..][..count]).wide();
            if let Some(gradient) = gradient.as_mut() {
                let out = &mut gradient[to + first..][..count];
                for k in 0..count {
                    out[k] += mixed[k];
                }
            }
        }
    }
    total
}
}

vectorised! {
/// `factor * sum_t |w_t - mean|^2` of one stack, with its gradient.
pub fn spread<T: Real>(stack: &Stack, factor: f64, flat: &[T], gradient: Option<&mut [T]>) -> f64 {
    let mut gradient = gradient;
    let share = T::of(1.0 / stack.starts.len() as f64);
    let slope = T::of(2.0 * factor);
    let mut total = 0.0;
    for first in (0..stack.size).step_by(BLOCK) {
        let count = (stack.size - first).min(BLOCK);
        let mut mean = [T::ZERO; BLOCK];
        let mean = &mut mean[..count];
        for start in &stack.starts {
            let row = &flat[start + first..][..count];
            for k in 0..count {
                mean[k] += share * row[k];
            }
        }
        for start in &stack.starts {
            let row = &flat[start + first..][..count];
            total += distance(row, mean);
            if let Some(gradient) = gradient.as_mut() {
                let out = &mut gradient[start + first..][..count];
                for k in 0..count {
                    out[k] += slope * (row[k] - mean[k]);
                }
            }
        }
    }
    factor * total
}
}

vectorised! {
/// `sum_(s < t) factors[s, t] |w_s - w_t|^2` of one stack, with its gradient.
pub fn distances<T: Real>(stack: &Stack, factors: &[f64], flat: &[T], gradient: Option<&mut [T]>) -> f64 {
    let mut gradient = gradient;
    let tasks = stack.starts.len();
    let mut total = 0.0;
    for first in (0..stack.size).step_by(BLOCK) {
        let count = (stack.size - first).min(BLOCK);
        for t in 0..tasks {
            for s in 0..t {
                let factor = factors[s * tasks + t];
                if factor == 0.0 {
                    continue;
                }
                let places = [s, t].map(|task| stack.starts[task] + first..stack.starts[task] + first + count);
                let [a, b] = places.clone().map(|range| &flat[range]);
                total += factor * distance(a, b);
                if let Some(gradient) = gradient.as_mut() {
                    let slope = T::of(2.0 * factor);
                    let [p, q] = gradient.get_disjoint_mut(places).expect("tasks have parameters of their own");
                    for k in 0..count {
                        let step = slope * (a[k] - b[k]);
                        p[k] += step;
                        q[k] -= step;
                    }
                }
            }
        }
    }
    total
}
}

vectorised! {
/// Adds each column's sum of squares over all rows of all tasks.
pub fn column_squares<T: Real>(stack: &Stack, flat: &[T], sums: &mut [f64]) {
    let size = sums.len();
    for start in &stack.starts {
        for first in (*start..start + stack.size).step_by(size.max(1)) {
            let row = &flat[first..][..size];
            for k in 0..size {
                let x = row[k].wide();
                sums[k] += x * x;
            }
        }
    }
}
}

vectorised! {
/// Adds each column times its factor to the gradient.
pub fn scale_columns<T: Real>(stack: &Stack, factors: &[f64], flat: &[T], gradient: &mut [T]) {
    let size = factors.len();
    for start in &stack.starts {
        for first in (*start..start + stack.size).step_by(size.max(1)) {
            let row = &flat[first..][..size];
            let out = &mut gradient[first..][..size];
            for k in 0..size {
                out[k] += T::of(factors[k] * row[k].wide());
            }
        }
    }
}
}

vectorised! {
/// `factor * |A B^T|^2` (Frobenius) of two weights that read the same input, with its gradient.
pub fn overlap<T: Real>(pair: [&Piece; 2], factor: f64, flat: &[T], gradient: Option<&mut [T]>) -> f64 {
    let mut gradient = gradient;
    let [[rows, size], [others, _]] = pair.map(Piece::matrix);
    let mut total = 0.0;
    for i in 0..rows {
        for j in 0..others {
            let places = [pair[0].start + i * size, pair[1].start + j * size].map(|start| start..start + size);
            let [a, b] = places.clone().map(|range| &flat[range]);
            let product = dot::<LANES, T>(a, b);
            total += product.wide() * product.wide();
            if let Some(gradient) = gradient.as_mut() {
                let slope = T::of(2.0 * factor) * product;
                let [p, q] = gradient.get_disjoint_mut(places).expect("two pieces do not overlap");
                for k in 0..size {
                    p[k] += slope * b[k];
                    q[k] += slope * a[k];
                }
            }
        }
    }
    factor * total
}
}

/// `|a - b|^2`, in lanes.
#[inline(always)]
fn distance<T: Real>(a: &[T], b: &[T]) -> f64 {
    let (b, other) = b[..a.len()].as_chunks::<LANES>();
    let (a, rest) = a.as_chunks::<LANES>();
    let mut lanes = [T::ZERO; LANES];
    for (x, y) in a.iter().zip(b) {
        for l in 0..LANES {
            let step = x[l] - y[l];
            lanes[l] += step * step;
        }
    }
    let tail: f64 = rest.iter().zip(other).map(|(&x, &y)| ((x - y) * (x - y)).wide()).sum();
    lanes.iter().map(|lane| lane.wide()).sum::<f64>() + tail
}

/// The products of a row with four others, each in lanes that stay in registers.
#[inline(always)]
fn products(own: &[f64], others: [&[f64]; 4]) -> [f64; 4] {
    const WIDE: usize = LANES / 2;
    let (x, rest) = own.as_chunks::<WIDE>();
    let [p, q, r, s] = others.map(|row| row[..own.len()].as_chunks::<WIDE>());
    let [mut a, mut b, mut c, mut d] = [[0.0; WIDE]; 4];
    for ((((x, p), q), r), s) in x.iter().zip(p.0).zip(q.0).zip(r.0).zip(s.0) {
        for l in 0..WIDE {
            a[l] += x[l] * p[l];
        }
        for l in 0..WIDE {
            b[l] += x[l] * q[l];
        }
        for l in 0..WIDE {
            c[l] += x[l] * r[l];
        }
        for l in 0..WIDE {
            d[l] += x[l] * s[l];
        }
    }
    let tails = [p.1, q.1, r.1, s.1].map(|other| rest.iter().zip(other).map(|(x, y)| x * y).sum::<f64>());
    let sums = [a, b, c, d].map(|lanes| lanes.iter().sum::<f64>());
    std::array::from_fn(|k| sums[k] + tails[k])
}
