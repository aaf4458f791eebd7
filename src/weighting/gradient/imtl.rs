//! Impartial learning: learned scales for the losses, equal projections for the gradients.

use serde::{Deserialize, Serialize};

use super::imtl_g;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::learned::Learned;
use crate::weighting::{Claims, Combination, Evidence, Needs, Promise, Weighting};

/// Furthest a scale's logarithm goes, so that weights stay between 1e-13 and 1e13.
const LIMIT: f64 = 30.0;

crate::component! {
    /// IMTL, impartial multi-task learning (Liu et al., Towards Impartial Multi-task Learning, ICLR 2021): losses
    /// `exp(s_j) L_j - s_j` with learned `s_j` that start at 0 (IMTL-L), whose gradients at the shared parameters are
    /// combined to a direction with equal projections (IMTL-G, weights that sum to 1). Task-only parameters follow
    /// their own scaled loss. As equal projections on independent gradients do not depend on their lengths, at the shared
    /// parameters the scales then change only how long the direction is; where gradients depend on each other, the
    /// pseudo-inverse of IMTL-G sees the scaled ones.
    ///
    /// The paper and LibMTL train `s` with the model's optimizer; here it has an Adam of its own. A loss that stays at 0
    /// or below has no best scale: its weight grows until `s` reaches 30. As for IMTL-G nothing bounds the direction, and a
    /// run warns once where it is more than 10 times as long as all gradients together.
    pub struct Imtl = "IMTL" {
        /// Learning rate of the scales' logarithms.
        lr: f64 = 1e-3, in 0.0..;
    }
    state: Scales;
}

/// The scales, as logarithms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    logarithms: Learned,
}

impl Weighting for Imtl {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            bounded: false,
            promises: &[Promise::Weighted, Promise::Permutes, Promise::Homogeneous, Promise::Impartial],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.logarithms.fit(tasks.len(), 0.0);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let logarithms = &mut self.state.logarithms;
        let scales: Lent<f64> = evidence.tasks().iter().map(|&task| logarithms.values[task].exp()).collect();
        for (row, &task) in evidence.tasks().iter().enumerate() {
            logarithms.descend(task, scales[row] * evidence.losses()[row] - 1.0, self.lr);
            logarithms.values[task] = logarithms.values[task].clamp(-LIMIT, LIMIT);
        }
        let rows = scales.len();
        let mut scaled = Lent::from(evidence.gramian()?);
        for (at, product) in scaled.iter_mut().enumerate() {
            *product = scales[at / rows] * *product * scales[at % rows];
        }
        let weights = imtl_g::impartial(&scaled, rows);
        for row in 0..rows {
            into.weights[row] = weights[row] * scales[row];
        }
        into.own.copy_from_slice(&scales);
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::checks;

    fn prepared() -> Imtl {
        let mut method = Imtl { lr: 0.1, ..Imtl::default() };
        method.prepare(&About::named(&["a", "b", "c"])).unwrap();
        method
    }

    fn evidence(tasks: &[usize], losses: &[f64]) -> Given {
        let mut given = Given::jacobian(2, &[-4.0, 1.0, 1.0, 6.0, 1.0, 1.0]);
        (given.tasks, given.losses) = (tasks.to_vec(), losses.to_vec());
        given
    }

    #[test]
    fn the_first_step_is_that_of_imtl_g() {
        let mut method = prepared();
        checks::golden(&mut method, [0.0767, 1.0, 1.0]);
        checks::behaves(
            || {
                let mut method = Imtl::default();
                method.prepare(&checks::tasks()).unwrap();
                method
            },
            1.0,
        );
    }

    #[test]
    fn scales_follow_losses_and_leave_the_direction() {
        let mut method = prepared();
        let first = checks::weigh(&mut method, &mut evidence(&[0, 2], &[3.0, 0.5]));
        assert_eq!(first.own, [1.0, 1.0]);
        // Adam's first step is its learning rate: down for 3 - 1, up for 0.5 - 1.
        let second = checks::weigh(&mut method, &mut evidence(&[0, 2], &[3.0, 0.5]));
        let scales = [(-0.1_f64).exp(), 0.1_f64.exp()];
        assert!(second.own.iter().zip(scales).all(|(a, b)| (a - b).abs() < 1e-8), "{:?}", second.own);
        let ratio = |c: &Combination| c.weights[0] / c.weights[1];
        assert!((ratio(&first) - ratio(&second)).abs() < 1e-12);
        let inner: f64 = second.weights.iter().zip(scales).map(|(weight, scale)| weight / scale).sum();
        assert!((inner - 1.0).abs() < 1e-8, "the weights of the scaled gradients sum to 1");
        assert_eq!(method.state.logarithms.values[1], 0.0, "an absent task keeps its scale");
    }

    #[test]
    fn a_restored_state_continues_and_a_reset_starts_again() {
        let mut method = prepared();
        for _ in 0..5 {
            checks::weigh(&mut method, &mut evidence(&[0, 1], &[3.0, -0.5]));
        }
        let mut again = Imtl { lr: 0.1, ..Imtl::default() };
        again.restore(&method.state()).unwrap();
        again.prepare(&About::named(&["a", "b", "c"])).unwrap();
        let next = |method: &mut Imtl| checks::weigh(method, &mut evidence(&[0, 1], &[2.0, 1.0]));
        assert_eq!(next(&mut again), next(&mut method));
        method.reset();
        method.prepare(&About::named(&["a", "b", "c"])).unwrap();
        assert_eq!(method, prepared());
    }
}
