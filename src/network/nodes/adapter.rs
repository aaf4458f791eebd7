//! Adapters: what each member of an ensemble has for itself beside weights that all share (Wen, Tran & Ba, BatchEnsemble, ICLR
//! 2020).

use std::ops::Range;

use serde_json::{Value, json};

use super::activation::{Activated, Activation, Pointwise};
use super::segments::add_up;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel::{Disjoint, split, threads};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};
use crate::parameters::ParamId;
use crate::{vectorised, with_activation};

/// `y = act(x * scale + bias)`, where each member has a scale and a bias of its own for each column.
#[derive(Debug)]
pub struct Adapter {
    /// What it reads: of members, or of rows, which all members see.
    pub input: ValueId,
    /// What it fills, of members.
    pub output: ValueId,
    /// How many members.
    pub members: usize,
    /// `[members, width]`, or `[groups, members, width]`.
    pub scale: ParamId,
    /// The same, if there is one.
    pub bias: Option<ParamId>,
    /// Applied to the sum.
    pub activation: Option<Activation>,
    /// From rows to members, if it reads rows.
    pub link: Option<Link>,
}

impl Node for Adapter {
    fn name(&self) -> &'static str {
        "Adapter"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({
            "members": self.members,
            "spread": self.link.is_some(),
            "bias": self.bias.is_some(),
            "activation": self.activation,
        }))
    }

    fn along(&self) -> Vec<Link> {
        self.link.into_iter().collect()
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let (groups, _, width) = sizes(given.input(0));
        let members = self.members as i64;
        let each = if self.link.is_some() { 1 } else { members };
        let x = given.input(0).reshape([groups, -1, each, width]);
        let y = x * given.grouped(0, &[groups, 1, members, width]);
        let y = if self.bias.is_some() { y + given.grouped(1, &[groups, 1, members, width]) } else { y };
        let y = y.reshape([groups, -1, width]);
        Ok(self.activation.map_or(y.shallow_clone(), |activation| activation.formula(&y)).into())
    }

    fn params(&self) -> Vec<ParamId> {
        std::iter::once(self.scale).chain(self.bias).collect()
    }
}

/// Sizes that loops go through.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Rows of the batch.
    rows: usize,
    members: usize,
    width: usize,
    /// Members that have a row of the input: all, or one for all.
    given: usize,
}

struct AdapterKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    shape: Shape,
    scale: Buffer<T>,
    bias: Option<Buffer<T>>,
    activation: Option<Activation>,
    /// The argument of the activation, where its slope needs it.
    kept: Option<Buffer<T>>,
    /// Room for each thread's sums.
    room: Vec<T>,
    passes: PerPass<Backward<T>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    dx: Option<InputGradient<T>>,
    /// Of the scale, then of the bias.
    slabs: Vec<ParamGradient<T>>,
}

impl<T: Real> Prepares<T> for Adapter {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let x = at.value(self.input);
        let y = at.value(self.output);
        let members = self.members;
        let Layout { rows, width, .. } = y.layout;
        let given = if self.link.is_some() { 1 } else { members };
        let kept = self.activation.is_some_and(Activation::keeps).then(|| at.scratch(self.output)).transpose()?;
        let passes = at.each_pass(|pass| {
            let slabs = (0..self.params().len()).map(|k| at.param_gradient(k, pass)).collect::<Result<_>>()?;
            Ok(Backward { dy: at.arriving(self.output, pass), dx: at.leaving(0, pass), slabs })
        })?;
        by_loops(AdapterKernel {
            x,
            y,
            shape: Shape { rows: rows / members, members, width, given },
            scale: at.param(self.scale)?,
            bias: self.bias.map(|bias| at.param(bias)).transpose()?,
            activation: self.activation,
            kept,
            room: Vec::new(),
            passes,
        })
    }
}

