//! Random weights.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::weighting::learned::softmax;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Moment, Promise, Weighting};

/// Coin flips until one chooses a task; all tasks are taken after so many.
const DRAWS: u64 = 64;

crate::component! {
    /// Random loss weighting (Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
    /// Learning, TMLR 2022): new random weights in every batch, which sum to 1: as long as the mean.
    ///
    /// Numbers from a normal or uniform distribution go through a softmax over the tasks that have labels in the batch;
    /// Dirichlet weights are as drawn. Bernoulli weights choose tasks with chance 1/2, at least one, or exactly one; a
    /// chosen task weighs 1 in the authors' code and 1 over their number here, as the paper's weights sum to 1. LibMTL
    /// sends Dirichlet weights through a softmax, which nearly evens them.
    pub struct Rlw = "RLW" {
        /// `"normal"`: standard normal. `"uniform"`: between 0 and 1. `"random_normal"`: normal, where each task has a
        /// mean and a standard deviation drawn between 0 and 1 once a run. `"dirichlet"`: uniform on the simplex.
        /// `"bernoulli"`: the mean of tasks chosen by coin flips. `"one"`: one task.
        distribution: Distribution = Distribution::Normal;
    }
}

/// What random weights are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Softmax of standard normal numbers.
    Normal,
    /// Softmax of numbers between 0 and 1.
    Uniform,
    /// Softmax of normal numbers whose means and deviations are random.
    RandomNormal,
    /// Uniform on the simplex.
    Dirichlet,
    /// The mean of some of the tasks.
    Bernoulli,
    /// One task.
    One,
}

crate::choices!(Distribution: Normal, Uniform, RandomNormal, Dirichlet, Bernoulli, One);

/// Numbers before normalisation; a task's number does not depend on the others in the batch.
fn draw(distribution: Distribution, moment: Moment, tasks: &[usize], into: &mut [f64]) {
    let stream = moment.random(0);
    let run = Moment { step: 0, ..moment };
    for (weight, &task) in into.iter_mut().zip(tasks) {
        let index = task as u64;
        *weight = match distribution {
            Distribution::Normal => stream.normal(index),
            Distribution::Uniform | Distribution::One => stream.uniform(index),
            Distribution::RandomNormal => {
                run.random(1).uniform(index) + run.random(2).uniform(index) * stream.normal(index)
            }
            // Exponential numbers over their sum are uniform on the simplex.
            Distribution::Dirichlet => -(1.0 - stream.uniform(index)).ln(),
            Distribution::Bernoulli => f64::from(stream.bits(index) >> 63 == 1),
        };
    }
}

impl Weighting for Rlw {
    fn claims(&self) -> Claims {
        Claims { acts_like: ActsLike::Mean, promises: &[Promise::Positive, Promise::One], ..Claims::default() }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let moment = evidence.moment();
        let tasks = evidence.tasks();
        let weights = &mut into.weights;
        draw(self.distribution, moment, tasks, weights);
        match self.distribution {
            Distribution::Normal | Distribution::Uniform | Distribution::RandomNormal => softmax(weights),
            Distribution::One => choose_one(weights),
            Distribution::Dirichlet | Distribution::Bernoulli => {
                for again in 3..3 + DRAWS {
                    if weights.iter().any(|weight| *weight > 0.0) {
                        break;
                    }
                    let stream = moment.random(again);
                    let coins = tasks.iter().map(|&task| f64::from(stream.bits(task as u64) >> 63 == 1));
                    weights.iter_mut().zip(coins).for_each(|(weight, coin)| *weight = coin);
                }
                normalize(weights);
            }
        }
        Ok(())
    }
}

/// All weight to the largest number.
fn choose_one(weights: &mut [f64]) {
    let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    weights.iter_mut().for_each(|weight| *weight = f64::from(*weight == largest));
    normalize(weights);
}

/// Over their sum; even if that is 0.
fn normalize(weights: &mut [f64]) {
    let sum: f64 = weights.iter().sum();
    let rows = weights.len() as f64;
    weights.iter_mut().for_each(|weight| *weight = if sum > 0.0 { *weight / sum } else { 1.0 / rows });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{given, weigh_given};

    const ALL: [Distribution; 6] = [
        Distribution::Normal,
        Distribution::Uniform,
        Distribution::RandomNormal,
        Distribution::Dirichlet,
        Distribution::Bernoulli,
        Distribution::One,
    ];

    fn at(distribution: Distribution, step: u64, tasks: &[usize]) -> Vec<f64> {
        let mut evidence = given(tasks, &vec![1.0; tasks.len()]);
        evidence.moment = Moment { seed: 3, step, ..Moment::default() };
        weigh_given(&mut Rlw { distribution }, &mut evidence).unwrap()
    }

    #[test]
    fn weights_lie_on_the_simplex_and_change() {
        for distribution in ALL {
            let mut seen = Vec::new();
            for step in 0..100 {
                let weights = at(distribution, step, &[0, 1, 2]);
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && weights.iter().all(|w| *w >= 0.0));
                seen.push(weights);
            }
            assert!(seen.iter().any(|weights| *weights != seen[0]), "{distribution:?}");
            assert_eq!(at(distribution, 0, &[0, 1, 2]), seen[0]);
            assert_eq!(at(distribution, 5, &[1]), [1.0]);
            assert_eq!(at(distribution, 5, &[]), [0.0; 0]);
        }
    }

    #[test]
    fn distributions_have_their_moments() {
        // Of one of two weights: E[p^2] - 1/4 of the logistic of N(0, 2), of U - U', of U(0, 1); of 1, 0 or 1/2 equally
        // often; of 1 or 0.
        let variance = |distribution| {
            let steps = 40_000;
            let weights: Vec<f64> = (0..steps).map(|step| at(distribution, step, &[0, 1])[0]).collect();
            let mean = weights.iter().sum::<f64>() / steps as f64;
            assert!(
                distribution == Distribution::RandomNormal || (mean - 0.5).abs() < 0.01,
                "{distribution:?}: {mean}"
            );
            weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / steps as f64
        };
        for (distribution, expected, close) in [
            (Distribution::Normal, 0.0684, 2e-3),
            (Distribution::Uniform, 0.00977, 3e-4),
            (Distribution::Dirichlet, 1.0 / 12.0, 2e-3),
            (Distribution::Bernoulli, 1.0 / 6.0, 3e-3),
            (Distribution::One, 0.25, 1e-3),
        ] {
            let seen = variance(distribution);
            assert!((seen - expected).abs() < close, "{distribution:?}: {seen}");
        }
        assert!(variance(Distribution::RandomNormal) > 1e-3);
    }

    #[test]
    fn a_softmax_ratio_does_not_depend_on_other_tasks() {
        let all = at(Distribution::Normal, 9, &[0, 1, 2]);
        let two = at(Distribution::Normal, 9, &[0, 2]);
        assert!((all[0] / all[2] - two[0] / two[1]).abs() < 1e-12);
    }
}
