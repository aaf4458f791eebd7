//! The direction with equal projections on all gradients.

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::eigen::Eigen;
use crate::solver::{Cosines, eigen};
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// IMTL-G, the gradient balance of impartial multi-task learning (Liu et al., Towards Impartial Multi-task Learning,
    /// ICLR 2021): weights that sum to 1 and give a direction with the same `<d, g_j / |g_j|>` for all tasks. As long as
    /// a mean of gradients.
    ///
    /// The weights are `v / sum(v)` with `v = G^+ |g|`, for the Gramian `G` and the lengths `|g|` of the gradients; the
    /// paper's formula, which inverts a matrix of differences, is the same where it exists. Weights may be negative, and
    /// so may the projections that all tasks share, as in the paper. Gradients that depend on each other may have no
    /// direction with equal projections; as in Quinton & Rey (arXiv 2406.16232, 2024), the pseudo-inverse then gives a
    /// multiple of the shortest direction with the least `sum_j (<d, g_j> - |g_j|)^2`. Where `v` sums to 0, the weights
    /// are equal: for example for gradients with a mean of 0, whose direction is 0, and for two opposed ones of the same
    /// length. A task without gradient has weight 0.
    ///
    /// Nothing bounds the direction: near-dependent gradients can make it many times longer than all of them together, and
    /// a run warns once where it is more than 10 times that.
    pub struct ImtlG = "IMTLG" {}
}

impl Weighting for ImtlG {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Mean,
            bounded: false,
            promises: &[
                Promise::Weighted,
                Promise::Permutes,
                Promise::Homogeneous,
                Promise::Impartial,
                Promise::Pareto,
            ],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        into.weights.copy_from_slice(&impartial(evidence.gramian()?, rows));
        Ok(())
    }
}

/// The weights for a Gramian `[n, n]`.
pub(super) fn impartial(gramian: &[f64], n: usize) -> Lent<f64> {
    let cosines = Cosines::of(gramian, n);
    let weights = independent(&cosines)
        .unwrap_or_else(|| Eigen::of(gramian, n).solve(eigen::rank_tolerance(n), &cosines.lengths));
    let sum: f64 = weights.iter().sum();
    let size: f64 = weights.iter().map(|weight| weight.abs()).sum();
    if sum.abs() <= 1e-10 * size || size == 0.0 {
        return Lent::filled(1.0 / n as f64, n);
    }
    weights.iter().map(|weight| weight / sum).collect()
}

/// `G^-1 |g|` by way of unit rows, which may be of very different scales; `None` if rows that are not 0 depend on each
/// other.
fn independent(cosines: &Cosines) -> Option<Lent<f64>> {
    let n = cosines.lengths.len();
    let ones: Lent<f64> = cosines.lengths.iter().map(|length| f64::from(u8::from(*length > 0.0))).collect();
    let eigen = Eigen::of(&cosines.matrix, n);
    let tolerance = eigen::rank_tolerance(n);
    let rank = eigen.above(tolerance).count();
    (rank as f64 >= ones.iter().sum()).then(|| {
        let mut weights = eigen.apply(tolerance, f64::recip, &ones);
        cosines.unscale(&mut weights);
        weights
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::{cases, times};
    use crate::weighting::Given;
    use crate::weighting::gradient::checks;

    #[test]
    fn golden() {
        // TorchJD: IMTLG()(tensor([[-4., 1., 1.], [6., 1., 1.]])).
        checks::golden(&mut ImtlG {}, [0.0767, 1.0, 1.0]);
    }

    /// Kinds of cases whose rows depend on each other.
    const DEPENDENT: [&str; 5] = ["balanced", "low rank", "doubled", "opposed", "zeros"];

    #[test]
    fn projections_of_independent_gradients_are_equal() {
        let independent = |case: &cases::Case| case.what != "zero row" && !DEPENDENT.contains(&case.what);
        for case in cases::all().into_iter().filter(independent) {
            let n = case.n;
            let gramian = &case.gramian;
            let weights = impartial(gramian, n);
            let lengths: Vec<f64> = (0..n).map(|i| gramian[i * n + i].sqrt()).collect();
            let size: f64 = weights.iter().zip(&lengths).map(|(w, length)| w.abs() * length).sum();
            let along = times(gramian, &weights);
            let first = along[0] / lengths[0];
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9 * weights.iter().map(|w| w.abs()).sum::<f64>());
            for (along, length) in along.iter().zip(&lengths) {
                assert!((along / length - first).abs() <= 1e-9 * size, "{case}: {} {first}", along / length);
            }
        }
    }

    #[test]
    fn dependent_gradients_have_the_pseudo_inverse() {
        for case in cases::all().into_iter().filter(|case| ["low rank", "doubled"].contains(&case.what)) {
            let n = case.n;
            let gramian = &case.gramian;
            let lengths: Vec<f64> = (0..n).map(|i| gramian[i * n + i].sqrt()).collect();
            let published = times(&eigen::pinv(gramian, n), &lengths);
            let sum: f64 = published.iter().sum();
            for (weight, published) in impartial(gramian, n).iter().zip(&published) {
                let size = 1.0_f64.max((published / sum).abs());
                assert!((weight - published / sum).abs() < 1e-6 * size, "{case}: {weight} {}", published / sum);
            }
        }
    }

    #[test]
    fn dependent_by_hand() {
        let weights = |gramian: &[f64]| checks::weigh(&mut ImtlG {}, &mut Given::gramian(gramian)).weights;
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14);
        // (1), (2): v is a multiple of (1, 2).
        assert!(near(&weights(&[1.0, 2.0, 2.0, 4.0]), &[1.0 / 3.0, 2.0 / 3.0]));
        // (1), (-2): v is a multiple of (-1, 2), as the longer one counts more.
        assert!(near(&weights(&[1.0, -2.0, -2.0, 4.0]), &[-1.0, 2.0]));
        // (1), (-1): v is 0. (3), (-1), (-2): v sums to 0. Nothing at all.
        assert_eq!(weights(&[1.0, -1.0, -1.0, 1.0]), [0.5, 0.5]);
        let stationary = [9.0, -3.0, -6.0, -3.0, 1.0, 2.0, -6.0, 2.0, 4.0];
        assert_eq!(weights(&stationary), [1.0 / 3.0; 3]);
        assert_eq!(weights(&[0.0; 4]), [0.5, 0.5]);
        // A task without gradient beside dependent ones.
        assert!(near(&weights(&[1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 4.0]), &[1.0 / 3.0, 0.0, 2.0 / 3.0]));
    }

    #[test]
    fn behaves() {
        checks::behaves(|| ImtlG {}, 1.0);
    }
}
