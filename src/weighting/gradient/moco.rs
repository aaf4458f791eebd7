//! Multi-objective gradients with correction: task weights from gradients averaged over time.

use serde::{Deserialize, Serialize};

use super::rows::{fit, gramian, width};
use super::shares::Shares;
use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::rows::combine;
use crate::solver::{add, simplex, times};
use crate::task::About;
use crate::vectorised;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, State, Weighting};

crate::component! {
    /// MoCo (Fernando, Shen, Liu, Chaudhury, Murugesan and Chen, Mitigating Gradient Bias in Multi-objective Learning: A
    /// Provably Convergent Approach, ICLR 2023).
    ///
    /// Gradients are averaged over time, `y_j += b_k (g_j - y_j)` from 0 with `b_k = beta / k^beta_sigma` at the task's
    /// batch number `k`. The task weights `l`, at first equal, go down the gradient of the norm of their combination,
    /// `l = project(l - c_k (Y Y^T + rho I) l)` on the simplex with `c_k = gamma / k^gamma_sigma` at step `k`. The
    /// direction is `sum_j l_j y_j`, as long as the mean of the gradients. It keeps `[tasks, shared parameters]` numbers.
    ///
    /// The paper projects; the authors' later code, and LibMTL and TorchJD after it, take a softmax of the same instead,
    /// which never lets a weight reach 0. That code also rescales each gradient to the length of its loss; use the option
    /// `normalize` for that.
    pub struct MoCo = "MoCo" {
        /// How much of a task's first gradient is taken over.
        beta: f64 = 0.5, in 0.0..=1.0;
        /// How fast that decays with the batches.
        beta_sigma: f64 = 0.5, in 0.0..;
        /// Step size of the task weights.
        gamma: f64 = 0.1, in 0.0..;
        /// How fast that decays with the steps.
        gamma_sigma: f64 = 0.5, in 0.0..;
        /// Pulls the task weights towards equal ones.
        rho: f64 = 0.0, in 0.0..;
        /// Divides `Y Y^T` by the mean of its diagonal, so that the size of the gradients does not decide how fast the
        /// task weights move; without it the formula is the paper's to the letter.
        relative: bool = true;
    }
    state: Averages;
}

/// Averaged gradients and task weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Averages {
    /// Batches of each task.
    batches: Vec<u64>,
    steps: u64,
    shares: Shares,
    /// `[tasks, shared parameters]`, empty before the first batch.
    #[serde(skip)]
    gradients: Vec<f32>,
}

impl Weighting for MoCo {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Jacobian,
            keeps_gradients: true,
            acts_like: ActsLike::Mean,
            promises: &[Promise::Permutes, Promise::Homogeneous, Promise::Pareto],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.batches.resize(tasks.len(), 0);
        self.state.shares.prepare(tasks.len());
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        if tasks.is_empty() {
            return Ok(());
        }
        let jacobian = evidence.jacobian()?;
        let width = width(jacobian, tasks.len());
        fit(&mut self.state.gradients, self.state.batches.len(), width, Self::CLASS)?;
        for (row, &task) in tasks.iter().enumerate() {
            let batches = &mut self.state.batches[task];
            *batches += 1;
            let rate = self.beta / (*batches as f64).powf(self.beta_sigma);
            let average = &mut self.state.gradients[task * width..][..width];
            follow(average, &jacobian[row * width..][..width], rate as f32);
        }
        let Averages { gradients, shares, steps, .. } = &mut self.state;
        let row = |row: usize| &gradients[tasks[row] * width..][..width];
        let mut gramian = gramian(tasks.len(), width, row);
        if self.relative {
            relate(&mut gramian, tasks.len());
        }
        *steps += 1;
        let rate = self.gamma / (*steps as f64).powf(self.gamma_sigma);
        let shares = shares.update(&tasks, |shares| descend(shares, &gramian, rate, self.rho));
        into.direction.resize(width, 0.0);
        combine(&shares, row, &mut into.direction);
        Ok(())
    }

    fn state(&self) -> State {
        let arrays = vec![("gradients".to_owned(), self.state.gradients.clone())];
        State { arrays, ..State::of(&self.state) }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.state = Averages { gradients: state.array("gradients"), ..state.read(Self::CLASS, &self.state)? };
        Ok(())
    }

    fn reset(&mut self) {
        self.state = Averages::default();
    }
}

