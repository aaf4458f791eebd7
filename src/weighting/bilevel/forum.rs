//! Weights that lower all validation losses while training stays near its optimum.

use serde::{Deserialize, Serialize};

use super::{Descent, combine, labelled, row};
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::rows::long_dot;
use crate::solver::{dot, simplex};
use crate::task::About;
use crate::weighting::learned::{Learned, through_softmax};
use crate::weighting::{Claims, Combination, Evidence, On, Probed, Weighting};

/// Most steps towards the combination of validation gradients, and the change that ends them.
const STEPS: usize = 10_000;
const TOLERANCE: f64 = 1e-13;

crate::component! {
    /// FORUM (Ye et al., A First-Order Multi-Gradient Algorithm for Multi-Objective Bi-Level Optimization, ECAI 2024).
    ///
    /// With `sigma = softmax(alpha)` and `f = sum_j sigma_j L_j`, the bilevel problem becomes lowering all validation
    /// losses `V_i` under the constraint `q = f(alpha, theta) - f(alpha, theta') <= 0`, where `inner_steps` of plain
    /// gradient descent lead to `theta'`. Their unit gradients `u_i` are combined by
    /// `min_lambda max_nu 1/2 |sum_i lambda_i u_i + nu grad q|^2 - nu rho |grad q|^2`, the best `nu` being
    /// `max(rho - <grad q, sum_i lambda_i u_i> / |grad q|^2, 0)`; `lambda` is averaged with rate `(epoch + 1)^(-3/4)`.
    /// The model descends `sum_i lambda_i u_i + nu grad f` and `alpha`, by Adam, `nu grad q`. That takes `inner_steps`
    /// and one pass on the batch and one on validation data; no Hessians.
    ///
    /// A weighting weighs training losses and lets no validation row into the model, so the unit gradients that the
    /// model descends are those of the tasks' training losses: the weights are `lambda_j / |grad L_j| + nu sigma_j`. (The
    /// paper halves each batch of training rows to have the two kinds of losses.) Of the problem for `lambda` the
    /// authors' code drops the 1/2, which makes its `nu` not the best one; here it is as in the paper. The scale is the
    /// method's own.
    pub struct Forum = "FORUM" {
        /// Share of the constraint's gradient by which each step should lower it.
        rho: f64 = 0.1, in 0.0..;
        /// Learning rate of `alpha`.
        lr: f64 = 1e-3, in 0.0..;
        /// Learning rate of the inner steps.
        inner_lr: f64 = 0.1, in 0.0..;
        /// Inner steps.
        inner_steps: usize = 5, in 1.0..=1000.0;
    }
    state: Balance;
}

/// What is known of the tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    alpha: Learned,
    lambda: Vec<f64>,
}

/// The constraint: its gradient by `alpha` and by the parameters, and the square of both together.
struct Constraint {
    alpha: Lent<f64>,
    theta: Vec<f64>,
    square: f64,
}

impl Constraint {
    fn new(sigma: &[f64], here: &Probed, there: &Probed, tasks: &[usize]) -> Self {
        let fall: Vec<f64> = tasks.iter().map(|&task| here.losses[task] - there.losses[task]).collect();
        let alpha = through_softmax(sigma, &fall);
        let theta = combine(here, tasks, sigma);
        let square = alpha.iter().chain(&theta).map(|x| x * x).sum();
        Self { alpha, theta, square }
    }

    /// The best `nu` for a combination that has this product with the gradient.
    fn nu(&self, rho: f64, product: f64) -> f64 {
        if self.square > 0.0 { (rho - product / self.square).max(0.0) } else { 0.0 }
    }
}

/// Unit vectors along gradients: their cosines, and their products with the constraint's gradient.
struct Units {
    cosines: Vec<f64>,
    products: Vec<f64>,
}

impl Units {
    fn new(probed: &Probed, tasks: &[usize], constraint: &Constraint) -> Self {
        let units: Vec<Vec<f64>> = tasks.iter().map(|&task| unit(row(probed, task))).collect();
        Self {
            cosines: units.iter().flat_map(|a| units.iter().map(|b| long_dot(a, b))).collect(),
            products: units.iter().map(|unit| long_dot(unit, &constraint.theta)).collect(),
        }
    }

    fn product(&self, lambda: &[f64]) -> f64 {
        dot(lambda, &self.products)
    }

