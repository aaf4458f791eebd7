//! What a node sees while its kernel is made.

use std::cell::OnceCell;
use std::marker::PhantomData;

use super::axis::{Link, ROWS};
use super::entrance::{Entrance, task_columns};
use super::fed::Fed;
use super::gradient::{Contributions, Slabs, Tiled};
use super::pass::{Pass, PerPass, Purpose, Step};
use super::positions::{PlaceTensors, Places, Positions};
use super::{InputId, Network, ValueId};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::{Cell, Real};
use crate::machine::storage::Storage;
use crate::parameters::flat::Params;
use crate::parameters::touched::SparseGradient;
use crate::parameters::{Param, ParamId, Reach, TaskId};

/// What a node sees while its kernel is made.
#[derive(Debug)]
pub struct Prepare<'a, T> {
    /// The network.
    pub net: &'a Network,
    /// Index of the node.
    pub node: usize,
    pub(super) purpose: Purpose,
    pub(super) params: &'a Params<T>,
    pub(super) values: &'a [Storage<T>],
    /// Of inputs of codes.
    pub(super) codes: &'a [Option<Storage<i32>>],
    pub(super) positions: &'a Positions,
    pub(super) gradients: &'a [Vec<Option<Storage<T>>>; 2],
    pub(super) fed: &'a OnceCell<Fed>,
    pub(super) contributions: &'a [Option<Contributions>; 2],
    pub(super) slabs: Option<&'a Slabs<T>>,
}

/// A value's gradient, as one of the nodes that contribute to it sees it: memory of the host for loops, of any device for
/// formulas.
#[derive(Debug)]
pub(crate) struct InputGradient<T, B = Buffer<T>> {
    /// The memory.
    pub buffer: B,
    /// Whether this node replaces or adds.
    pub mode: Mode,
    /// Whether this pass weighs what goes there: a task's gradient enters a value that all tasks reach.
    pub enters: bool,
    /// Of which numbers.
    pub of: PhantomData<T>,
}

impl<T, B> InputGradient<T, B> {
    /// A task's factor on what goes there.
    #[inline(always)]
    pub fn weight<F: Real>(&self, step: &Step<'_>, task: TaskId) -> F {
        if self.enters { step.weight(task) } else { F::ONE }
    }

    /// Whether there are such factors in this step.
    pub fn is_weighed(&self, step: &Step<'_>) -> bool {
        self.enters && !step.weights.is_empty()
    }
}

/// A parameter's gradient: `[groups, lanes, size of a group]`; memory as of [`InputGradient`].
#[derive(Debug)]
pub(crate) struct ParamGradient<T, B = Buffer<T>> {
    /// The memory.
    pub buffer: B,
    mode: Mode,
    /// Whether it is a part of the flat gradient, not a slab.
    flat: bool,
    of: PhantomData<T>,
}

/// Memory of the host.
fn host<T: Cell>(storage: Storage<T>) -> Buffer<T> {
    match storage {
        Storage::Host(buffer) => buffer,
        Storage::Away(_) => unreachable!("a plan asks for loops where memory is the host's alone"),
    }
}

impl<T, B> ParamGradient<T, B> {
    /// Whether this node replaces or adds in a step.
    pub fn mode(&self, step: &Step<'_>) -> Mode {
        if self.flat && step.accumulate { Mode::Add } else { self.mode }
    }
}

