//! Fair shares of the decrease of the losses, larger for tasks that do badly.

use serde::{Deserialize, Serialize};

use super::nash_mtl::clip;
use crate::bail;
use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::fair;
use crate::solver::fair::Fair;
use crate::task::About;
use crate::weighting::{Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// PIVRG, performance-informed variance reduction gradient aggregation (Qin et al., Revisiting Fairness in Multitask
    /// Learning: A Performance-Driven Approach for Variance Reduction, CVPR 2025): weights with
    /// `G w = (p / w)^(1/alpha)`, element by element, where `p = T softmax(score / t)` asks for more decrease for tasks that
    /// fall behind, and `t` is such that no `p_j` is more than `bound` times another. As its length is FairGrad's, it is
    /// cut to `max_norm`, as in the authors' code.
    ///
    /// There, a task's score is how much worse its validation metric is than after training alone, in percent, as of the
    /// last epoch. Here it is how much higher its mean training loss was over the last complete epoch than its
    /// `baseline` or, without baselines, than over its first epoch: validation metrics are not part of a step's
    /// evidence. Until a task has a score, it has the mean of the others.
    pub struct Pivrg = "PIVRG" {
        /// Loss of each task after training alone, times the task's own `weight`; `None` for the mean of its first epoch.
        baselines: Option<Vec<f64>> = None;
        /// Largest ratio of two `p`.
        bound: f64 = 2.0, in 1.0..;
        /// Least `t`, in percent: scores nearer to each other hardly matter.
        min_temperature: f64 = 10.0, in 0.0..;
        /// Fairness, as for FairGrad.
        alpha: f64 = 2.0, in 0.1..=10.0;
        /// Greatest length of the direction; 0 for no limit.
        max_norm: f64 = 1.0, in 0.0..;
    }
    state: Progress;
}

/// How each task has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    epoch: u64,
    tasks: Vec<Task>,
}

/// How one task has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Task {
    /// Sum and number of this epoch's losses.
    sum: f64,
    count: u64,
    /// What its losses are compared with.
    baseline: Option<f64>,
    /// Percent above that, as of the last complete epoch.
    score: Option<f64>,
}

impl Task {
    /// Turns the epoch's losses into a score.
    fn close(&mut self) {
        if self.count == 0 {
            return;
        }
        let mean = self.sum / self.count as f64;
        let baseline = *self.baseline.get_or_insert(mean);
        if baseline != 0.0 {
            self.score = Some(100.0 * (mean - baseline) / baseline.abs());
        }
        self.sum = 0.0;
        self.count = 0;
    }
}

impl Pivrg {
    /// Takes note of the losses of a batch.
    fn observe(&mut self, evidence: &dyn Evidence) {
        let epoch = evidence.moment().epoch;
        if epoch != self.state.epoch {
            self.state.tasks.iter_mut().for_each(Task::close);
            self.state.epoch = epoch;
        }
        for (&task, loss) in evidence.tasks().iter().zip(evidence.losses()) {
            self.state.tasks[task].sum += loss;
            self.state.tasks[task].count += 1;
        }
    }

    /// `p` of the rows.
    fn targets(&self, tasks: &[usize]) -> Lent<f64> {
        let known: Lent<f64> = tasks.iter().filter_map(|&task| self.state.tasks[task].score).collect();
        let usual = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let low = known.iter().copied().fold(usual, f64::min);
        let high = known.iter().copied().fold(usual, f64::max);
        if low == high {
            return Lent::filled(1.0, tasks.len());
        }
        let temperature = ((high - low) / self.bound.ln()).max(self.min_temperature);
        let mut shares = Lent::with_capacity(tasks.len());
        for &task in tasks {
            let score = self.state.tasks[task].score.unwrap_or(usual);
            shares.push(((score - high) / temperature).exp());
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        shares.iter().map(|share| share / mean).collect()
    }
}

impl Weighting for Pivrg {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            promises: &[Promise::Weighted, Promise::Permutes, Promise::Safe],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        let baselines = self.baselines.as_deref();
        match baselines {
            Some(numbers) if numbers.len() != tasks.len() => bail!(
                "{}: argument `baselines` should have one number a task, {}; got {}",
                Self::CLASS,
                tasks.len(),
                numbers.len()
            ),
            _ if self.state.tasks.len() == tasks.len() => {}
            _ => {
                self.state.tasks = vec![Task::default(); tasks.len()];
                for (task, &baseline) in baselines.unwrap_or_default().iter().enumerate() {
                    self.state.tasks[task].baseline = Some(baseline);
                }
            }
        }
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        self.observe(evidence);
        let targets = self.targets(evidence.tasks());
        let rounding = evidence.rounding();
        let Fair { weights, square } = fair::fixed_point(evidence.gramian()?, &targets, self.alpha, rounding);
        into.weights.copy_from_slice(&weights);
        clip(&mut into.weights, square, self.max_norm);
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::gradient::checks;
    use crate::weighting::{Given, Moment};