    /// `lambda` by accelerated projected gradients (Beck & Teboulle, SIAM Journal on Imaging Sciences, 2009), restarted
    /// where they turn back: with the best `nu` put in, the problem is convex and its gradient `C lambda + nu c`.
    fn combination(&self, constraint: &Constraint, rho: f64) -> Lent<f64> {
        let count = self.products.len();
        let mut lambda = Lent::filled(1.0 / count as f64, count);
        let mut ahead = lambda.clone();
        let mut pace = 1.0_f64;
        for _ in 0..STEPS {
            let nu = constraint.nu(rho, self.product(&ahead));
            let gradient = |i: usize| dot(&self.cosines[i * count..][..count], &ahead) + nu * self.products[i];
            // Unit vectors: no eigenvalue of the cosines exceeds their number.
            let mut next: Lent<f64> = (0..count).map(|i| ahead[i] - gradient(i) / count as f64).collect();
            simplex::project(&mut next);
            let turned = (0..count).map(|i| (ahead[i] - next[i]) * (next[i] - lambda[i])).sum::<f64>() > 0.0;
            let faster = if turned { 1.0 } else { (1.0 + (1.0 + 4.0 * pace * pace).sqrt()) / 2.0 };
            let momentum = if turned { 0.0 } else { (pace - 1.0) / faster };
            let change = next.iter().zip(&ahead).fold(0.0_f64, |change, (a, b)| change.max((a - b).abs()));
            ahead = next.iter().zip(&lambda).map(|(new, old)| new + momentum * (new - old)).collect();
            (lambda, pace) = (next, faster);
            if change < TOLERANCE {
                break;
            }
        }
        lambda
    }
}

/// The unit vector along a gradient; zeros along zeros.
fn unit(gradient: &[f32]) -> Vec<f64> {
    let wide: Vec<f64> = gradient.iter().map(|&x| f64::from(x)).collect();
    let length = long_dot(&wide, &wide).sqrt();
    if length > 0.0 { wide.iter().map(|x| x / length).collect() } else { wide }
}

impl Forum {
    /// Learns from the probes; gives the weights of the rows.
    fn learn(&mut self, evidence: &mut dyn Evidence) -> Result<Vec<f64>> {
        let tasks = evidence.tasks().to_vec();
        let sigma = self.state.alpha.softmax(&tasks);
        let path = Descent::run(evidence, &sigma, self.inner_lr, self.inner_steps)?;
        let there = evidence.probe(&path.end, On::Batch)?;
        let here = match path.steps.into_iter().next() {
            Some((_, here)) => here,
            None => evidence.probe(&[], On::Batch)?,
        };
        let validation = evidence.probe(&[], On::Validation)?;
        let validated = labelled(&validation);
        let constraint = Constraint::new(&sigma, &here, &there, &tasks);
        if validated.is_empty() || !constraint.square.is_finite() {
            return Ok(self.weights(&tasks, &here, &sigma, self.rho));
        }
        let units = Units::new(&validation, &validated, &constraint);
        let rate = ((evidence.moment().epoch + 1) as f64).powf(-0.75);
        for (&task, &lambda) in validated.iter().zip(&units.combination(&constraint, self.rho)) {
            self.state.lambda[task] += rate * (lambda - self.state.lambda[task]);
        }
        let lambda: Vec<f64> = validated.iter().map(|&task| self.state.lambda[task]).collect();
        let sum: f64 = lambda.iter().sum();
        let nu = constraint.nu(self.rho, units.product(&lambda) / sum);
        for (&task, gradient) in tasks.iter().zip(&constraint.alpha) {
            self.state.alpha.descend(task, nu * gradient, self.lr);
        }
        Ok(self.weights(&tasks, &here, &sigma, nu))
    }

    /// `lambda_j / |grad L_j| + nu sigma_j`.
    fn weights(&self, tasks: &[usize], here: &Probed, sigma: &[f64], nu: f64) -> Vec<f64> {
        let sum: f64 = tasks.iter().map(|&task| self.state.lambda[task]).sum();
        let mut weights = Vec::with_capacity(tasks.len());
        for (&task, sigma) in tasks.iter().zip(sigma) {
            let length = long_dot(row(here, task), &unit(row(here, task)));
            let lambda = if sum > 0.0 && length > 0.0 { self.state.lambda[task] / sum / length } else { 0.0 };
            weights.push(lambda + nu * sigma);
        }
        weights
    }
}

