//! The sum of squares of the weights.

use std::ops::Range;

use tch::Tensor;

use super::{Penalty, Places, Regularizer, elastic_net, formula};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum of w^2` (Hoerl and Kennard, Ridge Regression, Technometrics 1970)
    /// over all weights; biases and the parameters of norms are left out.
    pub struct L2 = "L2" {
        /// How much it counts in the objective.
        strength: f64 = 1e-4, in 0.0..;
        /// The weights it is about, by the beginning of their paths: `"encoder"`, `"heads.income"`; None for all.
        on: Option<String> = None;
    }
}

impl Regularizer for L2 {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.weights(Self::CLASS, "on", self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        formula::numbers(places, parameters).square().sum(parameters.kind()) * self.strength
    }

    fn learning(&self, places: &Places, frozen: &[Range<usize>]) -> Places {
        places.without(frozen)
    }
}

impl<T: Real> Penalty<T> for L2 {
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let strength = T::of(self.strength);
        elastic_net::each(places, parameters, gradient, |w| (strength * w * w, (strength + strength) * w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let places = elastic_net::tests::places(3);
        let mut gradient = [0.0; 3];
        let value = L2 { strength: 0.5, on: None }.add(&places, &[-2.0, 0.0, 3.0], Some(&mut gradient));
        assert_eq!((value, gradient), (6.5, [-2.0, 0.0, 3.0]));
    }
}
