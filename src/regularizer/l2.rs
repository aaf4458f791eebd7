//! The sum of squares of the weights.

use super::{Penalty, each};
use crate::optim::Block;
use crate::real::Real;

crate::component! {
    /// `R = sum of w^2` (Hoerl and Kennard, Ridge Regression, Technometrics 1970)
    /// over all weights; biases and the parameters of norms are left out.
    pub struct L2 = "L2" {
        /// How much it counts in the objective.
        strength: f64 = 1e-4, in 0.0..;
    }
}

impl<T: Real> Penalty<T> for L2 {
    fn add(&self, blocks: &[Block], parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let strength = T::of(self.strength);
        each(blocks, parameters, gradient, |w| (strength * w * w, (strength + strength) * w))
    }
}
