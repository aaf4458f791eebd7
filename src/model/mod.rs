//! The network, its parameters and its description.

mod at_once;
pub mod columns;
pub mod described_inputs;
pub mod description;
mod files;
mod freezing;
mod gradients;
pub mod inspection;
mod kept;
mod labels;
mod lending;
pub(crate) mod summary;
pub mod workspace;

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use description::{Description, Own};
pub use gradients::Jacobian;

use crate::bail;
use crate::data::{Asked, Data, Field, Rows};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::head::{Feature, Head, Target};
use crate::input::{ArrayInput, Category, Inputs, PositionInputs, columns};
use crate::loss::Together;
use crate::machine::storage::Backend;
use crate::meter::Meter;
use crate::model::description::Parts;
use crate::model::kept::Kept;
use crate::model::workspace::Workspace;
use crate::network::axis::Extents;
use crate::network::builder::{Builder, Limit};
use crate::network::node::Node;
use crate::network::nodes::embedding;
use crate::network::pass::{Purpose, Step};
use crate::network::{Network, ROWS, ValueId};
use crate::parameters::Entry;
use crate::parameters::flat::Params;
use crate::parameters::path::part;
use crate::regularizer::Relation;
use crate::sharing::{Context, Sharing};
use crate::task::Task;
use crate::{head, sharing};

/// Called between two batches: a look at the outside world, which may end the call.
pub type Look<'a> = &'a mut dyn FnMut() -> Result<()>;

/// A multi-task model: description, network, parameters.
#[derive(Debug)]
pub struct Model {
    /// The tasks in order.
    pub tasks: Vec<Task>,
    /// The network.
    pub net: Network,
    /// Its parameters.
    pub(crate) params: Params<f32>,
    /// The memory of the host that it had first: that of views, and of `params` unless the model is on another device.
    home: Params<f32>,
    /// What a training learned of how the tasks are related.
    pub relation: Option<Relation>,
    parts: Parts,
    /// Notes of the caller's own.
    notes: Value,
    limit: Limit,
    /// Those that nobody uses. Each of several threads that read the model has one of its own.
    workspaces: Mutex<Kept>,
}

/// Where parameters of embedded numbers stand.
const NUMBERS: &str = "embedding.numeric";

/// The network of a model: embeddings of the given widths, encoders wired by a sharing scheme, heads.
///
/// # Errors
/// Parts that do not fit each other.
pub fn assemble(
    inputs: &Inputs,
    widths: &[usize],
    tasks: &[Task],
    encoder: &dyn Encoder,
    sharing: &dyn Sharing,
    head: &dyn Head,
    limit: Limit,
) -> Result<Network> {
    let (mut net, targets) = trunk(inputs, widths, tasks, encoder, sharing, limit)?;
    let outputs = head.build(&mut net, &targets)?;
    for (j, (output, task)) in sharing.outputs(&mut net, outputs, tasks)?.into_iter().zip(tasks).enumerate() {
        let path = head::own::path(&task.name);
        let [predicted, judged] = match task.loss.together() {
            Some(Together::Chain) => net.chain(&path, j, &output)?,
            Some(Together::List) => [output.clone(), net.list(&path, j, &output)?],
            Some(Together::Tree) | None => [output.clone(), output],
        };
        net.output(predicted.value, predicted.group, predicted.columns);
        net.judged(j, judged);
    }
    net.finish()
}

/// What comes before the heads, and what they have to fill.
fn trunk(
    inputs: &Inputs,
    widths: &[usize],
    tasks: &[Task],
    encoder: &dyn Encoder,
    sharing: &dyn Sharing,
    limit: Limit,
) -> Result<(Builder, Vec<Target>)> {
    let columns: Vec<_> = inputs.columns().iter().map(|column| column.count).collect();
    let mut net = Builder::new(inputs.numeric, &columns).serving(tasks.len()).within(limit);
    let numbers = match inputs.embed {
        Some(embed) => net.embedded_numeric(NUMBERS, embed)?,
        None => net.numeric(),
    };
    let x = net.features_after(numbers, &tables(&inputs.categorical, widths));
    let x = with_arrays(&mut net, x, &inputs.arrays)?;
    let x = match inputs.positions.first() {
        Some(positions) => features_of_positions(&mut net, positions, x)?,
        None => x,
    };
    let parts = Context { x, encoder, tasks };
    sharing::check_taps(&parts, sharing)?;
    let mut features = sharing.build(&mut net, &parts)?;
    for (j, (task, feature)) in tasks.iter().zip(&mut features).enumerate() {
        // A task of rows enters what it shares with tasks of positions through a pool of its own.
        if task.per.is_none() && net.value(feature.value).axis != ROWS && net.members_of(feature.value).is_none() {
            let path = format!("{}.attention", head::own::path(&task.name));
            let reach = sharing.head_reach(j, tasks.len());
            let own = feature.alone(&mut net, reach);
            *feature = Feature { value: net.pool(&path, own, encoder.pool(), reach)?, group: 0 };
        }
    }
    let target = |(j, (task, &features)): (usize, (&Task, &Feature))| Target {
        path: head::own::path(&task.name),
        features,
        width: task.width(),
        reach: sharing.head_reach(j, tasks.len()),
        pairing: task.pairing,
    };
    let targets = tasks.iter().zip(&features).enumerate().map(target).collect();
    Ok((net, targets))
}

