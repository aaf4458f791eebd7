//! Losses for formulas that know no negative ones.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::task::About;
use crate::weighting::Evidence;

/// The names of the tasks, for errors that say whose loss it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Names(pub Vec<String>);

impl Names {
    /// Those of these tasks.
    pub fn of(tasks: &[About]) -> Self {
        Self(tasks.iter().map(|task| task.name.clone()).collect())
    }

    /// The name of a task.
    pub fn get(&self, task: usize) -> &str {
        self.0.get(task).map_or("?", String::as_str)
    }

    /// Refuses losses that the formula of `class` has no meaning for.
    ///
    /// # Errors
    /// A negative loss, as that of a Gaussian likelihood can be.
    pub fn refuse_negative(&self, class: &str, evidence: &dyn Evidence) -> Result<()> {
        match evidence.tasks().iter().zip(evidence.losses()).find(|(_, loss)| **loss < 0.0) {
            Some((&task, loss)) => {
                let name = self.get(task);
                bail!("{class}: the loss of task {name:?} is {loss}; the method needs losses of at least 0")
            }
            None => Ok(()),
        }
    }
}

/// Losses below this count as this: the smallest number whose reciprocal does not overflow in 32 bits.
const LEAST: f64 = f32::MIN_POSITIVE as f64;

/// `1 / loss`, the derivative of [`logarithm`]. A loss of exactly 0 has nothing left to learn and gets 0; one so small
/// that its weight would overflow in 32 bits counts as the smallest normal number.
pub fn reciprocal(loss: f64) -> f64 {
    if loss == 0.0 { 0.0 } else { 1.0 / loss.max(LEAST) }
}

/// `log loss` of a loss of at least 0, which counts as the smallest normal number of 32 bits where it is smaller.
pub fn logarithm(loss: f64) -> f64 {
    loss.max(LEAST).ln()
}
