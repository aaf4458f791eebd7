//! `Trainer`: the training loop.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use numpy::{PyArray1, PyArrayDyn, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::data::{DataSets, PyData};
use super::door::Shared;
use super::model::PyModel;
use super::{arrays, door, optimizer, values, weighting};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::trainer::Trainer;
use crate::trainer::checkpoint::Checkpoint;
use crate::trainer::epoch::{Run, Sets};
use crate::trainer::settings::Settings;
use crate::{meter, value_error};

/// Trains one model.
#[pyclass(frozen, name = "Trainer", module = "polytask._core")]
pub struct PyTrainer {
    model: Arc<Shared>,
    trainer: Mutex<Trainer>,
}

impl PyTrainer {
    fn with<R: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut Trainer, &mut Model) -> Result<R> + Send,
    ) -> PyResult<R> {
        door::run(py, || {
            let mut trainer = door::lock(&self.trainer, "trainer")?;
            call(&mut trainer, &mut *door::write(&self.model)?)
        })
    }

    fn look<R: Send>(&self, py: Python<'_>, call: impl FnOnce(&Trainer) -> R + Send) -> PyResult<R> {
        door::run(py, || Ok(call(&*door::lock(&self.trainer, "trainer")?)))
    }
}

#[pymethods]
impl PyTrainer {
    #[new]
    #[pyo3(signature = (model, settings, weighting=None, optimizer=None))]
    fn new(
        py: Python<'_>,
        model: &Bound<'_, PyModel>,
        settings: &Bound<'_, PyAny>,
        weighting: Option<Py<PyAny>>,
        optimizer: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let settings = values::read(settings, "`settings`")?;
        let shared = model.get();
        let ties = optimizer.is_some();
        let trainer = shared.with(py, |model| {
            let mut all = Settings::of(&settings)?;
            if weighting.is_some() {
                all.weighting = weighting::made(&settings["weighting"], weighting)?;
            }
            if ties {
                all.optimizer = optimizer::made(&settings["optimizer"], optimizer)?;
            }
            Trainer::new(model, all)
        })?;
        let new = Self { model: shared.model.clone(), trainer: Mutex::new(trainer) };
        if let Some(device) = settings["device"].as_str() {
            new.with(py, |trainer, model| {
                let backend = model.backend_of(device)?;
                trainer.check_device(backend)?;
                model.bring_to(backend)
            })?;
        }
        if ties {
            new.with(py, |trainer, model| trainer.tie(model))?;
        }
        Ok(new)
    }

