//! `Model`: the network and its parameters.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use numpy::{
    PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray2, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::{Value, json};

use super::data::PyData;
use super::door::Shared;
use super::foreign::{Part, PyModule};
use super::memory::PyMemory;
use super::meters::PyMeters;
use super::{arrays, door, loss, values};
use crate::component::list;
use crate::error::Result;
use crate::machine::threads::Held;
use crate::meter::{self, Meter};
use crate::model::description::is_own;
use crate::model::inspection::Shown;
use crate::model::{Description, Model, Own};
use crate::network::builder::Limit;
use crate::network::{ForeignNode, Source};
use crate::parameters::path::shown;
use crate::regularizer::Relation;
use crate::task::Task;
use crate::{bail, head, value_error};

/// Rows a batch of prediction, unless said otherwise.
const BATCH: usize = 4096;

/// A multi-task model.
#[pyclass(frozen, name = "Model", module = "polytask._core")]
pub struct PyModel {
    /// Boxed, so that it stays in place.
    pub model: Arc<Shared>,
}

type Calls = Vec<Option<Py<PyAny>>>;
type Array<'py> = Bound<'py, PyArrayDyn<f32>>;
type Named<'py> = (Vec<String>, Bound<'py, PyArray2<f64>>);
/// As [`PyModel::own_modules`] gives it.
type OwnModule = (String, String, Option<String>, Vec<String>);
type View<'py> = (String, String, Vec<String>, Vec<String>, usize, Array<'py>);

impl PyModel {
    fn of(model: Model) -> Self {
        Self { model: Arc::new(Shared::new(model)) }
    }

    /// Runs a call that trains or changes the model, without the GIL.
    pub fn change<R: Send>(&self, py: Python<'_>, call: impl FnOnce(&mut Model) -> Result<R> + Send) -> PyResult<R> {
        door::run(py, || call(&mut *door::write(&self.model)?))
    }

    /// Runs a call that reads the model, without the GIL and beside others that read it.
    pub fn with<R: Send>(&self, py: Python<'_>, call: impl FnOnce(&Model) -> Result<R> + Send) -> PyResult<R> {
        door::run(py, || door::look_into(&self.model, call))
    }
}

#[pymethods]
impl PyModel {
    #[new]
    #[pyo3(signature = (description, losses=Vec::new(), modules=None, max_parameters=None))]
    fn new(
        py: Python<'_>,
        description: &Bound<'_, PyAny>,
        losses: Calls,
        modules: Option<Py<PyAny>>,
        max_parameters: Option<usize>,
    ) -> PyResult<Self> {
        let description = values::read(description, "`description`")?;
        door::run(py, || {
            let limit = max_parameters.map_or_else(Limit::default, |numbers| Limit { numbers, of_file: false });
            let own = own(&description, &losses, modules.as_ref())?;
            Model::within(limit, Description::of(&description, own)?).map(Self::of)
        })
    }