/// The tables of categorical features.
fn tables(categorical: &[Category], widths: &[usize]) -> Vec<embedding::Feature> {
    let table = |(category, &width): (&Category, &usize)| {
        let &Category { bag, sparse, unseen, .. } = category;
        embedding::Feature { width, bag, sparse, unseen }
    };
    categorical.iter().zip(widths).map(table).collect()
}

/// Features of rows, and after them arrays, flat.
fn with_arrays(net: &mut Builder, features: ValueId, arrays: &[ArrayInput]) -> Result<ValueId> {
    let arrays: Vec<_> = arrays.iter().map(|array| net.real_input(&array.name, ROWS, array.width())).collect();
    let there = net.value(features).width > 0;
    let all: Vec<_> = there.then_some(features).into_iter().chain(arrays).collect();
    match all[..] {
        [] => Ok(features),
        [one] => Ok(one),
        _ => net.concat(&all),
    }
}

/// What positions have, and beside it what their row has.
fn features_of_positions(net: &mut Builder, positions: &PositionInputs, of_rows: ValueId) -> Result<ValueId> {
    let PositionInputs { name, numeric, categorical, widths } = positions;
    let axis = net.positions(name);
    let numbers = net.real_input(&positions.numbers(), axis, *numeric);
    let counts: Vec<_> = columns(categorical).iter().map(|column| column.count).collect();
    let codes = net.code_input(&positions.codes(), axis, &counts);
    let tables = tables(categorical, widths);
    let paths: Vec<_> = (0..tables.len()).map(|j| format!("embedding.{}.{j}", part(name))).collect();
    let own = if tables.is_empty() { numbers } else { net.embedding(&paths, numbers, codes, &tables) };
    if net.value(of_rows).width == 0 {
        return Ok(own);
    }
    let spread = net.spread(of_rows, axis)?;
    net.concat(&[own, spread])
}

impl Model {
    /// Builds the network that a description asks for, with new parameters.
    ///
    /// # Errors
    /// Parts that do not fit each other.
    pub fn new(description: Description) -> Result<Self> {
        Self::within(Limit::default(), description)
    }

