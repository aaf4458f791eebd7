//! Encoders and heads that are Python modules.

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
use crate::head::{Head, Target};
use crate::machine::foreign::{Foreign, Received, Tensors, Tied};
use crate::network::builder::Builder;
use crate::network::nodes::island::Module;
use crate::network::{Output, ValueId};
use crate::parameters::Init;
use crate::parameters::path::shown;
use crate::{bail, value_error};

/// A name and a shape.
type Named = (String, Vec<usize>);

/// An encoder or a head of the caller's own.
#[derive(Debug)]
pub struct PyModule {
    description: Value,
    function: Arc<PyFunction>,
}

/// What of a model it is.
#[derive(Debug)]
pub enum Part {
    /// The encoder, of which a sharing scheme may want several.
    Encoder,
    /// The head of a task.
    Head(String),
}

/// Python modules of one kind as a function of tensors; the file of a model cannot bring them back.
#[derive(Debug)]
struct PyFunction {
    part: Part,
    /// How it was passed, if that says more than a module.
    said: String,
    /// A dict of modules by the paths where they stand; the face fills it once the network is built.
    modules: Option<Py<PyAny>>,
    width: usize,
    parameters: Vec<Named>,
    buffers: Vec<Named>,
}

/// `pt.encoder.Torch(Net(...), output="pooled")`, where a description keeps more of a module than its sizes.
fn said(part: &Part, description: &Value) -> String {
    let output = match &description["output"] {
        Value::Null => return String::new(),
        Value::Object(function) => function["function"].as_str().unwrap_or("function").to_owned(),
        key => key.to_string(),
    };
    let family = if matches!(part, Part::Encoder) { "encoder" } else { "head" };
    format!("pt.{family}.Torch({}(...), output={output})", description["class"].as_str().unwrap_or("Module"))
}

/// That function at work on a plan's memory.
struct PyTied {
    tied: Py<PyAny>,
    output: Tensor,
}

impl PyModule {
    /// Of a description `{"name": "custom", "width", "parameters", "buffers"}`, where the last two are lists of names and
    /// shapes; the modules may be missing in a loaded model.
    ///
    /// # Errors
    /// A description that is none.
    pub fn new(part: Part, description: &Value, modules: Option<Py<PyAny>>) -> Result<Self> {
        let width = description["width"].as_u64().filter(|&width| width > 0);
        let Some(width) = width else {
            bail!("a module of your own needs `width`, its numbers a row; got {}", description["width"]);
        };
        let named = |key: &str| match serde_json::from_value::<Vec<Named>>(description[key].clone()) {
            Ok(named) => Ok(named),
            Err(_) => Err(value_error!(
                "a module of your own: `{key}` should be a list of names and shapes; got {}",
                description[key]
            )),
        };
        let parameters = named("parameters")?;
        let buffers = named("buffers")?;
        let said = said(&part, description);
        let function = PyFunction { part, said, modules, width: width as usize, parameters, buffers };
        Ok(Self { description: description.clone(), function: Arc::new(function) })
    }

    fn module(&self) -> Arc<dyn Module> {
        self.function.clone()
    }
}

impl Described for PyModule {
    fn describe(&self) -> Value {
        self.description.clone()
    }
}

impl Encoder for PyModule {
    fn stacks(&self) -> bool {
        self.description["stacks"] == true
    }

    fn stage(&self, net: &mut Builder, _: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.island(paths, &[x], &self.module())
    }
}

impl Head for PyModule {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<Vec<Output>> {
        let mut outputs = Vec::with_capacity(targets.len());
        for target in targets {
            let columns = 0..target.width;
            if self.function.width != target.width {
                bail!(
                    "`{}`: the head should give {} numbers a row; it gives {}",
                    shown(&target.path),
                    target.width,
                    self.function.width
                );
            }
            let features = target.features.alone(net, target.reach);
            let value = net.narrow_island(&target.path, features, target.reach, &self.module());
            outputs.push(Output { value, group: 0, columns });
        }
        Ok(outputs)
    }
}

impl PyFunction {
    /// The module that stands at a path.
    fn at<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(modules) = &self.modules else { return Ok(None) };
        let found = modules.bind(py).call_method1(intern!(py, "get"), (path,))?;
        Ok((!found.is_none()).then_some(found))
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
        let Tensors { path, inputs, alone, lengths, output, parameters, wanted, buffers, frozen } = tensors;
        if output.kind() != Kind::Float {
            bail!("a module of your own computes in float32; got {:?}", output.kind());
        }
        let tie = |py: Python<'_>| {
            let Some(module) = self.at(py, &path)? else { return Ok(None) };
            let lend = |tensors: &[Tensor]| PyMemory::lend_all(py, tensors);
            let lengths = lengths.as_ref().map(|lengths| PyMemory::lend(py, lengths)).transpose()?;
            let memory = (lend(&inputs)?, lengths, PyMemory::lend(py, &output)?, lend(&parameters)?, lend(&buffers)?);
            module.call_method1("tie", (memory, alone, wanted, frozen)).map(|tied| Some(tied.unbind()))
        };
        let lost = "was Python code, which a file cannot hold: pass it to `load` again";
        match (Python::attach(tie).map_err(foreign)?, &self.part) {
            (Some(tied), _) => Ok(Box::new(PyTied { tied, output })),
            (None, Part::Encoder) => bail!("this model's encoder {lost}, `encoder={}`", self.said),
            (None, Part::Head(task)) => {
                let module = if self.said.is_empty() { "module" } else { &self.said };
                bail!("this model's head of task `{task}` {lost}, `heads={{{task:?}: {module}}}`")
            }
        }
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
