//! Losses drawn along a preference and onto it.

use super::r#static::{Resolved, TaskWeights};
use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::dot;
use crate::task::About;
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

/// Distances from the preference below this part of the losses are rounding.
const ROUNDING: f64 = 1e-12;

crate::component! {
    /// Penalty boundary intersection (Zhang & Li, MOEA/D: A Multiobjective Evolutionary Algorithm Based on
    /// Decomposition, IEEE Transactions on Evolutionary Computation 2007): `L = d1 + theta d2` with `d1` the length of
    /// `L - ideal` along the preference and `d2` its distance from it.
    ///
    /// With the unit vector `u` of the preference the weights are `u_j + theta (L - ideal - d1 u)_j / d2`, without the
    /// second term on the preference itself, where `d2` has no derivative. The scale is the method's own, and a weight
    /// can be negative. Tasks that have no labels in a batch are left out of both distances.
    pub struct Pbi = "PBI" {
        /// One number a task in order, or `{task: number}`, where tasks without an entry have 1.
        preference: TaskWeights = TaskWeights::none(), in 0.0..;
        /// Factor on the distance from the preference.
        theta: f64 = 5.0, in 0.0..;
        /// The lowest losses there are, each times its task's own `weight`: as `preference`, but 0 without an entry.
        ideal: TaskWeights = TaskWeights::none();
    }
    state: Directions;
}

/// Preference and lowest losses in the order of the tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directions {
    preference: Resolved,
    ideal: Resolved,
}

impl Weighting for Pbi {
    fn claims(&self) -> Claims {
        Claims { promises: &[Promise::Permutes], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state = Directions {
            preference: self.preference.share(Self::CLASS, "preference", tasks)?,
            ideal: self.ideal.resolve(Self::CLASS, "ideal", 0.0, tasks)?,
        };
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = evidence.tasks();
        let weights = &mut into.weights;
        let mut above = Lent::with_capacity(tasks.len());
        for (row, &task) in tasks.iter().enumerate() {
            weights[row] = self.state.preference.0[task];
            above.push(evidence.losses()[row] - self.state.ideal.0[task]);
        }
        // Relative to the largest, whose squares neither over- nor underflow.
        let largest = above.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let preferred = dot(weights, weights).sqrt();
        into.objective = Some(0.0);
        if preferred == 0.0 || largest == 0.0 {
            return Ok(());
        }
        weights.iter_mut().for_each(|weight| *weight /= preferred);
        let along: f64 = weights.iter().zip(&above).map(|(u, x)| u * (x / largest)).sum();
        let aside: Lent<f64> = weights.iter().zip(&above).map(|(u, x)| x / largest - along * u).collect();
        let distance = dot(&aside, &aside).sqrt();
        into.objective = Some(largest * (along + self.theta * distance));
        if distance > ROUNDING {
            for (weight, x) in weights.iter_mut().zip(&aside) {
                *weight += self.theta * x / distance;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, given, prepared, weigh, weigh_given};

    #[test]
    fn weights_are_the_derivatives() {
        // u = (0.6, 0.8), L - ideal = (2, 1): d1 = 2, aside = (0.8, -0.6), d2 = 1.
        let preference = TaskWeights::Each(vec![3.0, 4.0]);
        let ideal = TaskWeights::Each(vec![0.0, -1.0]);
        let mut method = prepared(Pbi { preference, ideal, ..Pbi::default() }, 2);
        close(&weigh(&mut method, &[2.0, 0.0]).unwrap(), &[0.6 + 5.0 * 0.8, 0.8 - 5.0 * 0.6]);
        close(&weigh_given(&mut method, &mut given(&[1], &[0.3])).unwrap(), &[1.0]);
    }

    #[test]
    fn scale_does_not_matter() {
        let mut method = prepared(Pbi::default(), 3);
        let one = weigh(&mut method, &[1.0, 2.0, 4.0]).unwrap();
        for scale in [1e-200, 1e-10, 1e10, 1e200] {
            close(&weigh(&mut method, &[scale, 2.0 * scale, 4.0 * scale]).unwrap(), &one);
        }
    }

    #[test]
    fn on_the_preference_there_is_no_penalty() {
        let preference = TaskWeights::Each(vec![0.1, 0.7, 0.3]);
        let mut method = prepared(Pbi { preference, ..Pbi::default() }, 3);
        let root = 0.59_f64.sqrt();
        close(&weigh(&mut method, &[0.3, 2.1, 0.9]).unwrap(), &[0.1 / root, 0.7 / root, 0.3 / root]);
        assert!(weigh(&mut method, &[0.0; 3]).unwrap().iter().all(|w| w.is_finite()));
        assert_eq!(weigh(&mut method, &[]).unwrap(), [0.0; 0]);
    }
}