    /// The same of a model that is not larger than the limit.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn within(limit: Limit, description: Description) -> Result<Self> {
        let Description { tasks, parts, frozen, notes } = description;
        let net = parts.network(&tasks, parts.sharing.as_ref(), limit)?;
        let params = Params::new(&net.params, &net.state, parts.seed)?;
        let workspaces = Mutex::default();
        let home = params.seen_by(Backend::Loops)?;
        let mut model = Self { tasks, net, params, home, relation: None, parts, notes, limit, workspaces };
        model.freeze_only(&frozen)?;
        model.bring_to(model.of_processor())?;
        Ok(model)
    }

    /// The description with every default filled in, as [`Description::of`] reads it.
    pub fn describe(&self) -> Value {
        let mut whole = self.parts.describe();
        whole["face"] = self.notes.clone();
        whole["tasks"] = self.tasks.iter().map(Task::describe).collect();
        whole["frozen"] = self.frozen().into();
        whole
    }

    /// Replaces the notes of the caller's own in the description.
    pub fn set_notes(&mut self, notes: Value) {
        self.notes = notes;
    }

    /// How many parameters a model that is made of this one may have.
    pub fn max_parameters(&self) -> usize {
        if self.limit.of_file { self.limit.numbers.max(Limit::NUMBERS) } else { self.limit.numbers }
    }

    /// Number and kinds of features.
    pub fn inputs(&self) -> &Inputs {
        &self.parts.inputs
    }

    /// Raw outputs a row, for each task.
    pub fn widths(&self) -> Vec<usize> {
        self.tasks.iter().map(Task::width).collect()
    }

    /// Predicted numbers a row, for each task.
    pub fn predicted_widths(&self) -> Vec<usize> {
        self.tasks.iter().map(Task::predicted_width).collect()
    }

    /// Named parameters, then named state.
    pub fn entries(&self) -> &[Entry] {
        &self.net.entries
    }

    /// An entry's numbers: where they are, or fetched from another device.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn entry(&self, index: usize) -> Result<Cow<'_, [f32]>> {
        let entry = &self.net.entries[index];
        let flat = if entry.param.is_some() { &self.params.values } else { &self.params.state };
        flat.numbers(entry.range.clone())
    }

    /// Where an entry stands in the host's memory, from which it never moves while the model lives; none on another device.
    pub fn place(&self, index: usize) -> Option<&[f32]> {
        let Self { net, home, .. } = self;
        let entry = &net.entries[index];
        let flat = if entry.param.is_some() { &home.values } else { &home.state };
        flat.host().filter(|_| self.backend().on_processor()).map(|flat| &flat.slice()[entry.range.clone()])
    }

    /// An entry as a tensor over its memory.
    ///
    /// # Errors
    /// What libtorch refuses.
    #[cfg(feature = "python")]
    pub(crate) fn tensor(&self, index: usize) -> Result<tch::Tensor> {
        let entry = &self.net.entries[index];
        let flat = if entry.param.is_some() { &self.params.values } else { &self.params.state };
        let shape = crate::machine::buffer::as_i64(&entry.shape);
        Ok(flat.range(&entry.range)?.f_view(shape.as_slice())?)
    }

    /// Replaces an entry's numbers.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn set_entry(&mut self, index: usize, numbers: &[f32]) -> Result<()> {
        let entry = &self.net.entries[index];
        let flat = if entry.param.is_some() { &mut self.params.values } else { &mut self.params.state };
        flat.put(entry.range.start, numbers)
    }

    /// Where it is.
    pub fn backend(&self) -> Backend {
        self.params.backend()
    }

    /// What it is computed by on the processor: what was asked for, but sparse tables learn by loops alone.
    fn of_processor(&self) -> Backend {
        if self.net.params.iter().any(|param| param.sparse) { Backend::Loops } else { Backend::asked() }
    }

    /// The backend of a device's name, as [`Backend::of_device`].
    ///
    /// # Errors
    /// As there.
    pub fn backend_of(&self, device: &str) -> Result<Backend> {
        Backend::of_device(device, self.of_processor())
    }

    /// Brings it to another backend; the numbers are the same.
    ///
    /// # Errors
    /// A sparse table, which learns in the host's memory alone; what libtorch refuses, such as a device that is not there.
    pub fn bring_to(&mut self, backend: Backend) -> Result<()> {
        if backend == self.backend() {
            return Ok(());
        }
        if let Some(table) =
            self.net.entries.iter().find(|entry| entry.param.is_some_and(|p| self.net.params[p].sparse))
        {
            bail!("`device`: the sparse table {} learns on the processor alone: use sparse=False", table.name);
        }
        if !self.backend().on_processor() {
            self.home.values.copy_from(&self.params.values)?;
            self.home.state.copy_from(&self.params.state)?;
        }
        self.params = self.home.seen_by(backend)?;
        self.kept().clear();
        Ok(())
    }

    /// The layers, and who needs how many parameters.
    ///
    /// # Errors
    /// A task that no network of its own can be built for.
    pub fn summary(&self) -> Result<Value> {
        Ok(summary::summary(&self.net, &self.tasks, self.single_task_size()?))
    }

    /// Parameters of the networks of single tasks, which have the same encoder and head each.
    fn single_task_size(&self) -> Result<usize> {
        let sharing = sharing::build(&"hard".into())?;
        let size = |task: &Task| {
            let limit = Limit { numbers: usize::MAX, ..Limit::default() };
            let net = self.parts.network(std::slice::from_ref(task), sharing.as_ref(), limit)?;
            Ok(net.params.iter().map(|param| param.range.len()).sum::<usize>())
        };
        self.tasks.iter().map(size).sum()
    }

    /// The matrix products of a step, those of its linear layers: `[groups, inputs, outputs]`, and whether the input's
    /// gradient is wanted too.
    pub fn products(&self) -> Vec<([usize; 3], bool)> {
        let of = |op: &dyn Node| {
            let weight = &self.net.params[op.multiplies()?];
            let x = &self.net.values[op.inputs()[0]];
            let outputs = weight.range.len() / (weight.groups * x.width).max(1);
            Some(([weight.groups, x.width, outputs], x.learns))
        };
        self.net.ops.iter().filter_map(|op| of(op.as_ref())).collect()
    }

    /// Every check of rows at the door; with `labels` also of the targets. Gives doubts, see [`Data::check`].
    ///
    /// # Errors
    /// What is wrong with which argument.
    pub fn check(&self, data: &Data, labels: bool) -> Result<Vec<String>> {
        data.check(&self.parts.inputs, &self.asked(), labels)
    }

    /// What data are asked for, task by task.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = |task: &Task| Asked {
            name: task.name.clone(),
            labels: task.labels,
            per: self.positions_of(task),
            pairing: task.pairing,
        };
        self.tasks.iter().map(asked).collect()
    }

    /// Raw outputs of all rows in evaluation mode, and with `labels` each task's sum of weighted losses and total
    /// weight. `look` is called after each batch, and may stop it.
    ///
    /// # Errors
    /// What libtorch refuses, and what `look` returns.
    pub fn evaluate(
        &self,
        data: &Data,
        batch: usize,
        mut meters: Option<&mut [Meter]>,
        out: &mut [Vec<f32>],
        look: Look<'_>,
    ) -> Result<Vec<[f64; 2]>> {
        let mut sums = vec![[0.0; 2]; self.tasks.len()];
        let rows = data.rows();
        let mut end = 0;
        while end < rows {
            let range = self.part(data, end, batch);
            end = range.end;
            let rows = Rows::Range(range);
            let mut work = self.workspace(self.extents(data, rows.clone())?, Purpose::Evaluate)?;
            work.load(data, rows, meters.is_some())?;
            work.forward(self, Step::EVALUATION)?;
            let keeps = |task: usize| meters.as_deref().is_none_or(|meters| meters[task].keeps());
            (0..out.len())
                .filter(|&task| keeps(task))
                .try_for_each(|task| work.append_outputs(task, &mut out[task]))?;
            if let Some(meters) = meters.as_deref_mut() {
                let weights = work.weights(&self.tasks);
                let losses = work.losses(self, None)?;
                for (j, (meter, task)) in meters.iter_mut().zip(&self.tasks).enumerate() {
                    work.measure(j, task, meter)?;
                }
                sums.iter_mut().zip(weights.iter().zip(&losses)).for_each(|(s, (w, l))| *s = [s[0] + l, s[1] + w]);
            }
            self.give_back(work);
            look()?;
        }
        Ok(sums)
    }

    /// Raw outputs `[n, width]` of one task turned into predictions.
    pub fn link(&self, task: usize, raw: &[f32]) -> Vec<f32> {
        let task = &self.tasks[task];
        let mut predicted = vec![0.0; raw.len() / task.width().max(1) * task.predicted_width()];
        task.loss.link(task.labels).apply(raw, &mut predicted);
        predicted
    }

    /// A field whose positions a task has labels of, if it is not rows.
    fn positions_of(&self, task: &Task) -> Option<String> {
        let per = task.per.as_ref()?;
        self.parts.inputs.positions.iter().find(|positions| positions.name == *per).map(PositionInputs::first)
    }

    /// Room for some rows and their positions.
    ///
    /// # Errors
    /// More axes than a network may have.
    pub(crate) fn extents(&self, data: &Data, rows: Rows<'_>) -> Result<Extents> {
        self.net.extents(rows.len(), |axis, of| {
            let field = data.field(&self.parts.inputs.positions[axis - 1].first());
            field.and_then(Field::offsets).map_or(0, |offsets| offsets.sum(rows.clone(), of))
        })
    }

    /// A workspace for so many rows, from those kept or new; hand it back with [`Model::give_back`].
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn workspace(&self, extents: Extents, purpose: Purpose) -> Result<Workspace> {
        let mut kept = self.kept();
        if let Some(found) = kept.take(extents, purpose) {
            return Ok(found);
        }
        let handle = kept.handle();
        drop(kept);
        Workspace::new(&self.net, &self.params, &self.tasks, self.asked(), extents, purpose, handle)
    }

    /// Keeps a workspace for the next time.
    pub(crate) fn give_back(&self, workspace: Workspace) {
        self.kept().put(workspace, self.net.axes.len() > 1);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
