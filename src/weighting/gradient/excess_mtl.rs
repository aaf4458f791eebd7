//! Weights that follow excess risks, which noise in the labels does not raise.

use serde::{Deserialize, Serialize};

use super::rows::{fit, width};
use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::vectorised;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, State, Weighting};

crate::component! {
    /// ExcessMTL (He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi and Zhao, Robust Multi-Task Learning with Excess Risks, ICML
    /// 2024).
    ///
    /// How far a task is from its optimum is estimated to second order, with the curvature of Adagrad:
    /// `e_j = sum_p g_jp^2 / sqrt(S_jp)`, where `S_j` sums the squares of the task's gradients so far. The loss weights
    /// grow with it, `w_j = w_j exp(step e_j / e_j(0))`, rescaled to their sum, the number of tasks; they apply to all
    /// parameters, a task's own ones too. `e_j(0)` is a task's first estimate. As long as the sum of the gradients. It
    /// keeps `[tasks, shared parameters]` numbers.
    ///
    /// The paper's weights add up to 1 and its code's, as here, to the number of tasks. The code adds 1e-7 below the root,
    /// which makes small gradients count less; nothing is added here. The paper takes `e_j(0)` from three epochs of
    /// warm-up, its code from the first batch.
    pub struct ExcessMtl = "ExcessMTL" {
        /// Step size of the weights.
        step: f64 = 1e-2, in 0.0..;
    }
    state: Risks;
}

/// What is known of the tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Risks {
    /// Logarithms of the weights.
    weights: Vec<f64>,
    /// The first estimates above 0.
    first: Vec<Option<f64>>,
    /// Sums of squared gradients `[tasks, shared parameters]`, empty before the first batch.
    #[serde(skip)]
    squares: Vec<f32>,
}

impl Weighting for ExcessMtl {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Jacobian,
            keeps_gradients: true,
            acts_like: ActsLike::Sum,
            promises: &[Promise::Permutes, Promise::Homogeneous],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.weights.resize(tasks.len(), 0.0);
        self.state.first.resize(tasks.len(), None);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        if tasks.is_empty() {
            return Ok(());
        }
        let jacobian = evidence.jacobian()?;
        let width = width(jacobian, tasks.len());
        let Risks { weights, first, squares } = &mut self.state;
        fit(squares, weights.len(), width, Self::CLASS)?;
        let before = log_sum(&tasks, weights);
        for (row, &task) in tasks.iter().enumerate() {
            let risk = excess(&mut squares[task * width..][..width], &jacobian[row * width..][..width]);
            if first[task].is_none() && risk > 0.0 {
                first[task] = Some(risk);
            }
            weights[task] += self.step * first[task].map_or(0.0, |first| risk / first);
        }
        // Huge risks first lose what they have in common: their difference to what was before could not be told.
        let most = tasks.iter().map(|&task| weights[task]).fold(f64::MIN, f64::max);
        tasks.iter().for_each(|&task| weights[task] -= most);
        // The tasks that are here keep together what they had, so absent ones need not change.
        let shift = before - log_sum(&tasks, weights);
        for (&task, weight) in tasks.iter().zip(&mut into.weights) {
            weights[task] += shift;
            *weight = weights[task].exp();
        }
        into.own.copy_from_slice(&into.weights);
        Ok(())
    }

    fn state(&self) -> State {
        let arrays = vec![("squares".to_owned(), self.state.squares.clone())];
        State { arrays, ..State::of(&self.state) }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.state = Risks { squares: state.array("squares"), ..state.read(Self::CLASS, &self.state)? };
        Ok(())
    }

    fn reset(&mut self) {
        self.state = Risks::default();
    }
}

/// The logarithm of the sum of these tasks' weights.
fn log_sum(tasks: &[usize], weights: &[f64]) -> f64 {
    let most = tasks.iter().map(|&task| weights[task]).fold(f64::MIN, f64::max);
    most + tasks.iter().map(|&task| (weights[task] - most).exp()).sum::<f64>().ln()
}

vectorised! {
/// Adds the squares of a row and gives its excess risk.
fn excess(squares: &mut [f32], row: &[f32]) -> f64 {
    let mut total = 0.0;
    for (squares, row) in squares.chunks_mut(256).zip(row.chunks(256)) {
        let mut terms = [0.0_f32; 256];
        for ((square, &g), term) in squares.iter_mut().zip(row).zip(&mut terms) {
            let added = g * g;
            *square += added;
            // Where the sum is 0, so is what is divided by it.
            *term = added / square.max(f32::MIN_POSITIVE).sqrt();
        }
        total += terms.iter().map(|&term| f64::from(term)).sum::<f64>();
    }
    total
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    #[test]
    fn by_hand() {
        let mut weighting = trial::prepared(&ExcessMtl { step: 0.5, ..ExcessMtl::default() }, 2);
        // First estimates |3| + |4| = 7 and |2| = 2: both count as 1, so the weights stay equal.
        let first = trial::decide(&mut weighting, &Given::jacobian(2, &[3.0, 4.0, 0.0, 2.0]));
        trial::close(&first.weights, &[1.0, 1.0], 1e-14);
        // Now 16 / 5 + 9 / 5 = 5 of 7, and 0 of 2.
        let second = trial::decide(&mut weighting, &Given::jacobian(2, &[4.0, 3.0, 0.0, 0.0]));
        let grown = (0.5_f64 * 5.0 / 7.0).exp();
        trial::close(&second.weights, &[2.0 * grown / (grown + 1.0), 2.0 / (grown + 1.0)], 1e-6);
        assert_eq!(second.own, second.weights);
        assert_eq!(weighting.state.squares, [25.0, 25.0, 0.0, 4.0]);
    }

    #[test]
    fn a_task_without_progress_gets_ahead_and_one_that_was_zero_at_first_joins() {
        let mut weighting = trial::prepared(&ExcessMtl { step: 1.0, ..ExcessMtl::default() }, 2);
        trial::decide(&mut weighting, &Given::jacobian(2, &[1.0, 1.0, 0.0, 0.0]));
        assert_eq!(weighting.state.first[1], None);
        for step in 1..5000 {
            let fading = 1.0 / f64::from(step);
            trial::decide(&mut weighting, &Given::jacobian(2, &[fading, fading, 1.0, -1.0]));
        }
        let weights = trial::decide(&mut weighting, &Given::jacobian(2, &[0.0, 0.0, 1.0, -1.0])).weights;
        assert!(weights[1] > 1.9 && (weights[0] + weights[1] - 2.0).abs() < 1e-9, "{weights:?}");
    }

    #[test]
    fn huge_risks_saturate() {
        let mut weighting = trial::prepared(&ExcessMtl { step: 1.0, ..ExcessMtl::default() }, 2);
        trial::decide(&mut weighting, &Given::jacobian(2, &[1e-6, 1.0]));
        let weights = trial::decide(&mut weighting, &Given::jacobian(2, &[1e3, 1.0])).weights;
        trial::close(&weights, &[2.0, 0.0], 1e-12);
        assert!(weighting.state.weights.iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn general() {
        trial::general(&ExcessMtl::default());
    }
}
