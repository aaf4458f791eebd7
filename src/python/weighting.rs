//! `Weighting`: a weighting by itself, and weightings that are Python functions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use serde_json::Value;

use super::arrays::floats;
use super::{door, values};
use crate::error::Result;
use crate::weighting::standalone::{Known, Matrix};
use crate::weighting::{Foreign, ForeignWeighting, Standalone, State, Weighting, build};

/// A weighting on losses and gradients of the caller's, with what it has learned over its calls.
#[pyclass(frozen, name = "Weighting", module = "polytask._core")]
pub struct PyWeighting {
    weighting: Mutex<Standalone>,
}

type Floats<'py> = Bound<'py, PyArray1<f64>>;
type Arrays<'py> = BTreeMap<String, Bound<'py, PyArray1<f32>>>;

/// Calls Python for weights.
#[derive(Debug)]
struct PyFunction(Py<PyAny>);

impl ForeignWeighting for PyFunction {
    fn weigh(&self, tasks: &[&str], losses: &[f64], gramian: Option<&[f64]>) -> Result<Vec<f64>> {
        let ask = |py: Python<'_>| {
            let rows = tasks.len();
            let square = |gramian: &[f64]| PyArray1::from_slice(py, gramian).reshape([rows, rows]);
            let gramian: Option<Bound<'_, PyArray2<f64>>> = gramian.map(square).transpose()?;
            self.0.bind(py).call1((tasks.to_vec(), PyArray1::from_slice(py, losses), gramian))?.extract()
        };
        Python::attach(ask).map_err(door::foreign)
    }
}

/// The weighting of a description, with the code that is the caller's own, if it is that.
///
/// # Errors
/// A description that is none.
pub fn made(description: &Value, code: Option<Py<PyAny>>) -> Result<Box<dyn Weighting>> {
    match code {
        Some(code) => Ok(Box::new(Foreign::of(description, Some(Arc::new(PyFunction(code))))?)),
        None => build(description),
    }
}

impl PyWeighting {
    fn with<R: Send>(&self, py: Python<'_>, call: impl FnOnce(&mut Standalone) -> Result<R> + Send) -> PyResult<R> {
        door::run(py, || call(&mut *door::lock(&self.weighting, "weighting")?))
    }
}

#[pymethods]
impl PyWeighting {
    #[new]
    #[pyo3(signature = (description, code=None))]
    fn new(py: Python<'_>, description: &Bound<'_, PyAny>, code: Option<Py<PyAny>>) -> PyResult<Self> {
        let description = values::read(description, "weighting")?;
        door::run(py, || Ok(Self { weighting: Mutex::new(Standalone::of(made(&description, code)?)?) }))
    }

    /// What it looks at: `"losses"`, `"gramian"` or `"jacobian"`.
    #[getter]
    fn needs(&self, py: Python<'_>) -> PyResult<String> {
        let needs = self.with(py, |weighting| Ok(serde_json::to_value(weighting.needs()).unwrap_or_default()))?;
        Ok(needs.as_str().unwrap_or_default().to_owned())
    }

    /// Whether it looks at anything at all, losses included.
    #[getter]
    fn looks(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |weighting| Ok(weighting.looks()))
    }

    /// Whether it learns from the losses after the step, by `look_back`.
    #[getter]
    fn looks_back(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |weighting| Ok(weighting.looks_back()))
    }

    /// Decides and learns: weights `[tasks]` unless only the direction says it, with a Jacobian the direction `[parameters]`,
    /// and factors `[tasks]` on the gradients of tasks' own parameters. A NaN among the losses is a task without a label. Each call is an epoch unless `epoch` is given.
    /// `rounding` says how far off cosines of a Gramian of less than double precision are.
    #[pyo3(signature = (losses=None, gramian=None, jacobian=None, *, names=None, epoch=None, seed=0, rounding=None))]
    #[allow(clippy::too_many_arguments)]
    fn weigh<'py>(
        &self,
        py: Python<'py>,
        losses: Option<&Bound<'py, PyAny>>,
        gramian: Option<&Bound<'py, PyAny>>,
        jacobian: Option<&Bound<'py, PyAny>>,
        names: Option<Vec<String>>,
        epoch: Option<u64>,
        seed: u64,
        rounding: Option<f64>,
    ) -> PyResult<(Option<Floats<'py>>, Option<Floats<'py>>, Floats<'py>)> {
        let matrix = |array: Option<&Bound<'py, PyAny>>, name: &str| {
            array.map(|array| floats(array, name).map(|(shape, values)| Matrix { shape, values })).transpose()
        };
        let known = Known {
            losses: losses.map(|array| floats::<1>(array, "losses").map(|(_, values)| values)).transpose()?,
            gramian: matrix(gramian, "gramian")?,
            jacobian: matrix(jacobian, "jacobian")?,
            names,
            epoch,
            seed,
            rounding,
        };
        let decision = self.with(py, |weighting| weighting.weigh(known))?;
        let give = |values: Option<Vec<f64>>| values.map(|values| PyArray1::from_vec(py, values));
        Ok((give(decision.weights), give(decision.direction), PyArray1::from_vec(py, decision.own)))
    }

    /// Shows the losses before and after the step that was made with the last weights.
    fn look_back(&self, py: Python<'_>, before: &Bound<'_, PyAny>, after: &Bound<'_, PyAny>) -> PyResult<()> {
        let (_, before) = floats::<1>(before, "before")?;
        let (_, after) = floats::<1>(after, "after")?;
        self.with(py, |weighting| weighting.look_back(&before, &after))
    }

    /// What is to be said of the calls so far, once.
    fn warning(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, |weighting| Ok(weighting.warning()))
    }

    /// Forgets all calls.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |weighting| {
            weighting.reset();
            Ok(())
        })
    }

    /// What it has learned: small things, and arrays by name.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Arrays<'py>)> {
        let State { value, arrays } = self.with(py, |weighting| Ok(weighting.state()))?;
        let arrays = arrays.into_iter().map(|(name, values)| (name, PyArray1::from_vec(py, values)));
        Ok((values::give(py, &value)?, arrays.collect()))
    }

    /// Continues from what `state` gave.
    #[pyo3(signature = (value, arrays=BTreeMap::new()))]
    fn restore(&self, py: Python<'_>, value: &Bound<'_, PyAny>, arrays: BTreeMap<String, Vec<f32>>) -> PyResult<()> {
        let value = values::read(value, "`state`")?;
        self.with(py, |weighting| weighting.restore(&State { value, arrays: arrays.into_iter().collect() }))
    }
}
