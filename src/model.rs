//! The network, its parameters and its description.

use std::path::Path;

use serde_json::{Value, json};

use crate::data::{Category, Data, Inputs, Rows};
use crate::description::{describe_inputs, embedding_widths, read_frozen, read_inputs, read_seed, read_tasks};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::file::{self, Contents};
use crate::head::{Feature, Head, Target};
use crate::loss::{self, Loss};
use crate::network::builder::Builder;
use crate::network::gradient::Pass;
use crate::network::nodes::{Op, embedding};
use crate::network::params::Params;
use crate::network::plan::{Purpose, Step};
use crate::network::{Entry, Network, Output, Reach};
use crate::optim::{beginnings, begins};
use crate::regularizer::Relation;
use crate::sharing::{Parts, Sharing};
use crate::task::Task;
use crate::workspace::Workspace;
use crate::{bail, encoder, head, sharing, summary, value_error};

/// Workspaces kept for row counts seen before.
const KEPT: usize = 6;
/// What a model file calls itself.
const FORMAT: &str = "polytask model 1";

/// A multi-task model: description, network, parameters.
#[derive(Debug)]
pub struct Model {
    /// The tasks in order.
    pub tasks: Vec<Task>,
    /// The network.
    pub net: Network,
    /// Its parameters.
    pub params: Params<f32>,
    /// What a training learned of how the tasks are related.
    pub relation: Option<Relation>,
    inputs: Inputs,
    /// Inputs, encoder, sharing, head, seed and the face's own notes, defaults filled in.
    rest: Value,
    workspaces: Vec<Workspace>,
}

/// The per-task gradients of the shared parameters.
#[derive(Debug)]
pub struct Jacobian {
    /// Names of the parameters, in column order.
    pub names: Vec<String>,
    /// `[tasks, columns]`, row by row.
    pub rows: Vec<Vec<f32>>,
}

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
) -> Result<Network> {
    let columns: Vec<_> = inputs.columns().iter().map(|column| column.count).collect();
    let mut net = Builder::new(inputs.numeric, &columns).serving(tasks.len());
    let table = |(category, &width): (&Category, &usize)| embedding::Feature {
        width,
        bag: category.bag,
        sparse: category.sparse,
    };
    let x = net.features(&inputs.categorical.iter().zip(widths).map(table).collect::<Vec<_>>());
    let features = sharing.build(&mut net, &Parts { x, encoder, tasks })?;
    let target = |(j, (task, &features)): (usize, (&Task, &Feature))| Target {
        path: format!("heads.{}", task.name),
        features,
        width: task.width(),
        reach: sharing.head_reach(j, tasks.len()),
    };
    let targets: Vec<_> = tasks.iter().zip(&features).enumerate().map(target).collect();
    let outputs = head.build(&mut net, &targets)?;
    for Output { value, group, columns } in sharing.outputs(&mut net, outputs, tasks)? {
        net.output(value, group, columns);
    }
    net.finish()
}

impl Model {
    /// Builds the network a JSON description asks for; `custom[j]` is task `j`'s loss where the caller brings one.
    ///
    /// # Errors
    /// Whatever in the description is missing, unknown or out of range.
    pub fn new(description: &str, custom: Vec<Option<Box<dyn Loss>>>) -> Result<Self> {
        let description: Value =
            serde_json::from_str(description).map_err(|error| value_error!("a model's description: {error}"))?;
        let tasks = read_tasks(&description["tasks"], custom)?;
        let inputs = read_inputs(&description["inputs"])?;
        let seed = read_seed(&description["seed"])?;
        let or = |key: &str, default: &str| match &description[key] {
            Value::Null => Value::from(default),
            given => given.clone(),
        };
        let encoder = encoder::build(&or("encoder", "mlp"))?;
        let sharing = sharing::build(&or("sharing", "hard"))?;
        let head = head::build(&or("head", "linear"))?;
        let widths = embedding_widths(&inputs.categorical, &description["inputs"]["embedding"])?;
        if inputs.numeric + inputs.categorical.len() == 0 {
            bail!("`inputs`: a model needs at least one feature");
        }

        let net = assemble(&inputs, &widths, &tasks, encoder.as_ref(), sharing.as_ref(), head.as_ref())?;
        let params = Params::new(&net, seed)?;
        let rest = json!({"inputs": describe_inputs(&inputs, &widths), "encoder": encoder.describe(), "sharing": sharing.describe(),
                          "head": head.describe(), "seed": seed, "face": description["face"]});
        let mut model = Self { tasks, net, params, relation: None, inputs, rest, workspaces: Vec::new() };
        model.freeze_only(&read_frozen(&description)?)?;
        Ok(model)
    }

