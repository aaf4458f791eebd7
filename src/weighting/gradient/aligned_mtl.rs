//! Gradients whose principal components are made equally long.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::eigen::{Eigen, rounded_tolerance};
use crate::weighting::evidence::SINGLE;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// Aligned-MTL (Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023): the mean of
    /// the rows of the matrix nearest to `J` whose singular values are all `s`. With `G = V diag(l) V^T` over the
    /// eigenvalues that are not zero, `w = s V diag(l)^(-1/2) V^T 1/T`. As long as a mean of gradients, or shorter.
    ///
    /// The authors' code sums rather than averages. As there, an eigenvalue counts as zero below `T` times the precision of a
    /// 32-bit float (1.2e-7) of the largest, or below `4 sqrt(T)` times the rounding of the Gramian if that is more, and
    /// never above half of the largest: with `"min"` one that is noise would shrink the direction to nothing.
    pub struct AlignedMtl = "AlignedMTL" {
        /// `s`: the least singular value (`"min"`), the lower median (`"median"`) or the root of the mean of squares
        /// (`"rmse"`).
        scale_mode: ScaleMode = ScaleMode::Min;
    }
}

/// Which singular value all others are made to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleMode {
    /// The least.
    Min,
    /// The lower median.
    Median,
    /// The root of the mean of their squares.
    Rmse,
}

crate::choices!(ScaleMode: Min, Median, Rmse);

impl ScaleMode {
    /// The square of the common singular value, from falling squares.
    fn square(self, values: &[f64]) -> f64 {
        match self {
            _ if values.is_empty() => 0.0,
            ScaleMode::Min => values[values.len() - 1],
            ScaleMode::Median => values[values.len() / 2],
            ScaleMode::Rmse => values.iter().sum::<f64>() / values.len() as f64,
        }
    }
}

impl Weighting for AlignedMtl {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Mean,
            promises: &[Promise::Weighted, Promise::Permutes, Promise::Homogeneous, Promise::Pareto],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let tolerance = (rows as f64 * SINGLE).max(rounded_tolerance(rows, evidence.rounding()));
        let eigen = Eigen::of(evidence.gramian()?, rows);
        let values: Lent<f64> = eigen.above(tolerance).map(|(value, _)| value).collect();
        let common = self.scale_mode.square(&values);
        let mean = Lent::filled(1.0 / rows as f64, rows);
        into.weights.copy_from_slice(&eigen.apply(tolerance, |value| (common / value).sqrt(), &mean));
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
        // TorchJD: AlignedMTL()(tensor([[-4., 1., 1.], [6., 1., 1.]])).
        checks::golden(&mut AlignedMtl::default(), [0.2133, 0.9673, 0.9673]);
    }

    #[test]
    fn modes_by_hand() {
        // Rows at right angles of lengths 1, 2 and 4: each becomes as long as s.
        let gramian = [1.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 16.0];
        for (scale_mode, s) in [(ScaleMode::Min, 1.0), (ScaleMode::Median, 2.0), (ScaleMode::Rmse, 7.0_f64.sqrt())] {
            let weights = checks::weigh(&mut AlignedMtl { scale_mode }, &mut Given::gramian(&gramian)).weights;
            let expected = [1.0, 2.0, 4.0].map(|length| s / length / 3.0);
            assert!(weights.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{weights:?} {expected:?}");
        }
        // The lower of two medians.
        assert_eq!(ScaleMode::Median.square(&[9.0, 4.0]), 4.0);
    }

    #[test]
    fn behaves() {
        checks::behaves(AlignedMtl::default, 1.0);
        checks::behaves(|| AlignedMtl { scale_mode: ScaleMode::Rmse }, 1.0);
    }
}
