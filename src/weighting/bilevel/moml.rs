//! Weights that lower all validation losses.

use serde::{Deserialize, Serialize};

use super::{Descent, combine, labelled, row, shifted};
use crate::error::Result;
use crate::machine::rows::{self, long_dot};
use crate::solver::{self, hull};
use crate::task::About;
use crate::weighting::learned::{Learned, through_softmax};
use crate::weighting::{ActsLike, Claims, Combination, Evidence, On, Weighting};

/// Length of the step in parameters whose difference of gradients stands for a Hessian's product, as in DARTS.
const STEP: f64 = 0.01;

crate::component! {
    /// Multi-objective meta learning for multi-task learning (Ye et al., Multi-Objective Meta Learning, NeurIPS 2021).
    ///
    /// The weights are `sigma = softmax(alpha)`: as long as the mean. Each step, `inner_steps` of plain gradient descent
    /// on `sum_j sigma_j L_j` lead to `theta'`; the gradients of all tasks' validation losses `V_i(theta')` by `alpha`
    /// are combined by the weights that make the combination shortest (MGDA), and Adam moves `alpha` against it. That
    /// takes `inner_steps` passes on the batch and one on validation data; beyond one inner step, further
    /// `2 (inner_steps - 1)` a task for products with Hessians, by differences of gradients.
    ///
    /// As in the authors' code, MGDA sees gradients of unit length, and its weights apply to the gradients as they are.
    /// Their code trains the model on training and validation rows together; here, on training rows alone.
    pub struct Moml = "MOML" {
        /// Learning rate of `alpha`.
        lr: f64 = 1e-3, in 0.0..;
        /// Learning rate of the inner steps; None for that of the model's own step.
        inner_lr: Option<f64> = None, in 0.0..;
        /// Inner steps.
        inner_steps: usize = 1, in 1.0..=1000.0;
    }
    state: Router;
}

/// What is known of the tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Router {
    alpha: Learned,
}

impl Moml {
    /// The derivatives of the validation losses by the weights `sigma` of the rows, a list for each validation loss.
    fn gradients(&self, evidence: &mut dyn Evidence, sigma: &[f64]) -> Result<Vec<Vec<f64>>> {
        let tasks = evidence.tasks().to_vec();
        let lr = self.inner_lr.unwrap_or(evidence.moment().lr);
        let path = Descent::run(evidence, sigma, lr, self.inner_steps)?;
        let there = evidence.probe(&path.end, On::Validation)?;
        let mut gradients = Vec::new();
        for task in labelled(&there) {
            let mut slope: Vec<f64> = row(&there, task).iter().map(|&x| f64::from(x)).collect();
            let mut gradient = vec![0.0; tasks.len()];
            // Backwards along the path: what its end owes to each step.
            for (index, (at, probed)) in path.steps.iter().enumerate().rev() {
                for (sum, &task) in gradient.iter_mut().zip(&tasks) {
                    *sum -= lr * long_dot(row(probed, task), &slope);
                }
                if index > 0 {
                    let curved = curvature(evidence, &tasks, sigma, at, &slope)?;
                    solver::add(&mut slope, -lr, &curved);
                }
            }
            gradients.push(gradient);
        }
        Ok(gradients)
    }
}

/// The product of the weighted training loss's Hessian with a direction.
fn curvature(
    evidence: &mut dyn Evidence,
    tasks: &[usize],
    sigma: &[f64],
    at: &[f32],
    direction: &[f64],
) -> Result<Vec<f64>> {
    let length = long_dot(direction, direction).sqrt();
    if length == 0.0 {
        return Ok(vec![0.0; direction.len()]);
    }
    let by = STEP / length;
    let above = combine(&evidence.probe(&shifted(at, direction, by), On::Batch)?, tasks, sigma);
    let below = combine(&evidence.probe(&shifted(at, direction, -by), On::Batch)?, tasks, sigma);
    Ok(above.iter().zip(below).map(|(a, b)| (a - b) / (2.0 * by)).collect())
}

/// Their combination by the weights for which that of the unit vectors is shortest.
fn common(gradients: &[Vec<f64>]) -> Vec<f64> {
    let count = gradients.len();
    let lengths: Vec<f64> = gradients.iter().map(|gradient| long_dot(gradient, gradient).sqrt()).collect();
    let mut gramian = vec![0.0; count * count];
    for i in (0..count).filter(|&i| lengths[i] > 0.0) {
        for j in (0..count).filter(|&j| lengths[j] > 0.0) {
            let units = gradients[i].iter().zip(&gradients[j]).map(|(a, b)| a / lengths[i] * (b / lengths[j]));
            gramian[i * count + j] = units.sum();
        }
    }
    let width = gradients.first().map_or(0, Vec::len);
    let rounding = f64::EPSILON * (width as f64).sqrt().max(1.0);
    let mut sum = vec![0.0; width];
    rows::combine(&hull::min_norm(&gramian, count, rounding), |index| &gradients[index], &mut sum);
    sum
}

