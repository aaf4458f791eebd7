//! The mean of gradients, each projected so that it conflicts with no task.

use super::preference;
use crate::component::Component;
use crate::error::Result;
use crate::solver::cone;
use crate::task::About;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// UPGrad (Quinton & Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2406.16232, 2024):
    /// `sum_j p_j pi(g_j)`, where `pi` projects on the dual cone `{d : <g_i, d> >= 0 for all tasks i}`. No task gets
    /// worse, to first order. As long as a mean of gradients for the default preference, and never longer
    /// than the mean of their lengths.
    ///
    /// Each projection is `min v^T G v` over `v >= e_j`, solved exactly by an active set; where rounding of the Gramian hides
    /// whether gradients oppose each other, their squared lengths count a little more. TorchJD always adds 1e-4 of the
    /// Gramian's trace to its diagonal first, and its directions then conflict where gradients nearly depend on each
    /// other.
    pub struct UpGrad = "UPGrad" {
        /// `p`, one number a task; `None` for one over the number of tasks that have labels.
        preference: Option<Vec<f64>> = None, in 0.0..;
    }
}

impl Weighting for UpGrad {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: if self.preference.is_none() { ActsLike::Mean } else { ActsLike::Own },
            promises: &[
                Promise::Weighted,
                Promise::Permutes,
                Promise::Homogeneous,
                Promise::Linear,
                Promise::Safe,
                Promise::StopsStrongly,
                Promise::Pareto,
            ],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        preference::check(Self::CLASS, self.preference.as_deref(), tasks)
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let preference = preference::rows(self.preference.as_deref(), evidence.tasks());
        let rounding = evidence.rounding();
        into.weights.copy_from_slice(&cone::project_each(evidence.gramian()?, &preference, rounding));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::checks;

    #[test]
    fn golden() {
        // (-4, 1, 1) loses its part along (6, 1, 1), 22/38 of it, and the other 22/18 of the first; then their mean.
        checks::golden(&mut UpGrad::default(), [0.2924, 1.9006, 1.9006]);
        let one_sided = [-4.0 + 6.0 * 11.0 / 19.0, 1.0 + 11.0 / 19.0, 1.0 + 11.0 / 19.0];
        checks::golden(&mut UpGrad { preference: Some(vec![1.0, 0.0]) }, one_sided);
    }

    #[test]
    fn behaves() {
        checks::behaves(UpGrad::default, 1.0);
        checks::never_conflicts(UpGrad::default);
    }

    #[test]
    fn preferences_follow_their_tasks() {
        let mut method = UpGrad { preference: Some(vec![1.0, 2.0, 4.0]) };
        method.prepare(&About::named(&["a", "b", "c"])).unwrap();
        let mut evidence = Given::gramian(&[1.0, 0.0, 0.0, 1.0]);
        evidence.tasks = vec![0, 2];
        assert_eq!(checks::weigh(&mut method, &mut evidence).weights, [1.0, 4.0]);
        let message = method.prepare(&About::named(&["a"])).unwrap_err().to_string();
        assert_eq!(message, "UPGrad: argument `preference` should have one number a task, 1; got 3");
    }
}