    /// The description with every default filled in, as JSON.
    pub fn description(&self) -> String {
        let mut whole = self.rest.clone();
        whole["tasks"] = self.tasks.iter().map(Task::describe).collect();
        whole["frozen"] = self.frozen().into();
        whole.to_string()
    }

    /// Replaces the face's own notes in the description.
    ///
    /// # Errors
    /// What is not JSON.
    pub fn set_face(&mut self, face: &str) -> Result<()> {
        self.rest["face"] = serde_json::from_str(face).map_err(|error| value_error!("`face`: {error}"))?;
        Ok(())
    }

    /// Number and kinds of features.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
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

    /// Where an entry stands in memory; it never moves while the model lives.
    pub fn entry(&self, index: usize) -> &[f32] {
        let entry = &self.net.entries[index];
        let flat = if entry.param.is_some() { &self.params.values } else { &self.params.state };
        &flat.slice()[entry.range.clone()]
    }

    /// An entry's memory, to write.
    pub fn entry_mut(&mut self, index: usize) -> &mut [f32] {
        let entry = &self.net.entries[index];
        let flat = if entry.param.is_some() { &mut self.params.values } else { &mut self.params.state };
        &mut flat.slice_mut()[entry.range.clone()]
    }

    /// Paths of all frozen parameters and statistics.
    pub fn frozen(&self) -> Vec<String> {
        self.net.entries.iter().filter(|entry| entry.frozen).map(|entry| entry.name.clone()).collect()
    }

    /// Freezes or unfreezes everything below the given paths; everything there is, if none is given.
    ///
    /// # Errors
    /// A path that nothing is below.
    pub fn freeze(&mut self, below: &[String], frozen: bool) -> Result<()> {
        let entries = &self.net.entries;
        if let Some(path) = below.iter().find(|path| !entries.iter().any(|entry| begins(&entry.name, path))) {
            let known = beginnings(entries.iter().map(|entry| entry.name.as_str()));
            let call = if frozen { "freeze" } else { "unfreeze" };
            bail!("`{call}`: no parameter is called {path:?}; names begin with {known}");
        }
        let meant = |entry: &Entry| below.is_empty() || below.iter().any(|path| begins(&entry.name, path));
        self.freeze_where(|entry| if meant(entry) { frozen } else { entry.frozen });
        Ok(())
    }

    /// Freezes these paths and nothing else.
    ///
    /// # Errors
    /// A path that does not exist.
    pub fn freeze_only(&mut self, paths: &[String]) -> Result<()> {
        if let Some(path) = paths.iter().find(|path| !self.net.entries.iter().any(|entry| entry.name == **path)) {
            bail!("`frozen`: the model has no parameter {path:?}");
        }
        self.freeze_where(|entry| paths.contains(&entry.name));
        Ok(())
    }

    /// Plans are made for what learns, so that those kept are of no more use.
    fn freeze_where(&mut self, frozen: impl Fn(&Entry) -> bool) {
        if self.net.entries.iter().any(|entry| frozen(entry) != entry.frozen) {
            self.net.freeze(frozen);
            self.params.gradients.slice_mut().fill(0.0);
            self.params.tables.iter().flatten().for_each(|gradient| gradient.open().forget());
            self.workspaces.clear();
        }
    }

    /// The layers, and who needs how many parameters, as JSON.
    ///
    /// # Errors
    /// A task that no network of its own can be built for.
    pub fn summary(&self) -> Result<String> {
        Ok(summary::summary(&self.net, &self.tasks, self.single_task_size()?).to_string())
    }

    /// Parameters of the networks of single tasks, which have the same encoder and head each.
    fn single_task_size(&self) -> Result<usize> {
        let (encoder, head) = (encoder::build(&self.rest["encoder"])?, head::build(&self.rest["head"])?);
        let sharing = sharing::build(&"hard".into())?;
        let widths = embedding_widths(&self.inputs.categorical, &self.rest["inputs"]["embedding"])?;
        let size = |task: &Task| {
            let alone = std::slice::from_ref(task);
            let net = assemble(&self.inputs, &widths, alone, encoder.as_ref(), sharing.as_ref(), head.as_ref())?;
            Ok(net.params.iter().map(|param| param.range.len()).sum::<usize>())
        };
        self.tasks.iter().map(size).sum()
    }

    /// The matrix products of a step, those of its linear layers: `[groups, inputs, outputs]`, and whether the input's
    /// gradient is wanted too.
    pub fn products(&self) -> Vec<([usize; 3], bool)> {
        let of = |op: &Op| match op {
            Op::Linear(layer) => {
                let (x, weight) = (&self.net.values[layer.input], &self.net.params[layer.weight]);
                let outputs = weight.range.len() / (weight.groups * x.width).max(1);
                Some(([weight.groups, x.width, outputs], x.learns))
            }
            _ => None,
        };
        self.net.ops.iter().filter_map(of).collect()
    }

