//! Optimizers that are Python's.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use serde_json::Value;

use super::door::foreign;
use super::memory::PyMemory;
use crate::error::Result;
use crate::optim::foreign::{Foreign, ForeignOptimizer, Parameter};
use crate::optim::{Optimizer, of};

/// Calls Python for steps.
#[derive(Debug)]
struct PyOptimizer(Py<PyAny>);

impl ForeignOptimizer for PyOptimizer {
    fn tie(&self, parameters: &[Parameter]) -> Result<f64> {
        let tie = |py: Python<'_>| {
            let lend = |Parameter { name, value, gradient, learns }: &Parameter| {
                Ok((name.clone(), PyMemory::lend(py, value)?, PyMemory::lend(py, gradient)?, *learns))
            };
            let lent: Vec<_> = parameters.iter().map(lend).collect::<PyResult<_>>()?;
            self.0.bind(py).call_method1(intern!(py, "tie"), (lent,))?.extract()
        };
        Python::attach(tie).map_err(foreign)
    }

    fn step(&self, factor: f64) -> Result<f64> {
        let step = |py: Python<'_>| self.0.bind(py).call_method1(intern!(py, "step"), (factor,))?.extract();
        Python::attach(step).map_err(foreign)
    }
}

/// The optimizer of a description, with the code that is the caller's own, if it is that.
///
/// # Errors
/// A description that is none.
pub fn made(description: &Value, code: Option<Py<PyAny>>) -> Result<Box<dyn Optimizer>> {
    match code {
        Some(code) => Ok(Box::new(Foreign::of(description, Some(Arc::new(PyOptimizer(code))))?)),
        None => of(description),
    }
}
