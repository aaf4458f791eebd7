//! The sum of absolute values of the weights.

use std::ops::Range;

use tch::Tensor;

use super::{Penalty, Places, Regularizer, elastic_net, formula};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum of |w|` (Tibshirani, Regression Shrinkage and Selection via the Lasso, JRSS B 1996)
    /// over all weights; biases and the parameters of norms are left out.
    pub struct L1 = "L1" {
        /// How much it counts in the objective.
        strength: f64 = 1e-4, in 0.0..;
        /// The weights it is about, by the beginning of their paths: `"encoder"`, `"heads.income"`; None for all.
        on: Option<String> = None;
    }
}

impl Regularizer for L1 {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.weights(Self::CLASS, "on", self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        formula::numbers(places, parameters).abs().sum(parameters.kind()) * self.strength
    }

    fn learning(&self, places: &Places, frozen: &[Range<usize>]) -> Places {
        places.without(frozen)
    }
}

impl<T: Real> Penalty<T> for L1 {
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let strength = T::of(self.strength);
        elastic_net::each(places, parameters, gradient, |w| {
            let slope = if w > T::ZERO { strength } else { T::ZERO };
            (strength * w.abs(), if w < T::ZERO { -strength } else { slope })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let places = elastic_net::tests::places(3);
        let mut gradient = [0.0; 3];
        let value = L1 { strength: 0.5, on: None }.add(&places, &[-2.0, 0.0, 3.0], Some(&mut gradient));
        assert_eq!((value, gradient), (2.5, [-0.5, 0.0, 0.5]));
    }
}
