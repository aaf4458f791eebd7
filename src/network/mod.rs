//! The network as a static list of nodes over values, with flat parameters and three backwards.

pub mod axis;
mod blocks;
pub mod builder;
mod described;
pub mod differentiated;
pub mod entrance;
mod fed;
pub mod formula;
pub mod gradient;
pub mod node;
pub mod nodes;
pub mod owner;
pub mod pass;
pub mod plan;
pub mod positions;
pub mod prepare;
mod recorded;
pub mod representation;

use std::ops::Range;
use std::sync::Arc;

use crate::parameters;
use crate::parameters::{Entry, Param, ParamId, Reach, TaskId};
pub use axis::{Axis, AxisId, ROWS};
use node::Node;
use owner::Owner;

/// Index of a value.
pub type ValueId = usize;
/// Index of an input.
pub type InputId = usize;

/// What a network is given of each batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Whose rows it has.
    pub axis: AxisId,
    /// What it consists of.
    pub kind: InputKind,
}

/// What an input consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// Real numbers, which fill a value.
    Real(ValueId),
    /// Codes, `[rows, columns]`: the number of categories of each column.
    Codes(Vec<usize>),
}

/// What flows between nodes: `[rows, width]`, or `[groups, rows, width]` for equal networks side by side; rows of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What its rows are.
    pub axis: AxisId,
    /// Equal networks side by side; 1 for an ordinary value.
    pub groups: usize,
    /// Numbers a row.
    pub width: usize,
    /// Which tasks' gradients arrive here.
    pub reach: Reach,
    /// Whether a gradient is wanted: something learnable lies upstream.
    pub learns: bool,
    /// With [`Reach::Columns`], the columns of each task.
    pub columns: Vec<Range<usize>>,
}

/// Where one task's raw outputs stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The value.
    pub value: ValueId,
    /// The group within it.
    pub group: usize,
    /// The columns within that.
    pub columns: Range<usize>,
}

/// A node that is code of the caller's own.
#[derive(Debug)]
pub struct ForeignNode<'a> {
    /// Where it stands.
    pub path: String,
    /// Where the first of those stands that start from the same numbers; its own path if it is that.
    pub like: String,
    /// Its parameters, then its buffers.
    pub entries: Vec<&'a Entry>,
}

/// Something inside that users want to see: gates, or how tasks' features are mixed.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// What it is: `gates`, or the path of a stitch.
    pub name: String,
    /// Where its numbers are.
    pub source: Source,
    /// What its groups are: tasks mostly.
    pub rows: Vec<String>,
    /// What its columns are: experts, or where features come from.
    pub columns: Vec<String>,
    /// How many columns, the first, are each row's own: experts of single tasks.
    pub own: usize,
}

/// Where a view's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In a value `[groups, rows, columns]`: gates, which differ from row to row of the data.
    Value(ValueId),
    /// In a parameter `[groups, columns]`: how features are mixed.
    Mix(ParamId),
    /// In a parameter `[groups, columns]` whose softmax says what is chosen how often while training.
    Choice(ParamId),
}

/// A finished network: nodes in forward order, and everything a plan needs to know of them.
#[derive(Debug)]
pub struct Network {
    /// What rows of values are; first the rows of the batch.
    pub axes: Vec<Axis>,
    /// What it is given of each batch.
    pub inputs: Vec<Input>,
    /// What flows between nodes.
    pub values: Vec<Value>,
    /// The nodes in forward order.
    pub ops: Vec<Arc<dyn Node>>,
    /// The parameters.
    pub params: Vec<Param>,
    /// Named pieces of parameters, then of state.
    pub entries: Vec<Entry>,
    /// Start values of the flat state (batch-norm statistics).
    pub state: Vec<f64>,
    /// Where each task's raw outputs stand.
    pub outputs: Vec<Output>,
    /// Where what each task's loss judges stands: mostly these.
    pub judged: Vec<Output>,
    /// Tasks whose labels nodes are shown, and the inputs of codes by which.
    pub shown: Vec<(TaskId, InputId)>,
    /// The last value that all tasks reach.
    pub representation: ValueId,
    /// What there is to see.
    pub views: Vec<View>,
    /// How often what is frozen has changed.
    pub freezes: u64,
}

