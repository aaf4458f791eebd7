//! The direction at the same angle to all gradients, as long as their projections together.

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::eigen::Eigen;
use crate::solver::{Cosines, dot, eigen, times};
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// ConFIG, conflict-free inverse gradients (Liu, Chu & Thuerey, ConFIG: Towards Conflict-free Training of Physics
    /// Informed Neural Networks, ICLR 2025, arXiv 2408.11104): with unit rows `U`, the unit vector `u` along `U^+ 1`,
    /// which has the same cosine with all gradients, and `d = (sum_j <g_j, u>) u`. As long as the sum of the gradients
    /// where tasks agree.
    ///
    /// The Gramian suffices: `U^+ 1 = U^T (U U^T)^+ 1`. Opposed gradients cancel, and leave 0 if there is nothing else:
    /// eigenvalues that are no more than `4 sqrt(T)` times the rounding of the Gramian count as 0, and so does `U^+ 1` if
    /// no more than that share of `1` is left.
    ///
    /// Nothing bounds the direction: near-dependent gradients can make it many times longer than all of them together, and
    /// a run warns once where it is more than 10 times that.
    ///
    /// The paper's M-ConFIG, which keeps a momentum of each task's gradient and backpropagates one task a step, is not
    /// here: evidence shows the gradients of all tasks, so it would save nothing.
    pub struct ConFig = "ConFIG" {}
}

impl Weighting for ConFig {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Sum,
            bounded: false,
            promises: &[
                Promise::Weighted,
                Promise::Permutes,
                Promise::Homogeneous,
                Promise::Impartial,
                Promise::SafeIndependent,
            ],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let tolerance = eigen::rounded_tolerance(rows, evidence.rounding());
        let cosines = Cosines::of(evidence.gramian()?, rows);
        let ones: Lent<f64> = cosines.lengths.iter().map(|length| f64::from(u8::from(*length > 0.0))).collect();
        let mut weights = Eigen::of(&cosines.matrix, rows).solve(tolerance, &ones);
        let along = times(&cosines.matrix, &weights);
        let square = dot(&along, &weights);
        let projections = dot(&along, &cosines.lengths);
        let factor = if square > 0.0 { projections / square } else { 0.0 };
        cosines.unscale(&mut weights);
        for (into, weight) in into.weights.iter_mut().zip(&weights) {
            *into = factor * weight;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::evidence::SINGLE;
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
        // On one line, half of them opposed: nothing is left, in any order, whatever rounding makes of them.
        for lengths in [[0.3, 1.7, 2.9, -0.7, -1.1, -3.3], [-0.7, 0.3, -1.1, 1.7, 2.9, -3.3]] {
            for rounded in [false, true] {
                let product = |at: usize| lengths[at / 6] * lengths[at % 6];
                let product = |at: usize| if rounded { f64::from(product(at) as f32) } else { product(at) };
                let gramian: Vec<f64> = (0..36).map(product).collect();
                let rounding = Some(if rounded { SINGLE } else { f64::EPSILON });
                let mut evidence = Given { rounding, ..Given::gramian(&gramian) };
                assert_eq!(checks::weigh(&mut ConFig {}, &mut evidence).weights, [0.0; 6]);
            }
        }
        let weights = checks::weigh(&mut ConFig {}, &mut Given::gramian(&[1.0, -2.0, -2.0, 4.0])).weights;
        assert!(weights.iter().all(|w| w.is_finite()) && (weights[0] - 2.0 * weights[1]).abs() < 1e-12, "{weights:?}");
    }

    #[test]
    fn behaves() {
        checks::behaves(|| ConFig {}, 1.0);
    }
}
