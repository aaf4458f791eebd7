//! Gradient vaccine: gradients are drawn together until they agree as much as they usually do.

use serde::{Deserialize, Serialize};

use super::surgery::{Pair, operate};
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

/// Targets are cut here: towards a cosine of 1 the correction grows without bound.
const LARGEST_TARGET: f64 = 0.999;

crate::component! {
    /// GradVac (Wang, Tsvetkov, Firat and Cao, Gradient Vaccine: Investigating and Improving Multi-task Optimization in
    /// Massively Multilingual Models, ICLR 2021).
    ///
    /// Each task's gradient `p_i`, at first `g_i`, visits the others in random order. Where its cosine `c` with `g_j` is
    /// below the target `t_ij`, it becomes `p_i + g_j |p_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2))`,
    /// whose cosine is the target; then `t_ij += beta (c - t_ij)`. Targets start at 0, where this is PCGrad. The
    /// direction is `sum_i p_i`, as long as the sum of the gradients. All of it follows from the Gramian.
    ///
    /// Targets move at every visit, as in the paper and in TorchJD; LibMTL moves them only after a correction, so there
    /// they can only fall. The paper has a target for each layer too; here one covers what the Gramian covers. Targets
    /// above 0.999 count as 0.999 (the paper has no bound, and the correction is infinite at 1). Nothing bounds the
    /// direction: corrections towards high targets add up from visit to visit, and a run warns once where it is more than
    /// 10 times as long as all gradients together.
    pub struct GradVac = "GradVac" {
        /// How fast the targets follow the cosines. 0.5 is the default of LibMTL and TorchJD; the paper's translation
        /// models use 0.01.
        beta: f64 = 0.5, in 0.0..=1.0;
    }
    state: Targets;
}

/// The usual cosines of pairs of tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    tasks: usize,
    /// `[tasks, tasks]`, first the task whose gradient changes.
    cosines: Vec<f64>,
}

impl Weighting for GradVac {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Sum,
            bounded: false,
            promises: &[Promise::Weighted, Promise::Homogeneous, Promise::SafePair],
            ..Claims::default()
        }
    }

    crate::remembers!();

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        if self.state.tasks != tasks.len() {
            self.state = Targets { tasks: tasks.len(), cosines: vec![0.0; tasks.len() * tasks.len()] };
        }
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        let moment = evidence.moment();
        let Self { beta, state } = self;
        let weights = operate(evidence.gramian()?, &tasks, moment, |pair| {
            let target = &mut state.cosines[tasks[pair.i] * state.tasks + tasks[pair.j]];
            vaccinate(&pair, target, *beta)
        });
        into.weights.copy_from_slice(&weights);
        Ok(())
    }
}

/// How much of the other gradient brings the cosine up to the target; the target follows the cosine.
fn vaccinate(pair: &Pair, target: &mut f64, beta: f64) -> f64 {
    let norms = pair.norm * pair.other;
    if norms == 0.0 {
        // No direction, so no cosine.
        return 0.0;
    }
    let cosine = (pair.product / norms).clamp(-1.0, 1.0);
    let wanted = target.min(LARGEST_TARGET);
    *target += beta * (cosine - *target);
    if cosine >= wanted {
        return 0.0;
    }
    // At the target -1 nothing is below, so its sine is not 0 here.
    pair.norm * (wanted * sine(cosine) - cosine * sine(wanted)) / (pair.other * sine(wanted))
}

fn sine(cosine: f64) -> f64 {
    (1.0 - cosine * cosine).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    #[test]
    fn golden() {
        // As PCGrad while the targets are 0: TorchJD's GradVac on this matrix, to 4 decimals.
        let mut weighting = trial::prepared(&GradVac::default(), 2);
        trial::close(&trial::shared(&mut weighting, &trial::golden()), &[0.5848, 3.8012, 3.8012], 5e-5);
        // The cosine is -22 / sqrt(18 * 38); the targets have gone half the way.
        let cosine = -22.0 / (18.0_f64 * 38.0).sqrt();
        trial::close(&weighting.state.cosines, &[0.0, cosine / 2.0, cosine / 2.0, 0.0], 1e-14);
    }

    #[test]
    fn the_changed_gradients_have_the_target_cosine() {
        let mut weighting = trial::prepared(&GradVac { beta: 0.0, ..GradVac::default() }, 2);
        weighting.state.cosines = vec![0.0, 0.6, -1.0, 0.0];
        // The second keeps itself (its target is -1), the first goes from cosine 0 to 0.6: (1, 0) + a (0, 2) with
        // 2 a / sqrt(1 + 4 a^2) = 0.6, so a = 0.375.
        let weights = trial::decide(&mut weighting, &Given::jacobian(2, &[1.0, 0.0, 0.0, 2.0])).weights;
        trial::close(&weights, &[1.0, 1.375], 1e-14);
    }

    #[test]
    fn equal_gradients_for_long_leave_the_weights_finite() {
        let mut weighting = trial::prepared(&GradVac::default(), 2);
        for _ in 0..200 {
            let same = Given::jacobian(2, &[1.0, 3.0, 1.0, 3.0]);
            trial::close(&trial::decide(&mut weighting, &same).weights, &[1.0, 1.0], 1e-14);
        }
        let weights = trial::decide(&mut weighting, &Given::jacobian(2, &[1.0, 3.0, 1.0, -3.0])).weights;
        assert!(weights.iter().all(|weight| weight.is_finite() && weight.abs() < 50.0), "{weights:?}");
    }

    #[test]
    fn opposed_gradients_vanish() {
        let mut weighting = trial::prepared(&GradVac::default(), 2);
        let opposed = Given::jacobian(2, &[1.0, 2.0, -2.0, -4.0]);
        trial::close(&trial::shared(&mut weighting, &opposed), &[0.0, 0.0], 1e-14);
    }

    #[test]
    fn general() {
        trial::general(&GradVac::default());
    }
}
