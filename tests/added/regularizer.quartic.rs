//! The sum of fourth powers of the weights.

use std::ops::Range;

use tch::Tensor;

use super::{Penalty, Places, Regularizer, elastic_net, formula};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum of w^4` over all weights: next to nothing for small ones.
    pub struct Quartic = "Quartic" {
        /// How much it counts in the objective.
        strength: f64 = 1e-2, in 0.0..;
    }
}

impl Regularizer for Quartic {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.weights(Self::CLASS, "on", None)
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        formula::numbers(places, parameters).square().square().sum(parameters.kind()) * self.strength
    }

    fn learning(&self, places: &Places, frozen: &[Range<usize>]) -> Places {
        places.without(frozen)
    }
}

impl<T: Real> Penalty<T> for Quartic {
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let (strength, slope) = (T::of(self.strength), T::of(4.0 * self.strength));
        elastic_net::each(places, parameters, gradient, |w| (strength * w * w * w * w, slope * w * w * w))
    }
}