    /// Every check of rows at the door; with `labels` also of the targets.
    ///
    /// # Errors
    /// What is wrong with which argument.
    pub fn check(&self, data: &Data, labels: bool) -> Result<()> {
        let tasks: Vec<_> = self.tasks.iter().map(|task| (task.name.clone(), task.labels)).collect();
        data.check(&self.inputs, &tasks, labels)
    }

    /// Raw outputs of all rows in evaluation mode, and with `labels` each task's sum of weighted losses and total
    /// weight. `each(task, first row, outputs, stride)` receives them batch by batch.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn evaluate(&mut self, data: &Data, batch: usize, labels: bool, out: &mut [Vec<f32>]) -> Result<Vec<[f64; 2]>> {
        let mut sums = vec![[0.0; 2]; self.tasks.len()];
        let rows = data.rows();
        for first in (0..rows).step_by(batch.max(1)) {
            let range = first..rows.min(first + batch.max(1));
            let mut work = self.workspace(range.len(), Purpose::Evaluate)?;
            work.load(data, Rows::Range(range), labels);
            work.forward(Step {
                codes: &[],
                seed: 0,
                number: 0,
                training: false,
                accumulate: false,
                weights: &[],
                share: 1.0,
            })?;
            (0..out.len()).for_each(|task| work.append_outputs(task, &mut out[task]));
            if labels {
                let weights = work.weights(&self.tasks);
                let losses = work.losses(&self.tasks, None)?;
                sums.iter_mut().zip(weights.iter().zip(&losses)).for_each(|(s, (w, l))| *s = [s[0] + l, s[1] + w]);
            }
            self.give_back(work);
        }
        Ok(sums)
    }

    /// Raw outputs `[n, width]` of one task turned into predictions.
    pub fn link(&self, task: usize, raw: &[f32]) -> Vec<f32> {
        let task = &self.tasks[task];
        let mut predicted = vec![0.0; raw.len() / task.width().max(1) * task.predicted_width()];
        task.loss.link(task.labels, raw, &mut predicted);
        predicted
    }

    /// The gradient of the weighted objective on all rows as one batch, without dropout: `out[i]` for entry `i`, of whole
    /// tables too.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn gradient(&mut self, data: &Data) -> Result<Vec<Vec<f32>>> {
        let work = self.differentiate(data, Pass::Summed)?;
        self.give_back(work);
        let Params { gradients, tables, .. } = &self.params;
        let gradient = |entry: &Entry| match &tables[entry.param?] {
            Some(table) => {
                let mut whole = vec![0.0; entry.range.len()];
                table.open().spread(0, &mut whole);
                Some(whole)
            }
            None => Some(gradients.slice()[entry.range.clone()].to_vec()),
        };
        Ok(self.net.entries.iter().filter_map(gradient).collect())
    }

    /// The per-task gradients (times lambda) of the shared parameters, likewise; a task without a label gives zeros.
    ///
    /// # Errors
    /// What libtorch refuses; a Jacobian beyond the budget of memory.
    pub fn jacobian(&mut self, data: &Data) -> Result<Jacobian> {
        let work = self.differentiate(data, Pass::PerTask)?;
        let shared = self.net.shared();
        let names = self.net.entries.iter().filter(|e| e.param.is_some_and(|p| shared.contains(&p)));
        let names = names.map(|e| e.name.clone()).collect();
        let row = |task: usize| shared.iter().map(|&p| self.row(&work, p, task)).collect::<Option<Vec<_>>>();
        let rows = (0..self.tasks.len()).map(|task| row(task).map(|parts| parts.concat())).collect::<Option<_>>();
        self.give_back(work);
        let rows = rows.ok_or_else(|| value_error!("the Jacobian is too large to keep; ask for the Gramian"))?;
        Ok(Jacobian { names, rows })
    }

    /// The Gramian `[tasks, tasks]` of those gradients.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn gramian(&mut self, data: &Data) -> Result<Vec<f64>> {
        let work = self.differentiate(data, Pass::PerTask)?;
        let tasks = self.tasks.len();
        let mut gramian = work.gramian();
        // Where no task shares parameters the rows are disjoint, and the Gramian is diagonal.
        for p in self.net.shared().into_iter().filter(|&p| self.net.params[p].reach != Reach::All) {
            for task in 0..tasks {
                let row = self.row(&work, p, task).unwrap_or_default();
                gramian[task * tasks + task] += row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            }
        }
        self.give_back(work);
        Ok(gramian)
    }

    /// One task's gradient of a shared parameter, whether all tasks reach it or each its own group.
    fn row(&self, work: &Workspace, param: usize, task: usize) -> Option<Vec<f32>> {
        let p = &self.net.params[param];
        if p.reach == Reach::All {
            return work.row(param, task);
        }
        let mut row = vec![0.0; p.range.len()];
        let size = row.len() / self.tasks.len();
        let own = task * size..(task + 1) * size;
        row[own.clone()].copy_from_slice(&self.params.gradients.slice()[p.range.clone()][own]);
        Some(row)
    }

    fn differentiate(&mut self, data: &Data, pass: Pass) -> Result<Workspace> {
        let purpose = if pass == Pass::Summed { Purpose::Train } else { Purpose::BOTH };
        let mut work = self.workspace(data.rows(), purpose)?;
        work.load(data, Rows::Range(0..data.rows()), true);
        let step =
            Step { codes: &[], seed: 0, number: 0, training: false, accumulate: false, weights: &[], share: 1.0 };
        work.forward(step)?;
        let weights = work.weights(&self.tasks);
        let scales = self.tasks.iter().zip(&weights).map(|(t, &w)| if w > 0.0 { t.weight / w } else { 0.0 });
        let scales: Vec<_> = scales.collect();
        work.losses(&self.tasks, Some((pass, &scales)))?;
        work.backward(step, pass)?;
        Ok(work)
    }

    /// A workspace for so many rows, from those kept or new; hand it back with [`Model::give_back`].
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn workspace(&mut self, rows: usize, purpose: Purpose) -> Result<Workspace> {
        match self.workspaces.iter().position(|w| w.rows() == rows && w.purpose() == purpose) {
            Some(found) => Ok(self.workspaces.remove(found)),
            None => Workspace::new(&self.net, &self.params, &self.tasks, rows, purpose),
        }
    }

    /// Keeps a workspace for the next time.
    pub fn give_back(&mut self, workspace: Workspace) {
        if self.workspaces.len() >= KEPT {
            self.workspaces.remove(0);
        }
        self.workspaces.push(workspace);
    }

    /// Writes description and parameters, atomically.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut contents = Contents::new(FORMAT);
        contents.text("description", self.description());
        self.store(&mut contents);
        file::write(path, &contents)
    }

    /// Reads what [`Model::save`] wrote; `custom` gives the caller's own losses for a description.
    ///
    /// # Errors
    /// A file that cannot be read, is not a model, or is damaged.
    pub fn open(path: &Path, custom: impl FnOnce(&Value) -> Result<Vec<Option<Box<dyn Loss>>>>) -> Result<Self> {
        let contents = file::read(path, FORMAT)?;
        let description = contents.get_text("description")?;
        let parsed = serde_json::from_str(description).map_err(|error| value_error!("{}: {error}", path.display()))?;
        let mut model = Self::new(description, custom(&parsed)?)?;
        let parameters = model.fetch(&contents)?;
        model.assign(&parameters);
        model.relation = Self::fetch_relation(&contents)?;
        Ok(model)
    }

    /// Adds parameters, state and relation to a file.
    pub fn store<'a>(&'a self, contents: &mut Contents<'a>) {
        for (index, entry) in self.net.entries.iter().enumerate() {
            contents.tensor(&format!("model/{}", entry.name), &entry.shape, self.entry(index));
        }
        if let Some(relation) = &self.relation {
            contents.text("relation", relation.text());
        }
    }

    /// The relation in a file, if there is one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn fetch_relation(contents: &Contents) -> Result<Option<Relation>> {
        contents.find_text("relation").map(Relation::read).transpose()
    }

    /// Reads parameters and state from a file, all of them or none.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn fetch<'a>(&self, contents: &'a Contents<'_>) -> Result<Vec<&'a [f32]>> {
        let of = |e: &Entry| contents.get_tensor(&format!("model/{}", e.name), &e.shape);
        self.net.entries.iter().map(of).collect()
    }

    /// Takes over what [`Model::fetch`] read.
    pub fn assign(&mut self, entries: &[&[f32]]) {
        for (index, values) in entries.iter().enumerate() {
            self.entry_mut(index).copy_from_slice(values);
        }
    }

    /// The losses of a stored description of this model, with class weights as they were resolved; none where the caller
    /// brought one.
    ///
    /// # Errors
    /// A loss that is unknown or out of range.
    pub fn read_losses(&self, stored: &Value) -> Result<Vec<Option<Box<dyn Loss>>>> {
        let built = |(task, stored): (&Task, &Value)| match task.loss.is_foreign() {
            true => Ok(None),
            false => loss::build(&stored["loss"]).map(Some),
        };
        let stored = stored["tasks"].as_array().map_or(&[][..], Vec::as_slice);
        self.tasks.iter().zip(stored).map(built).collect()
    }

    /// Takes over what [`Model::read_losses`] read.
    pub fn assign_losses(&mut self, losses: Vec<Option<Box<dyn Loss>>>) {
        for (task, loss) in self.tasks.iter_mut().zip(losses) {
            if let Some(loss) = loss {
                task.loss = loss;
            }
        }
    }
}