    /// The description with every default filled in.
    #[getter]
    fn description<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        values::give(py, &self.with(py, |model| Ok(model.describe()))?)
    }

    /// How many parameters a model that is made of this one may have.
    #[getter]
    fn max_parameters(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |model| Ok(model.max_parameters()))
    }

    /// Replaces Python's own notes in the description.
    fn set_notes(&self, py: Python<'_>, notes: &Bound<'_, PyAny>) -> PyResult<()> {
        let notes = values::read(notes, "`notes`")?;
        self.change(py, |model| {
            model.set_notes(notes);
            Ok(())
        })
    }

    /// The kind of each task's labels: `"classes"`, `"binary"` or `"values"`.
    #[getter]
    fn kinds<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let kinds: Vec<_> = self.with(py, |model| Ok(model.tasks.iter().map(|task| task.labels.kind()).collect()))?;
        values::give(py, &json!(kinds))
    }

    /// Raw outputs a row, for each task.
    #[getter]
    fn widths(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        self.with(py, |model| Ok(model.widths()))
    }

    /// Predicted numbers a row, for each task.
    #[getter]
    fn predicted_widths(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        self.with(py, |model| Ok(model.predicted_widths()))
    }

    /// Names of the terms that the network adds to the objective.
    #[getter]
    fn terms(&self, py: Python<'_>) -> PyResult<Vec<&'static str>> {
        self.with(py, |model| Ok(model.net.terms()))
    }

    /// The network as its nodes, see `Network::describe`; and of each task its name and the link of its loss.
    fn network<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let described = self.with(py, |model| {
            let mut described = model.net.describe();
            let task = |task: &Task| json!({"name": task.name, "link": task.loss.link(task.labels)});
            described["tasks"] = model.tasks.iter().map(task).collect();
            Ok(described)
        })?;
        values::give(py, &described)
    }

    /// Path, shape and kind (`"parameter"` or `"state"`) of every entry.
    fn names(&self, py: Python<'_>) -> PyResult<Vec<(String, Vec<usize>, String)>> {
        let kind = |parameter: bool| if parameter { "parameter" } else { "state" }.to_owned();
        self.with(py, |model| {
            Ok(model.entries().iter().map(|e| (e.name.to_string(), e.shape.clone(), kind(e.param.is_some()))).collect())
        })
    }

    /// Of each module of the caller's own: its path, the path of the first of those that start from the same numbers, the
    /// task whose head it is, and the paths of its parameters and then its buffers, in its order.
    fn own_modules(&self, py: Python<'_>) -> PyResult<Vec<OwnModule>> {
        self.with(py, |model| {
            let heads: HashMap<_, _> =
                model.tasks.iter().map(|task| (shown(&head::own::path(&task.name)), task.name.clone())).collect();
            let each = |node: ForeignNode<'_>| {
                let task = heads.get(&node.path).cloned();
                (node.path, node.like, task, node.entries.iter().map(|e| e.name.to_string()).collect())
            };
            Ok(model.net.foreign().into_iter().map(each).collect())
        })
    }

    /// What the head of each task of a description is between: numbers a row of its features, raw outputs, and whether it has
    /// them of positions.
    #[staticmethod]
    fn head_sizes(py: Python<'_>, description: &Bound<'_, PyAny>) -> PyResult<Vec<(usize, usize, bool)>> {
        let description = values::read(description, "`description`")?;
        door::run(py, || {
            let sizes = Description::of(&description, own(&description, &Vec::new(), None)?)?.head_sizes()?;
            Ok(sizes.into_iter().map(|size| (size.features, size.outputs, size.positions)).collect())
        })
    }

    /// Copies of all parameters and state, by path; or of that path alone.
    #[pyo3(signature = (path=None))]
    fn state<'py>(&self, py: Python<'py>, path: Option<String>) -> PyResult<Bound<'py, PyDict>> {
        let all = self.with(py, |model| {
            let wanted = |e: &crate::parameters::Entry| path.as_ref().is_none_or(|path| e.name.to_string() == *path);
            let copy = |(i, e): (usize, &crate::parameters::Entry)| {
                Ok((e.name.to_string(), e.shape.clone(), model.entry(i)?.into_owned()))
            };
            model.entries().iter().enumerate().filter(|(_, e)| wanted(e)).map(copy).collect::<Result<Vec<_>>>()
        })?;
        let state = PyDict::new(py);
        for (name, shape, values) in all {
            state.set_item(name, arrays::give(py, values, &shape)?)?;
        }
        Ok(state)
    }

    /// Takes over arrays by path; gives the paths that were missing and those that are unknown.
    #[pyo3(signature = (state, strict=true))]
    fn load_state(
        &self,
        py: Python<'_>,
        state: HashMap<String, Bound<'_, PyAny>>,
        strict: bool,
    ) -> PyResult<(Vec<String>, Vec<String>)> {
        let known = self.names(py)?;
        // What a module of the caller's own keeps beside parameters may be anything: a mask of infinities.
        let own: HashSet<_> = self.own_modules(py)?.into_iter().flat_map(|(.., names)| names).collect();
        let missing: Vec<_> = known.iter().map(|k| k.0.clone()).filter(|name| !state.contains_key(name)).collect();
        let names: HashSet<_> = known.iter().map(|k| &k.0).collect();
        let mut unexpected: Vec<_> = state.keys().filter(|name| !names.contains(name)).cloned().collect();
        unexpected.sort();
        if strict && !(missing.is_empty() && unexpected.is_empty()) {
            let what = format!("`state`: missing {}; unexpected {}", list(&missing), list(&unexpected));
            return Err(PyValueError::new_err(what));
        }
        let mut new = Vec::new();
        for (index, (name, shape, kind)) in known.iter().enumerate() {
            if let Some(array) = state.get(name) {
                let finite = kind == "parameter" || !own.contains(name);
                new.push((index, numbers(array, name, shape, finite)?));
            }
        }
        self.change(py, |model| new.iter().try_for_each(|(index, values)| model.set_entry(*index, values)))?;
        Ok((missing, unexpected))
    }

    /// Where it is: "cpu", or "cuda:0" and the like.
    #[getter]
    fn device(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |model| Ok(model.backend().device()))
    }

    /// Brings parameters and computation to a device of this name.
    fn to(&self, py: Python<'_>, device: &str) -> PyResult<()> {
        self.change(py, |model| model.bring_to(model.backend_of(device)?))
    }

    /// Live, writable views of the parameters, by path; each keeps the model alive.
    fn parameters<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let places = slf.get().with(py, |model| {
            let learned = model.entries().iter().enumerate().filter(|(_, e)| e.param.is_some());
            let place = |(i, e): (usize, &crate::parameters::Entry)| {
                let Some(there) = model.place(i) else {
                    bail!(
                        "`parameters`: live views are of the processor's memory alone: use `state_dict`, which copies"
                    );
                };
                Ok((e.name.to_string(), e.shape.clone(), there.as_ptr() as usize))
            };
            learned.map(place).collect::<Result<Vec<_>>>()
        })?;
        let views = PyDict::new(py);
        for (name, shape, address) in places {
            // SAFETY: flat buffers never move while the model lives, and the view holds the model.
            views.set_item(name, unsafe { arrays::view(slf.clone().into_any(), address as *const f32, &shape) })?;
        }
        Ok(views)
    }

    /// The memory of all parameters and state by path, where the model is: what is written there is in the model. It is kept
    /// as long as somebody has it, but is the model's no more once that is on another device.
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tensors = self.with(py, |model| {
            let place = |(i, e): (usize, &crate::parameters::Entry)| Ok((e.name.to_string(), model.tensor(i)?));
            model.entries().iter().enumerate().map(place).collect::<Result<Vec<_>>>()
        })?;
        let memory = PyDict::new(py);
        for (name, tensor) in &tensors {
            memory.set_item(name, PyMemory::lend(py, tensor)?)?;
        }
        Ok(memory)
    }

    /// The layers, and who needs how many parameters.
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        values::give(py, &self.with(py, |model| model.summary())?)
    }

    /// Freezes or unfreezes everything below these paths; everything there is, if none is given.
    fn freeze(&self, py: Python<'_>, below: Vec<String>, frozen: bool) -> PyResult<()> {
        self.change(py, |model| model.freeze(&below, frozen))
    }

    /// Paths of everything below these paths; everything, if none is given. For a `call`, a path that nothing is
    /// below is an error.
    #[pyo3(signature = (paths, call=None))]
    fn below(&self, py: Python<'_>, paths: Vec<String>, call: Option<&str>) -> PyResult<Vec<String>> {
        self.with(py, |model| {
            call.map_or(Ok(()), |call| model.check_paths(call, &paths))?;
            Ok(model.below(&paths))
        })
    }

    /// Paths of what is frozen.
    #[getter]
    fn frozen(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |model| Ok(model.frozen()))
    }

    /// Every check of rows at the door; with `labels` there must be at least one label. Gives what would be a mistake in
    /// a whole data set and may be chance in some of its rows.
    fn check(&self, py: Python<'_>, data: &Bound<'_, PyData>, labels: bool) -> PyResult<Vec<String>> {
        let data = data.get();
        self.with(py, |model| data.check(&self.model, model, labels))
    }

    /// Predictions of each task, `[rows, predicted width]`; with `raw` its raw outputs.
    #[pyo3(signature = (data, raw=false, batch_size=BATCH))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyData>,
        raw: bool,
        batch_size: usize,
    ) -> PyResult<Vec<Array<'py>>> {
        let data = data.get();
        let (outputs, widths) = self.with(py, |model| {
            data.check(&self.model, model, false)?;
            let mut outputs = room(model, data.data.rows, |_| true)?;
            model.evaluate(&data.data, batch_size, None, &mut outputs, &mut door::looks())?;
            if raw {
                return Ok((outputs, model.widths()));
            }
            let predicted = outputs.iter().enumerate().map(|(task, raw)| model.link(task, raw)).collect();
            Ok((predicted, model.predicted_widths()))
        })?;
        give_all(py, outputs, &widths)
    }

    /// Metrics to be counted in each `evaluate` that is given them: what is wanted, `[{"metrics", "keep", "scale"}, ...]`,
    /// of each task.
    fn meters(&self, py: Python<'_>, wanted: &Bound<'_, PyAny>) -> PyResult<PyMeters> {
        let wanted = values::read(wanted, "`wanted`")?;
        let meters = self.with(py, |model| {
            let wanted = meter::read(&wanted)?;
            let mut meters: Vec<_> = model.tasks.iter().map(|_| Meter::default()).collect();
            for (j, (meter, task)) in meters.iter_mut().zip(&model.tasks).enumerate() {
                meter.want(wanted.get(j), task);
            }
            Ok(meters)
        })?;
        Ok(PyMeters { meters: Mutex::new(meters) })
    }

    /// Sum of weighted losses, total label weight and raw outputs `[rows, width]` (no rows where nobody wants them), of
    /// each task.
    #[pyo3(signature = (data, batch_size=BATCH, meters=None, threads=None))]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyData>,
        batch_size: usize,
        meters: Option<&Bound<'py, PyMeters>>,
        threads: Option<usize>,
    ) -> PyResult<(Vec<f64>, Vec<f64>, Vec<Array<'py>>)> {
        let data = data.get();
        let meters = meters.map(|meters| &meters.get().meters);
        // A loss of the caller's own making says what went wrong in its last call, whoever made it.
        let (sums, outputs, widths) = self.change(py, |model| {
            data.check(&self.model, model, false)?;
            let _held = threads.map(Held::new);
            let mut none = Vec::new();
            none.resize_with(model.tasks.len(), Meter::default);
            let mut given = meters.map(|meters| door::lock(meters, "meters")).transpose()?;
            let measured = given.as_deref_mut().unwrap_or(&mut none);
            let mut outputs = room(model, data.data.rows, |task| measured[task].keeps())?;
            let measured = Some(measured.as_mut_slice());
            let sums = model.evaluate(&data.data, batch_size, measured, &mut outputs, &mut door::looks())?;
            Ok((sums, outputs, model.widths()))
        })?;
        let column = |k: usize| sums.iter().map(|s| s[k]).collect();
        Ok((column(0), column(1), give_all(py, outputs, &widths)?))
    }

    /// Raw outputs of one task turned into predictions.
    fn link<'py>(&self, py: Python<'py>, task: usize, raw: PyReadonlyArray2<'_, f32>) -> PyResult<Array<'py>> {
        let rows = raw.shape()[0];
        let values: Vec<f32> = raw.as_array().iter().copied().collect();
        let columns = raw.shape()[1];
        let (predicted, width) = self.with(py, |model| {
            let widths = model.widths();
            match widths.get(task) {
                Some(&width) if width == columns => Ok((model.link(task, &values), model.predicted_widths()[task])),
                width => bail!("`raw` should have the width of task {task}, {width:?}; got {columns}"),
            }
        })?;
        arrays::give(py, predicted, &[rows, width])
    }

    /// Gradients on all rows as one batch, without dropout: `"sum"`, `"jacobian"` or `"gramian"`.
    fn gradients<'py>(&self, py: Python<'py>, data: &Bound<'py, PyData>, kind: &str) -> PyResult<Bound<'py, PyAny>> {
        let data = data.get();
        self.with(py, |model| data.check(&self.model, model, true))?;
        match kind {
            "sum" => {
                let all = self.change(py, |model| model.gradient(&data.data))?;
                let gradients = PyDict::new(py);
                for ((name, shape, _), values) in self.names(py)?.into_iter().zip(all) {
                    gradients.set_item(name, arrays::give(py, values, &shape)?)?;
                }
                Ok(gradients.into_any())
            }
            "jacobian" => {
                let jacobian = self.change(py, |model| model.jacobian(&data.data))?;
                let shape = [jacobian.rows.len(), jacobian.rows.first().map_or(0, Vec::len)];
                let matrix = arrays::give(py, jacobian.rows.concat(), &shape)?;
                Ok((jacobian.names, matrix).into_pyobject(py)?.into_any())
            }
            "gramian" => {
                let (gramian, tasks) = self.change(py, |model| Ok((model.gramian(&data.data)?, model.tasks.len())))?;
                Ok(PyArray1::from_vec(py, gramian).reshape([tasks, tasks])?.into_any())
            }
            other => Err(PyValueError::new_err(format!(
                "`kind` should be \"sum\", \"jacobian\" or \"gramian\"; got {other:?}"
            ))),
        }
    }

    /// The matrix products of a step: groups, inputs, outputs, and whether the input's gradient is wanted too.
    fn products(&self, py: Python<'_>) -> PyResult<Vec<(usize, usize, usize, bool)>> {
        self.with(py, |model| Ok(model.products().into_iter().map(|([g, i, o], dx)| (g, i, o, dx)).collect()))
    }

    /// A look inside for the given rows: of each view its name, kind (`"gates"`, `"mix"` or `"choice"`), rows, columns, own
    /// columns, and the numbers `[rows, data, columns]` or `[rows, columns]`.
    #[pyo3(signature = (data, batch_size=BATCH))]
    fn inspect<'py>(&self, py: Python<'py>, data: &Bound<'py, PyData>, batch_size: usize) -> PyResult<Vec<View<'py>>> {
        let data = data.get();
        let shown = self.with(py, |model| {
            data.check(&self.model, model, false)?;
            model.inspect(&data.data, batch_size, &mut door::looks())
        })?;
        let give = |Shown { view, values }: Shown| {
            let groups = view.rows.len();
            let width = view.columns.len();
            let (kind, shape) = match view.source {
                Source::Value(_) => ("gates", vec![groups, values.len() / (groups * width).max(1), width]),
                Source::Mix(_) => ("mix", vec![groups, width]),
                Source::Choice(_) => ("choice", vec![groups, width]),
            };
            let values = arrays::give(py, values, &shape)?;
            Ok((view.name, kind.to_owned(), view.rows, view.columns, view.own, values))
        };
        shown.into_iter().map(give).collect()
    }

    /// Names of the tasks and their learned relation `[tasks, tasks]`, if there is one.
    fn relation<'py>(&self, py: Python<'py>) -> PyResult<Option<Named<'py>>> {
        let give = |Relation { tasks, matrix }| {
            let size = tasks.len();
            Ok((tasks, PyArray1::from_vec(py, matrix).reshape([size, size])?))
        };
        self.with(py, |model| Ok(model.relation.clone()))?.map(give).transpose()
    }

    /// Writes the model to a safetensors file, atomically.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.with(py, |model| model.save(&path))
    }

    /// What `save` writes, in memory.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.with(py, |model| model.to_bytes())?))
    }

    /// Reads a model that `save` wrote.
    #[staticmethod]
    #[pyo3(signature = (path, losses=Vec::new(), modules=None))]
    fn load(py: Python<'_>, path: PathBuf, losses: Calls, modules: Option<Py<PyAny>>) -> PyResult<Self> {
        door::run(py, || Model::open(&path, |described| own(described, &losses, modules.as_ref())).map(Self::of))
    }

    /// Reads a model that `to_bytes` gave.
    #[staticmethod]
    #[pyo3(signature = (data, losses=Vec::new(), modules=None))]
    fn from_bytes(py: Python<'_>, data: &[u8], losses: Calls, modules: Option<Py<PyAny>>) -> PyResult<Self> {
        door::run(py, || Model::from_bytes(data, |described| own(described, &losses, modules.as_ref())).map(Self::of))
    }
}

