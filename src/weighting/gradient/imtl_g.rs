//! The direction with equal projections on all gradients.

use crate::error::Result;
use crate::weighting::solver::{Cosines, dot, eigen, times};
use crate::weighting::{ActsLike, Combination, Evidence, Needs, Weighting};

crate::component! {
    /// IMTL-G, the gradient balance of impartial multi-task learning (Liu et al., Towards Impartial Multi-task Learning,
    /// ICLR 2021): weights that sum to 1 and give a direction with the same `<d, g_j / |g_j|>` for all tasks. As long as
    /// a mean of gradients.
    ///
    /// With unit rows `U`, `d` is a multiple of `U^T (U U^T)^+ 1`; the paper's formula, which inverts a matrix of
    /// differences, is the same where it exists. Weights may be negative, and so may the projections that all tasks
    /// share, as in the paper. Where the projections are equal only at 0 (between opposed gradients) the direction is
    /// 0; where no weights of sum 1 exist they are equal. A task without gradient has weight 0.
    pub struct ImtlG = "IMTLG" {}
}

impl Weighting for ImtlG {
    fn needs(&self) -> Needs {
        Needs::Gramian
    }

    fn acts_like(&self) -> ActsLike {
        ActsLike::Mean
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        into.weights = impartial(evidence.gramian()?, rows);
        Ok(())
    }
}

/// The weights for a Gramian `[n, n]`.
pub(super) fn impartial(gramian: &[f64], n: usize) -> Vec<f64> {
    let cosines = Cosines::of(gramian, n);
    let ones: Vec<f64> = cosines.lengths.iter().map(|length| f64::from(u8::from(*length > 0.0))).collect();
    let mut weights = eigen::pseudo_solve(&cosines.matrix, &ones);
    let reached = times(&cosines.matrix, &weights);
    let missed: Vec<f64> = ones.iter().zip(reached).map(|(one, x)| one - x).collect();
    // Ones that are out of reach leave a combination of unit rows that is 0, and 0 is the same for all.
    if dot(&missed, &missed) > 1e-6 {
        weights = missed;
    }
    cosines.unscale(&mut weights);
    let (sum, size) = weights.iter().fold((0.0, 0.0), |(sum, size), w| (sum + w, size + w.abs()));
    if sum.abs() <= 1e-12 * size || size == 0.0 {
        return vec![1.0 / n as f64; n];
    }
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::checks;
    use crate::weighting::solver::cases;

    #[test]
    fn golden() {
        // TorchJD: IMTLG()(tensor([[-4., 1., 1.], [6., 1., 1.]])).
        checks::golden(&mut ImtlG {}, [0.0767, 1.0, 1.0]);
    }

    #[test]
    fn projections_are_equal() {
        for case in cases::all().into_iter().filter(|case| !["zero row", "zeros"].contains(&case.what)) {
            let (n, gramian) = (case.n, &case.gramian);
            let weights = impartial(gramian, n);
            let lengths: Vec<f64> = (0..n).map(|i| gramian[i * n + i].sqrt()).collect();
            let size: f64 = weights.iter().zip(&lengths).map(|(w, length)| w.abs() * length).sum();
            let along = times(gramian, &weights);
            let first = along[0] / lengths[0];
            // Every second row the opposite of another: all equal at 0.
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9 * weights.iter().map(|w| w.abs()).sum::<f64>());
            for (along, length) in along.iter().zip(&lengths).filter(|(_, length)| **length > 0.0) {
                assert!((along / length - first).abs() <= 1e-9 * size, "{case}: {} {first}", along / length);
            }
        }
    }

    #[test]
    fn opposed_by_hand() {
        // (1) and (-2): the weights of 0.
        let weights = checks::weigh(&mut ImtlG {}, &mut Given::gramian(&[1.0, -2.0, -2.0, 4.0])).weights;
        assert!((weights[0] - 2.0 / 3.0).abs() < 1e-14 && (weights[1] - 1.0 / 3.0).abs() < 1e-14, "{weights:?}");
        assert_eq!(checks::weigh(&mut ImtlG {}, &mut Given::gramian(&[0.0; 4])).weights, [0.5, 0.5]);
    }

    #[test]
    fn behaves() {
        checks::behaves(|| ImtlG {}, 1.0);
    }
}
