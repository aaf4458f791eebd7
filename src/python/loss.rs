//! A loss that is a Python callable.

use pyo3::prelude::*;
use serde_json::{Value, json};
use tch::Tensor;

use super::door::foreign;
use super::memory::PyMemory;
use crate::bail;
use crate::component::Described;
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::loss::{Batch, ForeignLoss, Loops, Loss, ScaledGradient, TensorBatch};
use crate::model::description::is_own;

/// Calls Python for value and gradient; the file of a model cannot bring it back.
#[derive(Debug)]
pub struct PyLoss {
    call: Option<Py<PyAny>>,
    width: usize,
    labels: Labels,
}

/// The losses that are the caller's own, from a model's description; `call[j]` may be missing in a loaded model.
pub fn custom(description: &Value, calls: &[Option<Py<PyAny>>]) -> Result<Vec<Option<Box<dyn Loss>>>> {
    let tasks = description["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |(j, task): (usize, &Value)| {
        if !is_own(&task["loss"]) {
            return Ok(None);
        }
        let whole = |value: &Value| value.as_u64().map(|n| n as usize).filter(|&n| n > 0);
        let Some(width) = whole(&task["loss"]["width"]) else {
            bail!("a loss of your own needs `width`, its number of raw outputs; got {}", task["loss"]["width"]);
        };
        let columns = whole(&task["outputs"]).unwrap_or(1);
        let labels = whole(&task["classes"]).map_or(Labels::Numbers { columns }, Labels::Classes);
        let call = Python::attach(|py| calls.get(j).and_then(Option::as_ref).map(|call| call.clone_ref(py)));
        Ok(Some(Box::new(PyLoss { call, width, labels }) as Box<dyn Loss>))
    };
    tasks.iter().enumerate().map(of).collect()
}

impl PyLoss {
    /// Each row's share of labelled cells.
    fn shares(&self, targets: Targets<'_, f32>) -> Vec<f64> {
        let share = |row: &[f32]| row.iter().filter(|x| !x.is_nan()).count() as f64 / row.len() as f64;
        match targets {
            Targets::Classes(classes) => classes.iter().map(|&class| f64::from(class >= 0)).collect(),
            Targets::Values(values) => values.chunks_exact(self.labels.width()).map(share).collect(),
        }
    }
}

impl ForeignLoss for PyLoss {
    fn sum(&self, batch: &TensorBatch<'_>, gradient: Option<ScaledGradient<'_>>) -> Result<f64> {
        let TensorBatch { raw, labels, weights } = batch;
        let Some(call) = &self.call else {
            bail!("this task's loss was Python code, which a file cannot hold: pass it to `load` again");
        };
        let ask = |py: Python<'_>| {
            let lend = |tensor: &Tensor| PyMemory::lend(py, tensor);
            let weights = weights.map(lend).transpose()?;
            let slope = gradient.as_ref().map(|gradient| lend(gradient.into)).transpose()?;
            let scale = gradient.as_ref().map_or(0.0, |gradient| gradient.scale);
            call.bind(py).call1((lend(raw)?, lend(labels)?, weights, slope, scale))?.extract()
        };
        Python::attach(ask).map_err(foreign)
    }
}

impl Loops<f32> for PyLoss {
    fn weight(&self, targets: Targets<'_, f32>, weights: Option<&[f32]>) -> f64 {
        let weight = |row: usize| weights.map_or(1.0, |w| f64::from(w[row]));
        self.shares(targets).iter().enumerate().map(|(row, share)| share * weight(row)).sum()
    }

    fn evaluate(&self, _: Batch<'_, f32>) -> f64 {
        unreachable!("it is foreign")
    }
}

impl Loops<f64> for PyLoss {
    fn weight(&self, _: Targets<'_, f64>, _: Option<&[f64]>) -> f64 {
        unreachable!("models of Python compute in f32")
    }

    fn evaluate(&self, _: Batch<'_, f64>) -> f64 {
        unreachable!("it is foreign")
    }
}

impl Described for PyLoss {
    fn describe(&self) -> Value {
        json!({"name": "custom", "width": self.width})
    }
}

impl Loss for PyLoss {
    fn labels(&self, _: Option<usize>, _: usize) -> Result<Labels> {
        Ok(self.labels)
    }

    fn formula(&self, _: &Tensor, _: &Tensor) -> Tensor {
        unreachable!("it is foreign")
    }

    fn width(&self, _: Option<usize>, _: usize) -> usize {
        self.width
    }

    fn foreign(&self) -> Option<&dyn ForeignLoss> {
        Some(self)
    }
}