/// What of a description is code of the caller's own; `modules` by path are Python's.
fn own(description: &Value, losses: &Calls, modules: Option<&Py<PyAny>>) -> Result<Own> {
    let given = || modules.map(|modules| Python::attach(|py| modules.clone_ref(py)));
    let mut own = Own { losses: loss::custom(description, losses)?, ..Own::default() };
    if is_own(&description["encoder"]) {
        own.encoder = Some(Box::new(PyModule::new(Part::Encoder, &description["encoder"], given())?));
    }
    for (task, head) in description["heads"].as_object().into_iter().flatten().filter(|(_, head)| is_own(head)) {
        own.heads.insert(task.clone(), Box::new(PyModule::new(Part::Head(task.clone()), head, given())?));
    }
    Ok(own)
}

/// Memory for the raw outputs of so many rows; rows that take no memory themselves may ask for more than there is.
fn room(model: &Model, rows: usize, wanted: impl Fn(usize) -> bool) -> Result<Vec<Vec<f32>>> {
    let widths = model.widths();
    let mut outputs = vec![Vec::new(); widths.len()];
    for (_, (out, width)) in outputs.iter_mut().zip(widths).enumerate().filter(|(task, _)| wanted(*task)) {
        out.try_reserve_exact(rows.saturating_mul(width))
            .map_err(|_| value_error!("outputs of {rows} rows do not fit in memory; pass fewer rows at a time"))?;
    }
    Ok(outputs)
}

