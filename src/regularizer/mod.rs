//! Regularizers: terms of the objective that depend on the parameters alone.

use std::fmt::Debug;

use crate::optim::Block;
use crate::real::Real;
use crate::registry::Described;

pub mod l1;
pub mod l2;

/// The numeric half of a regularizer, for one element type.
pub trait Penalty<T: Real> {
    /// `strength` times the penalty of the named blocks of the flat parameters; adds its gradient.
    fn add(&self, blocks: &[Block], parameters: &[T], gradient: Option<&mut [T]>) -> f64;
}

/// A term `beta_k R_k(theta)` of the objective.
pub trait Regularizer: Penalty<f32> + Penalty<f64> + Described + Debug + Send + Sync {}

impl<R: Penalty<f32> + Penalty<f64> + Described + Debug + Send + Sync> Regularizer for R {}

crate::family!(Regularizer, "regularizer": l1::L1, l2::L2);

/// Sums a term over all elements of the blocks that decay, and adds its derivatives.
fn each<T: Real>(
    blocks: &[Block],
    parameters: &[T],
    mut gradient: Option<&mut [T]>,
    term: impl Fn(T) -> (T, T) + Copy,
) -> f64 {
    let mut total = 0.0;
    for block in blocks.iter().filter(|block| block.decays) {
        let parameters = &parameters[block.range.clone()];
        let gradient = gradient.as_mut().map(|g| &mut g[block.range.clone()]);
        total += pulp::Arch::new().dispatch(Sweep { parameters, gradient, term });
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
        let mut lanes = [0.0; crate::real::LANES];
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
