//! Direction-oriented multi-objective descent: a common direction that stays near the mean gradient.

use super::modo::step_with;
use super::rows::products;
use super::shares::Shares;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::{add, simplex};
use crate::task::About;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Weighting};

crate::component! {
    /// SDMGrad (Xiao, Ban and Ji, Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms,
    /// NeurIPS 2023).
    ///
    /// The task weights `w` minimise `|g_w + lambda g_0|^2`, where `g_0` is the mean gradient, over the simplex: from
    /// those of the last step, some iterations of `v = momentum v + A (w + lambda / T)`, `w = project(w - lr v)`. Two
    /// independent parts of the batch give `A = J_1 J_2^T` without bias, divided by the square of
    /// `mean_j sqrt(max(A_jj, 0))`. The direction is `(g_w + lambda g_0) / (1 + lambda)`, as long as the mean of the
    /// gradients.
    ///
    /// The paper steps with a third sample. With 2 parts all of the batch decides the step, the two parts again included;
    /// with 3 the third part alone decides it. LibMTL has 5 as `lr`. Published codes add 1e-8 to the divisor of `A`;
    /// nothing is added here, and where it is 0 the weights stay.
    pub struct SdmGrad = "SDMGrad" {
        /// Step size of the iterations.
        lr: f64 = 10.0, in 0.0..;
        /// Momentum of the iterations.
        momentum: f64 = 0.5, in 0.0..1.0;
        /// Number of iterations a step.
        iterations: usize = 20, in 1.0..=1e6;
        /// How strongly the direction is held near the mean gradient.
        strength: f64 = 0.3, in 0.0..;
        /// Parts of the batch: 2, or 3 to step with the third.
        parts: usize = 2, in 2.0..=3.0;
    }
    state: Shares;
}

impl Weighting for SdmGrad {
    fn claims(&self) -> Claims {
        Claims { needs: Needs::Jacobian, parts: self.parts, acts_like: ActsLike::Mean, ..Claims::default() }
    }

    crate::remembers!();

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.prepare(tasks.len());
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        if tasks.is_empty() {
            return Ok(());
        }
        let rows = tasks.len();
        let first = Lent::from(evidence.part(0)?);
        let mut cross = products(&first, evidence.part(1)?, rows);
        let roots = cross.iter().step_by(rows + 1).map(|product| product.max(0.0).sqrt());
        let scale = (roots.sum::<f64>() / rows as f64).powi(2);
        let towards = self.strength / rows as f64;
        let shares = if scale > 0.0 {
            cross.iter_mut().for_each(|product| *product /= scale);
            let Self { lr, momentum, iterations, .. } = *self;
            self.state.update(&tasks, |shares| descend(shares, &cross, towards, lr, momentum, iterations))
        } else {
            self.state.update(&tasks, |_| ())
        };
        for (weight, share) in into.weights.iter_mut().zip(&shares) {
            *weight = (share + towards) / (1.0 + self.strength);
        }
        if self.parts == 3 {
            step_with(evidence.part(2)?, into);
        }
        Ok(())
    }
}

/// Projected descent with momentum.
fn descend(shares: &mut [f64], cross: &[f64], towards: f64, lr: f64, momentum: f64, iterations: usize) {
    let mut velocity = Lent::<f64>::zeros(shares.len());
    for _ in 0..iterations {
        for (velocity, row) in velocity.iter_mut().zip(cross.chunks_exact(shares.len())) {
            let slope: f64 = row.iter().zip(&*shares).map(|(product, share)| product * (share + towards)).sum();
            *velocity = momentum * *velocity + slope;
        }
        add(shares, -lr, &velocity);
        simplex::project(shares);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    /// `A` is `(1 0, 0 1)`, `g_0` the mean of the rows of the first part.
    fn evidence(first: [f32; 4], second: [f32; 4]) -> Given {
        Given { parts: vec![first.into(), second.into(), vec![10.0, 0.0, 0.0, 10.0]], ..trial::golden() }
    }

    #[test]
    fn by_hand() {
        let mut weighting = trial::prepared(&SdmGrad { lr: 0.1, iterations: 2, ..SdmGrad::default() }, 2);
        // A = (4 0, 0 1), its diagonal's roots 2 and 1, so it is divided by 2.25. First v = A (0.65, 0.65); then with
        // momentum a half.
        let a = 4.0 / 2.25;
        let b = 1.0 / 2.25;
        let project = |x: f64, y: f64| (x + (1.0 - x - y) / 2.0, y + (1.0 - x - y) / 2.0);
        let v = (0.65 * a, 0.65 * b);
        let w = project(0.5 - 0.1 * v.0, 0.5 - 0.1 * v.1);
        let v = (0.5 * v.0 + a * (w.0 + 0.15), 0.5 * v.1 + b * (w.1 + 0.15));
        let w = project(w.0 - 0.1 * v.0, w.1 - 0.1 * v.1);
        let want = [(w.0 + 0.15) / 1.3, (w.1 + 0.15) / 1.3];
        let got = trial::decide(&mut weighting, &evidence([2.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 1.0]));
        trial::close(&got.weights, &want, 1e-12);
        assert!(got.direction.is_empty());
    }

    #[test]
    fn many_iterations_find_the_minimum() {
        // |g_w + 0.3 g_0|^2 with g_1 = (2, 0), g_2 = (0, 1): 4 (w_1 + 0.15)^2 + (w_2 + 0.15)^2 is least on the simplex
        // at w_1 = 1.3 / 5 - 0.15.
        let mut weighting = trial::prepared(&SdmGrad { lr: 0.1, iterations: 400, ..SdmGrad::default() }, 2);
        let got = trial::decide(&mut weighting, &evidence([2.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 1.0])).weights;
        trial::close(&got, &[0.2, 0.8], 1e-9);
    }

    #[test]
    fn strong_regularisation_is_the_mean() {
        let mut weighting = trial::prepared(&SdmGrad { strength: 1e9, ..SdmGrad::default() }, 2);
        let got = trial::decide(&mut weighting, &evidence([2.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 1.0])).weights;
        trial::close(&got, &[0.5, 0.5], 1e-8);
    }

    #[test]
    fn three_parts_step_with_the_third() {
        let evidence = evidence([2.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 1.0]);
        let weights = trial::decide(&mut trial::prepared(&SdmGrad::default(), 2), &evidence).weights;
        let three = SdmGrad { parts: 3, ..SdmGrad::default() };
        let direction = trial::shared(&mut trial::prepared(&three, 2), &evidence);
        trial::close(&direction, &[10.0 * weights[0], 10.0 * weights[1]], 1e-6);
    }

    #[test]
    fn parts_that_disagree_entirely_leave_the_weights() {
        let mut weighting = trial::prepared(&SdmGrad::default(), 2);
        let got = trial::decide(&mut weighting, &evidence([1.0, 0.0, 0.0, 1.0], [-1.0, 0.0, 0.0, -1.0])).weights;
        trial::close(&got, &[0.5, 0.5], 1e-15);
    }

    #[test]
    fn general() {
        trial::general(&SdmGrad::default());
        trial::general(&SdmGrad { parts: 3, ..SdmGrad::default() });
    }
}