impl<T: Real> Kernel for AdapterKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let shape = self.shape;
        let Layout { groups, .. } = self.y.layout;
        let size = shape.members * shape.width;
        let numbers = self.y.layout.len();
        let x = self.x.slice();
        let scale = self.scale.slice();
        let bias = self.bias.as_ref().map(Buffer::slice);
        let y = Disjoint::new(self.y.slice_mut());
        let kept = self.kept.as_mut().map(|kept| Disjoint::new(kept.slice_mut()));
        let activation = self.activation;
        split(groups * shape.rows, numbers, &|_, rows| {
            let range = rows.start * size..rows.end * size;
            // SAFETY: each thread has rows of its own.
            let (y, kept) = unsafe { (y.part(range.clone()), kept.as_ref().map(|kept| kept.part(range))) };
            with_activation!(activation, S => adapt::<T, S>(shape, rows.start, x, [scale, bias.unwrap_or(&[])], y, kept));
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let shape = self.shape;
        let Layout { groups, lanes, .. } = self.passes.of(pass).dy.layout;
        let size = lanes * shape.members * shape.width;
        let numbers = groups * shape.rows * size;
        let y = self.y.slice();
        let activated = Activated { x: self.kept.as_ref().map_or(y, |kept| kept.slice()), y };
        let x = self.x.slice();
        let scale = self.scale.slice();
        let activation = self.activation;
        let back = self.passes.of(pass);
        let slabs = back.slabs.len();
        let sums = groups * size;
        self.room.clear();
        self.room.resize(threads(numbers) * slabs * sums, T::ZERO);
        let room = Disjoint::new(&mut self.room);
        let dy = back.dy.slice();
        let add = back.dx.as_ref().is_some_and(|dx| dx.mode == Mode::Add);
        let dx = back.dx.as_mut().map(|dx| Disjoint::new(dx.buffer.slice_mut()));
        let of_input = lanes * shape.given * shape.width;
        split(groups * shape.rows, numbers, &|thread, rows| {
            // SAFETY: each thread has rows, and a place for its sums, of its own.
            let (own, dx) = unsafe {
                (
                    room.part(thread * slabs * sums..(thread + 1) * slabs * sums),
                    dx.as_ref().map(|dx| dx.part(rows.start * of_input..rows.end * of_input)),
                )
            };
            let (of_scale, of_bias) = own.split_at_mut(sums);
            let arriving = Arriving { lanes, dy, x, activated, scale };
            with_activation!(activation, S => give_back::<T, S>(shape, rows, arriving, dx, add, [of_scale, of_bias]));
        });
        for (k, slab) in back.slabs.iter_mut().enumerate() {
            let threads = self.room.chunks_exact((slabs * sums).max(1));
            add_up(slab, step, threads.map(|own| &own[k * sums..(k + 1) * sums]));
        }
        Ok(())
    }
}

vectorised! {
/// `y = act(x * scale + bias)` for rows from `first` on; no bias where that is empty.
fn adapt<T: Real, S: Pointwise>(
    shape: Shape,
    first: usize,
    x: &[T],
    own: [&[T]; 2],
    y: &mut [T],
    kept: Option<&mut [T]>,
) {
    let [scale, bias] = own;
    let Shape { rows, members, width, given } = shape;
    let size = members * width;
    let mut kept = kept;
    for (i, y) in y.chunks_exact_mut(size).enumerate() {
        let row = first + i;
        let at = row / rows * size;
        for member in 0..members {
            let x = &x[(row * given + member.min(given - 1)) * width..][..width];
            let scale = &scale[at + member * width..][..width];
            let y = &mut y[member * width..][..width];
            if bias.is_empty() {
                for j in 0..width {
                    y[j] = x[j] * scale[j];
                }
            } else {
                let bias = &bias[at + member * width..][..width];
                for j in 0..width {
                    y[j] = x[j] * scale[j] + bias[j];
                }
            }
            if let Some(kept) = &mut kept {
                kept[i * size + member * width..][..width].copy_from_slice(y);
            }
            for y in y {
                *y = S::value(*y);
            }
        }
    }
}
}

/// What arrives, `[rows, members, lanes, width]`, and what the forward left.
#[derive(Clone, Copy)]
struct Arriving<'a, T> {
    lanes: usize,
    dy: &'a [T],
    x: &'a [T],
    activated: Activated<'a, T>,
    scale: &'a [T],
}

vectorised! {
/// The gradient of [`adapt`], of these rows: that of scale and bias is added, `[groups, lanes, members, width]`.
fn give_back<T: Real, S: Pointwise>(
    shape: Shape,
    range: Range<usize>,
    arriving: Arriving<'_, T>,
    dx: Option<&mut [T]>,
    add: bool,
    own: [&mut [T]; 2],
) {
    let Shape { rows, members, width, given } = shape;
    let Arriving { lanes, dy, x, activated, scale } = arriving;
    let [of_scale, of_bias] = own;
    let mut dx = dx;
    for (i, row) in range.enumerate() {
        let group = row / rows;
        for member in 0..members {
            let of = member.min(given - 1);
            let from = (row * members + member) * width;
            let z = &activated.x[from..from + width];
            let y = &activated.y[from..from + width];
            let x = &x[(row * given + of) * width..][..width];
            let scale = &scale[(group * members + member) * width..][..width];
            for lane in 0..lanes {
                let dy = &dy[from * lanes + lane * width..][..width];
                let to = ((group * lanes + lane) * members + member) * width;
                let of_scale = &mut of_scale[to..to + width];
                if of_bias.is_empty() {
                    for j in 0..width {
                        of_scale[j] += dy[j] * S::slope(z[j], y[j]) * x[j];
                    }
                } else {
                    let of_bias = &mut of_bias[to..to + width];
                    for j in 0..width {
                        let d = dy[j] * S::slope(z[j], y[j]);
                        of_scale[j] += d * x[j];
                        of_bias[j] += d;
                    }
                }
                if let Some(dx) = &mut dx {
                    let dx = &mut dx[((i * given + of) * lanes + lane) * width..][..width];
                    let keep = add || member > of;
                    for j in 0..width {
                        dx[j] = if keep { dx[j] } else { T::ZERO } + dy[j] * S::slope(z[j], y[j]) * scale[j];
                    }
                }
            }
        }
    }
}
}