impl Network {
    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.outputs.len()
    }

    /// Numbers or codes a row of an input.
    pub fn width_of(&self, input: InputId) -> usize {
        match &self.inputs[input].kind {
            InputKind::Real(value) => self.values[*value].width,
            InputKind::Codes(columns) => columns.len(),
        }
    }

    /// Where frozen pieces of parameters stand, but for sparse tables.
    pub fn frozen(&self) -> Vec<Range<usize>> {
        let pieces = self.dense_entries().filter(|entry| entry.frozen);
        pieces.map(|entry| entry.range.clone()).collect()
    }

    /// Named pieces of parameters, but for sparse tables.
    fn dense_entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.param.is_some_and(|param| !self.params[param].sparse))
    }

    /// Where frozen pieces of the flat state start.
    pub fn frozen_state(&self) -> Vec<usize> {
        let pieces = self.entries.iter().filter(|entry| entry.param.is_none() && entry.frozen);
        pieces.map(|entry| entry.range.start).collect()
    }

    /// Which task each group of a value belongs to.
    pub fn owner(&self, value: ValueId) -> Owner {
        let Value { reach, groups, .. } = self.values[value];
        Owner::new(reach, groups, self.tasks())
    }

    /// Settles which pieces are frozen: `frozen` says so of each.
    pub fn freeze(&mut self, frozen: impl Fn(&Entry) -> bool) {
        for entry in &mut self.entries {
            entry.frozen = frozen(entry);
        }
        self.freezes += 1;
        self.settle();
    }

    /// Finds out what learns: parameters of which a piece is not frozen, and all values behind them.
    fn settle(&mut self) {
        self.params.iter_mut().for_each(|param| param.learns = false);
        for (entry, param) in self.entries.iter().filter_map(|entry| Some((entry, entry.param?))) {
            self.params[param].learns |= !entry.frozen;
        }
        for op in &self.ops {
            let upstream = op.inputs().into_iter().any(|x| self.values[x].learns);
            self.values[op.output()].learns = upstream || op.params().into_iter().any(|p| self.params[p].learns);
        }
    }

    /// The frozen pieces of a parameter that learns elsewhere, as ranges of the flat buffers.
    pub fn frozen_pieces(&self, param: ParamId) -> impl Iterator<Item = Range<usize>> + '_ {
        let pieces = self.entries.iter().filter(move |entry| entry.param == Some(param) && entry.frozen);
        pieces.filter(move |_| self.params[param].learns).map(|entry| entry.range.clone())
    }

    /// The nodes that are code of the caller's own.
    pub fn foreign(&self) -> Vec<ForeignNode<'_>> {
        let mut found: Vec<(Option<u64>, ForeignNode<'_>)> = Vec::new();
        for op in &self.ops {
            let Some(code) = op.foreign() else { continue };
            let params = op.params();
            let of_param = |&id: &ParamId| self.entries.iter().filter(move |entry| entry.param == Some(id));
            let mut entries: Vec<_> = params.iter().flat_map(of_param).collect();
            let of_piece = |at| self.entries.iter().find(move |entry| entry.param.is_none() && entry.range.start == at);
            entries.extend(code.buffers.iter().filter_map(|piece| of_piece(piece.start)));
            let stream = params.first().map(|&id| self.params[id].start.stream as u64);
            let first = found.iter().find(|(known, _)| stream.is_some() && *known == stream);
            let like = first.map_or_else(|| code.path.to_owned(), |(_, node)| node.path.clone());
            found.push((stream, ForeignNode { path: code.path.to_owned(), like, entries }));
        }
        found.into_iter().map(|(_, node)| node).collect()
    }

    /// Size of the flat parameter buffer, padding included.
    pub fn size(&self) -> usize {
        parameters::size(&self.params)
    }

    /// Size of the flat gradient: of all parameters but sparse tables, which stand behind them.
    pub fn dense(&self) -> usize {
        parameters::dense(&self.params)
    }

    /// Names of the terms that nodes add to the objective; terms of one name are one.
    pub fn terms(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for name in self.ops.iter().flat_map(|op| op.terms()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The index of the first node behind the representation.
    pub fn behind(&self) -> usize {
        self.ops.iter().position(|op| op.output() > self.representation).unwrap_or(self.ops.len())
    }

    /// Whether the tasks' gradients enter shared values at the representation alone.
    pub fn meets_at_representation(&self) -> bool {
        let values = &self.values;
        let entrances = self.ops.iter().filter(|op| values[op.output()].reach != Reach::All).flat_map(|op| op.inputs());
        let mut shared = entrances.filter(|&x| values[x].reach == Reach::All && values[x].learns);
        values[self.representation].learns && shared.all(|x| x == self.representation)
    }

    /// Most outputs of linear heads whose products are cheaper than the gradients at the representation.
    const FEW: usize = 512;

    /// The node of few linear heads over the representation, all in one product and without activation, if there is one.
    pub fn linear_heads(&self) -> Option<&dyn Node> {
        let value = self.outputs.first()?.value;
        let fused = self.outputs.iter().all(|o| o.value == value) && self.values[value].reach == Reach::Columns;
        if !fused || self.values[value].width > Self::FEW {
            return None;
        }
        let node = self.ops.iter().find(|op| op.output() == value)?;
        let plain = node.multiplies().is_some() && node.affine() && node.inputs() == [self.representation];
        plain.then_some(node.as_ref())
    }

    /// The parameters that the per-task backward is about: those all tasks reach; if there are none (one network a
    /// task), all but the heads. Frozen ones and sparse tables are not among them.
    pub fn shared(&self) -> Vec<ParamId> {
        let dense: Vec<ParamId> = (0..self.params.len()).filter(|&p| !self.params[p].sparse).collect();
        let any = dense.iter().any(|&p| self.params[p].reach == Reach::All);
        let about = |param: &Param| match any {
            true => param.reach == Reach::All,
            false => param.reach == Reach::Own || param.side_by_side,
        };
        dense.into_iter().filter(|&p| about(&self.params[p]) && self.params[p].learns).collect()
    }
}
