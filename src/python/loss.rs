//! A loss that is a Python callable.

use std::sync::Mutex;

use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::door::{exception, foreign};
use crate::component::Described;
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::loss::{Batch, Loops, Loss, Sums, TensorBatch};
use crate::{bail, value_error};

/// Calls Python for value and gradient; the file of a model cannot bring it back.
#[derive(Debug)]
pub struct PyLoss {
    call: Option<Py<PyAny>>,
    width: usize,
    labels: Labels,
    failed: Mutex<Option<PyErr>>,
}

/// A tensor's numbers on the host.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::try_from(tensor.reshape([-1]).to_kind(Kind::Float))?)
}

/// The losses that are the caller's own, from a model's description; `call[j]` may be missing in a loaded model.
pub fn custom(description: &Value, calls: &[Option<Py<PyAny>>]) -> Result<Vec<Option<Box<dyn Loss>>>> {
    let tasks = description["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |(j, task): (usize, &Value)| {
        if task["loss"]["name"] != "custom" {
            return Ok(None);
        }
        let whole = |value: &Value| value.as_u64().map(|n| n as usize).filter(|&n| n > 0);
        let Some(width) = whole(&task["loss"]["width"]) else {
            bail!("a loss of your own needs `width`, its number of raw outputs; got {}", task["loss"]["width"]);
        };
        let columns = whole(&task["outputs"]).unwrap_or(1);
        let numbers = Labels::Values { columns, low: f64::NEG_INFINITY, high: f64::INFINITY };
        let labels = whole(&task["classes"]).map_or(numbers, Labels::Classes);
        let call = Python::attach(|py| calls.get(j).and_then(Option::as_ref).map(|call| call.clone_ref(py)));
        Ok(Some(Box::new(PyLoss { call, width, labels, failed: Mutex::new(None) }) as Box<dyn Loss>))
    };
    tasks.iter().enumerate().map(of).collect()
}

impl PyLoss {
    /// Each row's share of labelled cells.
    fn shares(&self, targets: Targets<'_, f32>) -> Vec<f64> {
        let share = |row: &[f32]| row.iter().filter(|x| !x.is_nan()).count() as f64 / row.len() as f64;
        match (targets, self.labels) {
            (Targets::Classes(classes), _) => classes.iter().map(|&class| f64::from(class >= 0)).collect(),
            (Targets::Values(values), Labels::Values { columns, .. }) => {
                values.chunks_exact(columns).map(share).collect()
            }
            (Targets::Values(values), Labels::Classes(_)) => values.chunks_exact(1).map(share).collect(),
        }
    }

    fn ask(&self, batch: Batch<'_, f32>) -> PyResult<f64> {
        let Batch { rows, width, outputs, gradient, stride, targets, weights, scale } = batch;
        let shares = self.shares(targets);
        let weights = weights.map_or_else(|| vec![1.0; rows], <[f32]>::to_vec);
        Python::attach(|py| {
            let Some(call) = &self.call else {
                return Err(PyValueError::new_err(
                    "this task's loss was Python code, which a file cannot hold: pass it to `load` again",
                ));
            };
            let mut raw = Vec::with_capacity(rows * width);
            (0..rows).for_each(|row| raw.extend_from_slice(&outputs[row * stride..row * stride + width]));
            let raw = PyArray1::from_vec(py, raw).reshape([rows, width])?;
            let targets = match targets {
                Targets::Classes(classes) => {
                    PyArray1::from_vec(py, classes.iter().map(|&c| i64::from(c)).collect()).into_any()
                }
                Targets::Values(values) => {
                    PyArray1::from_slice(py, values).reshape([rows, values.len() / rows])?.into_any()
                }
            };
            let weights = PyArray1::from_vec(py, weights);
            let shares = PyArray1::from_vec(py, shares);
            let given = (raw, targets, weights, shares, gradient.is_some());
            let (sum, slope): (f64, Option<PyReadonlyArray2<'_, f32>>) = call.bind(py).call1(given)?.extract()?;
            if let (Some(gradient), Some(slope)) = (gradient, slope) {
                let slope = slope.as_array();
                if slope.shape() != [rows, width] {
                    return Err(exception(value_error!(
                        "a loss's gradient should have shape [{rows}, {width}]; got {:?}",
                        slope.shape()
                    )));
                }
                for (row, from) in slope.outer_iter().enumerate() {
                    let to = &mut gradient[row * stride..row * stride + width];
                    to.iter_mut().zip(from).for_each(|(to, &from)| *to = scale * from);
                }
            }
            Ok(sum)
        })
    }

    fn guarded(&self, batch: Batch<'_, f32>) -> f64 {
        match self.ask(batch) {
            Ok(sum) => sum,
            Err(error) => {
                *self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                0.0
            }
        }
    }
}

impl Loops<f32> for PyLoss {
    fn weight(&self, targets: Targets<'_, f32>, weights: Option<&[f32]>) -> f64 {
        let weight = |row: usize| weights.map_or(1.0, |w| f64::from(w[row]));
        self.shares(targets).iter().enumerate().map(|(row, share)| share * weight(row)).sum()
    }

    fn evaluate(&self, batch: Batch<'_, f32>) -> f64 {
        self.guarded(batch)
    }
}

impl Loops<f64> for PyLoss {
    fn weight(&self, _: Targets<'_, f64>, _: Option<&[f64]>) -> f64 {
        unreachable!("models of Python compute in f32")
    }

    fn evaluate(&self, _: Batch<'_, f64>) -> f64 {
        unreachable!("models of Python compute in f32")
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
        unreachable!("Python is asked for the sum over a batch")
    }

    /// What Python says of the batch, and its gradient as the slope of a plane through that.
    fn sums(&self, batch: &TensorBatch<'_>) -> Result<Sums> {
        let TensorBatch { raw, labels, weights } = batch;
        let rows = raw.size()[0] as usize;
        let outputs: Vec<f32> = numbers(&raw.detach())?;
        let weights: Option<Vec<f32>> = weights.map(numbers).transpose()?;
        let classes: Vec<i32>;
        let values: Vec<f32>;
        let targets = if labels.kind() == Kind::Int64 {
            classes = Vec::try_from(labels.to_kind(Kind::Int))?;
            Targets::Classes(&classes)
        } else {
            values = numbers(labels)?;
            Targets::Values(&values)
        };
        let mut slope = vec![0.0; outputs.len()];
        let width = self.width;
        let weights = weights.as_deref();
        let gradient = raw.requires_grad().then_some(&mut slope[..]);
        let known = Batch { rows, width, outputs: &outputs, gradient, stride: width, targets, weights, scale: 1.0 };
        let sum = self.ask(known).map_err(foreign)?;
        let slope = Tensor::from_slice(&slope).view_as(raw).to_device(raw.device());
        let plane = ((*raw - raw.detach()) * slope).sum(raw.kind());
        let weight = Tensor::from(Loops::<f32>::weight(self, targets, weights)).to_kind(raw.kind());
        Ok(Sums { loss: plane + sum, weight: weight.to_device(raw.device()) })
    }

    fn width(&self, _: Option<usize>, _: usize) -> usize {
        self.width
    }

    fn is_foreign(&self) -> bool {
        true
    }

    fn failure(&self) -> Result<()> {
        let failed = self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        failed.map_or(Ok(()), |error| Err(foreign(error)))
    }
}
