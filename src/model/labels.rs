//! One task's labels and row weights of a batch: on the host, and on the device of a plan that is elsewhere.

use tch::{Device, Kind, Tensor};

use crate::data::{Data, Rows};
use crate::error::Result;
use crate::label::{Labels, Targets};
use crate::loss::TensorBatch;
use crate::machine::storage::Backend;

/// One task's labels and row weights of the batch.
#[derive(Debug)]
pub(super) struct TaskLabels {
    labels: Labels,
    classes: Vec<i32>,
    values: Vec<f32>,
    weights: Vec<f32>,
    weighted: bool,
    /// The same on the plan's device, where that is not the host.
    away: Option<LabelTensors>,
}

/// A task's labels as its loss's formula reads them.
#[derive(Debug)]
pub(super) struct LabelTensors {
    labels: Tensor,
    weights: Option<Tensor>,
}

// SAFETY: these are only read, and libtorch counts handles of tensors atomically.
unsafe impl Sync for LabelTensors {}

impl TaskLabels {
    /// Of so many rows or positions, all missing.
    pub fn new(rows: usize, labels: Labels) -> Self {
        let (classes, values) = match labels.columns() {
            None => (vec![-1; rows], Vec::new()),
            Some(columns) => (Vec::new(), vec![f32::NAN; rows * columns]),
        };
        Self { labels, classes, values, weights: vec![1.0; rows], weighted: false, away: None }
    }

    /// Gathers those of a task, for a plan of this backend; where there is room for more they are missing.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn load(&mut self, data: &Data, task: usize, rows: Rows<'_>, backend: Backend) -> Result<()> {
        self.weighted = data.has_weights(task);
        if self.weighted {
            data.gather_weights(task, rows.clone(), &mut self.weights);
        }
        match (data.has_targets(task), self.labels.columns()) {
            (true, None) => data.gather_classes(task, rows, &mut self.classes),
            (true, Some(_)) => data.gather_values(task, self.labels, rows, &mut self.values),
            (false, _) => {
                self.classes.fill(-1);
                self.values.fill(f32::NAN);
            }
        }
        match backend {
            Backend::Loops => {}
            Backend::Formulas(device) => self.away = Some(self.sent(device)?),
        }
        Ok(())
    }

    /// The labels.
    pub fn targets(&self) -> Targets<'_, f32> {
        match self.labels.columns() {
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
        match &self.away {
            Some(LabelTensors { labels, weights }) => {
                let weights = weights.as_ref().map(Tensor::shallow_clone);
                Ok(LabelTensors { labels: labels.shallow_clone(), weights })
            }
            None => self.sent(Device::Cpu),
        }
    }

    /// The same in memory of a device.
    fn sent(&self, device: Device) -> Result<LabelTensors> {
        let rows = self.weights.len() as i64;
        let labels = match self.targets() {
            Targets::Classes(classes) => Tensor::from_slice(classes).f_to_kind(Kind::Int64)?,
            Targets::Values(values) => {
                Tensor::from_slice(values).f_reshape([rows, values.len() as i64 / rows.max(1)])?
            }
        };
        let weights = self.weights().map(|weights| Tensor::from_slice(weights).f_to_device(device)).transpose()?;
        Ok(LabelTensors { labels: labels.f_to_device(device)?, weights })
    }
}

impl LabelTensors {
    /// With the raw outputs that they are of.
    pub fn batch<'a>(&'a self, raw: &'a Tensor) -> TensorBatch<'a> {
        TensorBatch { raw, labels: &self.labels, weights: self.weights.as_ref() }
    }
}
