//! Reading a model's JSON description: tasks, inputs, seed.

use serde_json::Value;

use crate::data::Inputs;
use crate::error::Result;
use crate::loss::Loss;
use crate::registry::list;
use crate::task::Task;
use crate::{bail, value_error};

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
        Value::Array(sizes) => sizes.iter().map(|size| whole("categorical", size)).collect::<Result<_>>()?,
        other => bail!("`inputs`: `categorical` should be a list of numbers of categories; got {other}"),
    };
    if categorical.contains(&0) {
        bail!("`inputs`: a categorical feature needs at least one category; got {categorical:?}");
    }
    Ok(Inputs { numeric, categorical })
}

/// Widths of the embeddings: as given, or `min(50, round(1.6 n^0.56))` for `n` categories (fast.ai's rule).
pub(crate) fn embedding_widths(categorical: &[usize], given: &Value) -> Result<Vec<usize>> {
    let rule = |&n: &usize| ((1.6 * (n as f64).powf(0.56)).round() as usize).clamp(1, 50);
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
