//! How gradients go back from a node's output to one of its inputs: in which lanes, with which weights.

use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::owner::Owner;
use crate::network::pass::{Pass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::parameters::Reach;
use crate::vectorised;

/// The way back to one input in one pass.
pub(super) struct Route<T> {
    dx: InputGradient<T>,
    owner: Owner,
    /// All tasks, if they reach both ends.
    shared: Option<usize>,
}

impl<T: Real> Route<T> {
    /// To the node's `k`-th input; none if nothing upstream learns.
    pub(super) fn new(at: &Prepare<'_, T>, k: usize, pass: Pass) -> Option<Self> {
        let op = &at.net.ops[at.node];
        let shared = [op.inputs()[k], op.output()].iter().all(|&value| at.net.values[value].reach == Reach::All);
        Some(Self {
            dx: at.leaving(k, pass)?,
            owner: at.net.owner(op.output()),
            shared: shared.then(|| at.net.tasks()),
        })
    }

    /// Whether the input's gradient is to be added to.
    pub(super) fn adds(&self) -> bool {
        self.dx.mode == Mode::Add
    }

    /// Gives back `scale * dy * slopes`, row by row, of an output of width 1.
    fn give(&mut self, step: &Step<'_>, dy: &Buffer<T>, slopes: &[T], scale: T) {
        let Layout { groups, rows, lanes: to, width } = self.dx.buffer.layout;
        let from = dy.layout.lanes;
        let add = self.adds();
        for group in 0..groups {
            let task = self.owner.task(group);
            let scale = if self.dx.enters { scale * step.weight(task) } else { scale };
            let lanes = Lanes { first: if to == from { 0 } else { task }, count: from, all: to };
            let dy = &dy.slice()[group * rows * from..][..rows * from];
            let slopes = &slopes[group * rows * width..][..rows * width];
            let dx = &mut self.dx.buffer.slice_mut()[group * rows * to * width..][..rows * to * width];
            spread((lanes, width), scale, dy, slopes, dx, add);
        }
    }

    /// Gives back `dy * slopes`, number by number, of an output of the input's width; without slopes `dy`.
    pub(super) fn give_each(&mut self, step: &Step<'_>, dy: &Buffer<T>, slopes: Option<&[T]>) {
        let Layout { groups, rows, lanes: to, width } = self.dx.buffer.layout;
        let from = dy.layout.lanes;
        let add = self.adds();
        for group in 0..groups {
            let task = self.owner.task(group);
            let scale = if self.dx.enters { step.weight(task) } else { T::ONE };
            let lanes = Lanes { first: if to == from { 0 } else { task }, count: from, all: to };
            let dy = &dy.slice()[group * rows * from * width..][..rows * from * width];
            let slopes = slopes.map(|slopes| &slopes[group * rows * width..][..rows * width]);
            let dx = &mut self.dx.buffer.slice_mut()[group * rows * to * width..][..rows * to * width];
            spread_each((lanes, width), scale, dy, slopes, dx, add);
        }
    }

    /// Gives back a term's gradient `scale * slopes` at an input of width 1: to the lane of the task that owns it, and in
    /// equal parts to all lanes where all tasks reach both ends, so that the sum over lanes is the term's gradient.
    pub(super) fn give_term(&mut self, step: &Step<'_>, pass: Pass, slopes: &[T], scale: T, add: bool) {
        let Layout { groups, rows, lanes: all, .. } = self.dx.buffer.layout;
        for group in 0..groups {
            let task = self.owner.task(group);
            let (lanes, part) = match self.shared {
                Some(tasks) => (Lanes { first: 0, count: all, all }, step.part(tasks, pass)),
                None => {
                    let first = if all > 1 { task } else { 0 };
                    (Lanes { first, count: 1, all }, self.dx.weight(step, task))
                }
            };
            let dx = &mut self.dx.buffer.slice_mut()[group * rows * all..][..rows * all];
            place(lanes, scale * part, &slopes[group * rows..][..rows], dx, add);
        }
    }
}

/// The ways back from an output of width 1 to two inputs.
pub(super) struct Fork<T> {
    dy: Buffer<T>,
    routes: [Option<Route<T>>; 2],
}

impl<T: Real> Fork<T> {
    /// None if nothing upstream learns.
    pub(super) fn new(at: &Prepare<'_, T>, output: ValueId, pass: Pass) -> Option<Self> {
        let routes = [0, 1].map(|k| Route::new(at, k, pass));
        at.net.values[output].learns.then(|| Self { dy: at.arriving(output, pass), routes })
    }

    /// Gives back `scale * dy * slopes` to each input, row by row.
    pub(super) fn give(&mut self, step: &Step<'_>, slopes: [&[T]; 2], scale: T) {
        for (route, slopes) in self.routes.iter_mut().zip(slopes) {
            if let Some(route) = route {
                route.give(step, &self.dy, slopes, scale);
            }
        }
    }
}

/// Lanes `first..first + count` of so many.
#[derive(Clone, Copy)]
struct Lanes {
    first: usize,
    count: usize,
    all: usize,
}

vectorised! {
/// `dx = scale * dy * slopes`, row by row, or adds it.
fn spread<T: Real>((lanes, width): (Lanes, usize), scale: T, dy: &[T], slopes: &[T], dx: &mut [T], add: bool) {
    let Lanes { first, count, all } = lanes;
    if width * all == 1 {
        for ((dx, &dy), &slope) in dx.iter_mut().zip(dy).zip(slopes) {
            let d = scale * dy * slope;
            *dx = if add { *dx + d } else { d };
        }
        return;
    }
    for (row, slopes) in slopes.chunks_exact(width).enumerate() {
        for lane in 0..count {
            let d = scale * dy[row * count + lane];
            let dx = &mut dx[(row * all + first + lane) * width..][..width];
            if add {
                for k in 0..width {
                    dx[k] += d * slopes[k];
                }
            } else {
                for k in 0..width {
                    dx[k] = d * slopes[k];
                }
            }
        }
    }
}
}

vectorised! {
/// `dx = scale * dy * slopes`, number by number, or adds it; without slopes they are 1.
fn spread_each<T: Real>(
    (lanes, width): (Lanes, usize),
    scale: T,
    dy: &[T],
    slopes: Option<&[T]>,
    dx: &mut [T],
    add: bool,
) {
    let Lanes { first, count, all } = lanes;
    for row in 0..dy.len() / (count * width).max(1) {
        for lane in 0..count {
            let dy = &dy[(row * count + lane) * width..][..width];
            let dx = &mut dx[(row * all + first + lane) * width..][..width];
            if !add {
                dx.fill(T::ZERO);
            }
            match slopes {
                Some(slopes) => {
                    let slopes = &slopes[row * width..][..width];
                    for k in 0..width {
                        dx[k] += scale * dy[k] * slopes[k];
                    }
                }
                None => {
                    for k in 0..width {
                        dx[k] += scale * dy[k];
                    }
                }
            }
        }
    }
}
}

vectorised! {
/// `dx = scale * slopes` in some lanes, or adds it.
fn place<T: Real>(lanes: Lanes, scale: T, slopes: &[T], dx: &mut [T], add: bool) {
    let Lanes { first, count, all } = lanes;
    for (dx, &slope) in dx.chunks_exact_mut(all).zip(slopes) {
        for dx in &mut dx[first..first + count] {
            *dx = if add { *dx + scale * slope } else { scale * slope };
        }
    }
}
}
