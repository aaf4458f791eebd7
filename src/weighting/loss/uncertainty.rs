//! Weights from learned noise of the tasks.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::task::About;
use crate::weighting::learned::Learned;
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

/// Furthest a log-variance goes, so that weights stay between 1e-13 and 1e13.
const LIMIT: f64 = 30.0;

crate::component! {
    /// Uncertainty weighting (Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
    /// and Semantics, CVPR 2018).
    ///
    /// `L = sum_j a_j exp(-s_j) L_j + s_j / 2`, where the log-variances `s_j` are learned, and `a_j` is 1/2 for a
    /// regression, whose loss should be squared, and 1 otherwise; the weights are `a_j exp(-s_j)`. The scale is the
    /// method's own: where `s_j` has settled, a task's term is 1/2 whatever its loss.
    ///
    /// The paper trains `s` with the model's optimizer; here it has an Adam of its own. Published codes mostly use one
    /// `a` for all tasks; LibMTL has 1/2 for all and starts at -0.5. A negative loss is taken as it is, but a loss that
    /// stays negative has no best `s`: its weight grows until `s` reaches -30.
    pub struct Uncertainty = "Uncertainty" {
        /// Learning rate of the log-variances.
        lr: f64 = 1e-3, in 0.0..;
        /// Where the log-variances start.
        start: f64 = 0.0, in -LIMIT..=LIMIT;
    }
    state: Noise;
}

/// What is known of the tasks' noise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    log_variances: Learned,
    regression: Vec<bool>,
}

impl Weighting for Uncertainty {
    fn claims(&self) -> Claims {
        Claims { promises: &[Promise::Permutes, Promise::Positive], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.log_variances.fit(tasks.len(), self.start);
        self.state.regression = tasks.iter().map(|task| task.regression).collect();
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let Noise { log_variances, regression } = &mut self.state;
        let mut objective = 0.0;
        for (row, &task) in evidence.tasks().iter().enumerate() {
            let loss = evidence.losses()[row];
            let factor = if regression[task] { 0.5 } else { 1.0 };
            let weight = factor * (-log_variances.values[task]).exp();
            into.weights[row] = weight;
            objective += weight * loss + 0.5 * log_variances.values[task];
            log_variances.descend(task, 0.5 - weight * loss, self.lr);
            log_variances.values[task] = log_variances.values[task].clamp(-LIMIT, LIMIT);
        }
        into.objective = Some(objective);
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{about, close, continues, prepared, spares_absent, weigh};

    fn mixed() -> Uncertainty {
        let mut method = Uncertainty { lr: 0.1, ..Uncertainty::default() };
        let mut tasks = about(2);
        tasks[0].regression = true;
        method.prepare(&tasks).unwrap();
        method
    }

    #[test]
    fn regressions_start_at_a_half_and_others_at_one() {
        let mut method = mixed();
        close(&weigh(&mut method, &[4.0, 0.2]).unwrap(), &[0.5, 1.0]);
        // Adam's first step is its learning rate: against 0.5 - 0.5 * 4 < 0, and against 0.5 - 0.2 > 0.
        let step = |gradient: f64| (0.1 * gradient / (gradient.abs() + 1e-8)).exp();
        close(&weigh(&mut method, &[4.0, 0.2]).unwrap(), &[0.5 * step(-1.5), step(0.3)]);
    }

    #[test]
    fn terms_settle_at_a_half() {
        let mut method = Uncertainty { lr: 0.05, ..mixed() };
        let losses = [4.0, 0.2];
        let mut weights = Vec::new();
        for _ in 0..3000 {
            weights = weigh(&mut method, &losses).unwrap();
        }
        assert!(weights.iter().zip(losses).all(|(w, l)| (w * l - 0.5).abs() < 1e-3), "{weights:?}");
    }

    #[test]
    fn extreme_and_negative_losses_stay_finite() {
        let mut method = Uncertainty { lr: 10.0, ..mixed() };
        for losses in [[1e30, 0.0], [-1e30, -1.0], [-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]] {
            let weights = weigh(&mut method, &losses).unwrap();
            assert!(weights.iter().all(|w| *w > 0.0 && *w < 2e13), "{weights:?}");
        }
    }

    #[test]
    fn state_follows_tasks_and_checkpoints() {
        spares_absent(&mut prepared(Uncertainty::default(), 3));
        continues(|| prepared(Uncertainty { start: -0.5, ..Uncertainty::default() }, 3));
    }
}
