//! Gradient surgery: each gradient without what opposes the others.

use super::surgery::operate;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// PCGrad (Yu, Kumar, Gupta, Levine, Hausman and Finn, Gradient Surgery for Multi-Task Learning, NeurIPS 2020).
    ///
    /// Each task's gradient `p_i`, at first `g_i`, visits the others in random order; where `p_i . g_j < 0` it loses that
    /// part, `p_i -= (p_i . g_j / |g_j|^2) g_j`. The direction is `sum_i p_i`, as long as the sum of the gradients.
    ///
    /// The projected gradients are mixtures of the tasks' gradients, so weights computed from the Gramian say it all.
    /// With two tasks the direction conflicts with neither; with more it may, as a later projection can undo an earlier
    /// one. The order is drawn from the seed and the step.
    pub struct PcGrad = "PCGrad" {}
}

impl Weighting for PcGrad {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Sum,
            promises: &[Promise::Weighted, Promise::Homogeneous, Promise::SafePair, Promise::Pareto],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        let moment = evidence.moment();
        let weights = operate(evidence.gramian()?, &tasks, moment, |pair| {
            // A conflict implies that the other gradient is not zero.
            if pair.product < 0.0 { -pair.product / (pair.other * pair.other) } else { 0.0 }
        });
        into.weights.copy_from_slice(&weights);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    #[test]
    fn golden() {
        // TorchJD's PCGrad on this matrix, to 4 decimals. By hand: g1 . g2 = -22, so the weights are 1 + 22 / |g1|^2 and
        // 1 + 22 / |g2|^2 with |g1|^2 = 18 and |g2|^2 = 38.
        let evidence = trial::golden();
        let weights = trial::decide(&mut PcGrad {}, &evidence).weights;
        trial::close(&weights, &[1.0 + 22.0 / 18.0, 1.0 + 22.0 / 38.0], 1e-14);
        trial::close(&trial::shared(&mut PcGrad {}, &evidence), &[0.5848, 3.8012, 3.8012], 5e-5);
    }

    #[test]
    fn gradients_that_agree_are_summed() {
        let evidence = Given::jacobian(3, &[1.0, 0.0, 0.0, 1.0, 2.0, 1.0]);
        assert_eq!(trial::decide(&mut PcGrad {}, &evidence).weights, [1.0, 1.0, 1.0]);
    }

    #[test]
    fn opposed_gradients_vanish_and_two_tasks_never_conflict() {
        let opposed = Given::jacobian(2, &[1.0, 2.0, -2.0, -4.0]);
        trial::close(&trial::shared(&mut PcGrad {}, &opposed), &[0.0, 0.0], 1e-14);
        for evidence in trial::sequence(50, 2, 1.0) {
            let direction = trial::shared(&mut PcGrad {}, &evidence);
            trial::conflict_free(&evidence, &direction);
        }
    }

    #[test]
    fn the_order_depends_on_the_step() {
        let mut evidence = trial::sequence(1, 3, 1.0).remove(0);
        evidence.gramian = Some(vec![2.0, -1.0, -0.5, -1.0, 3.0, -0.7, -0.5, -0.7, 1.0]);
        let mut seen = Vec::new();
        for step in 0..20 {
            evidence.moment.step = step;
            let weights = trial::decide(&mut PcGrad {}, &evidence).weights;
            assert_eq!(weights, trial::decide(&mut PcGrad {}, &evidence).weights);
            seen.extend((!seen.contains(&weights)).then_some(weights));
        }
        assert!(seen.len() > 1);
    }

    #[test]
    fn general() {
        trial::general(&PcGrad {});
    }
}
