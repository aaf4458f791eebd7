//! Weights shared by groups of tasks that stand alike.

use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::learned::softmax;
use crate::weighting::positive::{Names, reciprocal};
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// GO4Align (Shen et al., GO4Align: Group Optimization for Multi-Task Alignment, NeurIPS 2024).
    ///
    /// A task's indicator is `v_j = p_j sum_k L_k / L_j`, where `p = softmax(-step H)` and `H_j` sums the task's losses
    /// so far, this one included. The indicators are clustered into `groups` by k-means, and a task's weight is the mean
    /// of its group. Tasks that are alike have weights of about 1: as long as the sum.
    ///
    /// The authors' code clusters with randomly started k-means; numbers on a line have an exact clustering, which is
    /// used here, and with as many groups as tasks each keeps its own. `p` depends on the unit of the losses, as in the
    /// paper. Tasks that have no labels in the batch are left out and keep their `H`. A loss of exactly 0 is left out of
    /// the indicators and has weight 0; a negative one is refused.
    pub struct Go4Align = "GO4Align" {
        /// Groups of tasks; the paper chooses them by the data.
        groups: usize = 2, in 1.0..;
        /// How fast tasks with large losses so far lose weight.
        step: f64 = 1e-4, in 0.0..;
    }
    state: History;
}

/// What is known of the tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    names: Names,
    /// Sums of the losses so far.
    sums: Vec<f64>,
}

