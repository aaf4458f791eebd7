//! The loops of a convolution over codes: sums of rows that are there already, and back where the largest of them were.

use crate::input::{Bend, NOTHING};
use crate::machine::real::{LANES, Real};
use crate::vectorised;

/// Where a position has no code.
const NOWHERE: u32 = u32::MAX;

/// Sizes that loops go through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub filters: usize,
    /// Places that a kernel covers.
    pub width: usize,
    pub activation: Bend,
    /// Numbers of a row of the output before the filters, and in all.
    pub first: usize,
    pub whole: usize,
    /// The first column of codes, and the one behind the last, of so many.
    pub columns: [usize; 2],
    pub count: usize,
}

impl Shape {
    /// Columns of codes.
    pub fn places(&self) -> usize {
        self.columns[1] - self.columns[0]
    }
}

/// The codes of some positions.
#[derive(Clone, Copy)]
pub(super) struct Codes<'a> {
    pub shape: Shape,
    pub all: &'a [u32],
}

impl<'a> Codes<'a> {
    /// Those of each position.
    fn rows(self) -> impl Iterator<Item = &'a [u32]> {
        let [start, end] = self.shape.columns;
        self.all.chunks_exact(self.shape.count).map(move |row| &row[start..end])
    }
}

/// Which row of the products each of the places that a kernel covers around `place` adds.
#[inline(always)]
fn around(codes: &[u32], place: usize, width: usize) -> impl Iterator<Item = usize> + '_ {
    let radius = width / 2;
    let from = place.saturating_sub(radius);
    let to = (place + radius + 1).min(codes.len());
    let there = (from..to).filter(|&at| codes[at] != NOTHING);
    there.map(move |at| codes[at] as usize * width + (at + radius - place))
}

vectorised! {
/// The largest sums of positions through bias and activation, and where they are, `[positions, filters]`.
pub(super) fn convolve<T: Real>(codes: Codes<'_>, products: &[T], bias: &[T], y: &mut [T], places: &mut [u32]) {
    let Shape { filters, first, whole, .. } = codes.shape;
    let rows = y.chunks_exact_mut(whole).zip(places.chunks_exact_mut(filters)).zip(codes.rows());
    for ((y, places), own) in rows {
        let y = &mut y[first..];
        let wide = filters / LANES * LANES;
        for start in (0..wide).step_by(LANES) {
            largest::<T, LANES>(codes.shape, own, products, start, &mut y[start..start + LANES], &mut places[start..start + LANES]);
        }
        for start in wide..filters {
            largest::<T, 1>(codes.shape, own, products, start, &mut y[start..=start], &mut places[start..=start]);
        }
        for j in 0..filters {
            let sum = y[j] + bias[j];
            let bent = match codes.shape.activation {
                Bend::Relu => if sum <= T::ZERO { T::ZERO } else { sum },
                Bend::Tanh => sum.tanh(),
            };
            y[j] = if places[j] == NOWHERE { T::ZERO } else { bent };
        }
    }
}
}

/// The largest sums of `W` filters from `start` on, the first of equal ones.
#[inline(always)]
fn largest<T: Real, const W: usize>(
    shape: Shape,
    codes: &[u32],
    products: &[T],
    start: usize,
    y: &mut [T],
    places: &mut [u32],
) {
    let mut most = [T::LOWEST; W];
    let mut at = [NOWHERE; W];
    for (place, _) in codes.iter().enumerate().filter(|&(_, &code)| code != NOTHING) {
        let mut sum = [T::ZERO; W];
        for row in around(codes, place, shape.width) {
            let row = &products[row * shape.filters + start..][..W];
            for j in 0..W {
                sum[j] += row[j];
            }
        }
        for j in 0..W {
            // What is not a number stays.
            let larger = sum[j] > most[j] || sum[j].is_nan();
            most[j] = if larger { sum[j] } else { most[j] };
            at[j] = if larger { place as u32 } else { at[j] };
        }
    }
    y.copy_from_slice(&most);
    places.copy_from_slice(&at);
}

vectorised! {
/// Adds what arrives in a lane of so many to the gradients of products and bias.
pub(super) fn add_back<T: Real>(
    codes: Codes<'_>,
    [lane, lanes]: [usize; 2],
    [dy, y]: [&[T]; 2],
    places: &[u32],
    products: &mut [T],
    bias: &mut [T],
) {
    let Shape { filters, width, activation, first, whole, .. } = codes.shape;
    let rows = codes.rows().zip(places.chunks_exact(filters)).zip(y.chunks_exact(whole)).enumerate();
    for (row, ((own, places), y)) in rows.filter(|(_, ((_, places), _))| places[0] != NOWHERE) {
        let dy = &dy[(row * lanes + lane) * whole + first..][..filters];
        let y = &y[first..];
        for j in 0..filters {
            let slope = match activation {
                Bend::Relu => if y[j] > T::ZERO { T::ONE } else { T::ZERO },
                Bend::Tanh => T::ONE - y[j] * y[j],
            };
            let along = dy[j] * slope;
            if along == T::ZERO {
                continue;
            }
            bias[j] += along;
            for row in around(own, places[j] as usize, width) {
                products[row * filters + j] += along;
            }
        }
    }
}
}
