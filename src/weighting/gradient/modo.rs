//! Multi-objective gradients with double sampling: task weights from two independent parts of the batch.

use super::moco::descend;
use super::rows::{products, width};
use super::shares::Shares;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::rows::{combine, long_dot};
use crate::task::About;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Weighting};

crate::component! {
    /// MoDo (Chen, Fernando, Ying and Chen, Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization
    /// and Conflict-Avoidance, NeurIPS 2023).
    ///
    /// The task weights `l`, at first equal, go down the gradient of the norm of their combination, estimated without bias
    /// from two independent parts of the batch: `l = project(l - gamma (J_1 J_2^T + rho I) l)` on the simplex. The
    /// direction is `sum_j l_j g_j`, as long as the mean of the gradients. A task without labels in a part is not seen
    /// there.
    ///
    /// The paper steps with a third sample. With 2 parts all of the batch decides the step, the two parts again included,
    /// so weights and gradients are not independent; with 3 the third part alone decides it, as in the paper. TorchJD
    /// takes a softmax instead of the projection; LibMTL's step size is 0.001.
    pub struct MoDo = "MoDo" {
        /// Step size of the task weights.
        gamma: f64 = 0.1, in 0.0..;
        /// Pulls the task weights towards equal ones.
        rho: f64 = 0.1, in 0.0..;
        /// Parts of the batch: 2, or 3 to step with the third.
        parts: usize = 2, in 2.0..=3.0;
        /// Divides `J_1 J_2^T` by the mean over the tasks of the product of its gradients' norms, so that the size of the
        /// gradients does not decide how fast the task weights move; without it the formula is the paper's to the letter.
        relative: bool = true;
    }
    state: Shares;
}

impl Weighting for MoDo {
    fn claims(&self) -> Claims {
        Claims { needs: Needs::Jacobian, parts: self.parts, acts_like: ActsLike::Mean, ..Claims::default() }
    }

    crate::remembers!();

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.prepare(tasks.len());
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        if tasks.is_empty() {
            return Ok(());
        }
        let first = Lent::from(evidence.part(0)?);
        let second = evidence.part(1)?;
        let mut cross = products(&first, second, tasks.len());
        if self.relative {
            let mean = mean_of_norms(&first, second, tasks.len());
            cross.iter_mut().filter(|_| mean > 0.0).for_each(|product| *product /= mean);
        }
        let gamma = self.gamma;
        let rho = self.rho;
        let shares = self.state.update(&tasks, |shares| descend(shares, &cross, gamma, rho));
        into.weights.copy_from_slice(&shares);
        if self.parts == 3 {
            step_with(evidence.part(2)?, into);
        }
        Ok(())
    }
}

/// The mean over the tasks of the norms in two parts, multiplied.
fn mean_of_norms(first: &[f32], second: &[f32], rows: usize) -> f64 {
    let width = width(first, rows).max(1);
    let norms = first.chunks_exact(width).zip(second.chunks_exact(width));
    norms.map(|(a, b)| (long_dot(a, a) * long_dot(b, b)).sqrt()).sum::<f64>() / rows as f64
}

/// Turns the weights into the direction that a part of the batch gives.
pub(super) fn step_with(part: &[f32], into: &mut Combination) {
    let width = width(part, into.weights.len());
    into.direction.resize(width, 0.0);
    combine(&into.weights, |row| &part[row * width..][..width], &mut into.direction);
    into.weights.fill(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    fn evidence() -> Given {
        let parts = vec![vec![2.0, 0.0, 0.0, 1.0], vec![1.0, 1.0, 0.0, 3.0], vec![10.0, 0.0, 0.0, 10.0]];
        Given { parts, ..Given::jacobian(2, &[1.5, 0.5, 0.0, 2.0]) }
    }

    #[test]
    fn by_hand() {
        // J1 J2^T = (2 0, 1 3); times (1/2, 1/2) plus rho l: (1.05, 2.05); l - 0.1 that = (0.395, 0.295), projected
        // (0.55, 0.45).
        let letter = MoDo { relative: false, ..MoDo::default() };
        let decided = trial::decide(&mut trial::prepared(&letter, 2), &evidence());
        trial::close(&decided.weights, &[0.55, 0.45], 1e-12);
        assert!(decided.direction.is_empty());
        // Norms 2 sqrt 2 and 3: the products are divided by their mean.
        let mean = (8.0_f64.sqrt() + 3.0) / 2.0;
        let apart = 0.1 * (2.0 - 1.0) / mean;
        let weights = trial::decide(&mut trial::prepared(&MoDo::default(), 2), &evidence()).weights;
        trial::close(&weights, &[0.5 + apart / 2.0, 0.5 - apart / 2.0], 1e-12);
    }

    #[test]
    fn three_parts_step_with_the_third() {
        let mut weighting = trial::prepared(&MoDo { parts: 3, relative: false, ..MoDo::default() }, 2);
        assert_eq!(weighting.claims().parts, 3);
        trial::close(&trial::shared(&mut weighting, &evidence()), &[5.5, 4.5], 1e-6);
    }

    #[test]
    fn a_part_without_labels_moves_nothing_but_rho() {
        let mut weighting = trial::prepared(&MoDo { rho: 0.0, ..MoDo::default() }, 2);
        let mut evidence = evidence();
        evidence.parts[1].fill(0.0);
        trial::close(&trial::decide(&mut weighting, &evidence).weights, &[0.5, 0.5], 1e-15);
    }

    #[test]
    fn constant_gradients_lead_to_the_shortest_combination() {
        let mut weighting = trial::prepared(&MoDo { rho: 0.0, ..MoDo::default() }, 2);
        let jacobian = trial::golden().jacobian.unwrap();
        let evidence = Given { parts: vec![jacobian.clone(), jacobian], ..trial::golden() };
        (0..500).for_each(|_| drop(trial::decide(&mut weighting, &evidence)));
        trial::close(&trial::shared(&mut weighting, &evidence), &[0.0, 1.0, 1.0], 1e-9);
    }

    #[test]
    fn general() {
        trial::general(&MoDo::default());
        trial::general(&MoDo { parts: 3, ..MoDo::default() });
    }
}