impl Weighting for Go4Align {
    fn claims(&self) -> Claims {
        Claims { acts_like: ActsLike::Sum, promises: &[Promise::Permutes, Promise::Positive], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.names = Names::of(tasks);
        self.state.sums.resize(tasks.len(), 0.0);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        self.state.names.refuse_negative(Self::CLASS, evidence)?;
        let tasks = evidence.tasks();
        let losses = evidence.losses();
        for (&task, loss) in tasks.iter().zip(losses) {
            self.state.sums[task] += loss;
        }
        let rows: Lent<usize> = (0..losses.len()).filter(|&row| losses[row] > 0.0).collect();
        let total: f64 = losses.iter().sum();
        let mut indicators: Lent<f64> = rows.iter().map(|&row| -self.step * self.state.sums[tasks[row]]).collect();
        softmax(&mut indicators);
        for (indicator, &row) in indicators.iter_mut().zip(&rows) {
            *indicator *= total * reciprocal(losses[row]);
        }
        group(&mut indicators, self.groups);
        into.weights.fill(0.0);
        for (&row, &indicator) in rows.iter().zip(&indicators) {
            into.weights[row] = indicator;
        }
        Ok(())
    }

    crate::remembers!();
}

/// Replaces numbers by the means of their clusters, those of least variance within: by dynamic programming over the
/// sorted numbers, whose clusters are intervals.
fn group(numbers: &mut [f64], groups: usize) {
    let count = numbers.len();
    if groups >= count {
        return;
    }
    let mut order: Lent<usize> = (0..count).collect();
    order.sort_unstable_by(|&a, &b| numbers[a].total_cmp(&numbers[b]).then(a.cmp(&b)));
    let sorted: Lent<f64> = order.iter().map(|&j| numbers[j]).collect();
    // best[end]: least spread of the first numbers in so many groups; starts[g, end]: where the last group begins.
    let mut best: Lent<f64> = (0..=count).map(|end| if end == 0 { 0.0 } else { f64::INFINITY }).collect();
    let mut starts = Lent::with_capacity(groups * (count + 1));
    for _ in 0..groups {
        let mut next = Lent::filled(f64::INFINITY, count + 1);
        let mut from = Lent::zeros(count + 1);
        for end in 1..=count {
            let mut mean = 0.0;
            let mut spread = 0.0;
            for start in (0..end).rev() {
                let gap = sorted[start] - mean;
                mean += gap / (end - start) as f64;
                spread += gap * (sorted[start] - mean);
                if best[start] + spread < next[end] {
                    next[end] = best[start] + spread;
                    from[end] = start;
                }
            }
        }
        best = next;
        starts.extend_from_slice(&from);
    }
    let mut end = count;
    for from in starts.chunks_exact(count + 1).rev() {
        let members = &order[from[end]..end];
        let mean = sorted[from[end]..end].iter().sum::<f64>() / members.len() as f64;
        for &j in members {
            numbers[j] = mean;
        }
        end = from[end];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::random::Stream;
    use crate::weighting::loss::tests::{close, continues, prepared, spares_absent, weigh};

    #[test]
    fn tasks_that_stand_alike_share_a_weight() {
        // Without steps p is 1/4 each: indicators (10/4) / L = (2.5, 5/3, 1.25, 5/7).
        let mut method = prepared(Go4Align { step: 0.0, ..Go4Align::default() }, 4);
        let losses = [1.0, 1.5, 4.0, 3.5];
        close(&weigh(&mut method, &losses).unwrap(), &[2.5, 5.0 / 3.0, 0.625, 2.5 / 3.5].map(group_of));
        method.groups = 4;
        close(&weigh(&mut method, &losses).unwrap(), &[2.5, 2.5 / 1.5, 0.625, 2.5 / 3.5]);
        method.groups = 1;
        let mean = [1.0, 1.5, 4.0, 3.5].map(|l| 2.5 / l).iter().sum::<f64>() / 4.0;
        close(&weigh(&mut method, &losses).unwrap(), &[mean; 4]);
        close(&weigh(&mut method, &[3.0]).unwrap(), &[1.0]);
        assert_eq!(weigh(&mut method, &[]).unwrap(), [0.0; 0]);
    }

    /// The groups of the case above, by hand: {2.5, 1.67} spreads 0.347, {0.63, 0.71} 0.004; any other cut spreads more.
    fn group_of(indicator: f64) -> f64 {
        if indicator > 1.0 { (2.5 + 2.5 / 1.5) / 2.0 } else { (0.625 + 2.5 / 3.5) / 2.0 }
    }

    #[test]
    fn losses_so_far_lower_weights() {
        let mut method = prepared(Go4Align { step: 0.5, ..Go4Align::default() }, 2);
        // p = softmax(-0.5, -1), then softmax(-1, -2).
        for steps in [1.0, 2.0] {
            let p = 1.0 / (1.0 + f64::exp(-0.5 * steps));
            close(&weigh(&mut method, &[1.0, 2.0]).unwrap(), &[3.0 * p, 1.5 * (1.0 - p)]);
        }
    }

    #[test]
    fn the_clustering_is_the_best_there_is() {
        for seed in 0..50 {
            let stream = Stream::new(seed, &[]);
            let numbers: Vec<f64> = (0..7).map(|j| stream.normal(j).exp()).collect();
            let spread = |cuts: &[f64]| numbers.iter().zip(cuts).map(|(x, m)| (x - m).powi(2)).sum::<f64>();
            let mut grouped = numbers.clone();
            group(&mut grouped, 3);
            let mut least = f64::INFINITY;
            for assignment in 0..3_usize.pow(7) {
                let label = |j: usize| assignment / 3_usize.pow(j as u32) % 3;
                let mean = |g| {
                    let members: Vec<f64> = (0..7).filter(|&j| label(j) == g).map(|j| numbers[j]).collect();
                    members.iter().sum::<f64>() / members.len() as f64
                };
                let means: Vec<f64> = (0..7).map(|j| mean(label(j))).collect();
                least = least.min(spread(&means));
            }
            assert!((spread(&grouped) - least).abs() < 1e-12);
        }
    }

    #[test]
    fn zeros_are_left_out_and_less_is_refused() {
        let mut method = prepared(Go4Align { step: 0.0, groups: 3, ..Go4Align::default() }, 3);
        close(&weigh(&mut method, &[0.0, 1.0, 3.0]).unwrap(), &[0.0, 2.0, 2.0 / 3.0]);
        assert_eq!(weigh(&mut method, &[0.0, 0.0]).unwrap(), [0.0, 0.0]);
        assert!(weigh(&mut method, &[-1.0, 1.0]).unwrap_err().to_string().contains("GO4Align: the loss of task \"a\""));
        spares_absent(&mut prepared(Go4Align::default(), 3));
        continues(|| prepared(Go4Align { step: 0.1, ..Go4Align::default() }, 3));
    }
}
