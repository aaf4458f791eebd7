//! Weights given once and for all.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::component::{Argument, Component, list, meant};
use crate::error::Result;
use crate::task::About;
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// The weights given: `L = sum_j w_j lambda_j L_j`, where `lambda_j` is the task's own `weight`.
    pub struct Static = "Static" {
        /// One a task in order, or `{task: weight}`, where tasks without an entry have weight 1.
        task_weights: TaskWeights = TaskWeights::none(), in 0.0..;
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
pub struct Resolved(pub Vec<f64>);

impl Argument for TaskWeights {
    fn words() -> String {
        "a list of numbers, one a task, or {task: number}".into()
    }

    fn python() -> String {
        "Sequence[float] | Mapping[str, float]".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        match self {
            TaskWeights::Each(weights) => weights.within(range),
            TaskWeights::Named(weights) => weights.values().all(|weight| weight.within(range)),
        }
    }
}

impl TaskWeights {
    /// Nothing said of any task.
    pub fn none() -> Self {
        Self::Named(BTreeMap::new())
    }

    /// In the order of the tasks, `missing` where nothing is said.
    ///
    /// # Errors
    /// Numbers that are not one a task, or a name that is no task's; says which `argument` of which `class`.
    pub fn resolve(&self, class: &str, argument: &str, missing: f64, tasks: &[About]) -> Result<Resolved> {
        match self {
            TaskWeights::Each(weights) if weights.len() != tasks.len() => {
                bail!(
                    "{class}: argument `{argument}` should have one number a task, {}; got {}",
                    tasks.len(),
                    weights.len()
                )
            }
            TaskWeights::Named(weights) => {
                let names: Vec<_> = tasks.iter().map(|task| &task.name).collect();
                if let Some(name) = weights.keys().find(|name| !names.contains(name)) {
                    let meant = meant(name, &names);
                    let known = list(&names);
                    bail!("{class}: argument `{argument}`: there is no task {name:?}; {meant}there are {known}");
                }
            }
            TaskWeights::Each(_) => {}
        }
        Ok(Resolved(tasks.iter().enumerate().map(|(j, task)| self.of(j, &task.name, missing)).collect()))
    }

    /// As [`TaskWeights::resolve`] with 1 where nothing is said, over their sum.
    ///
    /// # Errors
    /// As there, and if all are 0.
    pub fn share(&self, class: &str, argument: &str, tasks: &[About]) -> Result<Resolved> {
        let Resolved(mut shares) = self.resolve(class, argument, 1.0, tasks)?;
        let sum: f64 = shares.iter().sum();
        if sum == 0.0 && !shares.is_empty() {
            bail!("{class}: argument `{argument}` should be above 0 for some task");
        }
        shares.iter_mut().for_each(|share| *share /= sum);
        Ok(Resolved(shares))
    }

    /// That of one task.
    pub fn of(&self, task: usize, name: &str, missing: f64) -> f64 {
        match self {
            TaskWeights::Each(weights) => weights.get(task),
            TaskWeights::Named(weights) => weights.get(name),
        }
        .copied()
        .unwrap_or(missing)
    }
}

impl Weighting for Static {
    fn claims(&self) -> Claims {
        Claims { looks: false, promises: &[Promise::Permutes, Promise::Positive, Promise::Count], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state = self.task_weights.resolve(Self::CLASS, "task_weights", 1.0, tasks)?;
        Ok(())
    }

    fn constants(&self) -> &[f64] {
        &self.state.0
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        for (weight, task) in into.weights.iter_mut().zip(evidence.tasks()) {
            *weight = self.state.0.get(*task).copied().unwrap_or(1.0);
        }
        Ok(())
    }
}
