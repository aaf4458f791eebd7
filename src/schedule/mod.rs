//! Schedules: a factor on the learning rates, step by step or epoch by epoch.

use std::fmt::Debug;

use serde_json::Value;

use crate::component::Described;
use crate::error::Result;

/// A moment of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Optimizer steps done before.
    pub step: u64,
    /// Epochs complete before.
    pub epoch: u64,
    /// Optimizer steps of the whole run, if known.
    pub total_steps: Option<u64>,
}

/// The factor on all learning rates at a moment.
pub trait Schedule: Described + Debug + Send {
    /// The factor for the step about to be made.
    ///
    /// # Errors
    /// The schedule depends on the length of the run, and that is not known.
    fn factor(&self, at: Position) -> Result<f64>;

    /// Whether it depends on the length of the run.
    fn needs_total(&self) -> bool {
        false
    }

    /// The column of the history that it wants to see once an epoch, and which direction is better: `"min"`, `"max"`, or
    /// `"auto"`, as the column says itself.
    fn watches(&self) -> Option<(&str, &'static str)> {
        None
    }

    /// Takes note of what it watches, once an epoch.
    fn observe(&mut self, value: f64, higher_is_better: bool) {
        let _ = (value, higher_is_better);
    }

    /// Its description, in one way for all descriptions that mean the same.
    fn meaning(&self) -> Value {
        self.describe()
    }

    /// What it has learned so far.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Continues from a state.
    ///
    /// # Errors
    /// The state is not one of this schedule.
    fn restore(&mut self, state: &Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

crate::family!(
    Schedule, "schedule":
    constant::Constant,
    step::Step,
    exponential::Exponential,
    cosine::Cosine,
    one_cycle::OneCycle,
    plateau::Plateau,
);

/// The length of the run, or an error that says who needs it.
fn total(class: &str, at: Position) -> Result<u64> {
    at.total_steps.ok_or_else(|| {
        crate::value_error!(
            "{class} needs the length of the run: give `fit` the number of epochs and data with a length"
        )
    })
}

/// A moment at a step of a run of `total` steps.
#[cfg(test)]
fn moment(step: u64, total: u64) -> Position {
    Position { step, epoch: 0, total_steps: Some(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schedule_starts_from_its_defaults_and_stays_within_0_and_1() {
        for info in infos() {
            let schedule = build(&Value::from(info.name)).unwrap();
            for step in 0..120 {
                let at = Position { step, epoch: step / 10, total_steps: Some(100) };
                let factor = schedule.factor(at).unwrap();
                assert!((0.0..=1.0).contains(&factor), "{schedule:?} {step} {factor}");
            }
        }
    }

    #[test]
    fn a_schedule_that_needs_the_length_says_so() {
        for info in infos() {
            let schedule = build(&Value::from(info.name)).unwrap();
            let unknown = Position { step: 0, epoch: 0, total_steps: None };
            assert_eq!(schedule.factor(unknown).is_err(), schedule.needs_total(), "{schedule:?}");
        }
    }
}
