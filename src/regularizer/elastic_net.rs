//! A mixture of absolute values and squares of the weights.

use std::ops::Range;

use tch::Tensor;

use super::{Penalty, Places, Regularizer, formula};
use crate::component::Component;
use crate::error::Result;
use crate::machine::level;
use crate::machine::real::{LANES, Real};

crate::component! {
    /// `R = ratio * sum of |w| + (1 - ratio) * sum of w^2` (Zou and Hastie, Regularization and Variable Selection via the
    /// Elastic Net, JRSS B 2005) over all weights; biases and the parameters of norms are left out. Between `L2` at 0 and
    /// `L1` at 1; other libraries halve the squares.
    pub struct ElasticNet = "ElasticNet" {
        /// How much it counts in the objective.
        strength: f64 = 1e-4, in 0.0..;
        /// The share of absolute values.
        ratio: f64 = 0.5, in 0.0..=1.0;
        /// The weights it is about, by the beginning of their paths: `"encoder"`, `"heads.income"`; None for all.
        on: Option<String> = None;
    }
}

impl Regularizer for ElasticNet {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.weights(Self::CLASS, "on", self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let weights = formula::numbers(places, parameters);
        let absolute = weights.abs().sum(weights.kind()) * self.ratio;
        (absolute + weights.square().sum(weights.kind()) * (1.0 - self.ratio)) * self.strength
    }

    fn learning(&self, places: &Places, frozen: &[Range<usize>]) -> Places {
        places.without(frozen)
    }
}

impl<T: Real> Penalty<T> for ElasticNet {
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let first = T::of(self.strength * self.ratio);
        let second = T::of(self.strength * (1.0 - self.ratio));
        each(places, parameters, gradient, |w| {
            let sign = if w > T::ZERO { first } else { T::ZERO };
            let sign = if w < T::ZERO { -first } else { sign };
            (first * w.abs() + second * w * w, sign + (second + second) * w)
        })
    }
}

/// Sums a term over all elements of the pieces, and adds its derivatives.
pub(super) fn each<T: Real>(
    places: &Places,
    parameters: &[T],
    mut gradient: Option<&mut [T]>,
    term: impl Fn(T) -> (T, T) + Copy,
) -> f64 {
    let mut total = 0.0;
    for piece in &places.pieces {
        let parameters = &parameters[piece.range()];
        let gradient = gradient.as_mut().map(|g| &mut g[piece.range()]);
        total += level::run(Sweep { parameters, gradient, term });
    }
    total
}

struct Sweep<'a, T, F> {
    parameters: &'a [T],
    gradient: Option<&'a mut [T]>,
    term: F,
}

impl<T: Real, F: Fn(T) -> (T, T)> pulp::NullaryFnOnce for Sweep<'_, T, F> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        let mut lanes = [0.0; LANES];
        for part in self.parameters.chunks(lanes.len()) {
            for (lane, w) in lanes.iter_mut().zip(part) {
                *lane += (self.term)(*w).0.wide();
            }
        }
        if let Some(gradient) = self.gradient {
            for (g, w) in gradient.iter_mut().zip(self.parameters) {
                *g += (self.term)(*w).1;
            }
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Piece;
    use super::*;
    use crate::parameters::path::Path;

    /// One weight of so many numbers.
    pub(in super::super) fn places(size: usize) -> Places {
        let piece =
            Piece { path: Path::new("w"), start: 0, shape: vec![1, size], decays: true, task: None, reads: None };
        Places::of(vec![piece], &["a"])
    }

    #[test]
    fn by_hand() {
        let mut gradient = [1.0; 3];
        let mut net = ElasticNet { strength: 2.0, ratio: 0.25, on: None };
        // 0.5 |w| + 1.5 w^2
        let value = net.add(&places(3), &[-2.0, 0.0, 3.0], Some(&mut gradient));
        assert_eq!((value, gradient), (22.0, [-5.5, 1.0, 10.5]));
    }
}
