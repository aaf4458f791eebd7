//! The Nash bargaining solution between tasks.

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::fair;
use crate::solver::fair::Fair;
use crate::weighting::{Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// Nash-MTL (Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022): weights with `G w = 1 / w`, element
    /// by element, so that every task gains equally from its own weighted gradient. Invariant to the scales of the
    /// losses.
    ///
    /// As in the authors' code the Gramian is first divided by its norm, so that the direction is `sqrt(T |G|)` long: it
    /// scales with the gradients, until `max_norm` cuts it. (With the paper's own equation the length is always
    /// `sqrt(T)`, and the cut direction the same once gradients are not small.) The authors iterate 20 convex programs
    /// with a host solver; the fixed point is the minimum of `1/2 w^T G w - sum_j log w_j`, and found exactly here by
    /// Newton's method. Where no weights exist, as between opposed gradients, squared lengths count `1 + 1e-12` times: the
    /// weights are then bounded and their gradients cancel. Where the Gramian's rounding hides that, they count once more
    /// `T` or `4 T` times that rounding, and twice what the cosines' least eigenvalue is below 0 where that is not enough;
    /// the direction is then no longer than `sqrt(7/6 T |G|)`. A task without gradient has weight 0. The authors' option to
    /// update weights every few steps is common to all gradient methods here.
    pub struct NashMtl = "NashMTL" {
        /// Greatest length of the direction; 0 for no limit.
        max_norm: f64 = 1.0, in 0.0..;
    }
}

impl Weighting for NashMtl {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            promises: &[Promise::Weighted, Promise::Permutes, Promise::Safe, Promise::Pareto],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let rounding = evidence.rounding();
        let gramian = evidence.gramian()?;
        let norm = gramian.iter().map(|x| x * x).sum::<f64>().sqrt();
        let Fair { weights, square } = fair::fixed_point(gramian, &Lent::filled(1.0, rows), 1.0, rounding);
        into.weights.copy_from_slice(&weights);
        into.weights.iter_mut().for_each(|weight| *weight *= norm.sqrt());
        clip(&mut into.weights, square * norm, self.max_norm);
        Ok(())
    }
}

/// Scales weights so that their direction, of a squared length, is no longer than a limit; 0 for no limit.
pub(super) fn clip(weights: &mut [f64], square: f64, limit: f64) {
    let norm = square.sqrt();
    if limit > 0.0 && norm > limit {
        weights.iter_mut().for_each(|weight| *weight *= limit / norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::gradient::checks;

    #[test]
    fn golden() {
        // TorchJD: NashMTL(n_tasks=2)(tensor([[-4., 1., 1.], [6., 1., 1.]])), which cuts to length 1 as well.
        let expected = [0.0542, 0.7061, 0.7061];
        checks::golden(&mut NashMtl::default(), expected);
        let norm = (18.0_f64.powi(2) + 2.0 * 22.0_f64.powi(2) + 38.0_f64.powi(2)).sqrt();
        // G w = 1 / w has w^T G w = T.
        let whole = expected.map(|x| x * (2.0 * norm).sqrt());
        let got = checks::direction(&mut NashMtl { max_norm: 0.0 });
        assert!(got.iter().zip(whole).all(|(a, b)| (a - b).abs() < 1e-3), "{got:?} {whole:?}");
        let short = checks::direction(&mut NashMtl::default());
        checks::golden(&mut NashMtl { max_norm: 2.0 }, short.map(|x| 2.0 * x));
    }

    #[test]
    fn behaves() {
        checks::behaves(|| NashMtl { max_norm: 0.0 }, 1.0);
    }

    #[test]
    fn opposed_tasks_cancel_with_finite_weights() {
        let mut evidence = crate::weighting::Given::gramian(&[1.0, -2.0, -2.0, 4.0]);
        let weights = checks::weigh(&mut NashMtl::default(), &mut evidence).weights;
        assert!(weights[0] > 0.0 && weights[0] < 1e7, "{weights:?}");
        assert!((weights[0] - 2.0 * weights[1]).abs() <= 1e-9 * weights[0], "{weights:?}");
    }
}
