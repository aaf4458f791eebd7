//! Weightings: from evidence about the tasks of a batch to weights, or to a direction for the shared parameters.

use std::fmt::Debug;

use serde_json::Value;

use crate::error::Result;
use crate::registry::Described;

pub mod gradient;
pub mod loss;

/// What a weighting looks at, the dearest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Task losses at most.
    Losses,
    /// The products of the tasks' gradients.
    Gramian,
    /// The tasks' gradients themselves.
    Jacobian,
}

/// What is known of the tasks that have labels in this batch. A task without labels has no row anywhere.
pub trait Evidence {
    /// Indices of the tasks that have labels, ascending: one a row.
    fn tasks(&self) -> &[usize];

    /// Their losses `[rows]`.
    fn losses(&self) -> &[f64];

    /// Products of their gradients at the shared parameters, `[rows, rows]`.
    ///
    /// # Errors
    /// libtorch, or a weighting that did not ask for it in [`Weighting::needs`].
    fn gramian(&mut self) -> Result<&[f64]>;

    /// Their gradients at the shared parameters, `[rows, parameters]`.
    ///
    /// # Errors
    /// As for [`Evidence::gramian`].
    fn jacobian(&mut self) -> Result<&[f32]>;
}

/// What a weighting decides; the buffers are kept from step to step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Combination {
    /// One weight a row of the evidence; comes filled with ones.
    pub weights: Vec<f64>,
    /// The direction of the shared parameters `[parameters]`, if the weights do not say it; comes empty.
    pub direction: Vec<f32>,
}

impl Combination {
    /// Ones for so many rows, and no direction.
    pub fn clear(&mut self, rows: usize) {
        self.weights.clear();
        self.weights.resize(rows, 1.0);
        self.direction.clear();
    }
}

/// How the tasks of a batch share one step. It sees evidence, never a model.
pub trait Weighting: Described + Debug + Send {
    /// What it looks at.
    fn needs(&self) -> Needs {
        Needs::Losses
    }

    /// Gets to know the tasks, before the first step.
    ///
    /// # Errors
    /// Arguments that do not fit these tasks.
    fn prepare(&mut self, tasks: &[String]) -> Result<()> {
        let _ = tasks;
        Ok(())
    }

    /// Decides for one batch; `into` comes cleared. What it knows of tasks without labels stays as it is.
    ///
    /// # Errors
    /// What gathering the evidence returns.
    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()>;

    /// What it has learned so far.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Continues from a state.
    ///
    /// # Errors
    /// The state is not one of this weighting.
    fn restore(&mut self, state: &Value) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// Forgets what it has learned.
    fn reset(&mut self) {}
}

crate::family!(Weighting, "weighting": loss::equal::Equal, loss::r#static::Static);

/// Task losses alone, for weightings that need no more.
#[derive(Debug, Clone, Copy)]
pub struct Losses<'a> {
    /// Indices of the tasks that have labels.
    pub tasks: &'a [usize],
    /// Their losses.
    pub losses: &'a [f64],
}

impl Evidence for Losses<'_> {
    fn tasks(&self) -> &[usize] {
        self.tasks
    }

    fn losses(&self) -> &[f64] {
        self.losses
    }

    fn gramian(&mut self) -> Result<&[f64]> {
        Err(crate::value_error!("there is no Gramian: only losses were given"))
    }

    fn jacobian(&mut self) -> Result<&[f32]> {
        Err(crate::value_error!("there is no Jacobian: only losses were given"))
    }
}
