//! A linear layer a member of an ensemble.

use std::ops::Range;

use serde_json::{Value, json};

use super::activation::Activation;
use super::segments::add_up;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel::{Disjoint, split, threads};
use crate::machine::product::Mode;
use crate::machine::real::{LANES, Real};
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::entrance::Entrance;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::owner::Owner;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};
use crate::parameters::ParamId;
use crate::vectorised;

/// `y = act(x W^T + b)`, where each member has weights and biases of its own.
#[derive(Debug)]
pub struct MemberLinear {
    /// What it reads: of members, or of rows, which all members see.
    pub input: ValueId,
    /// What it fills, of members.
    pub output: ValueId,
    /// How many members.
    pub members: usize,
    /// `[members, out, in]`, or `[groups, members, out, in]`.
    pub weight: ParamId,
    /// `[members, out]`, or `[groups, members, out]`.
    pub bias: ParamId,
    /// Applied to the sum.
    pub activation: Option<Activation>,
    /// From rows to members, if it reads rows.
    pub link: Option<Link>,
}

impl Node for MemberLinear {
    fn name(&self) -> &'static str {
        "MemberLinear"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"members": self.members, "spread": self.link.is_some(), "activation": self.activation}))
    }

    fn along(&self) -> Vec<Link> {
        self.link.into_iter().collect()
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let (groups, _, inner) = sizes(given.input(0));
        let members = self.members as i64;
        let each = if self.link.is_some() { 1 } else { members };
        let x = given.input(0).reshape([groups, -1, each, inner]).transpose(1, 2);
        let weight = given.grouped(0, &[groups, members, -1, inner]);
        let bias = given.grouped(1, &[groups, members, 1, -1]);
        let y = (x.matmul(&weight.transpose(2, 3)) + bias).transpose(1, 2);
        let width = y.size()[3];
        let y = y.reshape([groups, -1, width]);
        Ok(self.activation.map_or(y.shallow_clone(), |activation| activation.formula(&y)).into())
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.weight, self.bias]
    }
}

/// Most outputs of a member for which loops beat products: heads have few.
const NARROW: usize = 16;

/// Sizes that loops go through.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Rows of the batch.
    rows: usize,
    members: usize,
    inner: usize,
    outer: usize,
}

/// Few outputs of many members, without activation.
struct NarrowKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    shape: Shape,
    weight: Buffer<T>,
    bias: Buffer<T>,
    owner: Owner,
    entrance: Option<Entrance>,
    /// Room for each thread's sums.
    room: Vec<T>,
    passes: PerPass<Backward<T>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    dx: Option<InputGradient<T>>,
    weight: ParamGradient<T>,
    bias: ParamGradient<T>,
}

impl<T: Real> Prepares<T> for MemberLinear {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let x = at.value(self.input);
        let y = at.value(self.output);
        let Layout { rows, width: outer, .. } = y.layout;
        if outer > NARROW || self.activation.is_some() || self.link.is_some() {
            return Ok(None);
        }
        let members = self.members;
        let passes = at.each_pass(|pass| {
            let weight = at.param_gradient(0, pass)?;
            let bias = at.param_gradient(1, pass)?;
            Ok(Backward { dy: at.arriving(self.output, pass), dx: at.leaving(0, pass), weight, bias })
        })?;
        by_loops(NarrowKernel {
            shape: Shape { rows: rows / members, members, inner: x.layout.width, outer },
            x,
            y,
            weight: at.param(self.weight)?,
            bias: at.param(self.bias)?,
            owner: at.net.owner(self.output),
            entrance: at.entrance(0),
            room: Vec::new(),
            passes,
        })
    }
}