fn give_all<'py>(py: Python<'py>, outputs: Vec<Vec<f32>>, widths: &[usize]) -> PyResult<Vec<Array<'py>>> {
    let give = |(values, &width): (Vec<f32>, &usize)| {
        let rows = values.len() / width;
        arrays::give(py, values, &[rows, width])
    };
    outputs.into_iter().zip(widths).map(give).collect()
}

/// The `f32` numbers of an array of the expected shape, if need be all finite.
fn numbers(array: &Bound<'_, PyAny>, name: &str, shape: &[usize], finite: bool) -> PyResult<Vec<f32>> {
    let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, f32>>() else {
        let got = match array.cast::<PyUntypedArray>() {
            Ok(array) => array.dtype().to_string(),
            Err(_) => array.get_type().to_string(),
        };
        return Err(PyTypeError::new_err(format!("`state`: `{name}` should be a float32 array; got {got}")));
    };
    if array.shape() != shape {
        let what = format!("`state`: `{name}` should have shape {shape:?}; got {:?}", array.shape());
        return Err(PyValueError::new_err(what));
    }
    let values: Vec<f32> = array.as_array().iter().copied().collect();
    match values.iter().find(|x| finite && !x.is_finite()) {
        Some(x) => Err(PyValueError::new_err(format!("`state`: `{name}` should hold finite numbers; got {x}"))),
        None => Ok(values),
    }
}
