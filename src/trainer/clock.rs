//! When a step is: what its random numbers, its schedule and its weighting go by.

use crate::schedule::Position;
use crate::weighting::Moment;

/// The seed of a run and how far it is.
#[derive(Debug)]
pub(super) struct Clock {
    /// Seed of orders, dropout and weightings.
    pub seed: u64,
    /// Micro-batches a step.
    pub accumulate: usize,
    /// Steps of the optimizer so far.
    pub steps: u64,
    /// Complete epochs so far.
    pub epochs: u64,
    /// Steps that the run will have, where that is known.
    pub total_steps: Option<u64>,
}

impl Clock {
    /// The running step as schedules see it.
    pub fn position(&self) -> Position {
        Position { step: self.steps, epoch: self.epochs, total_steps: self.total_steps }
    }

    /// The running step as weightings see it; `lr` is the learning rate of the step before.
    pub fn moment(&self, lr: f64) -> Moment {
        Moment { seed: self.seed, step: self.steps, epoch: self.epochs, lr }
    }

    /// The number of the running step's micro-batch `index` among all of the run, for dropout.
    pub fn number(&self, index: usize) -> u64 {
        self.steps * self.accumulate as u64 + index as u64
    }
}