impl<T: Real> Kernel for NarrowKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let shape = self.shape;
        let x = self.x.slice();
        let weight = self.weight.slice();
        let bias = self.bias.slice();
        let size = shape.members * shape.outer;
        let groups = self.y.layout.groups;
        let y = Disjoint::new(self.y.slice_mut());
        split(groups * shape.rows, x.len(), &|_, rows| {
            // SAFETY: each thread has rows of its own.
            let y = unsafe { y.part(rows.start * size..rows.end * size) };
            products(shape, rows.start, x, weight, bias, y);
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let shape = self.shape;
        let Shape { rows, members, inner, outer } = shape;
        let owner = self.owner;
        let back = self.passes.of(pass);
        let Layout { groups, lanes, .. } = back.dy.layout;
        let numbers = self.x.layout.len() * lanes;
        let [of_weight, of_bias] = [inner * outer, outer].map(|size| groups * lanes * members * size);
        self.room.clear();
        self.room.resize(threads(numbers) * (of_weight + of_bias), T::ZERO);
        let x = self.x.slice();
        let room = Disjoint::new(&mut self.room);
        let dy = back.dy.slice();
        split(groups * rows, numbers, &|thread, rows| {
            let start = thread * (of_weight + of_bias);
            // SAFETY: each thread has a place for its sums of its own.
            let own = unsafe { room.part(start..start + of_weight + of_bias) };
            let (weight, bias) = own.split_at_mut(of_weight);
            sums(shape, rows, lanes, dy, x, weight, bias);
        });
        for (slab, of) in [(&mut back.weight, 0..of_weight), (&mut back.bias, of_weight..of_weight + of_bias)] {
            let threads = self.room.chunks_exact((of_weight + of_bias).max(1));
            add_up(slab, step, threads.map(|own| &own[of.clone()]));
        }
        let Some(dx) = &mut back.dx else { return Ok(()) };
        if let (Pass::Summed, Some(entrance)) = (pass, &self.entrance) {
            entrance.weigh(step, back.dy.layout, back.dy.slice_mut());
        }
        let dy = back.dy.slice();
        let weight = self.weight.slice();
        let to = dx.buffer.layout.lanes;
        let add = dx.mode == Mode::Add;
        let size = members * to * inner;
        let places = Disjoint::new(dx.buffer.slice_mut());
        split(groups * rows, numbers, &|_, range| {
            // SAFETY: each thread has rows of its own.
            let dx = unsafe { places.part(range.start * size..range.end * size) };
            // Lane by lane, or from the one lane into that of the task.
            let into = |row: usize| if lanes == to { 0 } else { owner.task(row / rows) };
            let first = range.start;
            for (i, dx) in dx.chunks_exact_mut(size).enumerate() {
                let row = first + i;
                give_back(shape, row, [lanes, to, into(row)], dy, weight, dx, add);
            }
        });
        Ok(())
    }
}

/// The product of two vectors, in lanes that vectorise.
#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).fold(T::ZERO, |sum, (&a, &b)| sum + a * b);
    for (a, b) in a.zip(b) {
        for k in 0..LANES {
            lanes[k] += a[k] * b[k];
        }
    }
    lanes.into_iter().fold(rest, |sum, lane| sum + lane)
}

vectorised! {
/// `y = x W^T + b` of rows from `first` on.
fn products<T: Real>(shape: Shape, first: usize, x: &[T], weight: &[T], bias: &[T], y: &mut [T]) {
    let Shape { rows, members, inner, outer } = shape;
    for (i, y) in y.chunks_exact_mut(outer).enumerate() {
        let at = first * members + i;
        let own = at / (rows * members) * members + at % members;
        let x = &x[at * inner..][..inner];
        for (o, y) in y.iter_mut().enumerate() {
            *y = bias[own * outer + o] + dot(x, &weight[(own * outer + o) * inner..][..inner]);
        }
    }
}
}

vectorised! {
/// Adds what these rows give of the gradients of weight and bias, `[groups, lanes, members, ...]`.
fn sums<T: Real>(
    shape: Shape,
    range: Range<usize>,
    lanes: usize,
    dy: &[T],
    x: &[T],
    weight: &mut [T],
    bias: &mut [T],
) {
    let Shape { rows, members, inner, outer } = shape;
    for at in range.start * members..range.end * members {
        let x = &x[at * inner..][..inner];
        for lane in 0..lanes {
            let own = (at / (rows * members) * lanes + lane) * members + at % members;
            for o in 0..outer {
                let d = dy[(at * lanes + lane) * outer + o];
                let weight = &mut weight[(own * outer + o) * inner..][..inner];
                bias[own * outer + o] += d;
                for j in 0..inner {
                    weight[j] += d * x[j];
                }
            }
        }
    }
}
}

vectorised! {
/// The gradient of one row's input, `[members, lanes, inner]`: of all `lanes`, or of one into the lane `into` of several.
fn give_back<T: Real>(
    shape: Shape,
    row: usize,
    lanes: [usize; 3],
    dy: &[T],
    weight: &[T],
    dx: &mut [T],
    add: bool,
) {
    let Shape { rows, members, inner, outer } = shape;
    let [from, to, into] = lanes;
    for member in 0..members {
        let own = row / rows * members + member;
        for lane in 0..from {
            let dy = &dy[((row * members + member) * from + lane) * outer..][..outer];
            let dx = &mut dx[(member * to + into + lane) * inner..][..inner];
            for (o, &d) in dy.iter().enumerate() {
                let weight = &weight[(own * outer + o) * inner..][..inner];
                if o == 0 && !add {
                    for j in 0..inner {
                        dx[j] = d * weight[j];
                    }
                } else {
                    for j in 0..inner {
                        dx[j] += d * weight[j];
                    }
                }
            }
        }
    }
}
}
