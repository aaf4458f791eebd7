//! Numbers of the running step.

use crate::machine::lent::Lent;
use crate::model::workspace::Workspace;
use crate::task::Task;
use crate::weighting::Combination;

/// A look at each micro-batch's outputs.
pub(super) type Look<'a> = dyn FnMut(&Workspace, usize) + 'a;

/// Numbers of the running step, a task each unless said otherwise; a row is a task that has labels in it.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Total label weight.
    pub(super) weights: Vec<f64>,
    /// Whether it was counted.
    pub(super) counted: bool,
    /// Sum of weighted losses.
    pub(super) sums: Vec<f64>,
    /// Room for sums that are not needed.
    pub(super) again: Vec<f64>,
    /// Terms of the objective that the network adds, one each.
    pub(super) terms: Vec<f64>,
    /// Factor on the gradient: lambda over the label weight.
    pub(super) scales: Vec<f64>,
    /// lambda, times what a weighting of losses says: the factor in the weighted sum.
    pub(super) lambdas: Vec<f64>,
    /// What the weighting says of the whole loss.
    pub(super) factors: Vec<f64>,
    /// What it says beyond that where gradients enter shared values.
    pub(super) boundary: Vec<f64>,
    /// Tasks that have a label in this step: the rows.
    pub(super) present: Vec<usize>,
    /// lambda times their losses.
    pub(super) losses: Vec<f64>,
    /// Products of their gradients `[rows, rows]`, and one such a layer.
    pub(super) gramian: Vec<f64>,
    pub(super) layers: Vec<Vec<f64>>,
    /// Products of all tasks' gradients.
    pub(super) whole: Vec<f64>,
    /// Their gradients `[rows, width]`, where they are put together.
    pub(super) jacobian: Vec<f32>,
    /// One parameter's part of it.
    pub(super) room: Vec<f32>,
    /// Gradients at the representation, `[rows, numbers]` of each micro-batch.
    pub(super) pieces: Vec<Lent<f32>>,
    /// Batch statistics as they were before the step.
    pub(super) state: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(tasks: usize, terms: usize) -> Self {
        let zeros = || vec![0.0; tasks];
        Self {
            terms: vec![0.0; terms],
            weights: zeros(),
            sums: zeros(),
            again: zeros(),
            scales: zeros(),
            lambdas: zeros(),
            factors: zeros(),
            boundary: zeros(),
            present: Vec::with_capacity(tasks),
            losses: zeros(),
            ..Self::default()
        }
    }

    /// Begins a step.
    pub(super) fn begin(&mut self, state: &[f32]) {
        self.weights.fill(0.0);
        self.sums.fill(0.0);
        self.terms.fill(0.0);
        self.present.clear();
        self.counted = false;
        self.state.clear();
        self.state.extend_from_slice(state);
    }

    /// What follows from the label weights of all micro-batches.
    pub(super) fn settle(&mut self, tasks: &[Task]) {
        self.counted = true;
        self.present.extend((0..tasks.len()).filter(|&j| self.weights[j] > 0.0));
        for (j, task) in tasks.iter().enumerate() {
            self.lambdas[j] = task.weight;
            self.scales[j] = if self.weights[j] > 0.0 { task.weight / self.weights[j] } else { 0.0 };
        }
        self.factors.fill(1.0);
        self.boundary.fill(1.0);
    }

    /// lambda times each row's mean loss.
    pub(super) fn take_losses(&mut self) {
        let Self { weights, sums, lambdas, present, losses, .. } = self;
        losses.clear();
        losses.extend(present.iter().map(|&j| lambdas[j] * sums[j] / weights[j]));
    }

    /// Takes over what the weighting said; `of_losses` if it weighs whole losses.
    pub(super) fn decided(&mut self, combination: &Combination, of_losses: bool) {
        let said = combination.weights.iter().zip(&combination.own);
        for (&j, (&weight, &own)) in self.present.iter().zip(said) {
            if of_losses {
                self.factors[j] = weight;
                self.lambdas[j] *= weight;
            } else {
                self.factors[j] = own;
                self.boundary[j] = if own == 0.0 { 0.0 } else { weight / own };
            }
        }
    }

    /// The tasks that have labels in this step.
    pub(super) fn present(&self) -> &[usize] {
        &self.present
    }

    /// The Gramian of their gradients.
    pub(super) fn gramian(&self) -> &[f64] {
        &self.gramian
    }
}
