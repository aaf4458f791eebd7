//! Numbers of the running step, which its parts hand on to each other.

use super::tally::{Counts, Tally};
use crate::error::Result;
use crate::machine::crossing::Placed;
use crate::machine::lent::Lent;
use crate::machine::storage::{Backend, Storage};
use crate::model::workspace::Workspace;
use crate::parameters::TaskId;
use crate::task::Task;
use crate::weighting::Decision;

/// A look at each micro-batch's outputs.
pub(super) type Look<'a> = dyn FnMut(&Workspace, usize) -> Result<()> + 'a;

/// Numbers of the running step; a row is a task that has labels in it.
#[derive(Debug)]
pub struct Scratch {
    pub labels: LabelCounts,
    pub losses: Losses,
    pub gradients: TaskGradients,
    pub factors: Factors,
    /// Batch statistics as they were before the step.
    pub state: Storage<f32>,
    /// Sums of steps by formulas.
    pub tally: Option<Tally>,
}

/// Labels of all micro-batches of a step.
#[derive(Debug)]
pub struct LabelCounts {
    /// Total label weight, a task each.
    pub weights: Vec<f64>,
    /// lambda over that: the factor on gradients of summed losses.
    pub scales: Vec<f64>,
    /// Tasks that have a label: the rows.
    pub rows: Vec<TaskId>,
}

/// Losses of a step.
#[derive(Debug)]
pub struct Losses {
    /// Sum of weighted losses, a task each.
    pub sums: Vec<f64>,
    /// Room for sums that are not needed.
    pub again: Vec<f64>,
    /// Terms of the objective that the network adds, one each.
    pub terms: Vec<f64>,
    /// lambda times the mean loss, of each row.
    pub rows: Vec<f64>,
}

/// The tasks' gradients in a step.
#[derive(Debug, Default)]
pub struct TaskGradients {
    /// Their products `[rows, rows]`; empty where gradients were not looked at.
    pub gramian: Vec<f64>,
    /// The same of each layer, where layers are told apart.
    pub layers: Vec<Vec<f64>>,
    /// They themselves `[rows, width]`, where they are put together; else empty.
    pub jacobian: Vec<f32>,
    /// The rows of all tasks `[tasks, width]` by formulas, where they are put together.
    pub(super) there: Option<Storage<f32>>,
    /// What is sent of a decision to rows by formulas.
    pub(super) told: Placed,
    /// Products of all tasks' gradients, with labels or without.
    pub(super) of_all: Vec<f64>,
    /// One parameter's columns.
    pub(super) columns: Vec<f32>,
    /// Gradients at the representation, `[rows, numbers]` of each micro-batch.
    pub(super) pieces: Vec<Lent<f32>>,
    /// How much of a direction at the representation the micro-batches so far have taken.
    pub(super) used: usize,
}

/// What a decision makes of each task's part of the backward.
#[derive(Debug)]
pub struct Factors {
    /// Factor in the weighted sum of losses: lambda, times what a weighting of losses says.
    pub losses: Vec<f64>,
    /// On the gradient of its outputs, and so on all that it reaches.
    pub outputs: Vec<f64>,
    /// Beyond that, where its gradient enters shared values.
    pub boundary: Vec<f64>,
}

impl Scratch {
    /// For a model with this state of batch statistics.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn new(counts: Counts, state: &Storage<f32>) -> Result<Self> {
        let Counts { tasks, terms, .. } = counts;
        let zeros = || vec![0.0; tasks];
        let tally = match state.backend() {
            Backend::Loops => None,
            backend => Some(Tally::new(counts, backend)?),
        };
        Ok(Self {
            labels: LabelCounts { weights: zeros(), scales: zeros(), rows: Vec::with_capacity(tasks) },
            losses: Losses { sums: zeros(), again: zeros(), terms: vec![0.0; terms], rows: zeros() },
            gradients: TaskGradients::default(),
            factors: Factors { losses: zeros(), outputs: zeros(), boundary: zeros() },
            state: state.alike()?,
            tally,
        })
    }

    /// Begins a step.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn begin(&mut self, state: &Storage<f32>) -> Result<()> {
        self.labels.weights.fill(0.0);
        self.losses.sums.fill(0.0);
        self.losses.terms.fill(0.0);
        self.gradients.begin();
        self.state.copy_from(state)
    }
}

impl TaskGradients {
    /// Forgets those of the step before; what is told apart by layers is filled anew where it is read.
    fn begin(&mut self) {
        self.gramian.clear();
        self.jacobian.clear();
        self.of_all.clear();
        self.pieces.clear();
    }
}

impl LabelCounts {
    /// What follows from the weights of all micro-batches.
    pub fn settle(&mut self, tasks: &[Task]) {
        self.rows.clear();
        self.rows.extend((0..tasks.len()).filter(|&task| self.weights[task] > 0.0));
        for (task, scale) in self.scales.iter_mut().enumerate() {
            *scale = tasks[task].scale(self.weights[task]);
        }
    }
}

impl Losses {
    /// lambda times each row's mean loss, from the sums of all micro-batches.
    pub fn settle(&mut self, labels: &LabelCounts, tasks: &[Task]) {
        self.rows.clear();
        self.rows.extend(labels.rows.iter().map(|&j| tasks[j].weight * self.sums[j] / labels.weights[j]));
    }
}

impl Factors {
    /// Before a decision: the sum of the losses with the tasks' lambdas.
    pub fn begin(&mut self, tasks: &[Task]) {
        for (factor, task) in self.losses.iter_mut().zip(tasks) {
            *factor = task.weight;
        }
        self.outputs.fill(1.0);
        self.boundary.fill(1.0);
    }

    /// The factors where gradients enter shared values, as a pass takes them: none if all are 1.
    pub fn weights(&self) -> &[f64] {
        if self.boundary.iter().all(|&weight| weight == 1.0) { &[] } else { &self.boundary }
    }

    /// Takes over what was decided of these rows.
    pub fn take(&mut self, decision: Decision<'_>, rows: &[TaskId]) {
        match decision {
            Decision::Losses { weights } => {
                for (&task, &weight) in rows.iter().zip(weights) {
                    self.outputs[task] = weight;
                    self.losses[task] *= weight;
                }
            }
            Decision::Shared { weights, own }
            | Decision::Layers { weights, own, .. }
            | Decision::Direction { weights, own, .. } => {
                for (row, &task) in rows.iter().enumerate() {
                    self.outputs[task] = own[row];
                    self.boundary[task] = if own[row] == 0.0 { 0.0 } else { weights[row] / own[row] };
                }
            }
        }
    }

    /// What a task's gradient counts where it enters shared parameters.
    pub fn shared(&self, task: TaskId) -> f64 {
        self.outputs[task] * self.boundary[task]
    }
}
