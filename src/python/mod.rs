//! The border to Python: the only folder that knows pyo3.

mod arrays;
mod data;
mod door;
mod foreign;
mod loss;
mod memory;
mod meters;
mod model;
mod optimizer;
mod trainer;
mod values;
mod weighting;

use pyo3::prelude::*;
use serde_json::Value;

use crate::component::Info;
use crate::error::Result;
use crate::machine::level::Level;
use crate::meter::Metric;
use crate::meter::metrics::ALL;
use crate::model::described_inputs;
use crate::solver::partition as partitions;
use crate::{encoder, head, loss as losses, optim, regularizer, schedule, sharing, weighting as weightings};

/// The compiled core: models, data and the training loop over NumPy arrays.
#[pymodule(name = "_core")]
mod core {
    #[pymodule_export]
    use super::data::{PyData, PyMix, course};
    #[pymodule_export]
    use super::door::{interrupted, keep_threads};
    #[pymodule_export]
    use super::meters::{PyMeters, PyTally};
    #[pymodule_export]
    use super::model::PyModel;
    #[pymodule_export]
    use super::trainer::{PyCheckpoint, PyTrainer};
    #[pymodule_export]
    use super::weighting::PyWeighting;
    #[pymodule_export]
    use super::{check, components, features, meant, metrics, partition};

    use pyo3::prelude::*;

    use super::{Level, door};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("torch_version", env!("POLYTASK_TORCH"))?;
        let most = Level::of_processor();
        let levels: Vec<_> = Level::ALL.into_iter().filter(|&level| level <= most).map(Level::name).collect();
        module.add("level", Level::of_process().map_err(door::exception)?.name())?;
        module.add("levels", levels)
    }
}

/// The metrics that the core counts: name, kinds of labels, whether higher is better.
#[pyfunction]
fn metrics() -> Vec<(&'static str, Vec<String>, bool)> {
    let word = |kind| serde_json::to_value(kind).ok()?.as_str().map(str::to_owned);
    let metric = |metric: &&Metric| {
        let kinds = metric.kinds.iter().filter_map(word).collect();
        (metric.name, kinds, metric.higher_is_better)
    };
    ALL.iter().map(metric).collect()
}

/// Everything every component says of itself.
#[pyfunction]
fn components(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let all = door::run(py, || {
        let families: [fn() -> Vec<Info>; 8] = [
            encoder::infos,
            sharing::infos,
            head::infos,
            losses::infos,
            weightings::infos,
            regularizer::infos,
            optim::infos,
            schedule::infos,
        ];
        let all = families.iter().flat_map(|infos| infos()).map(|info| {
            let mut described = serde_json::to_value(&info).unwrap_or_default();
            if info.family == "weighting" {
                described["traits"] = weightings::traits(&info.name)?;
            }
            Ok(described)
        });
        Ok(Value::Array(all.collect::<Result<_>>()?))
    })?;
    values::give(py, &all)
}

/// The question whether one of these names was meant, as errors ask it; nothing if none is close.
#[pyfunction]
fn meant(name: &str, names: Vec<String>) -> String {
    crate::component::meant(name, &names)
}

/// Which tasks to train in one network, where `gains[i][j]` is what task `i` has of having `j` beside it: a group number
/// a task, the summed gain, and a bound that no assignment exceeds.
#[pyfunction]
fn partition(
    py: Python<'_>,
    gains: Vec<Vec<f64>>,
    most: usize,
    largest: usize,
    seed: u64,
) -> PyResult<(Vec<usize>, f64, f64)> {
    let found = door::run(py, || partitions::best(&gains, most, largest, seed))?;
    Ok((found.groups, found.gain, found.bound))
}

/// Numbers a row of these inputs as an encoder is given them: numeric features, then embeddings.
#[pyfunction]
fn features(py: Python<'_>, inputs: &Bound<'_, PyAny>) -> PyResult<usize> {
    let inputs = values::read(inputs, "`inputs`")?;
    door::run(py, || described_inputs::features(&inputs))
}

/// Builds a component from its description and forgets it: for its errors.
#[pyfunction]
fn check(py: Python<'_>, family: &str, description: &Bound<'_, PyAny>) -> PyResult<()> {
    let description = values::read(description, family)?;
    door::run(py, || match family {
        "encoder" => encoder::build(&description).map(drop),
        "sharing" => sharing::build(&description).map(drop),
        "head" => head::build(&description).map(drop),
        "loss" => losses::build(&description).map(drop),
        "weighting" => weightings::build(&description).map(drop),
        "regularizer" => regularizer::build(&description).map(drop),
        "optim" => optim::build(&description).map(drop),
        "schedule" => schedule::build(&description).map(drop),
        _ => crate::bail!("unknown family {family:?}"),
    })
}
