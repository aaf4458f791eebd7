//! The mean gradient, projected so that it conflicts with no task.

use super::preference;
use crate::component::Component;
use crate::error::Result;
use crate::solver::cone;
use crate::task::About;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// Projection on the dual cone (Lopez-Paz & Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017;
    /// for several tasks as in Quinton & Rey, arXiv 2406.16232, 2024): the direction nearest to `g = sum_j p_j g_j`
    /// with `<g_j, d> >= 0` for all tasks. As long as a mean of gradients for the default
    /// preference, and never longer than the mean of their lengths.
    ///
    /// `min v^T G v` over `v >= p`, solved exactly by an active set; where rounding of the Gramian hides whether
    /// gradients oppose each other, their squared lengths count a little more. The 2017 paper projects one task's gradient and adds
    /// a margin of 0.5 to `v`; there is none here.
    pub struct DualProj = "DualProj" {
        /// `p`, one number a task; `None` for one over the number of tasks that have labels.
        preference: Option<Vec<f64>> = None, in 0.0..;
    }
}

impl Weighting for DualProj {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: if self.preference.is_none() { ActsLike::Mean } else { ActsLike::Own },
            promises: &[
                Promise::Weighted,
                Promise::Permutes,
                Promise::Homogeneous,
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
        into.weights.copy_from_slice(&cone::project(evidence.gramian()?, &preference, rounding));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::gradient::checks;

    #[test]
    fn golden() {
        // The mean (1, 1, 1) and 1/9 of (-4, 1, 1).
        checks::golden(&mut DualProj::default(), [5.0 / 9.0, 10.0 / 9.0, 10.0 / 9.0]);
        // (3, 1, 1), half of the second row and a quarter of the first, conflicts with (-4, 1, 1) by 7.5; 18 at most.
        let weights = [0.25 + 6.5 / 18.0, 0.5];
        let expected = [-4.0 * weights[0] + 3.0, weights[0] + 0.5, weights[0] + 0.5];
        checks::golden(&mut DualProj { preference: Some(vec![0.25, 0.5]) }, expected);
    }

    #[test]
    fn behaves() {
        checks::behaves(DualProj::default, 1.0);
        checks::never_conflicts(DualProj::default);
    }

    #[test]
    fn preferences_are_one_a_task() {
        let message = DualProj { preference: Some(vec![1.0]) }.prepare(&About::named(&["a", "b"])).unwrap_err();
        assert_eq!(message.to_string(), "DualProj: argument `preference` should have one number a task, 2; got 1");
    }
}
