//! Tasks stay near each other.

use tch::Tensor;

use super::{Penalty, Places, Regularizer, formula, rows};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum over pairs of tasks of |w_s - w_t|^2`, where `w_t` is all that task `t` has of its own (soft sharing:
    /// Duong et al., Low Resource Dependency Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser, ACL
    /// 2015, for two parsers).
    ///
    /// It is `MeanRegularized` times the number of tasks, and computed so. Pairs that differ: `GraphLaplacian`; pairs
    /// whose relation is learned: `TaskRelation`.
    pub struct Pairwise = "Pairwise" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
}

impl Regularizer for Pairwise {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.common(Self::CLASS, self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let rows = formula::rows(places, parameters);
        let differences = rows.unsqueeze(0) - rows.unsqueeze(1);
        // Each pair comes twice.
        differences.square().sum(rows.kind()) * (0.5 * self.strength)
    }
}

impl<T: Real> Penalty<T> for Pairwise {
    fn add(&mut self, places: &Places, parameters: &[T], mut gradient: Option<&mut [T]>) -> f64 {
        let factor = self.strength * places.tasks as f64;
        let mut total = 0.0;
        for stack in &places.stacks {
            total += rows::spread(stack, factor, parameters, gradient.as_deref_mut());
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::super::task_relation::tests::two_tasks;
    use super::*;

    #[test]
    fn by_hand() {
        let mut gradient = [0.0; 4];
        let mut pairs = Pairwise { strength: 0.5, on: None };
        // The only difference is (2, 2).
        let value = pairs.add(&two_tasks(2), &[3.0, 1.0, 1.0, -1.0], Some(&mut gradient));
        assert_eq!((value, gradient), (4.0, [2.0, 2.0, -2.0, -2.0]));
    }
}
