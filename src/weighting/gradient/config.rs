//! The direction at the same angle to all gradients, as long as their projections together.

use crate::error::Result;
use crate::weighting::solver::{Cosines, dot, eigen, times};
use crate::weighting::{ActsLike, Combination, Evidence, Needs, Weighting};

crate::component! {
    /// ConFIG, conflict-free inverse gradients (Liu, Chu & Thuerey, ConFIG: Towards Conflict-free Training of Physics
    /// Informed Neural Networks, ICLR 2025, arXiv 2408.11104): with unit rows `U`, the unit vector `u` along `U^+ 1`,
    /// which has the same cosine with all gradients, and `d = (sum_j <g_j, u>) u`. As long as the sum of the gradients
    /// where tasks agree.
    ///
    /// The Gramian suffices: `U^+ 1 = U^T (U U^T)^+ 1`. Opposed gradients cancel, and leave 0 if there is nothing else.
    /// The paper's M-ConFIG, which keeps a momentum of each task's gradient and backpropagates one task a step, is not
    /// here: evidence shows the gradients of all tasks, so it would save nothing.
    pub struct ConFig = "ConFIG" {}
}

impl Weighting for ConFig {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn acts_like(&self) -> ActsLike {
        ActsLike::Sum
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let cosines = Cosines::of(evidence.gramian()?, rows);
        let mut weights = eigen::pseudo_solve(&cosines.matrix, &vec![1.0; rows]);
        let along = times(&cosines.matrix, &weights);
        let (square, projections) = (dot(&along, &weights), dot(&along, &cosines.lengths));
        let factor = if square > 0.0 { projections / square } else { 0.0 };
        cosines.unscale(&mut weights);
        into.weights.iter_mut().zip(weights).for_each(|(into, weight)| *into = factor * weight);
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
        // TorchJD: ConFIG()(tensor([[-4., 1., 1.], [6., 1., 1.]])).
        checks::golden(&mut ConFig {}, [0.1588, 2.0706, 2.0706]);
    }

    #[test]
    fn by_hand() {
        // Lengths 3 and 4 at right angles: u = (1, 1) / sqrt 2, <g_1, u> + <g_2, u> = 7 / sqrt 2, d = (3.5, 3.5).
        let weights = checks::weigh(&mut ConFig {}, &mut Given::gramian(&[9.0, 0.0, 0.0, 16.0])).weights;
        assert!((weights[0] - 3.5 / 3.0).abs() < 1e-14 && (weights[1] - 3.5 / 4.0).abs() < 1e-14, "{weights:?}");
        let weights = checks::weigh(&mut ConFig {}, &mut Given::gramian(&[1.0, -2.0, -2.0, 4.0])).weights;
        assert!(weights.iter().all(|w| w.is_finite()) && (weights[0] - 2.0 * weights[1]).abs() < 1e-12, "{weights:?}");
    }

    #[test]
    fn behaves() {
        checks::behaves(|| ConFig {}, 1.0);
    }
}
