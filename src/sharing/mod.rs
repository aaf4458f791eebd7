//! Sharing schemes: which parameters serve which task.

pub mod hard;

use std::fmt::Debug;

use crate::encoder::Encoder;
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::{Output, Reach, TaskId, ValueId};
use crate::registry::Described;
use crate::task::Task;

/// What a scheme wires.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The model's features.
    pub x: ValueId,
    /// What turns features into a representation.
    pub encoder: &'a dyn Encoder,
    /// The tasks.
    pub tasks: &'a [Task],
}

impl Parts<'_> {
    /// A path a task: `prefix.task`.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        self.tasks.iter().map(|task| format!("{prefix}.{}", task.name)).collect()
    }

    /// The tasks' names.
    pub fn names(&self) -> Vec<String> {
        self.tasks.iter().map(|task| task.name.clone()).collect()
    }
}

/// Wires encoders so that every head gets its features; never writes a backward.
pub trait Sharing: Debug + Send + Sync + Described {
    /// The features of each task's head.
    ///
    /// # Errors
    /// Sizes or tasks that cannot work.
    fn build(&self, net: &mut Builder, parts: &Parts<'_>) -> Result<Vec<Feature>>;

    /// Which tasks' gradients arrive at a task's head.
    fn head_reach(&self, task: TaskId, tasks: usize) -> Reach {
        let _ = tasks;
        Reach::One(task)
    }

    /// The tasks' raw outputs from those of their heads.
    ///
    /// # Errors
    /// Tasks that cannot work.
    fn outputs(&self, net: &mut Builder, heads: Vec<Output>, tasks: &[Task]) -> Result<Vec<Output>> {
        let _ = (net, tasks);
        Ok(heads)
    }
}

crate::family!(Sharing, "sharing": hard::Hard);
