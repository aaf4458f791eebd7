//! An encoder that is a Python module.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::door::foreign;
use super::memory::{PyMemory, Sent, receive};
use crate::component::Described;
use crate::encoder::Encoder;
use crate::error::Result;
use crate::machine::foreign::{Foreign, Received, Tensors, Tied};
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::network::nodes::island::Module;
use crate::parameters::Init;
use crate::{bail, value_error};

/// A name and a shape.
type Named = (String, Vec<usize>);

/// An encoder of the caller's own.
#[derive(Debug)]
pub struct PyEncoder {
    description: Value,
    function: Arc<PyFunction>,
}

/// A Python module as a function of tensors; the file of a model cannot bring it back.
#[derive(Debug)]
struct PyFunction {
    module: Option<Py<PyAny>>,
    width: usize,
    parameters: Vec<Named>,
    buffers: Vec<Named>,
}

/// That function at work on a plan's memory.
struct PyTied {
    tied: Py<PyAny>,
    output: Tensor,
}

impl PyEncoder {
    /// Of a description `{"name": "custom", "width", "parameters", "buffers"}`, where the last two are lists of names and
    /// shapes; the module may be missing in a loaded model.
    ///
    /// # Errors
    /// A description that is none.
    pub fn new(description: &Value, module: Option<Py<PyAny>>) -> Result<Self> {
        let width = description["width"].as_u64().filter(|&width| width > 0);
        let Some(width) = width else {
            bail!("an encoder of your own needs `width`, its numbers a row; got {}", description["width"]);
        };
        let named = |key: &str| match serde_json::from_value::<Vec<Named>>(description[key].clone()) {
            Ok(named) => Ok(named),
            Err(_) => {
                Err(value_error!("`encoder`: `{key}` should be a list of names and shapes; got {}", description[key]))
            }
        };
        let function =
            PyFunction { module, width: width as usize, parameters: named("parameters")?, buffers: named("buffers")? };
        Ok(Self { description: description.clone(), function: Arc::new(function) })
    }
}

impl Described for PyEncoder {
    fn describe(&self) -> Value {
        self.description.clone()
    }
}

impl Encoder for PyEncoder {
    fn stage(&self, net: &mut Builder, _: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        let module: Arc<dyn Module> = self.function.clone();
        net.island(paths, &[x], &module)
    }
}

impl Module for PyFunction {
    fn width(&self) -> usize {
        self.width
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>, Init)> {
        // The face puts in those of the module.
        self.parameters.iter().map(|(name, shape)| (name.clone(), shape.clone(), Init::Constant(0.0))).collect()
    }

    fn buffers(&self) -> Vec<(String, Vec<usize>, Vec<f64>)> {
        self.buffers.iter().map(|(name, shape)| (name.clone(), shape.clone(), Vec::new())).collect()
    }

    fn forward(&self, _: &[Tensor], _: &[Tensor], _: bool) -> Result<Tensor> {
        unreachable!("it is foreign")
    }

    fn foreign(&self) -> Option<&dyn Foreign> {
        Some(self)
    }
}

impl Foreign for PyFunction {
    fn tie(&self, tensors: Tensors) -> Result<Box<dyn Tied>> {
        let Some(module) = &self.module else {
            bail!(
                "this model's encoder was Python code, which a file cannot hold: pass it to `load` again, `encoder=`"
            );
        };
        let Tensors { inputs, output, parameters, wanted, buffers, frozen } = tensors;
        if output.kind() != Kind::Float {
            bail!("an encoder of your own computes in float32; got {:?}", output.kind());
        }
        let tie = |py: Python<'_>| {
            let lend = |tensors: &[Tensor]| PyMemory::lend_all(py, tensors);
            let memory = (lend(&inputs)?, PyMemory::lend(py, &output)?, lend(&parameters)?, lend(&buffers)?);
            module.bind(py).call_method1("tie", (memory, wanted, frozen)).map(Bound::unbind)
        };
        let tied = Python::attach(tie).map_err(foreign)?;
        Ok(Box::new(PyTied { tied, output }))
    }
}

impl Tied for PyTied {
    fn forward(&mut self, training: bool, seed: u64) -> Result<()> {
        let forward =
            |py: Python<'_>| self.tied.bind(py).call_method1(intern!(py, "forward"), (training, seed)).map(drop);
        Python::attach(forward).map_err(foreign)
    }

    fn backward(&mut self, along: &Tensor, last: bool) -> Result<Vec<Received>> {
        let backward = |py: Python<'_>| -> PyResult<Vec<Sent>> {
            let along = PyMemory::lend(py, along)?;
            self.tied.bind(py).call_method1(intern!(py, "backward"), (along, last))?.extract()
        };
        let sent = Python::attach(backward).map_err(foreign)?;
        sent.into_iter().map(|sent| receive(sent, &self.output)).collect()
    }
}
