//! Parameters, gradients and state of a network in flat buffers that never move.

use super::{Init, Param, dense, size};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel;
use crate::machine::parallel::Disjoint;
use crate::machine::random::{Stream, coarse};
use crate::machine::real::Real;
use crate::machine::storage::{Backend, Storage};
use crate::parameters::touched::SparseGradient;
use crate::vectorised;

/// Stream of initial weights within a seed.
const INIT: u64 = 1;

/// Numbers of a parameter that start together.
const LOT: usize = 1 << 14;

/// Flat memory of a network; padding between parameters stays zero.
#[derive(Debug)]
pub struct Params<T> {
    /// The parameters, sparse tables last.
    pub values: Storage<T>,
    /// The gradients of all but sparse tables.
    pub gradients: Storage<T>,
    /// The gradients of sparse tables, by parameter.
    pub tables: Vec<Option<SparseGradient<T>>>,
    /// Batch-norm statistics.
    pub state: Storage<T>,
}

impl<T: Real> Params<T> {
    /// Fresh parameters, and state that starts from these numbers; the same seed gives the same numbers.
    pub fn new(params: &[Param], state: &[f64], seed: u64) -> Result<Self> {
        let mut values = flat(size(params))?;
        let gradients = Storage::Host(flat(dense(params))?);
        for param in params {
            let stream = Stream::new(seed, &[INIT, param.start.stream as u64]);
            start(param, stream, &mut values.slice_mut()[param.range.clone()]);
        }
        let mut statistics = flat(state.len())?;
        for (to, &from) in statistics.slice_mut().iter_mut().zip(state) {
            *to = T::of(from);
        }
        let mut tables = Vec::with_capacity(params.len());
        for param in params {
            tables.push(param.sparse.then(|| SparseGradient::new(param.shape[1])));
        }
        Ok(Self { values: Storage::Host(values), gradients, tables, state: Storage::Host(statistics) })
    }

    /// Where they are.
    pub fn backend(&self) -> Backend {
        self.values.backend()
    }

    /// Brings them to another backend, in the same memory where that is the processor's.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn bring_to(&mut self, backend: Backend) -> Result<()> {
        *self = self.seen_by(backend)?;
        Ok(())
    }

    /// The same for another backend: on the processor in the same memory, on another device in new memory.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn seen_by(&self, backend: Backend) -> Result<Self> {
        Ok(Self {
            values: self.values.seen_by(backend)?,
            gradients: self.gradients.seen_by(backend)?,
            tables: self.tables.iter().map(|table| table.as_ref().map(SparseGradient::share)).collect(),
            state: self.state.seen_by(backend)?,
        })
    }
}

fn flat<T: Real>(len: usize) -> Result<Buffer<T>> {
    Buffer::zeros(Layout::flat(len))
}

/// Every number depends on its place alone, so that threads may share the work.
fn start<T: Real>(param: &Param, stream: Stream, values: &mut [T]) {
    let count = values.len();
    let size = (values.len() / param.start.copies.max(1)).max(1);
    let places = Disjoint::new(values);
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
            &Init::Coarse(bound) => {
                for (lot, values) in lots.clone().zip(values.chunks_mut(LOT)) {
                    coarse_uniform(stream.part(lot as u64).halves(), bound, values);
                }
            }
            &Init::Normal(deviation) => each.for_each(|(value, i)| {
                *value = T::of(deviation * stream.normal(index(i)));
            }),
            &Init::Truncated(deviation) => each.for_each(|(value, i)| {
                let mut tries = (0_u64..).map(|again| stream.normal(index(i) + (again << 40)));
                *value = T::of(deviation * tries.find(|x| x.abs() <= 3.0).unwrap_or(0.0));
            }),
            Init::Signs => each.for_each(|(value, i)| {
                *value = T::of(if stream.uniform(index(i)) < 0.5 { -1.0 } else { 1.0 });
            }),
            &Init::Lots { normal, width, lots } => each.for_each(|(value, i)| {
                let i = index(i) as usize;
                let leader = (i - i % width + lots.leader(i % width)) as u64;
                *value = T::of(match normal {
                    true => stream.normal(leader),
                    false if stream.uniform(leader) < 0.5 => -1.0,
                    false => 1.0,
                });
            }),
            &Init::Alike { bound, members, width } => each.for_each(|(value, i)| {
                let i = index(i) as usize;
                let first = i / (members * width) * width + i % width;
                *value = T::of(bound * (2.0 * stream.uniform(first as u64) - 1.0));
            }),
            &Init::Constant(constant) => values.fill(T::of(constant)),
            Init::Given(given) => each.for_each(|(value, i)| *value = T::of(given[i])),
        }
    });
    if param.blank > 0 {
        values.chunks_mut(size).for_each(|part| part[..param.blank].fill(T::ZERO));
    }
}

vectorised! {
/// Uniform numbers in plus or minus the bound.
fn coarse_uniform<T: Real>(key: [u32; 2], bound: f64, values: &mut [T]) {
    let scale = bound / f64::from(1u32 << 31);
    for (i, value) in values.iter_mut().enumerate() {
        *value = T::of(scale * f64::from(coarse(key, i as u32) as i32));
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_numbers_are_uniform_and_differ_from_lot_to_lot() {
        let key = |lot| Stream::new(3, &[INIT, 5]).part(lot).halves();
        let mut one = vec![0.0_f64; LOT];
        let mut other = vec![0.0_f64; LOT];
        coarse_uniform(key(0), 2.0, &mut one);
        coarse_uniform(key(1), 2.0, &mut other);
        let mean = |of: &dyn Fn(usize) -> f64| (0..LOT).map(of).sum::<f64>() / LOT as f64;
        assert!(one.iter().all(|x| x.abs() <= 2.0) && one.iter().any(|x| *x > 1.99) && one.iter().any(|x| *x < -1.99));
        assert!(mean(&|i| one[i]).abs() < 0.05 && (mean(&|i| one[i] * one[i]) - 4.0 / 3.0).abs() < 0.05);
        assert!(mean(&|i| one[i] * other[i]).abs() < 0.05);
    }
}
