//! Parameters, gradients and state of a network in flat buffers that never move.

use super::buffer::{Buffer, Layout};
use super::parallel::{self, Places};
use super::random::Stream;
use super::touched::SparseGradient;
use super::{Init, Network, Param};
use crate::error::Result;
use crate::real::Real;

/// Stream of initial weights within a seed.
const INIT: u64 = 1;

/// Numbers of a parameter that start together.
const LOT: usize = 1 << 14;

/// Flat memory of a network; padding between parameters stays zero.
#[derive(Debug)]
pub struct Params<T> {
    /// The parameters, sparse tables last.
    pub values: Buffer<T>,
    /// The gradients of all but sparse tables.
    pub gradients: Buffer<T>,
    /// The gradients of sparse tables, by parameter.
    pub tables: Vec<Option<SparseGradient<T>>>,
    /// Batch-norm statistics.
    pub state: Buffer<T>,
}

impl<T: Real> Params<T> {
    /// Fresh parameters; the same seed gives the same numbers.
    pub fn new(net: &Network, seed: u64) -> Result<Self> {
        let flat = |len| Buffer::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: len });
        let (mut values, gradients, mut state) = (flat(net.size())?, flat(net.dense())?, flat(net.state.len())?);
        for param in &net.params {
            let stream = Stream::new(seed, &[INIT, param.start.stream as u64]);
            start(param, stream, &mut values.slice_mut()[param.range.clone()]);
        }
        for (to, &from) in state.slice_mut().iter_mut().zip(&net.state) {
            *to = T::of(from);
        }
        let table = |param: &Param| param.sparse.then(|| SparseGradient::new(param.shape[1]));
        Ok(Self { values, gradients, tables: net.params.iter().map(table).collect(), state })
    }
}

/// Every number depends on its place alone, so that threads may share the work.
fn start<T: Real>(param: &Param, stream: Stream, values: &mut [T]) {
    let (count, size) = (values.len(), (values.len() / param.start.copies.max(1)).max(1));
    let places = Places::new(values);
    parallel::split(count.div_ceil(LOT), count, &|_, lots| {
        let range = lots.start * LOT..count.min(lots.end * LOT);
        // SAFETY: ranges of different threads do not overlap.
        let values = unsafe { places.part(range.clone()) };
        let each = values.iter_mut().zip(range);
        // A division would take longer than the number itself.
        let index = |i: usize| if i < size { i as u64 } else { (i % size) as u64 };
        match &param.init {
            &Init::Uniform(bound) => each.for_each(|(value, i)| {
                *value = T::of(bound * (2.0 * stream.uniform(index(i)) - 1.0));
            }),
            &Init::Normal(deviation) => each.for_each(|(value, i)| {
                *value = T::of(deviation * stream.normal(index(i)));
            }),
            &Init::Constant(constant) => values.fill(T::of(constant)),
            Init::Given(given) => each.for_each(|(value, i)| *value = T::of(given[i])),
        }
    });
}