impl Weighting for Forum {
    fn claims(&self) -> Claims {
        Claims { validates: true, ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.alpha.fit(tasks.len(), 0.0);
        if self.state.lambda.len() != tasks.len() {
            self.state.lambda = vec![1.0 / tasks.len() as f64; tasks.len()];
        }
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        if !into.weights.is_empty() {
            into.weights = self.learn(evidence)?;
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

    /// Gradient of the constraint at equal weights, in 64 bits: by alpha, then by the parameters.
    fn constraint(plane: &Plane, method: &Forum) -> Vec<f64> {
        let share = 1.0 / plane.tasks.len() as f64;
        let sigma = vec![share; plane.tasks.len()];
        let end = plane.descend(&sigma, method.inner_lr, method.inner_steps);
        let fall: Vec<f64> =
            plane.tasks.iter().map(|&j| plane.train[j].loss(plane.at) - plane.train[j].loss(end)).collect();
        let mean = fall.iter().sum::<f64>() * share;
        let theta = |axis: usize| plane.tasks.iter().map(|&j| share * plane.train[j].gradient(plane.at)[axis]).sum();
        fall.iter().map(|x| share * (x - mean)).chain([theta(0), theta(1)]).collect()
    }

    fn units(bowls: &[super::super::tests::Bowl], at: [f64; 2]) -> Vec<[f64; 2]> {
        bowls.iter().map(|bowl| bowl.gradient(at)).map(|[x, y]| [x / x.hypot(y), y / x.hypot(y)]).collect()
    }

    #[test]
    fn weights_are_those_of_the_best_combination() {
        for at in [[0.25, 0.5], [3.0, -2.0], [0.0, 0.1]] {
            let mut plane = Plane { at, ..Plane::new() };
            plane.train.truncate(2);
            plane.validation.truncate(2);
            plane.show(&[0, 1]);
            let mut method = prepared(Forum::default(), 2);
            let q = constraint(&plane, &method);
            let square = q.iter().map(|x| x * x).sum::<f64>();
            let u = units(&plane.validation, at);
            // By a fine grid over lambda, with the best nu for each.
            let value = |lambda: f64| {
                let mix = [0, 1].map(|axis| lambda * u[0][axis] + (1.0 - lambda) * u[1][axis]);
                let product = mix[0] * q[2] + mix[1] * q[3];
                let nu = (method.rho - product / square).max(0.0);
                let whole = mix[0].powi(2) + mix[1].powi(2) + 2.0 * nu * product + nu * nu * square;
                (0.5 * whole - nu * method.rho * square, nu)
            };
            let best = (0..=100_000).map(|k| f64::from(k) / 1e5).min_by(|a, b| value(*a).0.total_cmp(&value(*b).0));
            let lambda = best.unwrap();
            let nu = value(best.unwrap()).1;
            let lengths = [0, 1].map(|j| plane.train[j].gradient(at)).map(|[x, y]| x.hypot(y));
            let expected = [lambda / lengths[0] + nu / 2.0, (1.0 - lambda) / lengths[1] + nu / 2.0];
            near(&weigh(&mut method, &mut plane), &expected, 1e-4);
            assert_eq!(plane.probes, method.inner_steps + 2);
            // Adam's first step is its learning rate.
            let signs: Vec<f64> = q[..2].iter().map(|x| -1e-3 * if nu > 0.0 { x.signum() } else { 0.0 }).collect();
            near(&method.state.alpha.values, &signs, 1e-3);
        }
    }

    #[test]
    fn the_combination_is_the_shortest_without_a_constraint() {
        let none = Constraint { alpha: Lent::default(), theta: vec![0.0; 2], square: 0.0 };
        let bowls = Plane::new().validation;
        let mut plane = Plane { at: [4.0, 3.0], ..Plane::new() };
        let probed = plane.probe(&[], On::Validation).unwrap();
        let lambda = Units::new(&probed, &[0, 1, 2], &none).combination(&none, 0.1);
        let u = units(&bowls, [4.0, 3.0]);
        let mix = [0, 1].map(|axis| (0..3).map(|j| lambda[j] * u[j][axis]).sum::<f64>());
        let square = mix[0].powi(2) + mix[1].powi(2);
        assert!((lambda.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        for (lambda, u) in lambda.iter().zip(u) {
            let product = u[0] * mix[0] + u[1] * mix[1];
            assert!(product > square - 1e-7 && (*lambda < 1e-9 || product < square + 1e-7));
        }
    }

    #[test]
    fn extremes_are_finite_and_state_follows_tasks() {
        let mut method = prepared(Forum { inner_lr: 1e30, ..Forum::default() }, 3);
        assert!(weigh(&mut method, &mut Plane::new()).iter().all(|weight| weight.is_finite()));
        // At the optimum of a single task there is nothing to descend.
        let mut plane = Plane { at: [1.0, 0.0], ..Plane::new() };
        plane.show(&[0]);
        assert!(weigh(&mut prepared(Forum::default(), 3), &mut plane)[0].is_finite());
        assert_eq!(weigh(&mut method, &mut Plane { tasks: vec![], ..Plane::new() }), [0.0; 0]);
        remembers(Forum::default);
    }
}
