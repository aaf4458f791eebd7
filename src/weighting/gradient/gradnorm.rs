//! Loss weights learned so that gradients have norms that follow the tasks' training rates.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::learned::Learned;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// GradNorm (Chen, Badrinarayanan, Lee and Rabinovich, GradNorm: Gradient Normalization for Adaptive Loss Balancing
    /// in Deep Multitask Networks, ICML 2018).
    ///
    /// Loss weights `w`, at first 1, apply to all parameters, a task's own ones too. With the norms `n_j = |g_j|`, the
    /// mean `m` of `w_j n_j` and the training rates `r_j = (L_j / L_j(0)) / mean_k (L_k / L_k(0))`, each step moves `w`
    /// down the gradient of `sum_j |w_j n_j - m r_j^alpha|`, where `m r_j^alpha` is held fixed, and rescales `w` to its
    /// sum, the number of tasks. `L_j(0)` is the loss of the first batch with labels of the task. As long as the sum of
    /// the gradients.
    ///
    /// The paper looks at the last shared layer only; `at="representation"` comes closest to that. Its weights are learned
    /// with the model's optimizer; here with Adam, its gradient divided by `mean_j n_j` so that the scale of the losses
    /// does not matter. Weights stop at 0. LibMTL learns the logits of a softmax instead.
    pub struct GradNorm = "GradNorm" {
        /// How strongly slow tasks are helped; 0 asks for equal norms. The paper's best value on NYUv2.
        alpha: f64 = 1.5, in 0.0..;
        /// Learning rate of the weights.
        lr: f64 = 0.025, in 0.0..;
    }
    state: FirstLosses;
}

/// What is known of the tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FirstLosses {
    weights: Learned,
    /// Each task's first loss above 0.
    initial: Vec<Option<f64>>,
}

impl Weighting for GradNorm {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Sum,
            promises: &[Promise::Weighted, Promise::Permutes, Promise::Homogeneous],
            ..Claims::default()
        }
    }

    crate::remembers!();

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.weights.fit(tasks.len(), 1.0);
        self.state.initial.resize(tasks.len(), None);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        for (row, &task) in tasks.iter().enumerate() {
            into.weights[row] = self.state.weights.values[task];
        }
        into.own.copy_from_slice(&into.weights);
        let rates = self.rates(&tasks, evidence.losses())?;
        let gramian = evidence.gramian()?;
        let norms = (0..tasks.len()).map(|i| gramian[i * tasks.len() + i].max(0.0).sqrt()).collect::<Lent<f64>>();
        self.learn(&tasks, &norms, &rates);
        Ok(())
    }
}

impl GradNorm {
    /// The training rates: which part of its first loss a task has left, compared with the others.
    fn rates(&mut self, tasks: &[usize], losses: &[f64]) -> Result<Lent<f64>> {
        let mut left = Lent::with_capacity(tasks.len());
        for (&task, &loss) in tasks.iter().zip(losses) {
            if loss < 0.0 {
                bail!("GradNorm: compares losses with their first value, so they may not be negative; got {loss}");
            }
            let initial = &mut self.state.initial[task];
            if initial.is_none() && loss > 0.0 {
                *initial = Some(loss);
            }
            left.push(initial.map_or(1.0, |initial| loss / initial));
        }
        let mean = left.iter().sum::<f64>() / left.len().max(1) as f64;
        if mean > 0.0 {
            left.iter_mut().for_each(|left| *left /= mean);
        }
        Ok(left)
    }