impl<T: Real> Prepare<'_, T> {
    /// A value.
    pub(crate) fn value(&self, id: ValueId) -> Buffer<T> {
        host(self.value_anywhere(id))
    }

    /// The same on any device.
    pub(super) fn value_anywhere(&self, id: ValueId) -> Storage<T> {
        self.values[id].share()
    }

    /// The codes of an input of codes, `[rows, columns]`.
    pub(crate) fn codes(&self, input: InputId) -> Buffer<i32> {
        host(self.codes_anywhere(input))
    }

    /// The same on any device.
    pub(super) fn codes_anywhere(&self, input: InputId) -> Storage<i32> {
        self.codes[input].as_ref().expect("an input of codes").share()
    }

    /// Where the positions of a link are.
    pub(crate) fn places(&self, link: Link) -> Places {
        self.positions.places(link).expect("a plan asks for loops where memory is the host's alone")
    }

    /// The same on any device.
    pub(super) fn place_tensors(&self, link: Link) -> Result<PlaceTensors> {
        self.positions.tensors(link)
    }

    /// The gradient that arrives at a value in a pass.
    pub(crate) fn arriving(&self, id: ValueId, pass: Pass) -> Buffer<T> {
        host(self.arriving_anywhere(id, pass))
    }

    /// The same on any device.
    pub(super) fn arriving_anywhere(&self, id: ValueId, pass: Pass) -> Storage<T> {
        self.gradients[pass as usize][id]
            .as_ref()
            .expect("a node's output learns if its inputs or parameters do")
            .share()
    }

    /// The gradient of this node's `k`-th input; none if nothing upstream learns.
    pub(crate) fn leaving(&self, k: usize, pass: Pass) -> Option<InputGradient<T>> {
        let InputGradient { buffer, mode, enters, of } = self.leaving_anywhere(k, pass)?;
        Some(InputGradient { buffer: host(buffer), mode, enters, of })
    }

    /// The same on any device.
    pub(super) fn leaving_anywhere(&self, k: usize, pass: Pass) -> Option<InputGradient<T, Storage<T>>> {
        let id = self.input(k);
        let mode = self.contributions[pass as usize].as_ref()?.inputs[self.node][k];
        let buffer = self.gradients[pass as usize][id].as_ref()?.share();
        Some(InputGradient { buffer, mode, enters: pass == Pass::Summed && self.enters(k), of: PhantomData })
    }

    /// Whether this node's output belongs to single tasks while its `k`-th input is reached by all.
    pub fn entrance(&self, k: usize) -> Option<Entrance> {
        let output = self.net.ops[self.node].output();
        self.enters(k).then(|| Entrance::new(task_columns(self.net, output, 1)))
    }

    /// Whether this node's output belongs to single tasks while an input is reached by all.
    pub(super) fn enters_any(&self) -> bool {
        (0..self.net.ops[self.node].inputs().len()).any(|k| self.enters(k))
    }

    fn enters(&self, k: usize) -> bool {
        let from = self.net.values[self.net.ops[self.node].output()].reach;
        let to = self.net.values[self.input(k)].reach;
        to == Reach::All && from != Reach::All
    }

    fn input(&self, k: usize) -> ValueId {
        self.net.ops[self.node].inputs()[k]
    }

    /// A parameter.
    pub(crate) fn param(&self, id: ParamId) -> Result<Buffer<T>> {
        self.param_anywhere(id).map(host)
    }

    /// The same on any device.
    pub(super) fn param_anywhere(&self, id: ParamId) -> Result<Storage<T>> {
        self.params.values.part(self.net.params[id].range.start, self.layout_of(id))
    }

    /// The layout of a parameter, and of its flat gradient.
    fn layout_of(&self, id: ParamId) -> Layout {
        let Param { groups, ref range, .. } = self.net.params[id];
        Layout { groups, rows: 1, lanes: 1, width: range.len() / groups }
    }

    /// Whether this node's `k`-th parameter learns.
    pub fn learns(&self, k: usize) -> bool {
        self.net.params[self.net.ops[self.node].params()[k]].learns
    }

    /// The gradient of this node's `k`-th parameter; of a frozen one in memory that nobody reads.
    pub(crate) fn param_gradient(&self, k: usize, pass: Pass) -> Result<ParamGradient<T>> {
        let ParamGradient { buffer, mode, flat, of } = self.param_gradient_anywhere(k, pass)?;
        Ok(ParamGradient { buffer: host(buffer), mode, flat, of })
    }

    /// The same on any device.
    pub(super) fn param_gradient_anywhere(&self, k: usize, pass: Pass) -> Result<ParamGradient<T, Storage<T>>> {
        let id = self.net.ops[self.node].params()[k];
        let layout = self.layout_of(id);
        if !self.net.params[id].learns {
            let arriving = self.gradients[pass as usize][self.net.ops[self.node].output()].as_ref();
            let lanes = arriving.map_or(1, |arriving| arriving.layout().lanes);
            let buffer = Storage::zeros(Layout { lanes, ..layout }, self.params.backend())?;
            return Ok(ParamGradient { buffer, mode: Mode::Write, flat: false, of: PhantomData });
        }
        let mode = self.contributions[pass as usize]
            .as_ref()
            .map_or(Mode::Write, |contributions| contributions.params[self.node][k]);
        if let (Pass::PerTask, Some(buffer)) = (pass, self.slabs.and_then(|slabs| slabs.of(id))) {
            return Ok(ParamGradient { buffer, mode, flat: false, of: PhantomData });
        }
        let buffer = self.params.gradients.part(self.net.params[id].range.start, layout)?;
        Ok(ParamGradient { buffer, mode, flat: true, of: PhantomData })
    }

    /// The gradient of a sparse table, where this pass brings it: one that keeps no Jacobian leaves it to the summed pass
    /// that follows.
    pub fn sparse_gradient(&self, id: ParamId, pass: Pass) -> Option<SparseGradient<T>> {
        let kept = pass == Pass::Summed || self.slabs.is_some_and(Slabs::kept);
        self.params.tables[id].as_ref().filter(|_| kept).map(SparseGradient::share)
    }

    /// How to work through the slab of this node's `k`-th parameter in tiles, if this pass should.
    pub(crate) fn tiled(&self, k: usize, pass: Pass) -> Result<Option<Tiled>> {
        Ok(self.tiled_anywhere(k, pass)?.map(|Tiled { gramian, size, halves }| Tiled {
            gramian: host(gramian),
            size,
            halves,
        }))
    }

    /// The same on any device.
    pub(super) fn tiled_anywhere(&self, k: usize, pass: Pass) -> Result<Option<Tiled<Storage<f64>>>> {
        let id = self.net.ops[self.node].params()[k];
        self.slabs.filter(|_| pass == Pass::PerTask).map_or(Ok(None), |slabs| slabs.tiled(id))
    }

    /// A piece of the flat state.
    pub(crate) fn state(&self, offset: usize, groups: usize, width: usize) -> Result<Buffer<T>> {
        self.params.state.part(offset, Layout { groups, rows: 1, lanes: 1, width }).map(host)
    }

    /// The flat state.
    pub(super) fn whole_state(&self) -> Storage<T> {
        self.params.state.share()
    }

    /// Whether a value is of positions: there may be room beyond the last one.
    pub fn is_of_positions(&self, id: ValueId) -> bool {
        self.net.values[id].axis != ROWS
    }

    /// Scratch memory of a value's layout.
    pub(crate) fn scratch(&self, id: ValueId) -> Result<Buffer<T>> {
        Buffer::zeros(self.values[id].layout())
    }

    /// Whether a group of statistics of the flat state is frozen.
    pub fn state_is_frozen(&self, offset: usize) -> bool {
        self.net.entries.iter().any(|entry| entry.param.is_none() && entry.range.start == offset && entry.frozen)
    }

    /// Makes something for each pass of this plan that comes through this node: none if its output does not learn.
    pub fn each_pass<V>(&self, make: impl Fn(Pass) -> Result<V>) -> Result<PerPass<V>> {
        let mut passes = PerPass([None, None]);
        for pass in [Pass::Summed, Pass::PerTask] {
            if self.runs(pass) {
                passes.0[pass as usize] = Some(make(pass)?);
            }
        }
        Ok(passes)
    }

    /// Whether a pass of this plan comes through this node.
    fn runs(&self, pass: Pass) -> bool {
        let output = self.net.ops[self.node].output();
        self.purpose.passes().contains(&pass)
            && (pass == Pass::Summed || self.purpose.reaches(self.net, output))
            && self.net.values[output].learns
    }
}
