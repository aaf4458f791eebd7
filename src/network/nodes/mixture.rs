//! Sums of experts weighed by gates.

use serde_json::{Value, json};
use tch::Tensor;

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::machine::rows::dot;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::owner::Owner;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::network::{Network, ValueId};
use crate::parameters::Reach;
use crate::vectorised;

/// `y[g] = sum_j gates[g][:, j] * expert_j`, row by row; the experts of all sources in turn.
#[derive(Debug)]
pub struct Mixture {
    /// `[groups, rows, experts]`.
    pub gates: ValueId,
    /// Where experts come from.
    pub experts: Vec<Experts>,
    /// What it fills.
    pub output: ValueId,
}

/// Experts side by side in one value.
#[derive(Debug, Clone, Copy)]
pub struct Experts {
    /// `[experts, rows, width]`.
    pub value: ValueId,
    /// Whether every group of the gates weighs all of them; else each has a share of its own, in turn.
    pub common: bool,
}

struct MixtureKernel<T> {
    gates: Buffer<T>,
    sources: Vec<ExpertSource<T>>,
    y: Buffer<T>,
    owner: Owner,
    /// A weight for each group.
    weights: Vec<T>,
    passes: PerPass<Backward<T>>,
}

/// A value of experts, seen from the groups of the gates.
struct ExpertSource<T> {
    x: Buffer<T>,
    places: GateColumns,
}

/// Which expert of a source has which gate.
#[derive(Debug, Clone, Copy)]
struct GateColumns {
    /// The first column of the gates.
    first: usize,
    /// Experts for one group.
    count: usize,
    /// Distance between the experts of two groups.
    step: usize,
}

struct Backward<T> {
    dy: Buffer<T>,
    gates: Option<InputGradient<T>>,
    sources: Vec<Option<InputGradient<T>>>,
}

impl Node for Mixture {
    fn name(&self) -> &'static str {
        "Mixture"
    }

    fn inputs(&self) -> Vec<ValueId> {
        std::iter::once(self.gates).chain(self.experts.iter().map(|experts| experts.value)).collect()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        let common: Vec<_> = self.experts.iter().map(|experts| experts.common).collect();
        Some(json!({"common": common}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let gates = given.input(0);
        let (groups, rows, _) = sizes(gates);
        let mut first = 0;
        let mut sum: Option<Tensor> = None;
        for (experts, x) in self.experts.iter().zip(&given.inputs[1..]) {
            let (count, _, width) = sizes(x);
            let part = if experts.common {
                let of_rows = gates.narrow(2, first, count).transpose(0, 1);
                first += count;
                of_rows.matmul(&x.transpose(0, 1)).transpose(0, 1)
            } else {
                let own = count / groups;
                let weights = gates.narrow(2, first, own).transpose(1, 2).unsqueeze(3);
                first += own;
                (weights * x.reshape([groups, own, rows, width])).sum_dim_intlist(1_i64, false, given.kind())
            };
            sum = Some(sum.map_or(part.shallow_clone(), |sum| sum + &part));
        }
        Ok(sum.expect("a mixture has experts").into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        // An expert of one group only fills the lane of that group's task.
        let own = net.values[self.output].reach == Reach::Own;
        !self.experts.iter().any(|experts| !experts.common && own && net.values[experts.value].reach == Reach::All)
    }
}

impl<T: Real> Prepares<T> for Mixture {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let groups = at.net.values[self.output].groups;
        let mut first = 0;
        let mut sources = Vec::with_capacity(self.experts.len());
        for experts in &self.experts {
            let x = at.value(experts.value);
            let count = if experts.common { x.layout.groups } else { x.layout.groups / groups };
            let places = GateColumns { first, count, step: if experts.common { 0 } else { count } };
            first += count;
            sources.push(ExpertSource { x, places });
        }
        let passes = at.each_pass(|pass| {
            let sources = (1..=self.experts.len()).map(|k| at.leaving(k, pass)).collect();
            Ok(Backward { dy: at.arriving(self.output, pass), gates: at.leaving(0, pass), sources })
        })?;
        let gates = at.value(self.gates);
        let y = at.value(self.output);
        let owner = at.net.owner(self.output);
        let weights = Vec::with_capacity(groups);
        by_loops(MixtureKernel { gates, sources, y, owner, weights, passes })
    }
}

/// Calls `$body` with `$w` bound to a width that the compiler knows, or to 0 for one it does not.
macro_rules! with_width {
    ($width:expr, $w:ident => $body:expr) => {
        with_width!(@ $width, $w, $body, 4 8 16 32 64)
    };
    (@ $width:expr, $w:ident, $body:expr, $($known:literal)+) => {
        match $width {
            $($known => {
                const $w: usize = $known;
                $body
            })+
            _ => {
                const $w: usize = 0;
                $body
            }
        }
    };
}

impl<T: Real> Kernel for MixtureKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let layout = self.y.layout;
        let gates = &self.gates;
        for (k, ExpertSource { x, places }) in self.sources.iter().enumerate() {
            let gates = (gates.slice(), gates.layout.width);
            let x = x.slice();
            let y = self.y.slice_mut();
            with_width!(layout.width, W => mix::<T, W>(layout, *places, gates, x, y, k > 0));
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Backward { dy, gates: dgates, sources } = self.passes.of(pass);
        let layout = dy.layout;
        let columns = self.gates.layout.width;
        for (source, leaving) in self.sources.iter().zip(sources) {
            if let Some(InputGradient { buffer, mode, .. }) = dgates {
                let x = source.x.slice();
                let to = buffer.slice_mut();
                let add = *mode == Mode::Add;
                with_width!(layout.width, W => weigh::<T, W>(layout, source.places, dy.slice(), x, (to, columns), add));
            }
            let Some(dx) = leaving else { continue };
            let lanes = dx.buffer.layout.lanes;
            let mode = dx.mode;
            if source.places.step == 0 && lanes == 1 {
                self.weights.clear();
                for group in 0..layout.groups {
                    self.weights.push(dx.weight(step, self.owner.task(group)));
                }
                let to = dx.buffer.slice_mut();
                let gates = (self.gates.slice(), columns);
                let weights = &self.weights;
                let add = mode == Mode::Add;
                with_width!(layout.width, W => {
                    share_all::<T, W>(layout, source.places, gates, weights, dy.slice(), to, add)
                });
                continue;
            }
            for group in 0..layout.groups {
                let task = self.owner.task(group);
                let lane = (lanes != layout.lanes).then_some(task);
                // The first group writes experts that several share, in each lane; each group those of its own.
                let begins = group == 0 || (lane.is_some() && self.owner.task(group - 1) != task);
                let write = mode == Mode::Write && (begins || source.places.step > 0);
                let how = Share { group, lane, lanes, weight: dx.weight(step, task), write };
                let to = dx.buffer.slice_mut();
                let gates = (self.gates.slice(), columns);
                with_width!(layout.width, W => share::<T, W>(layout, source.places, how, gates, dy.slice(), to));
            }
        }
        Ok(())
    }
}

