//! What a model is made of, and how files and callers write it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::component::{Described, list};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::head::own::Heads;
use crate::head::{Head, Target};
use crate::input::{ArrayInput, Bag, Category, Combine, Holds, Inputs, NOTHING, PositionInputs};
use crate::loss::Loss;
use crate::model::{assemble, trunk};
use crate::network::builder::Limit;
use crate::network::{Network, ROWS};
use crate::parameters::path::WITHIN;
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
        if inputs.numeric + inputs.categorical.len() + inputs.arrays.len() == 0 && inputs.positions.is_empty() {
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

/// Number and kinds of features.
pub(crate) fn read_inputs(description: &Value) -> Result<Inputs> {
    let whole = |key: &str, value: &Value| match value.as_u64() {
        Some(n) => Ok(n as usize),
        None => Err(value_error!("`inputs`: `{key}` should be a whole number of at least 0; got {value}")),
    };
    let numeric = match &description["numeric"] {
        Value::Null => 0,
        value => whole("numeric", value)?,
    };
    let categorical = match &description["categorical"] {
        Value::Null => Vec::new(),
        Value::Array(features) => features.iter().map(read_category).collect::<Result<_>>()?,
        other => bail!("`inputs`: `categorical` should be a list of numbers of categories; got {other}"),
    };
    let places = categorical.iter().map(|category| category.bag.map_or(1, |bag| bag.length));
    if places.fold(0, usize::saturating_add) > PLACES {
        bail!("`inputs`: rows should have at most {PLACES} codes; make the bags shorter");
    }
    let arrays = read_arrays(&description["arrays"])?;
    let positions = read_positions(&description["positions"])?;
    let mut inputs = Inputs { numeric, categorical, arrays, positions };
    read_sparse(&mut inputs.categorical, &description["sparse"])?;
    Ok(inputs)
}

/// Arrays of rows: a list of `{"name", "shape", "holds"}`.
fn read_arrays(description: &Value) -> Result<Vec<ArrayInput>> {
    let described = match description {
        Value::Null => &[][..],
        Value::Array(described) => described,
        other => bail!("`inputs`: `arrays` should be a list; got {other}"),
    };
    let mut arrays: Vec<ArrayInput> = Vec::with_capacity(described.len());
    for each in described {
        let known = |name: &str| ["numeric", "categorical"].contains(&name) || arrays.iter().any(|a| a.name == name);
        let name = each["name"].as_str().filter(|name| !name.is_empty() && !name.contains('/') && !known(name));
        let shape = Vec::<usize>::deserialize(&each["shape"]).ok().filter(|shape| !shape.contains(&0));
        let (Some(name), Some(shape)) = (name, shape) else {
            bail!(
                "`inputs`: an array needs a name of its own without `/` and a shape of sizes of at least 1; got {each}"
            );
        };
        let holds = match &each["holds"] {
            Value::Null => Holds::default(),
            holds => Holds::deserialize(holds)
                .map_err(|_| value_error!("`inputs`: array {name:?} holds numbers, whole or truths; got {holds}"))?,
        };
        arrays.push(ArrayInput { name: name.to_owned(), shape, holds });
    }
    Ok(arrays)
}

/// Features of positions: a list of `{"name", "numeric", "categorical", "embedding"}`.
fn read_positions(description: &Value) -> Result<Vec<PositionInputs>> {
    let described = match description {
        Value::Null => &[][..],
        Value::Array(described) => described,
        other => bail!("`inputs`: `positions` should be a list; got {other}"),
    };
    if described.len() > 1 {
        bail!("`inputs`: a model may have positions of one kind; got {}", described.len());
    }
    let read = |each: &Value| {
        let name = each["name"].as_str().filter(|name| !name.is_empty() && !name.contains(['/', WITHIN]));
        let Some(name) = name else {
            bail!("`inputs`: positions need a name without `/` and U+{:04X}; got {}", u32::from(WITHIN), each["name"]);
        };
        if !each["positions"].is_null() || !each["arrays"].is_null() {
            bail!("`inputs`: positions have neither positions nor arrays within them");
        }
        let mut dense = each.clone();
        dense["sparse"] = Value::Bool(false);
        let Inputs { numeric, categorical, .. } = read_inputs(&dense)?;
        if numeric + categorical.len() == 0 {
            bail!("`inputs`: positions need at least one feature");
        }
        let widths = embedding_widths(&categorical, &each["embedding"])?;
        Ok(PositionInputs { name: name.to_owned(), numeric, categorical, widths })
    };
    described.iter().map(read).collect()
}

/// Numbers a row of described inputs as an encoder is given them: numeric features, then embeddings; of positions, if there
/// are some, and then of their row.
///
/// # Errors
/// Inputs that are none.
pub fn features(description: &Value) -> Result<usize> {
    let inputs = read_inputs(description)?;
    let widths = embedding_widths(&inputs.categorical, &description["embedding"])?;
    let of_positions = inputs.positions.iter().flat_map(|each| each.widths.iter().copied().chain([each.numeric]));
    let of_arrays = inputs.arrays.iter().map(ArrayInput::width);
    Ok(widths.into_iter().chain(of_arrays).chain(of_positions).fold(inputs.numeric, usize::saturating_add))
}

/// A number of categories, or `{"categories", "length", "combine"}` for a feature of several codes.
fn read_category(value: &Value) -> Result<Category> {
    let at_least_one = |key: &str, value: &Value| match value.as_u64() {
        // The last code stands for nothing.
        Some(n) if (1..u64::from(NOTHING)).contains(&n) => Ok(n as usize),
        _ => Err(value_error!("`inputs`: `{key}` should be a whole number of 1..{NOTHING}; got {value}")),
    };
    if !value.is_object() {
        return at_least_one("categorical", value).map(Category::plain);
    }
    let combine = Combine::deserialize(&value["combine"])
        .map_err(|_| value_error!("`inputs`: `combine` should be \"mean\" or \"sum\"; got {}", value["combine"]))?;
    let length = at_least_one("length", &value["length"])?;
    let categories = at_least_one("categories", &value["categories"])?;
    Ok(Category { bag: Some(Bag { length, combine }), ..Category::plain(categories) })
}

/// Categories from which a table is sparse by itself: a dense step over it would cost more than the rest of most models'.
const MANY: usize = 100_000;
/// Codes of the widest row.
const PLACES: usize = 1 << 20;

/// Which tables are sparse: those of many categories, all, none, or as listed.
fn read_sparse(categorical: &mut [Category], given: &Value) -> Result<()> {
    let listed = given.as_array().map(|all| all.iter().map(Value::as_bool).collect::<Option<Vec<_>>>());
    let count = categorical.len();
    for (j, category) in categorical.iter_mut().enumerate() {
        category.sparse = match (given, &listed) {
            (Value::Null, _) => category.categories >= MANY,
            (Value::String(auto), _) if auto == "auto" => category.categories >= MANY,
            (Value::Bool(sparse), _) => *sparse,
            (_, Some(Some(all))) if all.len() == count => all[j],
            _ => bail!(
                "`inputs`: `sparse` should be \"auto\", true, false, or a list of true and false for {count} features; got {given}"
            ),
        };
    }
    Ok(())
}

/// The inputs as [`read_inputs`] reads them.
pub(crate) fn describe_inputs(inputs: &Inputs, widths: &[usize]) -> Value {
    let category = |category: &Category| match category.bag {
        None => json!(category.categories),
        Some(Bag { length, combine }) => {
            json!({"categories": category.categories, "length": length, "combine": combine})
        }
    };
    let categorical: Vec<_> = inputs.categorical.iter().map(category).collect();
    let sparse: Vec<_> = inputs.categorical.iter().map(|category| category.sparse).collect();
    let mut described =
        json!({"numeric": inputs.numeric, "categorical": categorical, "embedding": widths, "sparse": sparse});
    if !inputs.arrays.is_empty() {
        let array = |array: &ArrayInput| json!({"name": array.name, "shape": array.shape, "holds": array.holds});
        described["arrays"] = inputs.arrays.iter().map(array).collect();
    }
    if !inputs.positions.is_empty() {
        described["positions"] = inputs.positions.iter().map(describe_positions).collect();
    }
    described
}

fn describe_positions(positions: &PositionInputs) -> Value {
    let PositionInputs { name, numeric, categorical, widths } = positions;
    let inputs = Inputs { numeric: *numeric, categorical: categorical.clone(), ..Inputs::default() };
    let mut described = describe_inputs(&inputs, widths);
    described["name"] = json!(name);
    described
}

/// Widths of the embeddings: as given, or `min(50, round(1.6 n^0.56))` for `n` categories (fast.ai's rule).
pub(crate) fn embedding_widths(categorical: &[Category], given: &Value) -> Result<Vec<usize>> {
    let rule = |category: &Category| ((1.6 * (category.categories as f64).powf(0.56)).round() as usize).clamp(1, 50);
    let widths = match given {
        Value::Null => categorical.iter().map(rule).collect(),
        Value::Number(width) => vec![width.as_u64().unwrap_or(0) as usize; categorical.len()],
        Value::Array(widths) => widths.iter().map(|w| w.as_u64().unwrap_or(0) as usize).collect(),
        _ => Vec::new(),
    };
    if widths.len() != categorical.len() || widths.contains(&0) {
        bail!(
            "`inputs`: `embedding` should be a width of at least 1, or one for each of {} features; got {given}",
            categorical.len()
        );
    }
    Ok(widths)
}
