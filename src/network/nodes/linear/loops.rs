//! The loops of a linear layer beside its products: bias, activation, and what they hand back.

use std::ops::Range;

use crate::machine::buffer::Layout;
use crate::machine::parallel::{Disjoint, split, threads};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::entrance::TaskColumns;
use crate::network::nodes::activation::{Activated, Pointwise};
use crate::vectorised;

/// What arrives at narrow columns of many tasks, `[rows, outer]`, and the weight that gave them, `[outer, inner]`.
#[derive(Clone, Copy)]
pub(super) struct Arriving<'a, T> {
    pub dy: &'a [T],
    pub outer: usize,
    pub weight: &'a [T],
}

vectorised! {
/// `dx[row, task] = sum over the task's columns of dy[row, column] W[column]` for rows from `first` on; the layout is `dx`'s.
pub(super) fn spread<T: Real>(
    layout: Layout,
    first: usize,
    pieces: &[TaskColumns],
    arriving: Arriving<'_, T>,
    dx: &mut [T],
    mode: Mode,
) {
    let Arriving { dy, outer, weight } = arriving;
    let Layout { lanes, width, .. } = layout;
    for (row, dx) in dx.chunks_exact_mut(lanes * width).enumerate() {
        let start = (first + row) * outer;
        for piece in pieces {
            let dx = &mut dx[piece.task * width..][..width];
            for column in piece.columns.clone() {
                let d = dy[start + column];
                let own = &weight[column * width..][..width];
                if mode == Mode::Write && column == piece.columns.start {
                    for j in 0..width {
                        dx[j] = d * own[j];
                    }
                } else {
                    for j in 0..width {
                        dx[j] += d * own[j];
                    }
                }
            }
        }
    }
}
}

vectorised! {
/// Adds the bias and applies the activation, in one pass over `y`.
pub(super) fn shift<T: Real, S: Pointwise>(layout: Layout, y: &mut [T], kept: Option<&mut [T]>, bias: &[T]) {
    let Layout { rows, width, .. } = layout;
    let Some(kept) = kept else {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            let bias = &bias[i / rows * width..][..width];
            for j in 0..width {
                y[j] = S::value(y[j] + bias[j]);
            }
        }
        return;
    };
    for (i, (y, z)) in y.chunks_exact_mut(width).zip(kept.chunks_exact_mut(width)).enumerate() {
        let bias = &bias[i / rows * width..][..width];
        for j in 0..width {
            z[j] = y[j] + bias[j];
            y[j] = S::value(z[j]);
        }
    }
}
}

vectorised! {
/// As [`shift`], from the layout of a product of several layers, `[groups, rows, layers * out]`; the layout is `y`'s.
pub(super) fn shift_apart<T: Real, S: Pointwise>(
    layout: Layout,
    layers: usize,
    wide: &[T],
    y: &mut [T],
    kept: Option<&mut [T]>,
    bias: &[T],
) {
    let mut kept = kept;
    let Layout { groups, rows, width, .. } = layout;
    for group in 0..groups {
        let from = group / layers * rows;
        let layer = group % layers;
        let bias = &bias[group * width..][..width];
        for row in 0..rows {
            let x = &wide[((from + row) * layers + layer) * width..][..width];
            let at = (group * rows + row) * width;
            let y = &mut y[at..at + width];
            if let Some(kept) = &mut kept {
                let z = &mut kept[at..at + width];
                for j in 0..width {
                    z[j] = x[j] + bias[j];
                }
            }
            for j in 0..width {
                y[j] = S::value(x[j] + bias[j]);
            }
        }
    }
}
}

vectorised! {
/// As [`scale_by_slope`], into the layout of a product of several layers, `[groups, rows, lanes, layers * out]`, which is `layout`.
pub(super) fn scale_by_slope_together<T: Real, S: Pointwise>(
    layout: Layout,
    layers: usize,
    first: usize,
    activated: Activated<'_, T>,
    dy: &[T],
    to: &mut [T],
    bias: &mut [T],
) {
    let Activated { x, y } = activated;
    let Layout { rows, lanes, width: whole, .. } = layout;
    let width = whole / layers;
    for (i, to) in to.chunks_exact_mut(whole).enumerate() {
        let at = first + i / lanes;
        let lane = i % lanes;
        let group = at / rows;
        let row = at % rows;
        let bias = &mut bias[(group * lanes + lane) * whole..][..whole];
        for layer in 0..layers {
            let from = (group * layers + layer) * rows + row;
            let x = &x[from * width..][..width];
            let y = &y[from * width..][..width];
            let dy = &dy[(from * lanes + lane) * width..][..width];
            let to = &mut to[layer * width..][..width];
            let bias = &mut bias[layer * width..][..width];
            for j in 0..width {
                to[j] = dy[j] * S::slope(x[j], y[j]);
                bias[j] += to[j];
            }
        }
    }
}
}

vectorised! {
/// Takes the gradient of rows from `first` on back through the activation in place, and adds it to the bias's gradient.
pub(super) fn scale_by_slope<T: Real, S: Pointwise>(
    layout: Layout,
    first: usize,
    activated: Activated<'_, T>,
    dy: &mut [T],
    bias: &mut [T],
) {
    let Activated { x, y } = activated;
    let Layout { rows, lanes, width, .. } = layout;
    for (i, dy) in dy.chunks_exact_mut(width).enumerate() {
        let row = first + i / lanes;
        let slot = row / rows * lanes + i % lanes;
        let x = &x[row * width..][..width];
        let y = &y[row * width..][..width];
        let bias = &mut bias[slot * width..][..width];
        for j in 0..width {
            dy[j] = dy[j] * S::slope(x[j], y[j]);
            bias[j] += dy[j];
        }
    }
}
}

/// The bias's gradient, which each thread adds up by itself and the first takes together.
pub(super) fn by_rows<T: Real>(
    layout: Layout,
    bias: &mut [T],
    mode: Mode,
    room: &mut Vec<T>,
    body: &(dyn Fn(Range<usize>, &mut [T]) + Sync),
) {
    let numbers = layout.len();
    if mode == Mode::Write {
        bias.fill(T::ZERO);
    }
    let size = bias.len();
    room.clear();
    room.resize((threads(numbers) - 1) * size, T::ZERO);
    let own = Disjoint::new(bias);
    let others = Disjoint::new(room);
    split(layout.groups * layout.rows, numbers, &|thread, rows| {
        // SAFETY: the bias is the first thread's, and every other one has a place of its own.
        let sums =
            unsafe { if thread == 0 { own.part(0..size) } else { others.part((thread - 1) * size..thread * size) } };
        body(rows, sums);
    });
    for sums in room.chunks_exact(size.max(1)) {
        for (bias, &sum) in bias.iter_mut().zip(sums) {
            *bias += sum;
        }
    }
}
