//! Weights under which all losses fall at the same rate.

use serde::{Deserialize, Serialize};

use super::r#static::TaskWeights;
use crate::bail;
use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::learned::{Learned, through_softmax};
use crate::weighting::positive::Names;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Promise, Weighting};

/// Largest change of a logarithm in a step: that of eight digits.
const CHANGE: f64 = 18.420_680_743_952_367;

crate::component! {
    /// Fast adaptive multitask optimization (Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023).
    ///
    /// The weights are `c z_j / (L_j - b_j)` with `z = softmax(xi)` and `c` such that they sum to 1: as long as the
    /// mean. After the step the losses of the same batch, one forward pass more, say how much each logarithm fell,
    /// `d_j = log(L_j - b_j) - log(L'_j - b_j)`, and Adam moves `xi` along `d^T dz/dxi + decay xi`, so that the task
    /// that fell least weighs more.
    ///
    /// Tasks that have no labels in the batch keep their `xi`; `z` is over the others. The authors' code adds 1e-8 to
    /// losses; here a loss exactly at its bound has weight 0, and no `d` is more than eight digits. A loss below its
    /// bound is refused: give `bounds` for losses that can be negative.
    pub struct Famo = "FAMO" {
        /// Learning rate of `xi`.
        lr: f64 = 0.025, in 0.0..;
        /// Decay of `xi`.
        decay: f64 = 1e-3, in 0.0..;
        /// Lower bounds `b` of the losses, each times its task's own `weight`: one a task in order, or
        /// `{task: bound}`, where tasks without an entry have 0.
        bounds: TaskWeights = TaskWeights::none();
    }
    state: Logits;
}

/// What is known of the tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Logits {
    names: Names,
    xi: Learned,
}

impl Famo {
    /// A loss above its bound.
    fn above(&self, task: usize, loss: f64) -> f64 {
        loss - self.bounds.of(task, self.state.names.get(task), 0.0)
    }

    /// How much a logarithm fell.
    fn fall(&self, task: usize, before: f64, after: f64) -> f64 {
        let [before, after] = [before, after].map(|loss| self.above(task, loss).max(0.0));
        if before == after { 0.0 } else { (before / after).ln().clamp(-CHANGE, CHANGE) }
    }
}

impl Weighting for Famo {
    fn claims(&self) -> Claims {
        Claims {
            looks_back: true,
            acts_like: ActsLike::Mean,
            promises: &[Promise::Permutes, Promise::Positive, Promise::Levels, Promise::One],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.bounds.resolve(Self::CLASS, "bounds", 0.0, tasks)?;
        self.state.names = Names::of(tasks);
        self.state.xi.fit(tasks.len(), 0.0);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = evidence.tasks();
        let weights = &mut into.weights;
        let mut lowest = f64::INFINITY;
        for (row, &task) in tasks.iter().enumerate() {
            let loss = evidence.losses()[row];
            let above = self.above(task, loss);
            if above < 0.0 {
                let name = self.state.names.get(task);
                bail!("{}: the loss of task {name:?} is {loss}, below its bound; see `bounds`", Self::CLASS);
            }
            if above > 0.0 {
                lowest = lowest.min(above);
            }
            weights[row] = above;
        }
        // Relative to the lowest loss, which keeps sums of reciprocals from overflowing.
        for (weight, &share) in weights.iter_mut().zip(&self.state.xi.softmax(tasks)) {
            *weight = if *weight > 0.0 { share * (lowest / *weight) } else { 0.0 };
        }
        let sum: f64 = weights.iter().sum();
        if sum > 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        Ok(())
    }

    fn look_back(&mut self, tasks: &[usize], before: &[f64], after: &[f64]) -> Result<()> {
        let rows = tasks.iter().enumerate();
        let falls: Lent<f64> = rows.map(|(row, &task)| self.fall(task, before[row], after[row])).collect();
        let gradient = through_softmax(&self.state.xi.softmax(tasks), &falls);
        for (&task, &gradient) in tasks.iter().zip(&gradient) {
            let decay = self.decay * self.state.xi.values[task];
            self.state.xi.descend(task, gradient + decay, self.lr);
        }
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, continues, prepared, spares_absent, weigh};

    #[test]
    fn weights_are_relative_to_losses_and_sum_to_one() {
        let mut method = prepared(Famo::default(), 3);
        // (1/3) / L, over the sum of (1/3) / L: 1 : 1/2 : 1/4.
        close(&weigh(&mut method, &[1.0, 2.0, 4.0]).unwrap(), &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
        close(&weigh(&mut method, &[1e-10, 2e-10, 4e-10]).unwrap(), &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
        close(&weigh(&mut method, &[5.0]).unwrap(), &[1.0]);
        assert_eq!(weigh(&mut method, &[]).unwrap(), [0.0; 0]);
    }

    #[test]
    fn the_slower_task_gains() {
        // torch 2.13, float64: w = zeros(2); Adam([w], lr=0.025, weight_decay=1e-3); twice
        // w.grad = autograd.grad(softmax(w), w, grad_outputs=log(before) - log(after)); step()
        // with before (1, 2), after (0.5, 1.8), then before (0.5, 1.8), after (0.4, 1.0).
        let mut method = prepared(Famo::default(), 2);
        method.look_back(&[0, 1], &[1.0, 2.0], &[0.5, 1.8]).unwrap();
        let first = method.state.xi.values.clone();
        method.look_back(&[0, 1], &[0.5, 1.8], &[0.4, 1.0]).unwrap();
        let [one, two] = [[-0.024999998298702582, 0.024999998298702582], [-0.0294260528413314, 0.0294260528413314]];
        close(&first, &one);
        close(&method.state.xi.values, &two);
        let weights = weigh(&mut method, &[1.0, 1.0]).unwrap();
        assert!(weights[1] > weights[0]);
    }

    #[test]
    fn bounds_are_kept() {
        let bounds = TaskWeights::Each(vec![-3.0, 0.0]);
        let mut method = prepared(Famo { bounds, ..Famo::default() }, 2);
        close(&weigh(&mut method, &[-2.0, 3.0]).unwrap(), &[0.75, 0.25]);
        assert_eq!(weigh(&mut method, &[-3.0, 3.0]).unwrap(), [0.0, 1.0]);
        assert_eq!(weigh(&mut method, &[-3.0, 0.0]).unwrap(), [0.0, 0.0]);
        let message = weigh(&mut method, &[-2.0, -0.5]).unwrap_err().to_string();
        assert_eq!(message, "FAMO: the loss of task \"b\" is -0.5, below its bound; see `bounds`");
        for (before, after) in [([0.0, 0.0], [0.0, 1.0]), ([1.0, 1e-300], [-9.0, 1e300])] {
            method.look_back(&[0, 1], &before, &after).unwrap();
            assert!(method.state.xi.values.iter().all(|xi| xi.is_finite()));
        }
        let named = TaskWeights::Named([("z".to_owned(), 1.0)].into());
        let message = Famo { bounds: named, ..Famo::default() }.prepare(&About::named(&["a"])).unwrap_err().to_string();
        assert_eq!(message, "FAMO: argument `bounds`: there is no task \"z\"; there are `a`");
    }

    #[test]
    fn state_follows_tasks_and_checkpoints() {
        spares_absent(&mut prepared(Famo::default(), 3));
        continues(|| prepared(Famo::default(), 3));
    }
}