/// How one group's gradient goes to the experts.
#[derive(Clone, Copy)]
struct Share<T> {
    group: usize,
    /// The lane of the experts' gradient that it goes to, where they have more.
    lane: Option<usize>,
    /// Lanes of the experts' gradient.
    lanes: usize,
    weight: T,
    write: bool,
}

vectorised! {
/// `y[g] = sum_j gates[g, :, j] x_j`, or adds to it.
fn mix<T: Real, const W: usize>(
    layout: Layout,
    places: GateColumns,
    (gates, columns): (&[T], usize),
    x: &[T],
    y: &mut [T],
    add: bool,
) {
    let Layout { groups, rows, width, .. } = layout;
    let width = if W > 0 { W } else { width };
    for group in 0..groups {
        let own = group * places.step * rows * width;
        for row in 0..rows {
            let at = group * rows + row;
            let gates = &gates[at * columns + places.first..][..places.count];
            let y = &mut y[at * width..][..width];
            if !add {
                y.fill(T::ZERO);
            }
            for (j, &gate) in gates.iter().enumerate() {
                let x = &x[own + (j * rows + row) * width..][..width];
                for k in 0..width {
                    y[k] += gate * x[k];
                }
            }
        }
    }
}
}

vectorised! {
/// `dgates[g, :, j] = <dy[g], x_j>`, in every lane.
fn weigh<T: Real, const W: usize>(
    layout: Layout,
    places: GateColumns,
    dy: &[T],
    x: &[T],
    (to, columns): (&mut [T], usize),
    add: bool,
) {
    let Layout { groups, rows, lanes, width } = layout;
    let width = if W > 0 { W } else { width };
    for group in 0..groups {
        let own = group * places.step * rows * width;
        for row in 0..rows {
            for lane in 0..lanes {
                let at = (group * rows + row) * lanes + lane;
                let dy = &dy[at * width..][..width];
                let to = &mut to[at * columns + places.first..][..places.count];
                for (j, to) in to.iter_mut().enumerate() {
                    let x = &x[own + (j * rows + row) * width..][..width];
                    let sum = dot::<8, T>(dy, x);
                    *to = if add { *to + sum } else { sum };
                }
            }
        }
    }
}
}

vectorised! {
/// `dx_j = sum_g weights[g] gates[g, :, j] dy[g]`, or adds it: experts of all groups, one lane.
fn share_all<T: Real, const W: usize>(
    layout: Layout,
    places: GateColumns,
    (gates, columns): (&[T], usize),
    weights: &[T],
    dy: &[T],
    dx: &mut [T],
    add: bool,
) {
    let Layout { rows, width, .. } = layout;
    let width = if W > 0 { W } else { width };
    for (j, dx) in dx.chunks_exact_mut(rows * width).enumerate() {
        for (row, dx) in dx.chunks_exact_mut(width).enumerate() {
            if !add {
                dx.fill(T::ZERO);
            }
            for (group, &weight) in weights.iter().enumerate() {
                let at = group * rows + row;
                let gate = weight * gates[at * columns + places.first + j];
                let dy = &dy[at * width..][..width];
                for k in 0..width {
                    dx[k] += gate * dy[k];
                }
            }
        }
    }
}
}

vectorised! {
/// `dx_j = weight * gates[g, :, j] * dy[g]`, or adds it.
fn share<T: Real, const W: usize>(
    layout: Layout,
    places: GateColumns,
    how: Share<T>,
    (gates, columns): (&[T], usize),
    dy: &[T],
    dx: &mut [T],
) {
    let Layout { rows, lanes, width, .. } = layout;
    let width = if W > 0 { W } else { width };
    let Share { group, lane: into, lanes: all, weight, write } = how;
    for j in 0..places.count {
        let expert = group * places.step + j;
        for row in 0..rows {
            let gate = weight * gates[(group * rows + row) * columns + places.first + j];
            for lane in 0..lanes {
                let dy = &dy[((group * rows + row) * lanes + lane) * width..][..width];
                let to = into.unwrap_or(lane);
                let dx = &mut dx[((expert * rows + row) * all + to) * width..][..width];
                if write {
                    for k in 0..width {
                        dx[k] = gate * dy[k];
                    }
                } else {
                    for k in 0..width {
                        dx[k] += gate * dy[k];
                    }
                }
            }
        }
    }
}
}
