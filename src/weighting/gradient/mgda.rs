//! The common descent direction of least norm.

use crate::error::Result;
use crate::solver::hull;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// MGDA, the multiple-gradient descent algorithm (Desideri, Comptes Rendus Mathematique, 2012; Sener & Koltun,
    /// Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018): `min |sum_j w_j g_j|` over weights `w >= 0`
    /// that sum to 1, the point of the convex hull of the tasks' gradients that is nearest to the origin. As long as a
    /// mean of gradients, and never longer than the shortest.
    ///
    /// Solved exactly, by an active set on the Gramian; where rounding of that hides whether gradients oppose each other, their
    /// squared lengths count a little more. The paper and published codes take Frank-Wolfe steps, and after
    /// 100 or 250 of those are far above the minimum for tens of conflicting tasks.
    pub struct Mgda = "MGDA" {}
}

impl Weighting for Mgda {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Mean,
            promises: &[
                Promise::Weighted,
                Promise::Permutes,
                Promise::Homogeneous,
                Promise::Safe,
                Promise::StopsWeakly,
                Promise::Pareto,
            ],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let rounding = evidence.rounding();
        into.weights.copy_from_slice(&hull::min_norm(evidence.gramian()?, rows, rounding));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::gradient::checks;

    #[test]
    fn golden() {
        // TorchJD: MGDA()(tensor([[-4., 1., 1.], [6., 1., 1.]])).
        checks::golden(&mut Mgda {}, [0.0, 1.0, 1.0]);
    }

    #[test]
    fn behaves() {
        checks::behaves(|| Mgda {}, 1.0);
    }
}
