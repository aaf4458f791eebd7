//! A learning rate that falls when what is watched stops improving.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Position, Schedule};
use crate::component::Described;
use crate::error::Result;
use crate::value_error;

crate::component! {
    /// Multiplies the learning rate by `factor` when the watched quantity has not improved for more than `patience`
    /// epochs, as `torch.optim.lr_scheduler.ReduceLROnPlateau` with a relative threshold, which here lies on the better
    /// side of a negative value too.
    pub struct Plateau = "Plateau" {
        /// Factor of one fall.
        factor: f64 = 0.1, in 0.0..1.0;
        /// Epochs without improvement that are tolerated.
        patience: u64 = 10;
        /// Relative improvement that counts.
        threshold: f64 = 1e-4, in 0.0..;
        /// Epochs after a fall in which nothing is counted.
        cooldown: u64 = 0;
        /// Smallest factor of all falls together.
        minimum: f64 = 0.0, in 0.0..=1.0;
        /// Whether smaller (`"min"`) or larger (`"max"`) is better; `"auto"`: as what is watched says itself.
        mode: Mode = Mode::Auto;
        /// What is watched: a column of the history. That of the validation is taken if there is one. An epoch in which
        /// it is NaN does not count.
        monitor: String = "loss".to_owned();
    }
    state: Progress;
}

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As what is watched says itself.
    Auto,
    /// Smaller is better.
    Min,
    /// Larger is better.
    Max,
}

crate::choices!(Mode: Auto, Min, Max);

/// How the watched quantity has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    factor: f64,
    best: Option<f64>,
    bad: u64,
    cooling: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { factor: 1.0, best: None, bad: 0, cooling: 0 }
    }
}

impl Plateau {
    fn improved(&self, value: f64, higher_is_better: bool) -> bool {
        match (self.state.best, higher_is_better) {
            (None, _) => true,
            // note: relative to the size of the best, so that it lies on the better side of a negative one too.
            (Some(best), false) => value < best * (1.0 - self.threshold.copysign(best)),
            (Some(best), true) => value > best * (1.0 + self.threshold.copysign(best)),
        }
    }
}

impl Schedule for Plateau {
    fn factor(&self, _at: Position) -> Result<f64> {
        Ok(self.state.factor)
    }

    fn watches(&self) -> Option<(&str, &'static str)> {
        let mode = match self.mode {
            Mode::Auto => "auto",
            Mode::Min => "min",
            Mode::Max => "max",
        };
        Some((&self.monitor, mode))
    }

    fn meaning(&self) -> Value {
        let mode = match self.mode {
            Mode::Auto if self.monitor.rsplit('/').next() == Some("loss") => Mode::Min,
            mode => mode,
        };
        Described::describe(&Self { mode, ..self.clone() })
    }

    fn observe(&mut self, value: f64, higher_is_better: bool) {
        if value.is_nan() {
            return;
        }
        let improved = self.improved(value, higher_is_better);
        let state = &mut self.state;
        if improved {
            state.best = Some(value);
            state.bad = 0;
        } else {
            state.bad += 1;
        }
        if state.cooling > 0 {
            state.cooling -= 1;
            state.bad = 0;
        }
        if state.bad > self.patience {
            state.factor = (state.factor * self.factor).max(self.minimum);
            state.cooling = self.cooldown;
            state.bad = 0;
        }
    }

    fn state(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        self.state = Progress::deserialize(state)
            .map_err(|error| value_error!("Plateau: not a state of this schedule: {error}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Position = Position { step: 0, epoch: 0, total_steps: None };
    const WATCHED: [f64; 14] = [1.0, 0.9, 0.9, 0.95, 0.9, 0.89995, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6];

    // s = torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    // [(s.step(v), s.get_last_lr()[0])[1] for v in WATCHED]
    const GOLDEN: [f64; 14] = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2];

    #[test]
    fn falls_are_those_of_torch_across_a_resume() {
        let fresh = || Plateau { factor: 0.5, patience: 1, cooldown: 1, minimum: 0.2, ..Plateau::default() };
        let mut schedule = fresh();
        for (value, want) in WATCHED.into_iter().zip(GOLDEN) {
            schedule.observe(value, false);
            assert_eq!(schedule.factor(NOW).unwrap(), want);
            let mut resumed = fresh();
            resumed.restore(&schedule.state()).unwrap();
            schedule = resumed;
        }
    }

    #[test]
    fn larger_can_be_better() {
        let mut schedule = Plateau { patience: 0, factor: 0.5, ..Plateau::default() };
        for (value, want) in [(0.5, 1.0), (0.6, 1.0), (f64::NAN, 1.0), (0.6, 0.5), (0.7, 0.5)] {
            schedule.observe(value, true);
            assert_eq!(schedule.factor(NOW).unwrap(), want);
        }
    }

    #[test]
    fn a_negative_loss_has_to_improve_too() {
        for (higher, values) in [(false, [-2.0, -2.01, -2.3, -2.31]), (true, [-2.3, -2.29, -2.0, -1.99])] {
            let mut schedule = Plateau { patience: 0, factor: 0.5, threshold: 0.1, ..Plateau::default() };
            for (value, want) in values.into_iter().zip([1.0, 0.5, 0.5, 0.25]) {
                schedule.observe(value, higher);
                assert_eq!(schedule.factor(NOW).unwrap(), want, "{higher} {value}");
            }
        }
    }

    #[test]
    fn descriptions_that_mean_the_same_are_known() {
        let meaning = |description: Value| crate::schedule::build(&description).unwrap().meaning();
        let earlier = json!({"name": "plateau", "factor": 0.1, "patience": 10, "threshold": 1e-4, "cooldown": 0,
                             "minimum": 0.0, "mode": "min"});
        assert_eq!(meaning(json!("plateau")), meaning(earlier));
        assert_ne!(meaning(json!("plateau")), meaning(json!({"name": "plateau", "mode": "max"})));
        let of_metric = |mode: &str| meaning(json!({"name": "plateau", "monitor": "y/auroc", "mode": mode}));
        assert_ne!(of_metric("auto"), of_metric("min"));
    }

    #[test]
    fn a_foreign_state_is_refused() {
        assert!(Plateau::default().restore(&Value::from(3)).is_err());
    }
}