    /// The settings with every default filled in.
    #[getter]
    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        values::give(py, &self.look(py, Trainer::settings)?)
    }

    /// The factor of each task's loss in the objective, up to one for all, if nothing changes that.
    #[getter]
    fn constant_weights(&self, py: Python<'_>) -> PyResult<Option<Vec<f64>>> {
        self.look(py, |trainer| trainer.constant_weights().map(<[f64]>::to_vec))
    }

    /// Batches a step.
    #[getter]
    fn accumulate(&self, py: Python<'_>) -> PyResult<usize> {
        self.look(py, Trainer::accumulate)
    }

    /// The name of the weighting.
    #[getter]
    fn weighting(&self, py: Python<'_>) -> PyResult<String> {
        self.look(py, Trainer::weighting)
    }

    /// The names of the regularizers.
    #[getter]
    fn regularizers(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.look(py, Trainer::regularizers)
    }

    /// Steps of the optimizer so far.
    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, Trainer::steps)
    }

    /// Complete epochs so far.
    #[getter]
    fn epochs(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, Trainer::epochs)
    }

    /// Batches done in the running epoch.
    #[getter]
    fn batches(&self, py: Python<'_>) -> PyResult<usize> {
        self.look(py, Trainer::batches)
    }

    /// The learning rate of the last step, of the first group.
    #[getter]
    fn lr(&self, py: Python<'_>) -> PyResult<f64> {
        self.look(py, Trainer::lr)
    }

    /// Threads of a call that begins now.
    #[getter]
    fn threads(&self, py: Python<'_>) -> PyResult<usize> {
        door::run(py, || Ok(door::lock(&self.trainer, "trainer")?.threads()))
    }

    /// Numbers of threads so far, each with the first of its steps, counted from 0.
    #[getter]
    fn stretches(&self, py: Python<'_>) -> PyResult<Vec<(u64, usize)>> {
        self.look(py, |trainer| trainer.stretches().to_vec())
    }

    /// Whether steps minimise something else than the loss.
    #[getter]
    fn minimizes_another(&self, py: Python<'_>) -> PyResult<bool> {
        self.look(py, Trainer::minimizes_another)
    }

    /// The loss of the running epoch so far; NaN before its first step.
    #[getter]
    fn running(&self, py: Python<'_>) -> PyResult<f64> {
        self.look(py, Trainer::running)
    }

    /// The column of the history that the schedule wants to see, and whether "min", "max" or "auto" is better.
    #[getter]
    fn watches(&self, py: Python<'_>) -> PyResult<Option<(String, &'static str)>> {
        self.look(py, Trainer::watches)
    }

    /// Whether the weighting learns from validation rows.
    #[getter]
    fn needs_validation(&self, py: Python<'_>) -> PyResult<bool> {
        self.look(py, Trainer::needs_validation)
    }

    /// Whether the weighting compares the gradients of the tasks in a step.
    #[getter]
    fn compares(&self, py: Python<'_>) -> PyResult<bool> {
        self.look(py, Trainer::compares)
    }

    /// Counts metrics of training from here on: `[{"metrics", "keep", "scale"}, ...]`, of each task or none.
    fn measure(&self, py: Python<'_>, wanted: &Bound<'_, PyAny>) -> PyResult<()> {
        let wanted = values::read(wanted, "`wanted`")?;
        self.with(py, |trainer, model| {
            trainer.measure(model, &meter::read(&wanted)?);
            Ok(())
        })
    }

    /// Rows that the weighting may learn from.
    fn validate_on(&self, py: Python<'_>, data: &Bound<'_, PyData>) -> PyResult<()> {
        let data = data.get();
        self.with(py, |trainer, model| {
            data.check(&self.model, model, true)?;
            trainer.validate_on(data.data.clone());
            Ok(())
        })
    }

    /// Tells schedules that need it how many steps the run will have.
    fn plan(&self, py: Python<'_>, total_steps: Option<u64>) -> PyResult<()> {
        self.with(py, |trainer, _| trainer.plan(total_steps))
    }

    /// What is to be said of the steps so far, once a run.
    fn warning(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, |trainer, _| Ok(trainer.warning()))
    }

    /// Resolves `"balanced"` weights from these labels, the first time.
    fn balance(&self, py: Python<'_>, data: &Bound<'_, PyData>) -> PyResult<()> {
        let data = data.get();
        self.with(py, |trainer, model| {
            data.check(&self.model, model, true)?;
            trainer.balance(model, &data.data)
        })
    }

    /// Goes on with the running epoch; gives whether it is through.
    #[pyo3(signature = (data, *, batch_size, shuffle, keep_outputs, stop_after=None, drop_last=false, group_by_length=false, poll=None))]
    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        py: Python<'_>,
        data: DataSets<'_>,
        batch_size: usize,
        shuffle: bool,
        keep_outputs: bool,
        stop_after: Option<usize>,
        drop_last: bool,
        group_by_length: bool,
        poll: Option<Py<PyAny>>,
    ) -> PyResult<bool> {
        let (parts, mix) = data.parts();
        let how = Run { batch_size, shuffle, keep_outputs, drop_last, group_by_length };
        let mut look = |done: usize, total: usize, loss: f64| {
            Python::attach(|py| {
                door::look(py)?;
                poll.as_ref().map_or(Ok(()), |poll| poll.call1(py, (done, total, loss)).map(drop))
            })
            .map_err(door::foreign)
        };
        self.with(py, |trainer, model| {
            parts.iter().try_for_each(|part| part.check(&self.model, model, true).map(drop))?;
            let each: Vec<_> = parts.iter().map(|part| &part.data).collect();
            let sets = Sets { each: &each, mix: mix.as_ref() };
            trainer.run_over(model, sets, how, stop_after, &mut look)
        })
    }

    /// One batch in the given order: the loss, the objective, and each task's loss.
    #[pyo3(signature = (data, keep_outputs=false))]
    fn step(&self, py: Python<'_>, data: &Bound<'_, PyData>, keep_outputs: bool) -> PyResult<(f64, f64, Vec<f64>)> {
        let data = data.get();
        let report = self.with(py, |trainer, model| {
            data.check(&self.model, model, false)?;
            trainer.step(model, data.data.clone(), keep_outputs)
        })?;
        Ok((report.loss, report.objective, report.losses))
    }

    /// Steps on what waits for the rest of its accumulation.
    #[pyo3(signature = (keep_outputs=false))]
    fn flush(&self, py: Python<'_>, keep_outputs: bool) -> PyResult<()> {
        self.with(py, |trainer, model| trainer.flush(model, keep_outputs))
    }

    /// Raw outputs kept of some rows, of each task; none of a task of which nobody wants them.
    #[pyo3(signature = (start=0, stop=usize::MAX))]
    fn outputs<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
        let (outputs, widths) = self.with(py, |trainer, model| {
            let widths = model.widths();
            let part = |(kept, &width): (&Vec<f32>, &usize)| {
                let rows = kept.len() / width;
                kept[start.min(rows) * width..stop.min(rows).max(start.min(rows)) * width].to_vec()
            };
            Ok((trainer.outputs().iter().zip(&widths).map(part).collect::<Vec<_>>(), widths))
        })?;
        let give = |(values, &width): (Vec<f32>, &usize)| {
            let rows = values.len() / width;
            arrays::give(py, values, &[rows, width])
        };
        outputs.into_iter().zip(&widths).map(give).collect()
    }

    /// Rows of each data set that the epoch visits, in their order.
    fn visited<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyArray1<u32>>>> {
        let rows = self.look(py, Trainer::visited)?;
        Ok(rows.into_iter().map(|rows| PyArray1::from_vec(py, rows)).collect())
    }

    /// Closes the epoch: its means.
    fn end_epoch<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        values::give(py, &self.with(py, |trainer, model| trainer.end_epoch(model))?)
    }

    /// The loss of an evaluation, from each task's sum of weighted losses and of label weights.
    #[allow(clippy::needless_pass_by_value)]
    fn evaluated(&self, py: Python<'_>, sums: Vec<f64>, weights: Vec<f64>) -> PyResult<f64> {
        self.with(py, |trainer, model| trainer.evaluated(model, &sums, &weights))
    }

    /// Shows the schedule what it watches.
    fn observe(&self, py: Python<'_>, value: f64, higher_is_better: bool) -> PyResult<()> {
        self.with(py, |trainer, _| {
            trainer.observe(value, higher_is_better);
            Ok(())
        })
    }

    /// Writes a checkpoint with notes and arrays of the caller's, atomically.
    fn save(&self, py: Python<'_>, path: PathBuf, extra: &str, arrays: Arrays<'_>) -> PyResult<()> {
        let arrays = slices(&arrays)?;
        self.with(py, |trainer, model| trainer.save(model, &path, extra, &arrays))
    }

    /// What `save` writes, in memory.
    fn to_bytes<'py>(&self, py: Python<'py>, extra: &str, arrays: Arrays<'_>) -> PyResult<Bound<'py, PyBytes>> {
        let arrays = slices(&arrays)?;
        Ok(PyBytes::new(py, &self.with(py, |trainer, model| trainer.to_bytes(model, extra, &arrays))?))
    }

    /// Reads a checkpoint for this trainer, in which nothing changes yet: a file's, or what `to_bytes` gave.
    fn read(&self, py: Python<'_>, source: Written) -> PyResult<PyCheckpoint> {
        let read = self.with(py, |trainer, model| match &source {
            Written::Bytes(bytes) => trainer.read_checkpoint_bytes(model, bytes),
            Written::File(path) => trainer.read_checkpoint(model, path),
        })?;
        Ok(PyCheckpoint { checkpoint: Mutex::new(Some(read)) })
    }

    /// Goes on from a checkpoint that this trainer read, once.
    fn take_over(&self, py: Python<'_>, checkpoint: &Bound<'_, PyCheckpoint>) -> PyResult<()> {
        let checkpoint = checkpoint.get();
        self.with(py, |trainer, model| {
            let taken = door::lock(&checkpoint.checkpoint, "checkpoint")?.take();
            trainer.take_over(model, taken.ok_or_else(taken_already)?)
        })
    }
}

