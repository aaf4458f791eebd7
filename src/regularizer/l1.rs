//! The sum of absolute values of the weights.

use super::{Penalty, each};
use crate::optim::Block;
use crate::real::Real;

crate::component! {
    /// `R = sum of |w|` (Tibshirani, Regression Shrinkage and Selection via the Lasso, JRSS B 1996)
    /// over all weights; biases and the parameters of norms are left out.
    pub struct L1 = "L1" {
        /// How much it counts in the objective.
        strength: f64 = 1e-4, in 0.0..;
    }
}

impl<T: Real> Penalty<T> for L1 {
    fn add(&self, blocks: &[Block], parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let strength = T::of(self.strength);
        each(blocks, parameters, gradient, |w| {
            let slope = if w > T::ZERO { strength } else { T::ZERO };
            (strength * w.abs(), if w < T::ZERO { -strength } else { slope })
        })
    }
}