/// Divides by the mean of the diagonal.
fn relate(gramian: &mut [f64], rows: usize) {
    let mean = gramian.iter().step_by(rows + 1).sum::<f64>() / rows as f64;
    if mean > 0.0 {
        gramian.iter_mut().for_each(|product| *product /= mean);
    }
}

/// `shares = project(shares - rate (products + rho I) shares)`.
pub(super) fn descend(shares: &mut [f64], products: &[f64], rate: f64, rho: f64) {
    let mut slopes = times(products, shares);
    add(&mut slopes, rho, shares);
    add(shares, -rate, &slopes);
    simplex::project(shares);
}

vectorised! {
/// `average += rate (row - average)`.
fn follow(average: &mut [f32], row: &[f32], rate: f32) {
    for (average, &g) in average.iter_mut().zip(row) {
        *average += rate * (g - *average);
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    #[test]
    fn by_hand() {
        let mut weighting = trial::prepared(&MoCo { relative: false, gamma_sigma: 1.0, ..MoCo::default() }, 2);
        // y = (1, 0), (0, 2); Y Y^T l = (0.5, 2); l = (0.45, 0.3), projected (0.575, 0.425).
        let direction = trial::shared(&mut weighting, &Given::jacobian(2, &[2.0, 0.0, 0.0, 4.0]));
        trial::close(&direction, &[0.575, 0.85], 1e-6);
        // b = 0.5 / sqrt 2 and c = 0.05; now the gradients are 0, so y = (1 - b) (1, 0) and (1 - b) (0, 2).
        let keep = 1.0 - 0.5 / 2.0_f64.sqrt();
        let a = 0.575 * (1.0 - 0.05 * keep * keep);
        let b = 0.425 * (1.0 - 0.2 * keep * keep);
        let shift = (1.0 - a - b) / 2.0;
        let direction = trial::shared(&mut weighting, &Given::jacobian(2, &[0.0; 4]));
        trial::close(&direction, &[keep * (a + shift), 2.0 * keep * (b + shift)], 1e-6);
    }

    #[test]
    fn each_task_is_averaged_by_its_own_batches() {
        let mut weighting = trial::prepared(&MoCo { gamma: 0.0, ..MoCo::default() }, 2);
        let alone = Given { tasks: vec![0], ..Given::jacobian(1, &[2.0, 0.0]) };
        trial::shared(&mut weighting, &alone);
        // y = (1, 0) after the first task's first batch; its second has b = 0.5 / sqrt 2, the other's first b = 0.5.
        let direction = trial::shared(&mut weighting, &Given::jacobian(2, &[2.0, 0.0, 0.0, 4.0]));
        trial::close(&direction, &[0.5 * (1.0 + 0.5 / 2.0_f64.sqrt()), 0.5 * 2.0], 1e-6);
    }

    #[test]
    fn constant_gradients_lead_to_the_shortest_combination() {
        let mut weighting = trial::prepared(&MoCo { gamma_sigma: 0.0, ..MoCo::default() }, 2);
        let mut direction = Vec::new();
        for _ in 0..2000 {
            direction = trial::shared(&mut weighting, &trial::golden());
        }
        // The minimum-norm point of the hull; the average still has a little of its start at 0.
        trial::close(&direction, &[0.0, 1.0, 1.0], 1e-5);
    }

    #[test]
    fn general() {
        trial::general(&MoCo::default());
    }
}