/// Bytes by name.
type Arrays<'py> = Vec<(String, PyReadonlyArray1<'py, u8>)>;

fn slices<'a>(arrays: &'a Arrays<'_>) -> PyResult<Vec<(String, &'a [u8])>> {
    arrays.iter().map(|(name, array)| Ok((name.clone(), array.as_slice()?))).collect()
}

/// Where a checkpoint is.
#[derive(FromPyObject)]
enum Written {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// A checkpoint that a trainer has read and not yet taken over.
#[pyclass(frozen, name = "Checkpoint", module = "polytask._core")]
pub struct PyCheckpoint {
    checkpoint: Mutex<Option<Checkpoint>>,
}

#[pymethods]
impl PyCheckpoint {
    /// The caller's notes.
    #[getter]
    fn extra(&self, py: Python<'_>) -> PyResult<String> {
        self.look(py, |checkpoint| checkpoint.extra.clone())
    }

    /// Epochs and steps of the optimizer when it was written.
    #[getter]
    fn place(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        self.look(py, |checkpoint| checkpoint.place().into())
    }

    /// The caller's arrays: bytes by name.
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<HashMap<String, Bound<'py, PyArray1<u8>>>> {
        let arrays = self.look(py, |checkpoint| checkpoint.arrays.clone())?;
        Ok(arrays.into_iter().map(|(name, bytes)| (name, PyArray1::from_vec(py, bytes))).collect())
    }
}

impl PyCheckpoint {
    fn look<R: Send>(&self, py: Python<'_>, call: impl FnOnce(&Checkpoint) -> R + Send) -> PyResult<R> {
        door::run(py, || {
            let held = door::lock(&self.checkpoint, "checkpoint")?;
            Ok(call(held.as_ref().ok_or_else(taken_already)?))
        })
    }
}

fn taken_already() -> Error {
    value_error!("the checkpoint was taken over already")
}
