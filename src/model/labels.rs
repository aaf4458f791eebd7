//! One task's labels and row weights of a batch: on the host, and on the device of a plan that is elsewhere.

use tch::{Device, Kind, Tensor};

use crate::data::{Asked, Data, Rows};
use crate::error::Result;
use crate::label::Targets;
use crate::loss::TensorBatch;
use crate::machine::buffer::Layout;
use crate::machine::crossing::send;
use crate::machine::storage::{Backend, Storage};

/// One task's labels and row weights of the batch.
#[derive(Debug)]
pub(super) struct TaskLabels {
    asked: Asked,
    /// Whether they are shares of the sum over their row's.
    shares: bool,
    classes: Vec<i32>,
    values: Vec<f32>,
    weights: Vec<f32>,
    weighted: bool,
    /// The same where a plan by formulas reads them.
    away: Option<Away>,
}

/// Labels and row weights in memory of a device, where they stay from batch to batch.
#[derive(Debug)]
struct Away {
    classes: Storage<i32>,
    values: Storage<f32>,
    weights: Storage<f32>,
}

/// A task's labels as its loss's formula reads them.
#[derive(Debug)]
pub(super) struct LabelTensors {
    labels: Tensor,
    weights: Option<Tensor>,
}

impl TaskLabels {
    /// Of so many rows or positions, all missing.
    pub fn new(rows: usize, asked: Asked, shares: bool) -> Self {
        let (classes, values) = match asked.labels.columns() {
            None => (vec![-1; rows], Vec::new()),
            Some(columns) => (Vec::new(), vec![f32::NAN; rows * columns]),
        };
        Self { asked, shares, classes, values, weights: vec![1.0; rows], weighted: false, away: None }
    }

    /// Gathers those of a task; where there is room for more they are missing.
    pub fn gather(&mut self, data: &Data, task: usize, rows: Rows<'_>) {
        self.weighted = data.has_weights(task);
        if self.weighted {
            data.gather_weights(task, &self.asked, rows.clone(), &mut self.weights);
        }
        let labels = self.asked.labels;
        match (data.has_targets(task), labels.columns()) {
            (true, None) => data.gather_classes(task, &self.asked, rows, &mut self.classes),
            (true, Some(_)) if self.shares => data.gather_shares(task, labels, rows, &mut self.values),
            (true, Some(_)) => data.gather_values(task, labels, rows, &mut self.values),
            (false, _) => {
                self.classes.fill(-1);
                self.values.fill(f32::NAN);
            }
        }
    }

    /// Sends what was gathered to a plan by formulas.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn send(&mut self, backend: Backend) -> Result<()> {
        if backend == Backend::Loops {
            return Ok(());
        }
        let Self { classes, values, weights, away, .. } = self;
        let away = match away {
            Some(away) => away,
            none => none.insert(Away {
                classes: Storage::zeros(Layout::flat(classes.len()), backend)?,
                values: Storage::zeros(Layout::flat(values.len()), backend)?,
                weights: Storage::zeros(Layout::flat(weights.len()), backend)?,
            }),
        };
        match self.asked.labels.columns() {
            None => away.classes.put(0, classes)?,
            Some(_) => away.values.put(0, values)?,
        }
        if self.weighted { away.weights.put(0, weights) } else { Ok(()) }
    }

    /// The labels.
    pub fn targets(&self) -> Targets<'_, f32> {
        match self.asked.labels.columns() {
            None => Targets::Classes(&self.classes),
            Some(_) => Targets::Values(&self.values),
        }
    }

    /// The row weights, if there are any.
    pub fn weights(&self) -> Option<&[f32]> {
        self.weighted.then_some(&self.weights)
    }

    /// The size of the largest label that is a number.
    pub fn largest(&self) -> f32 {
        self.values.iter().fold(0.0_f32, |most, x| most.max(x.abs()))
    }

    /// These labels as tensors where the plan is.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn tensors(&self) -> Result<LabelTensors> {
        let rows = self.weights.len();
        let columns = self.values.len() / rows.max(1);
        let (labels, weights) = match (&self.away, self.targets()) {
            (Some(Away { classes, weights, .. }), Targets::Classes(_)) => {
                (classes.shaped(&[rows])?.f_to_kind(Kind::Int64)?, weights.shaped(&[rows])?)
            }
            (Some(Away { values, weights, .. }), Targets::Values(_)) => {
                (values.shaped(&[rows, columns])?, weights.shaped(&[rows])?)
            }
            (None, Targets::Classes(classes)) => {
                (send(classes, Device::Cpu)?.f_to_kind(Kind::Int64)?, send(&self.weights, Device::Cpu)?)
            }
            (None, Targets::Values(values)) => {
                let values = send(values, Device::Cpu)?.f_reshape([rows as i64, columns as i64])?;
                (values, send(&self.weights, Device::Cpu)?)
            }
        };
        Ok(LabelTensors { labels, weights: Some(weights).filter(|_| self.weighted) })
    }
}

impl LabelTensors {
    /// The same for each member of an ensemble in turn, row by row.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn of_members(self, members: Option<usize>) -> Result<Self> {
        let Some(members) = members else { return Ok(self) };
        let each = |of: &Tensor| of.f_repeat_interleave_self_int(members as i64, 0, None);
        Ok(Self { labels: each(&self.labels)?, weights: self.weights.as_ref().map(each).transpose()? })
    }

    /// With the raw outputs that they are of.
    pub fn batch<'a>(&'a self, raw: &'a Tensor) -> TensorBatch<'a> {
        TensorBatch { raw, labels: &self.labels, weights: self.weights.as_ref() }
    }
}
