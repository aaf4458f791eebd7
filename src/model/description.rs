//! What a model is made of, and how files and callers write it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::described_inputs::{describe_inputs, embedding_widths, read_inputs};
use crate::component::{Described, list};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::head::own::Heads;
use crate::head::{Head, Target};
use crate::input::Inputs;
use crate::loss::Loss;
use crate::model::{assemble, trunk};
use crate::network::builder::Limit;
use crate::network::{Network, ROWS};
use crate::sharing::Sharing;
use crate::task::Task;
use crate::{bail, encoder, head, sharing, value_error};

/// What a model is made of.
#[derive(Debug)]
pub struct Description {
    /// The tasks in order.
    pub tasks: Vec<Task>,
    /// What its network is made of.
    pub parts: Parts,
    /// Paths of what is frozen.
    pub frozen: Vec<String>,
    /// Notes of the caller's own, `null` for none.
    pub notes: Value,
}

/// What a model's network is made of, but for the tasks.
#[derive(Debug)]
pub struct Parts {
    /// Number and kinds of features.
    pub inputs: Inputs,
    /// Width of each categorical feature's embedding.
    pub widths: Vec<usize>,
    /// What makes features of inputs.
    pub encoder: Box<dyn Encoder>,
    /// How tasks share it.
    pub sharing: Box<dyn Sharing>,
    /// What makes a task's outputs of features.
    pub heads: Heads,
    /// Seed of the first parameters.
    pub seed: u64,
}

/// What is code of the caller's own, which no description holds.
#[derive(Debug, Default)]
pub struct Own {
    /// Of each task its loss, or none if it is one that a description holds.
    pub losses: Vec<Option<Box<dyn Loss>>>,
    /// The encoder.
    pub encoder: Option<Box<dyn Encoder>>,
    /// Heads of single tasks, by task.
    pub heads: BTreeMap<String, Box<dyn Head>>,
}

/// What the head of a task is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSize {
    /// Numbers a row of the task's features.
    pub features: usize,
    /// Raw outputs.
    pub outputs: usize,
    /// Whether it has one of each for each position within rows.
    pub positions: bool,
}

impl Description {
    /// Reads `{"tasks", "inputs", "encoder", "sharing", "head", "heads", "seed", "frozen", "face"}`, where what is missing or
    /// null has its default, and what is the caller's own is taken as it is.
    ///
    /// # Errors
    /// Whatever is missing, unknown or out of range.
    pub fn of(description: &Value, own: Own) -> Result<Self> {
        let tasks = read_tasks(&description["tasks"], own.losses)?;
        let inputs = read_inputs(&description["inputs"])?;
        let seed = read_seed(&description["seed"])?;
        let or = |key: &str, default: &str| match &description[key] {
            Value::Null => Value::from(default),
            given => given.clone(),
        };
        let encoder = own.encoder.map_or_else(|| encoder::build(&or("encoder", "mlp")), Ok)?;
        let sharing = sharing::build(&or("sharing", "hard"))?;
        let usual = head::build(&or("head", "linear"))?;
        let heads = Heads::new(usual, read_heads(&description["heads"], &tasks, own.heads)?);
        let widths = embedding_widths(&inputs.categorical, &description["inputs"]["embedding"])?;
        let read = widths.iter().filter(|&&width| width > 0).count();
        if inputs.numeric + read + inputs.arrays.len() == 0 && inputs.positions.is_empty() {
            bail!("`inputs`: a model needs at least one feature");
        }
        check_positions(&inputs, &tasks)?;
        let parts = Parts { inputs, widths, encoder, sharing, heads, seed };
        Ok(Self { tasks, parts, frozen: read_frozen(description)?, notes: description["face"].clone() })
    }

    /// What the head of each task is between.
    ///
    /// # Errors
    /// Parts that do not fit each other.
    pub fn head_sizes(&self) -> Result<Vec<HeadSize>> {
        let Parts { inputs, widths, encoder, sharing, .. } = &self.parts;
        let (net, targets) = trunk(inputs, widths, &self.tasks, encoder.as_ref(), sharing.as_ref(), Limit::default())?;
        let size = |target: &Target| {
            let features = net.value(target.features.value);
            HeadSize { features: features.width, outputs: target.width, positions: features.axis != ROWS }
        };
        Ok(targets.iter().map(size).collect())
    }
}

/// Heads of single tasks: `{task: head}`; `own` has those of the caller's own.
fn read_heads(
    description: &Value,
    tasks: &[Task],
    mut own: BTreeMap<String, Box<dyn Head>>,
) -> Result<BTreeMap<String, Box<dyn Head>>> {
    let described = match description {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(described) => described,
        other => bail!("`heads` should be heads by task; got {other}"),
    };
    let mut heads = BTreeMap::new();
    for (name, described) in described {
        if !tasks.iter().any(|task| task.name == *name) {
            bail!("`heads`: the model has no task {name:?}");
        }
        let head = own.remove(name).map_or_else(|| head::build(described), Ok);
        heads.insert(name.clone(), head.map_err(|error| value_error!("task `{name}`: {error}"))?);
    }
    Ok(heads)
}

