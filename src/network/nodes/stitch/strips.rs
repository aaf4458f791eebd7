//! Parts of groups in memory, and sums and products over them.

use crate::machine::buffer::Layout;
use crate::machine::real::{LANES, Real};
use crate::vectorised;

/// A part of one lane of a group, some rows of it: row `r` at `start + r * stride`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip {
    pub start: usize,
    stride: usize,
    len: usize,
}

/// Where a strip lies in a value or its gradient.
#[derive(Debug, Clone, Copy)]
pub(super) struct StripPlace {
    pub group: usize,
    pub lane: usize,
    /// Which of the equal parts of the width.
    pub part: usize,
    /// How many of them there are.
    pub parts: usize,
    /// Its first row.
    pub first: usize,
}

impl Strip {
    pub(super) fn new(layout: Layout, place: StripPlace) -> Self {
        let Layout { rows, lanes, width, .. } = layout;
        let StripPlace { group, lane, part, parts, first } = place;
        let len = width / parts;
        let stride = lanes * width;
        Self { start: (group * rows * lanes + lane) * width + part * len + first * stride, stride, len }
    }

    /// Two strips of so many rows as one row each, where both have no gaps.
    pub(super) fn pair(self, other: Self, rows: usize) -> (Self, Self, usize) {
        if self.stride > self.len || other.stride > other.len {
            return (self, other, rows);
        }
        let long = |strip: Self| Self { len: strip.len * rows, ..strip };
        (long(self), long(other), 1)
    }
}

vectorised! {
/// `y = sum_j a[j] x_j`, or adds it, over strips of one shape: `x_j` starts at `starts[j]`.
pub(super) fn add_up<T: Real>(
    (to, from, rows): (Strip, Strip, usize),
    y: &mut [T],
    x: &[T],
    starts: &[usize],
    a: &[T],
    add: bool,
) {
    for row in 0..rows {
        let y = &mut y[to.start + row * to.stride..][..to.len];
        let mut at = 0;
        for y in y.chunks_mut(LANES) {
            if let Ok(y) = <&mut [T; LANES]>::try_from(&mut *y) {
                let mut sum = if add { *y } else { [T::ZERO; LANES] };
                for (&start, &a) in starts.iter().zip(a) {
                    let x = &x[start + row * from.stride + at..][..LANES];
                    for k in 0..LANES {
                        sum[k] += a * x[k];
                    }
                }
                *y = sum;
            } else {
                if !add {
                    y.fill(T::ZERO);
                }
                for (&start, &a) in starts.iter().zip(a) {
                    let x = &x[start + row * from.stride + at..][..y.len()];
                    for k in 0..y.len() {
                        y[k] += a * x[k];
                    }
                }
            }
            at += LANES;
        }
    }
}
}

vectorised! {
/// `y = a x` or `y += a x` over two strips.
pub(super) fn add_times<T: Real>((to, from, rows): (Strip, Strip, usize), y: &mut [T], x: &[T], a: T, add: bool) {
    for row in 0..rows {
        let y = &mut y[to.start + row * to.stride..][..to.len];
        let x = &x[from.start + row * from.stride..][..to.len];
        if add {
            for k in 0..y.len() {
                y[k] += a * x[k];
            }
        } else {
            for k in 0..y.len() {
                y[k] = a * x[k];
            }
        }
    }
}
}

vectorised! {
/// The sum of products of two strips, each row's added up in lanes.
pub(super) fn product<T: Real>((one, other, rows): (Strip, Strip, usize), a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let mut rest = T::ZERO;
    for row in 0..rows {
        let a = &a[one.start + row * one.stride..][..one.len];
        let b = &b[other.start + row * other.stride..][..one.len];
        let whole = one.len / LANES * LANES;
        let mut at = 0;
        while at < whole {
            for l in 0..LANES {
                lanes[l] += a[at + l] * b[at + l];
            }
            at += LANES;
        }
        for k in whole..one.len {
            rest += a[k] * b[k];
        }
    }
    lanes.into_iter().fold(rest, |sum, lane| sum + lane)
}
}