    /// One step of Adam for the tasks that are here; together they keep the weight they had.
    fn learn(&mut self, tasks: &[usize], norms: &[f64], rates: &[f64]) {
        let rows = tasks.len() as f64;
        let scale = norms.iter().sum::<f64>() / rows;
        if tasks.is_empty() || scale == 0.0 {
            return;
        }
        let weights = &mut self.state.weights;
        let before: f64 = tasks.iter().map(|&task| weights.values[task]).sum();
        let mean = tasks.iter().zip(norms).map(|(&task, norm)| weights.values[task] * norm).sum::<f64>() / rows;
        for (row, &task) in tasks.iter().enumerate() {
            let norm = norms[row];
            let over = weights.values[task] * norm - mean * rates[row].powf(self.alpha);
            let sign = if over == 0.0 { 0.0 } else { over.signum() };
            weights.descend(task, sign * norm / scale, self.lr);
            weights.values[task] = weights.values[task].max(0.0);
        }
        let after: f64 = tasks.iter().map(|&task| weights.values[task]).sum();
        for &task in tasks {
            let weight = &mut weights.values[task];
            *weight = if after > 0.0 { *weight * before / after } else { before / rows };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    fn evidence(losses: [f64; 2], norms: [f64; 2]) -> Given {
        let gramian = [norms[0] * norms[0], 0.5, 0.5, norms[1] * norms[1]];
        Given { losses: losses.to_vec(), ..Given::gramian(&gramian) }
    }

    #[test]
    fn by_hand() {
        let mut weighting = trial::prepared(&GradNorm { lr: 0.25, ..GradNorm::default() }, 2);
        let first = trial::decide(&mut weighting, &evidence([2.0, 5.0], [3.0, 1.0]));
        assert_eq!((first.weights, first.own), (vec![1.0, 1.0], vec![1.0, 1.0]));
        // Rates are 1, so both norms should be 2: the first is above, the second below; Adam's first step is +-lr.
        let second = trial::decide(&mut weighting, &evidence([2.0, 2.5], [1.0, 1.0]));
        trial::close(&second.weights, &[0.75, 1.25], 1e-7);
        assert_eq!(second.own, second.weights);
        // Norms are 0.75 and 1.25, their mean 1; the losses have 1 and 1/2 left, so rates are 4/3 and 2/3. The targets
        // (4/3)^1.5 = 1.54 and (2/3)^1.5 = 0.54 pull the first up, the second down. The gradients over their mean norm
        // were 1.5, -0.5 and are -1, 1; so Adam's moments give, after two steps,
        let adam = |a: f64, b: f64| {
            let first = (0.1 * (0.9 * a + b)) / (1.0 - 0.81);
            let second = (0.001 * (0.999 * a * a + b * b)) / (1.0 - 0.999 * 0.999);
            0.25 * first / second.sqrt()
        };
        let a = 0.75 - adam(1.5, -1.0);
        let b = 1.25 - adam(-0.5, 1.0);
        let third = trial::decide(&mut weighting, &evidence([2.0, 2.5], [1.0, 1.0]));
        trial::close(&third.weights, &[2.0 * a / (a + b), 2.0 * b / (a + b)], 1e-7);
    }

    #[test]
    fn norms_become_equal_without_rates() {
        let mut weighting = trial::prepared(&GradNorm { alpha: 0.0, ..GradNorm::default() }, 2);
        for _ in 0..400 {
            trial::decide(&mut weighting, &evidence([1.0, 1.0], [4.0, 1.0]));
        }
        let weights = trial::decide(&mut weighting, &evidence([1.0, 1.0], [4.0, 1.0])).weights;
        assert!((weights[0] * 4.0 / weights[1] - 1.0).abs() < 0.25, "{weights:?}");
        assert!((weights[0] + weights[1] - 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_task_that_lags_gets_more() {
        let mut weighting = trial::prepared(&GradNorm::default(), 2);
        trial::decide(&mut weighting, &evidence([1.0, 1.0], [1.0, 1.0]));
        for _ in 0..20 {
            trial::decide(&mut weighting, &evidence([0.9, 0.1], [1.0, 1.0]));
        }
        let weights = trial::decide(&mut weighting, &evidence([0.9, 0.1], [1.0, 1.0])).weights;
        assert!(weights[0] > 1.2 && weights[1] < 0.8, "{weights:?}");
    }

    #[test]
    fn weights_stop_at_zero_and_come_back() {
        let mut weighting = trial::prepared(&GradNorm { lr: 5.0, alpha: 0.0, ..GradNorm::default() }, 2);
        trial::decide(&mut weighting, &evidence([1.0, 1.0], [3.0, 1.0]));
        let weights = trial::decide(&mut weighting, &evidence([1.0, 1.0], [3.0, 1.0])).weights;
        assert_eq!(weights, [0.0, 2.0]);
        for _ in 0..30 {
            trial::decide(&mut weighting, &evidence([1.0, 1.0], [3.0, 1.0]));
        }
        assert!(trial::decide(&mut weighting, &evidence([1.0, 1.0], [3.0, 1.0])).weights.iter().any(|&w| w > 0.0));
        assert!(weighting.state.weights.values.iter().all(|weight| *weight >= 0.0 && weight.is_finite()));
    }

    #[test]
    fn losses_below_zero_are_refused_and_zero_is_not() {
        let mut weighting = trial::prepared(&GradNorm::default(), 2);
        trial::decide(&mut weighting, &evidence([0.0, 0.0], [1.0, 2.0]));
        assert_eq!(weighting.state.initial[0], None);
        let mut into = Combination::default();
        into.clear(2);
        let error = weighting.weigh(&mut evidence([1.0, -0.5], [1.0, 1.0]), &mut into).unwrap_err().to_string();
        assert!(error.contains("GradNorm") && error.contains("-0.5"), "{error}");
    }

    #[test]
    fn general() {
        trial::general(&GradNorm::default());
    }
}
