//! `Meters`: metrics counted over the calls of an evaluation.

use std::sync::Mutex;

use numpy::{PyReadonlyArray2, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use serde_json::{from_value, json};

use super::door;
use crate::meter::{Meter, metrics};
use crate::value_error;

/// Metrics of a model's tasks, counted in each `evaluate` that is given it.
#[pyclass(frozen, name = "Meters", module = "polytask._core")]
pub struct PyMeters {
    pub(super) meters: Mutex<Vec<Meter>>,
}

#[pymethods]
impl PyMeters {
    /// The metrics of each task, in the order in which they were wanted.
    fn values(&self, py: Python<'_>) -> PyResult<Vec<Vec<f64>>> {
        door::run(py, || Ok(door::lock(&self.meters, "meters")?.iter_mut().map(Meter::values).collect()))
    }
}

/// One metric, counted on predictions that Python has.
#[pyclass(frozen, name = "Tally", module = "polytask._core")]
pub struct PyTally {
    meter: Mutex<Meter>,
}

/// Predictions `[rows, width]`.
#[derive(FromPyObject)]
pub enum Predictions<'py> {
    Single(PyReadonlyArray2<'py, f32>),
    Double(PyReadonlyArray2<'py, f64>),
}

#[pymethods]
impl PyTally {
    /// A metric of labels of a kind, "classes", "binary" or "values", of predictions so wide.
    #[new]
    fn new(py: Python<'_>, kind: &str, metric: &str, width: usize) -> PyResult<Self> {
        let meter = door::run(py, || {
            let kind = from_value(json!(kind)).map_err(|error| value_error!("metric: {error}"))?;
            let metric = metrics::find(metric).ok_or_else(|| value_error!("metric: there is no {metric:?}"))?;
            Ok(Meter::of_predictions(kind, metric, width))
        })?;
        Ok(Self { meter: Mutex::new(meter) })
    }

    /// Counts contiguous predictions `[rows, width]` with labels `[rows, width]`, NaN where they are missing, or classes
    /// `[rows]`, -1 where they are missing.
    #[allow(clippy::needless_pass_by_value)]
    fn add(&self, py: Python<'_>, predicted: Predictions<'_>, known: PyReadonlyArrayDyn<'_, f64>) -> PyResult<()> {
        let known = known.as_slice()?;
        match &predicted {
            Predictions::Single(array) => self.count(py, array.as_slice()?, known, array.shape()[1]),
            Predictions::Double(array) => self.count(py, array.as_slice()?, known, array.shape()[1]),
        }
    }

    /// The metric of what was counted; NaN where it is not defined.
    fn value(&self, py: Python<'_>) -> PyResult<f64> {
        door::run(py, || Ok(door::lock(&self.meter, "metric")?.values().first().copied().unwrap_or(f64::NAN)))
    }
}

impl PyTally {
    fn count<T>(&self, py: Python<'_>, predicted: &[T], known: &[f64], width: usize) -> PyResult<()>
    where
        T: Copy + PartialOrd + Into<f64> + Sync,
    {
        door::run(py, || door::lock(&self.meter, "metric")?.add_predictions(predicted, known, width))
    }
}
