//! Fair shares of the decrease of the losses.

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::fair;
use crate::weighting::{Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// FairGrad (Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024): weights with
    /// `G w = w^(-1/alpha)`, element by element, the direction whose decreases `<g_j, d>` are alpha-fair. `alpha` of 1 is
    /// proportional fairness (Nash-MTL's direction), 2 minimum potential delay; towards infinity it is max-min fairness,
    /// where all losses fall alike.
    ///
    /// Its length is its own: it grows with the gradients to the power `(1 - alpha) / (1 + alpha)`, so is `sqrt(T)` for
    /// an `alpha` of 1 and larger for smaller gradients above that. The authors' code cuts it to length 1; clip
    /// gradients for that. They solve by least squares; here the convex potential
    /// `1/2 w^T G w - sum_j w_j^(1 - 1/alpha) / (1 - 1/alpha)` is minimised exactly. Where no weights exist, as between
    /// opposed gradients, squared lengths count `1 + 1e-12` times, and once more `T` or `4 T` times the rounding of the
    /// Gramian where that hides it, and twice what the cosines' least eigenvalue is below 0 where that is not enough. A task
    /// without gradient has weight 0.
    pub struct FairGrad = "FairGrad" {
        /// Fairness.
        alpha: f64 = 1.0, in 0.1..=10.0;
    }
}

impl Weighting for FairGrad {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            promises: &[Promise::Weighted, Promise::Permutes, Promise::ScaleFree, Promise::Safe, Promise::Pareto],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let targets = Lent::filled(1.0, evidence.tasks().len());
        let rounding = evidence.rounding();
        let fair = fair::fixed_point(evidence.gramian()?, &targets, self.alpha, rounding);
        into.weights.copy_from_slice(&fair.weights);
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
        // TorchJD: FairGrad(alpha=1.0)(tensor([[-4., 1., 1.], [6., 1., 1.]])).
        checks::golden(&mut FairGrad::default(), [0.0766, 0.9985, 0.9985]);
    }

    #[test]
    fn by_hand() {
        // One task: 16 w = w^(-1/alpha).
        for (alpha, weight) in [(1.0, 0.25), (2.0, 16.0_f64.powf(-2.0 / 3.0)), (0.5, 16.0_f64.powf(-1.0 / 3.0))] {
            let got = checks::weigh(&mut FairGrad { alpha }, &mut Given::gramian(&[16.0])).weights[0];
            assert!((got / weight - 1.0).abs() < 1e-11, "{alpha}: {got}");
        }
    }

    #[test]
    fn behaves() {
        checks::behaves(FairGrad::default, 0.0);
        checks::behaves(|| FairGrad { alpha: 2.0 }, -1.0 / 3.0);
        checks::behaves(|| FairGrad { alpha: 0.5 }, 1.0 / 3.0);
    }
}
