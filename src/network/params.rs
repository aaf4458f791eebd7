//! Parameters, gradients and state of a network in flat buffers that never move.

use super::buffer::{Buffer, Layout};
use super::random::Stream;
use super::{Init, Network, Param};
use crate::error::Result;
use crate::real::Real;

/// Stream of initial weights within a seed.
const INIT: u64 = 1;

/// Flat memory of a network; padding between parameters stays zero.
#[derive(Debug)]
pub struct Params<T> {
    /// The parameters.
    pub values: Buffer<T>,
    /// Their gradients.
    pub gradients: Buffer<T>,
    /// Batch-norm statistics.
    pub state: Buffer<T>,
}

impl<T: Real> Params<T> {
    /// Fresh parameters; the same seed gives the same numbers.
    pub fn new(net: &Network, seed: u64) -> Result<Self> {
        let flat = |len| Buffer::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: len });
        let mut params =
            Self { values: flat(net.size())?, gradients: flat(net.size())?, state: flat(net.state.len())? };
        for param in &net.params {
            start(
                param,
                Stream::new(seed, &[INIT, param.start.stream as u64]),
                &mut params.values.slice_mut()[param.range.clone()],
            );
        }
        for (to, &from) in params.state.slice_mut().iter_mut().zip(&net.state) {
            *to = T::of(from);
        }
        Ok(params)
    }
}

fn start<T: Real>(param: &Param, stream: Stream, values: &mut [T]) {
    let size = values.len() / param.start.copies.max(1);
    for (i, value) in values.iter_mut().enumerate() {
        let index = (i % size.max(1)) as u64;
        *value = T::of(match &param.init {
            Init::Uniform(bound) => bound * (2.0 * stream.uniform(index) - 1.0),
            Init::Normal(deviation) => deviation * stream.normal(index),
            Init::Constant(value) => *value,
            Init::Given(values) => values[i],
        });
    }
}
