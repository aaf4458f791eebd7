//! Tasks stay near their mean.

use tch::Tensor;

use super::{Penalty, Places, Regularizer, formula, rows};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum over tasks of |w_t - mean|^2`, where `w_t` is all that task `t` has of its own and `mean` their mean
    /// (Evgeniou and Pontil, Regularized Multi-Task Learning, KDD 2004): each task is the common one and a small change.
    ///
    /// The paper also penalises the size of the parameters, which `L2` does.
    pub struct MeanRegularized = "MeanRegularized" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
}

impl Regularizer for MeanRegularized {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.common(Self::CLASS, self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        formula::spread(&formula::rows(places, parameters)) * self.strength
    }
}

impl<T: Real> Penalty<T> for MeanRegularized {
    fn add(&mut self, places: &Places, parameters: &[T], mut gradient: Option<&mut [T]>) -> f64 {
        let mut total = 0.0;
        for stack in &places.stacks {
            total += rows::spread(stack, self.strength, parameters, gradient.as_deref_mut());
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
        let mut mean = MeanRegularized { strength: 0.5, on: None };
        // The mean is (2, 0): distances (1, 1) and (-1, -1).
        let value = mean.add(&two_tasks(2), &[3.0, 1.0, 1.0, -1.0], Some(&mut gradient));
        assert_eq!((value, gradient), (2.0, [1.0, 1.0, -1.0, -1.0]));
    }
}
