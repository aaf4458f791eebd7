//! Weights given once and for all.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::registry::{Ranged, list};
use crate::weighting::{About, Combination, Evidence, Weighting};

crate::component! {
    /// The weights given: `L = sum_j w_j lambda_j L_j`, where `lambda_j` is the task's own `weight`.
    pub struct Static = "Static" {
        /// One a task in order, or `{task: weight}`, where tasks without an entry have weight 1.
        task_weights: TaskWeights = TaskWeights::Named(BTreeMap::new()), in 0.0..;
    }
    state: Resolved;
}

/// Weights of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TaskWeights {
    /// One a task, in order.
    Each(Vec<f64>),
    /// By name.
    Named(BTreeMap<String, f64>),
}

/// The weights in the order of the tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved(Vec<f64>);

impl Ranged for TaskWeights {
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        match self {
            TaskWeights::Each(weights) => weights.within(range),
            TaskWeights::Named(weights) => weights.values().all(|weight| weight.within(range)),
        }
    }
}

impl TaskWeights {
    fn resolve(&self, tasks: &[About]) -> Result<Vec<f64>> {
        match self {
            TaskWeights::Each(weights) if weights.len() == tasks.len() => Ok(weights.clone()),
            TaskWeights::Each(weights) => {
                bail!(
                    "Static: argument `task_weights` should have one number a task, {}; got {}",
                    tasks.len(),
                    weights.len()
                )
            }
            TaskWeights::Named(weights) => {
                let names: Vec<_> = tasks.iter().map(|task| &task.name).collect();
                if let Some(name) = weights.keys().find(|name| !names.contains(name)) {
                    bail!("Static: argument `task_weights`: there is no task {name:?}; there are {}", list(&names));
                }
                Ok(names.iter().map(|name| weights.get(*name).copied().unwrap_or(1.0)).collect())
            }
        }
    }
}

impl Weighting for Static {
    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state = Resolved(self.task_weights.resolve(tasks)?);
        Ok(())
    }

    fn looks(&self) -> bool {
        false
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        for (weight, task) in into.weights.iter_mut().zip(evidence.tasks()) {
            *weight = self.state.0.get(*task).copied().unwrap_or(1.0);
        }
        Ok(())
    }
}
