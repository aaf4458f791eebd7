//! A smooth maximum of the relative losses.

use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::learned::{log_sum_exp, softmax};
use crate::weighting::positive::{Names, logarithm, reciprocal};
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// Smooth Tchebycheff scalarization (Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization,
    /// ICML 2024), as its multi-task experiments use it.
    ///
    /// `L = T mu log sum_j exp(y_j / mu)` with `y_j = log(L_j / nadir_j)`, which is the weights `T p_j / L_j` with
    /// `p = softmax(y / mu)`. The smaller `mu`, the more only the worst task counts; `T` counts the tasks that have
    /// labels in the batch. During the warm-up `L = sum_j log L_j`, and `nadir_j` becomes the mean of the task's losses
    /// over it. Neither sum nor mean: relative changes of losses, as in `ScaleInvariant`.
    ///
    /// The authors' code averages the losses of one further epoch of logarithms, after the warm-up; here the warm-up
    /// itself is averaged. A task without labels in the warm-up takes its first loss for its nadir. TorchJD's STCH is
    /// another formula, without logarithms. A loss of exactly 0 has weight 0; a negative one is refused.
    pub struct Stch = "STCH" {
        /// How smooth the maximum is.
        mu: f64 = 1.0, in f64::MIN_POSITIVE..;
        /// Epochs of the warm-up.
        warm_up: u64 = 4;
    }
    state: WarmUp;
}

/// The losses of the warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    names: Names,
    sums: Vec<f64>,
    counts: Vec<u64>,
}

impl WarmUp {
    fn see(&mut self, task: usize, loss: f64) {
        self.sums[task] += loss;
        self.counts[task] += 1;
    }

    /// The logarithm of a loss over its nadir.
    fn relative(&mut self, task: usize, loss: f64) -> f64 {
        // The sum is 0 as long as a task had no loss above 0.
        if self.sums[task] == 0.0 && loss > 0.0 {
            self.counts[task] = 0;
            self.see(task, loss);
        }
        loss.ln() - (self.sums[task] / self.counts[task] as f64).ln()
    }
}

impl Weighting for Stch {
    fn claims(&self) -> Claims {
        Claims { promises: &[Promise::Permutes, Promise::Positive, Promise::Levels], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.names = Names::of(tasks);
        self.state.sums.resize(tasks.len(), 0.0);
        self.state.counts.resize(tasks.len(), 0);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        self.state.names.refuse_negative(Self::CLASS, evidence)?;
        let tasks = evidence.tasks();
        let losses = evidence.losses();
        let weights = &mut into.weights;
        if evidence.moment().epoch < self.warm_up {
            for (row, &loss) in losses.iter().enumerate() {
                self.state.see(tasks[row], loss);
                weights[row] = reciprocal(loss);
            }
            into.objective = Some(losses.iter().copied().map(logarithm).sum());
            return Ok(());
        }
        // A loss of 0 is left out of the maximum, as the logarithm of 0 would leave itself out.
        let rows: Lent<usize> = (0..losses.len()).filter(|&row| losses[row] > 0.0).collect();
        let mut shares = Lent::with_capacity(rows.len());
        for &row in &rows {
            let relative = self.state.relative(tasks[row], losses[row]);
            shares.push((relative / self.mu).clamp(-f64::MAX, f64::MAX));
        }
        let highest = if rows.is_empty() { 0.0 } else { log_sum_exp(&shares) };
        into.objective = Some(rows.len() as f64 * self.mu * highest);
        softmax(&mut shares);
        weights.fill(0.0);
        for (&row, share) in rows.iter().zip(&shares) {
            weights[row] = rows.len() as f64 * share * reciprocal(losses[row]);
        }
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, continues, given, prepared, spares_absent, weigh_given};

    fn at(method: &mut Stch, epoch: u64, tasks: &[usize], losses: &[f64]) -> Result<Vec<f64>> {
        let mut evidence = given(tasks, losses);
        evidence.moment.epoch = epoch;
        weigh_given(method, &mut evidence)
    }

    #[test]
    fn the_worst_task_counts_after_the_warm_up() {
        let mut method = prepared(Stch { warm_up: 1, ..Stch::default() }, 2);
        close(&at(&mut method, 0, &[0, 1], &[2.0, 10.0]).unwrap(), &[0.5, 0.1]);
        close(&at(&mut method, 0, &[0, 1], &[4.0, 30.0]).unwrap(), &[0.25, 1.0 / 30.0]);
        // Nadirs 3 and 20, relative losses 1/2 and 1, shares 1/3 and 2/3.
        close(&at(&mut method, 1, &[0, 1], &[1.5, 20.0]).unwrap(), &[2.0 / 3.0 / 1.5, 4.0 / 3.0 / 20.0]);
        // With mu 1/2 they are squared first: shares 1/5 and 4/5.
        method.mu = 0.5;
        close(&at(&mut method, 1, &[0, 1], &[1.5, 20.0]).unwrap(), &[0.4 / 1.5, 1.6 / 20.0]);
        close(&at(&mut method, 1, &[1], &[5.0]).unwrap(), &[0.2]);
    }

    #[test]
    fn tiny_mu_and_wide_losses_are_stable() {
        let mut method = prepared(Stch { mu: 1e-300, warm_up: 0, ..Stch::default() }, 3);
        at(&mut method, 0, &[0, 1, 2], &[1.0; 3]).unwrap();
        close(&at(&mut method, 0, &[0, 1, 2], &[1e10, 1.0, 1e-10]).unwrap(), &[3e-10, 0.0, 0.0]);
    }

    #[test]
    fn zeros_are_left_out_and_less_is_refused() {
        let mut method = prepared(Stch { warm_up: 1, ..Stch::default() }, 3);
        at(&mut method, 0, &[0, 1], &[0.0, 1.0]).unwrap();
        close(&at(&mut method, 1, &[0, 1, 2], &[0.0, 1.0, 4.0]).unwrap(), &[0.0, 1.0, 0.25]);
        assert_eq!(at(&mut method, 1, &[0], &[0.0]).unwrap(), [0.0]);
        // The first loss above 0 is the nadir of a task that had none.
        close(&at(&mut method, 1, &[0, 1], &[8.0, 1.0]).unwrap(), &[0.125, 1.0]);
        close(&at(&mut method, 1, &[0, 1], &[24.0, 1.0]).unwrap(), &[1.5 / 24.0, 0.5]);
        assert!(at(&mut method, 1, &[2], &[-1.0]).unwrap_err().to_string().contains("STCH: the loss of task \"c\""));
        spares_absent(&mut prepared(Stch::default(), 3));
        continues(|| prepared(Stch { warm_up: 2, ..Stch::default() }, 3));
    }
}
