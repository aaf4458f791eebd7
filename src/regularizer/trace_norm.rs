//! The sum of singular values of the tasks' weights.

use tch::Tensor;

use super::spectrum::Spectrum;
use super::{Penalty, Places, Regularizer, formula, rows};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum of the singular values of W`, where row `t` of `W`, `[tasks, parameters]`, is all that task `t` has of
    /// its own (the trace or nuclear norm: Argyriou, Evgeniou and Pontil, Convex Multi-Task Feature Learning, Machine
    /// Learning 2008; Pong et al., Trace Norm Regularization, SIAM Journal on Optimization 2010): the tasks' parameters lie
    /// in few directions.
    ///
    /// Smoothed, so that there is a gradient everywhere: `R = sum_k sqrt(lambda_k + smoothing)` with the eigenvalues
    /// `lambda_k` of `W W^T`, `[tasks, tasks]`, and the gradient `(W W^T + smoothing I)^(-1/2) W`.
    pub struct TraceNorm = "TraceNorm" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// What is added to each squared singular value.
        smoothing: f64 = 1e-6, in 1e-12..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
    state: Spectrum;
}

impl Regularizer for TraceNorm {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.common(Self::CLASS, self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        formula::trace_norm(&formula::rows(places, parameters), self.smoothing) * self.strength
    }
}

impl<T: Real> Penalty<T> for TraceNorm {
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let Self { state, strength, smoothing, .. } = self;
        state.look(places, parameters);
        let value = *strength * state.root(places.tasks, *smoothing, *strength);
        if let Some(gradient) = gradient {
            rows::mix(&places.stacks, &state.matrix, parameters, Some(gradient));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::task_relation::tests::two_tasks;
    use super::*;

    #[test]
    fn by_hand() {
        let mut norm = TraceNorm { strength: 2.0, smoothing: 1e-30, ..TraceNorm::default() };
        let mut gradient = [0.0; 6];
        // Orthogonal rows of length 5 and 2: these are the singular values.
        let value = norm.add(&two_tasks(3), &[3.0, 4.0, 0.0, 0.0, 0.0, -2.0], Some(&mut gradient));
        assert!((value - 14.0).abs() < 1e-12);
        let want = [1.2, 1.6, 0.0, 0.0, 0.0, -2.0];
        assert!(gradient.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{gradient:?}");
    }

    #[test]
    fn nothing_learned_is_no_danger() {
        let mut gradient = [0.0_f32; 6];
        let value = TraceNorm::default().add(&two_tasks(3), &[0.0; 6], Some(&mut gradient));
        assert!((value - 2e-6).abs() < 1e-12);
        assert_eq!(gradient, [0.0; 6]);
    }
}
