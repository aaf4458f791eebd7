//! The direction near the mean gradient that helps the worst-off task most.

use crate::error::Result;
use crate::solver::conflict_averse;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// CAGrad, conflict-averse gradient descent (Liu, Liu, Jin, Stone & Liu, NeurIPS 2021): `max_d min_j <g_j, d>` over
    /// `|d - g_0| <= c |g_0|` with the mean gradient `g_0`. About as long as a mean of gradients.
    ///
    /// Solved exactly, by an active set; published codes hand the dual to SciPy's SLSQP, with 1e-8 added to norms, and
    /// TorchJD answers 0 for small gradients. The paper does not rescale; the authors' code and LibMTL divide by
    /// `1 + c^2`, the default here. At points where no direction helps all tasks, `d` is not unique; then it is the one
    /// nearest to `g_0`. Before rescaling it is never longer than `(1 + c) |g_0|`: where rounding of the Gramian hides
    /// whether gradients oppose each other, their squared lengths count a little more.
    pub struct CaGrad = "CAGrad" {
        /// Radius of the ball around the mean gradient, relative to its length; 0 for the mean. The authors use 0.2 to
        /// 0.8.
        c: f64 = 0.5, in 0.0..;
        /// Divides the direction by 1 (`0`), by `1 + c^2` (`1`) or by `1 + c` (`2`).
        rescale: usize = 1, in 0.0..=2.0;
    }
}

impl Weighting for CaGrad {
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
        let rounding = evidence.rounding();
        into.weights.copy_from_slice(&conflict_averse::weights(evidence.gramian()?, rows, self.c, rounding));
        let divisor = match self.rescale {
            0 => 1.0,
            1 => 1.0 + self.c * self.c,
            _ => 1.0 + self.c,
        };
        into.weights.iter_mut().for_each(|weight| *weight /= divisor);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::gradient::checks;

    #[test]
    fn golden() {
        // TorchJD: CAGrad(c=0.5)(tensor([[-4., 1., 1.], [6., 1., 1.]])), which does not rescale.
        let c = 0.5;
        let expected = [0.1835, 1.2041, 1.2041];
        checks::golden(&mut CaGrad { c, rescale: 0 }, expected);
        checks::golden(&mut CaGrad::default(), expected.map(|x| x / 1.25));
        checks::golden(&mut CaGrad { c, rescale: 2 }, expected.map(|x| x / 1.5));
        checks::golden(&mut CaGrad { c: 0.0, rescale: 1 }, [1.0, 1.0, 1.0]);
    }

    #[test]
    fn behaves() {
        checks::behaves(CaGrad::default, 1.0);
    }
}