    fn prepared(baselines: Option<Vec<f64>>) -> Pivrg {
        let mut method = Pivrg { baselines, max_norm: 0.0, ..Pivrg::default() };
        method.prepare(&About::named(&["a", "b", "c"])).unwrap();
        method
    }

    /// Unit gradients at right angles, for which `w = p^(1 / (1 + alpha))`.
    fn step(method: &mut Pivrg, epoch: u64, tasks: &[usize], losses: &[f64]) -> Vec<f64> {
        let n = tasks.len();
        let unit: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at % (n + 1) == 0))).collect();
        let moment = Moment { epoch, ..Moment::default() };
        let mut given =
            Given { tasks: tasks.to_vec(), losses: losses.to_vec(), gramian: Some(unit), moment, ..Given::default() };
        checks::weigh(method, &mut given).weights
    }

    fn close(got: &[f64], expected: &[f64]) {
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{got:?} {expected:?}");
    }

    /// Weights for given `p`, before their mean is made 1.
    fn expected(shares: [f64; 3]) -> Vec<f64> {
        let mean = shares.iter().sum::<f64>() / 3.0;
        shares.iter().map(|share| (share / mean).powf(1.0 / 3.0)).collect()
    }

    #[test]
    fn tasks_that_fall_behind_count_more() {
        let mut method = prepared(Some(vec![1.0, 2.0, 4.0]));
        close(&step(&mut method, 0, &[0, 1, 2], &[1.0, 3.0, 2.0]), &[1.0; 3]);
        close(&step(&mut method, 0, &[0, 1, 2], &[1.0, 3.0, 2.0]), &[1.0; 3]);
        // Scores 0, 50, -50: the range of 100 becomes a factor of 2.
        let half = 0.5_f64.sqrt();
        close(&step(&mut method, 1, &[0, 1, 2], &[1.0, 2.0, 4.0]), &expected([half, 1.0, 0.5]));
        // Scores 0: all alike.
        close(&step(&mut method, 2, &[0, 1, 2], &[1.05, 2.0, 4.0]), &[1.0; 3]);
        // Scores 5, 0, 0: a range of 5 at the least temperature.
        close(&step(&mut method, 3, &[0, 1, 2], &[1.0; 3]), &expected([1.0, (-0.5_f64).exp(), (-0.5_f64).exp()]));
    }

    #[test]
    fn the_first_epoch_is_the_baseline_and_absent_tasks_stay() {
        let mut method = prepared(None);
        step(&mut method, 0, &[0, 1], &[1.0, 2.0]);
        close(&step(&mut method, 1, &[0, 1], &[0.5, 2.0]), &[1.0, 1.0]);
        let absent = method.state.tasks[2].clone();
        assert_eq!(absent, Task::default());
        // Scores -50, 0 and none, which is their mean.
        let half = 0.5_f64.sqrt();
        close(&step(&mut method, 2, &[0, 1, 2], &[1.0; 3]), &expected([0.5, 1.0, half]));
    }

    #[test]
    fn behaves() {
        let make = || {
            let mut method = Pivrg { max_norm: 0.0, ..Pivrg::default() };
            method.prepare(&checks::tasks()).unwrap();
            method
        };
        checks::behaves(make, -1.0 / 3.0);
        // The direction of FairGrad's before there are scores, cut to length 1.
        let mut fair = crate::weighting::gradient::fairgrad::FairGrad { alpha: 2.0 };
        let whole = checks::direction(&mut fair);
        let norm = dot(&whole);
        checks::golden(&mut Pivrg { max_norm: 1.0, ..make() }, whole.map(|x| x / norm.sqrt()));
    }

    fn dot(x: &[f64]) -> f64 {
        x.iter().map(|x| x * x).sum()
    }

    #[test]
    fn a_restored_state_continues_and_a_reset_starts_again() {
        let mut method = prepared(None);
        step(&mut method, 0, &[0, 1, 2], &[1.0, 2.0, 3.0]);
        step(&mut method, 1, &[0, 1, 2], &[1.0, 1.0, 1.0]);
        let mut again = Pivrg { max_norm: 0.0, ..Pivrg::default() };
        again.restore(&method.state()).unwrap();
        again.prepare(&About::named(&["a", "b", "c"])).unwrap();
        let next = |method: &mut Pivrg| step(method, 2, &[0, 1, 2], &[1.0, 2.0, 1.0]);
        assert_eq!(next(&mut again), next(&mut method));
        method.reset();
        method.prepare(&About::named(&["a", "b", "c"])).unwrap();
        assert_eq!(method, prepared(None));
        let message = Pivrg { baselines: Some(vec![1.0]), ..Pivrg::default() }.prepare(&About::named(&["a", "b"]));
        assert!(
            message.unwrap_err().to_string().contains("PIVRG: argument `baselines` should have one number a task, 2")
        );
    }
}