/// What positions within rows ask of the other parts.
fn check_positions(inputs: &Inputs, tasks: &[Task]) -> Result<()> {
    let names: Vec<_> = inputs.positions.iter().map(|positions| positions.name.as_str()).collect();
    for task in tasks {
        if let Some(per) = task.per.as_deref().filter(|per| !names.contains(per)) {
            bail!(
                "task `{}`: `per` should be one of the positions of `inputs`, {}; got {per:?}",
                task.name,
                list(&names)
            );
        }
    }
    Ok(())
}

impl Parts {
    /// The network for these tasks, by a sharing scheme.
    pub(super) fn network(&self, tasks: &[Task], sharing: &dyn Sharing, limit: Limit) -> Result<Network> {
        let Self { inputs, widths, encoder, heads, .. } = self;
        assemble(inputs, widths, tasks, encoder.as_ref(), sharing, heads, limit)
    }

    /// With every default filled in, as [`Description::of`] reads it.
    pub(super) fn describe(&self) -> Value {
        let Self { inputs, widths, encoder, sharing, heads, seed } = self;
        let mut described = json!({"inputs": describe_inputs(inputs, widths), "encoder": encoder.describe(),
                                   "sharing": sharing.describe(), "head": heads.describe(), "seed": seed});
        if let Some(own) = heads.describe_own() {
            described["heads"] = own;
        }
        described
    }
}

/// Whether a component's description is of code of the caller's own, which is in no file.
pub(crate) fn is_own(component: &Value) -> bool {
    component["name"] == "custom"
}

/// A stored description of a model as this version would write it: what was added since has its defaults.
pub(crate) fn renewed(stored: &Value) -> Result<Value> {
    let mut renewed = stored.clone();
    if !is_own(&stored["encoder"]) {
        renewed["encoder"] = encoder::build(&stored["encoder"])?.describe();
    }
    renewed["sharing"] = sharing::build(&stored["sharing"])?.describe();
    renewed["head"] = head::build(&stored["head"])?.describe();
    for head in renewed["heads"].as_object_mut().into_iter().flat_map(|heads| heads.values_mut()) {
        if !is_own(head) {
            *head = head::build(head)?.describe();
        }
    }
    let inputs = read_inputs(&stored["inputs"])?;
    let widths = embedding_widths(&inputs.categorical, &stored["inputs"]["embedding"])?;
    renewed["inputs"] = describe_inputs(&inputs, &widths);
    for task in renewed["tasks"].as_array_mut().into_iter().flatten() {
        if !task.is_object() {
            bail!("a task's description should be an object; got {task}");
        }
        let loss = task["loss"].take();
        let own = is_own(&loss);
        task["loss"] = if own { json!("mean_squared") } else { loss.clone() };
        *task = Task::read(task, None)?.describe();
        if own {
            task["loss"] = loss;
        }
    }
    Ok(renewed)
}

/// The tasks; `custom[j]` is task `j`'s loss where the caller brings one.
pub(crate) fn read_tasks(description: &Value, custom: Vec<Option<Box<dyn Loss>>>) -> Result<Vec<Task>> {
    let described = description.as_array().filter(|tasks| !tasks.is_empty());
    let Some(described) = described else { bail!("`tasks`: a model needs at least one task") };
    let custom = custom.into_iter().chain(std::iter::repeat_with(|| None));
    let tasks =
        described.iter().zip(custom).map(|(task, custom)| Task::read(task, custom)).collect::<Result<Vec<_>>>()?;
    let mut names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < tasks.len() {
        bail!(
            "`tasks`: every task needs a name of its own; got {}",
            list(&tasks.iter().map(|t| &t.name).collect::<Vec<_>>())
        );
    }
    Ok(tasks)
}

/// A seed, 0 if none is given.
pub(crate) fn read_seed(value: &Value) -> Result<u64> {
    match value {
        Value::Null => Ok(0),
        value => value.as_u64().ok_or_else(|| value_error!("`seed` should be a whole number of 0..2^64; got {value}")),
    }
}

/// Paths of what is frozen.
pub(crate) fn read_frozen(description: &Value) -> Result<Vec<String>> {
    match &description["frozen"] {
        Value::Null => Ok(Vec::new()),
        paths => serde_json::from_value(paths.clone())
            .map_err(|_| value_error!("`frozen` should be a list of paths of parameters; got {paths}")),
    }
}
