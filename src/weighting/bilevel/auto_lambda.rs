//! Weights that lower the validation losses of the primary tasks.

use serde::{Deserialize, Serialize};

use super::{combine, labelled, row, shifted};
use crate::component::Component;
use crate::error::Result;
use crate::machine::rows::long_dot;
use crate::task::About;
use crate::weighting::learned::Learned;
use crate::weighting::loss::r#static::TaskWeights;
use crate::weighting::positive::Names;
use crate::weighting::{Claims, Combination, Evidence, On, Weighting};

crate::component! {
    /// Auto-Lambda (Liu et al., Auto-Lambda: Disentangling Dynamic Task Relationships, TMLR 2022).
    ///
    /// Each step, Adam moves the weights `lambda` down `F(lambda) = sum_i p_i V_i(theta')`, the validation losses of the
    /// primary tasks after a virtual step of plain gradient descent `theta' = theta - inner_lr sum_j lambda_j g_j`. The
    /// derivative is `-inner_lr g_j^T sum_i p_i grad V_i(theta')`: two passes more, one on the batch and one on
    /// validation data. Weights start at 0.1, can become negative, and set the scale.
    ///
    /// The authors' code takes that derivative from differences of losses, two passes more again; here it is exact. It
    /// puts momentum and weight decay into the virtual step, and validates on training data in another order.
    pub struct AutoLambda = "AutoLambda" {
        /// Learning rate of the weights.
        lr: f64 = 1e-4, in 0.0..;
        /// Where the weights start.
        start: f64 = 0.1, in 0.0..;
        /// Factors `p` on validation losses: one a task in order, or `{task: factor}`, where tasks without an entry
        /// have 1. Tasks with 0 are there to help the others.
        primary: TaskWeights = TaskWeights::none(), in 0.0..;
        /// Learning rate of the virtual step; None for that of the model's own step.
        inner_lr: Option<f64> = None, in 0.0..;
    }
    state: Lambdas;
}

/// The weights so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lambdas {
    names: Names,
    weights: Learned,
}

impl AutoLambda {
    /// The derivatives of the validation losses by the weights of the rows; None without labels to validate on.
    fn gradient(&self, evidence: &mut dyn Evidence) -> Result<Option<Vec<f64>>> {
        let tasks = evidence.tasks().to_vec();
        let lr = self.inner_lr.unwrap_or(evidence.moment().lr);
        let weights: Vec<f64> = tasks.iter().map(|&task| self.state.weights.values[task]).collect();
        let here = evidence.probe(&[], On::Batch)?;
        let there = evidence.probe(&shifted(&[], &combine(&here, &tasks, &weights), -lr), On::Validation)?;
        let validated = labelled(&there);
        let primary = |&task: &usize| self.primary.of(task, self.state.names.get(task), 1.0);
        let slope = combine(&there, &validated, &validated.iter().map(primary).collect::<Vec<_>>());
        let gradient = tasks.iter().map(|&task| -lr * long_dot(row(&here, task), &slope)).collect();
        Ok((!validated.is_empty()).then_some(gradient))
    }
}

impl Weighting for AutoLambda {
    fn claims(&self) -> Claims {
        Claims { validates: true, ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.primary.resolve(Self::CLASS, "primary", 1.0, tasks)?;
        self.state.names = Names::of(tasks);
        self.state.weights.fit(tasks.len(), self.start);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let gradient = if into.weights.is_empty() { None } else { self.gradient(evidence)? };
        for (&task, gradient) in evidence.tasks().iter().zip(gradient.into_iter().flatten()) {
            if gradient.is_finite() {
                self.state.weights.descend(task, gradient, self.lr);
            }
        }
        for (weight, &task) in into.weights.iter_mut().zip(evidence.tasks()) {
            *weight = self.state.weights.values[task];
        }
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Plane, near, remembers, weigh};
    use super::*;
    use crate::weighting::loss::tests::prepared;

    #[test]
    fn the_gradient_is_that_of_the_validation_losses() {
        let primary = TaskWeights::Each(vec![1.0, 0.0, 2.0]);
        let method = prepared(AutoLambda { primary, start: 0.4, inner_lr: Some(0.3), ..AutoLambda::default() }, 3);
        for tasks in [&[0, 1, 2][..], &[0, 2], &[1]] {
            let mut plane = Plane::new();
            plane.show(tasks);
            let value = |weights: &[f64]| {
                let at = plane.descend(weights, 0.3, 1);
                plane.validation[0].loss(at) + 2.0 * plane.validation[2].loss(at)
            };
            let expected: Vec<f64> = (0..tasks.len())
                .map(|j| {
                    let moved = |by| {
                        let mut weights = vec![0.4; tasks.len()];
                        weights[j] += by;
                        value(&weights)
                    };
                    (moved(1e-5) - moved(-1e-5)) / 2e-5
                })
                .collect();
            near(&method.gradient(&mut plane).unwrap().unwrap(), &expected, 1e-6);
            assert_eq!(plane.probes, 2);
        }
    }

    #[test]
    fn a_task_that_helps_gains_and_one_that_hurts_loses() {
        // By hand, in one dimension: training 1/2 (x - 1)^2 and 1/2 (x + 1)^2 from 0, validation 1/2 (x - 1)^2 of the
        // first alone: with equal weights x' = 0, so the derivatives are -0.1 (-1) (-1) and -0.1 (1) (-1).
        let mut plane = Plane::new();
        for (bowls, x) in [(&mut plane.train, -1.0), (&mut plane.validation, 9.0)] {
            bowls.truncate(2);
            bowls.iter_mut().for_each(|bowl| bowl.hessian = [[1.0, 0.0], [0.0, 0.0]]);
            (bowls[0].centre, bowls[1].centre) = ([1.0, 0.0], [x, 0.0]);
        }
        plane.at = [0.0, 0.0];
        plane.show(&[0, 1]);
        let primary = TaskWeights::Named([("b".to_owned(), 0.0)].into());
        let mut method = prepared(AutoLambda { lr: 0.01, primary, ..AutoLambda::default() }, 2);
        near(&method.gradient(&mut plane).unwrap().unwrap(), &[-0.1, 0.1], 1e-7);
        near(&weigh(&mut method, &mut plane), &[0.11, 0.09], 1e-6);
    }

    #[test]
    fn without_labels_to_validate_on_nothing_is_learned() {
        let mut method = prepared(AutoLambda::default(), 3);
        let mut plane = Plane { unlabelled_in_validation: vec![0, 1, 2], ..Plane::new() };
        assert_eq!(weigh(&mut method, &mut plane), [0.1; 3]);
        assert_eq!(method.state, prepared(AutoLambda::default(), 3).state);
        assert!(method.claims().validates);
        remembers(AutoLambda::default);
    }
}