impl Weighting for Moml {
    fn claims(&self) -> Claims {
        Claims { validates: true, acts_like: ActsLike::Mean, ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.alpha.fit(tasks.len(), 0.0);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        if into.weights.is_empty() {
            return Ok(());
        }
        let sigma = self.state.alpha.softmax(evidence.tasks());
        let gradients: Vec<Vec<f64>> = self
            .gradients(evidence, &sigma)?
            .iter()
            .map(|gradient| through_softmax(&sigma, gradient).to_vec())
            .collect();
        if !gradients.is_empty() && gradients.iter().flatten().all(|g| g.is_finite()) {
            for (&task, gradient) in evidence.tasks().iter().zip(common(&gradients)) {
                self.state.alpha.descend(task, gradient, self.lr);
            }
        }
        into.weights.copy_from_slice(&self.state.alpha.softmax(evidence.tasks()));
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Plane, near, remembers, weigh};
    use super::*;
    use crate::weighting::loss::tests::prepared;

    /// Those of the path in 64 bits, by differences.
    fn expected(plane: &Plane, sigma: &[f64], lr: f64, steps: usize) -> Vec<Vec<f64>> {
        let slope = |i: usize, j: usize| {
            let moved = |by| {
                let mut sigma = sigma.to_vec();
                sigma[j] += by;
                plane.validation[i].loss(plane.descend(&sigma, lr, steps))
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        };
        let labelled = (0..3).filter(|i| !plane.unlabelled_in_validation.contains(i));
        labelled.map(|i| (0..sigma.len()).map(|j| slope(i, j)).collect()).collect()
    }

    #[test]
    fn gradients_are_those_of_the_unrolled_path() {
        for (tasks, inner_steps, probes) in
            [(&[0, 1, 2][..], 1, 2), (&[0, 1, 2], 4, 4 + 1 + 3 * 6), (&[0, 2], 3, 12 + 4)]
        {
            let mut plane = Plane::new();
            plane.show(tasks);
            let sigma = [0.2, 0.5, 0.3][..tasks.len()].to_vec();
            let method = prepared(Moml { inner_steps, inner_lr: Some(0.2), ..Moml::default() }, 3);
            let seen = method.gradients(&mut plane, &sigma).unwrap();
            let expected = expected(&plane, &sigma, 0.2, inner_steps);
            assert_eq!(plane.probes, probes);
            for (seen, expected) in seen.iter().zip(&expected) {
                near(seen, expected, 1e-5);
            }
            assert_eq!(seen.len(), expected.len());
        }
    }

    #[test]
    fn two_steps_by_hand() {
        // One task, 1/2 x^2 from 1, weight s, lr 1: x'' = (1 - s)^2, so V = 1/2 (x'' - 2)^2 has the derivative
        // (x'' - 2) (-2 (1 - s)); at s = 1/2 that is 1.75.
        let mut plane = Plane::new();
        for (bowls, centre) in [(&mut plane.train, 0.0), (&mut plane.validation, 2.0)] {
            bowls.truncate(1);
            (bowls[0].hessian, bowls[0].centre) = ([[1.0, 0.0], [0.0, 0.0]], [centre, 0.0]);
        }
        plane.at = [1.0, 0.0];
        plane.show(&[0]);
        let method = prepared(Moml { inner_steps: 2, inner_lr: Some(1.0), ..Moml::default() }, 1);
        near(&method.gradients(&mut plane, &[0.5]).unwrap()[0], &[1.75], 1e-5);
    }

    #[test]
    fn conflicting_gradients_cancel_and_lengths_do_not_decide() {
        near(&common(&[vec![1.0, 0.0], vec![0.0, 4.0]]), &[0.5, 2.0], 1e-9);
        near(&common(&[vec![1.0, -1.0], vec![-1.0, 1.0]]), &[0.0, 0.0], 1e-9);
        assert!(common(&[vec![0.0, 0.0], vec![1.0, 1.0]]).iter().all(|x| x.is_finite()));
    }

    #[test]
    fn weights_turn_to_what_validation_losses_have_in_common() {
        let mut plane = Plane::new();
        let mut method = prepared(Moml { lr: 0.05, ..Moml::default() }, 3);
        let even = [1.0 / 3.0; 3];
        let upper: Vec<Vec<f64>> =
            expected(&plane, &even, 0.1, 1).iter().map(|gradient| through_softmax(&even, gradient).to_vec()).collect();
        let way = common(&upper);
        let weights = weigh(&mut method, &mut plane);
        // Adam's first step is its learning rate, against the combination.
        let step: Vec<f64> = way.iter().map(|x| -0.05 * x / (x.abs() + 1e-8)).collect();
        near(&method.state.alpha.values, &step, 1e-3);
        let sum: f64 = step.iter().map(|x| x.exp()).sum();
        near(&weights, &step.iter().map(|x| x.exp() / sum).collect::<Vec<_>>(), 1e-4);
    }

    #[test]
    fn an_inner_step_that_explodes_leaves_finite_weights() {
        let mut method = prepared(Moml { inner_lr: Some(1e30), inner_steps: 3, ..Moml::default() }, 3);
        assert!(weigh(&mut method, &mut Plane::new()).iter().all(|weight| weight.is_finite()));
        assert_eq!(weigh(&mut method, &mut Plane { tasks: vec![], ..Plane::new() }), [0.0; 0]);
        remembers(Moml::default);
        remembers(|| Moml { inner_steps: 2, ..Moml::default() });
    }
}
