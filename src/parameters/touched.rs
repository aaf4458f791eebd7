//! The rows of a sparse table that a step touches, and their gradients: all that the step costs of the table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::input::NOTHING;
use crate::machine::real::Real;

/// The gradient of a sparse table, as the network's parameters and the nodes of all plans share it.
#[derive(Debug)]
pub struct SparseGradient<T>(Arc<Mutex<Touched<T>>>);

impl<T: Real> SparseGradient<T> {
    /// Of a table of rows `[width]`.
    pub fn new(width: usize) -> Self {
        let touched = Touched { width, lanes: 1, codes: Vec::new(), rows: Vec::new(), places: Vec::new() };
        Self(Arc::new(Mutex::new(touched)))
    }

    /// Another handle on it.
    pub fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// What is in it; one node or the optimizer has it at a time.
    pub fn open(&self) -> MutexGuard<'_, Touched<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The distinct codes of a step and a gradient each, `[codes, lanes, width]`, by open addressing.
///
/// Memory grows to the largest batch and stays.
#[derive(Debug, Clone)]
pub struct Touched<T> {
    width: usize,
    lanes: usize,
    codes: Vec<u32>,
    rows: Vec<T>,
    /// One more than the index of the code that lies here; 0 for none.
    places: Vec<u32>,
}

impl<T: Real> Touched<T> {
    /// Begins a step with gradients of so many lanes, of at most so many codes; or goes on with one that began likewise.
    pub fn begin(&mut self, lanes: usize, most: usize, go_on: bool) {
        if !go_on {
            self.forget();
            self.lanes = lanes;
        }
        assert_eq!(self.lanes, lanes, "micro-batches of a step go the same way");
        let wanted = (2 * (self.codes.len() + most)).next_power_of_two();
        self.codes.reserve(most);
        self.rows.reserve(most * lanes * self.width);
        if self.places.len() < wanted {
            self.places.clear();
            self.places.resize(wanted, 0);
            for (index, &code) in self.codes.iter().enumerate() {
                let free = find(&self.places, &self.codes[..index], code);
                self.places[free] = index as u32 + 1;
            }
        }
    }

    /// No row is touched.
    pub fn forget(&mut self) {
        self.codes.clear();
        self.rows.clear();
        self.places.fill(0);
    }

    /// The gradient `[lanes, width]` of a row; zeros where it is new. No more codes than [`Touched::begin`] was told.
    #[inline(always)]
    pub fn row(&mut self, code: u32) -> &mut [T] {
        let size = self.lanes * self.width;
        let place = find(&self.places, &self.codes, code);
        if self.places[place] == 0 {
            self.codes.push(code);
            self.places[place] = self.codes.len() as u32;
            self.rows.resize(self.codes.len() * size, T::ZERO);
        }
        let index = self.places[place] as usize - 1;
        &mut self.rows[index * size..(index + 1) * size]
    }

    /// Weighted sums of the lanes in their place.
    pub fn combine(&mut self, weights: &[f64]) {
        let width = self.width;
        let lanes = self.lanes;
        // A table that is frozen, or met with no code at all.
        if self.codes.is_empty() {
            return;
        }
        assert_eq!(weights.len(), lanes, "one weight a lane");
        for index in 0..self.codes.len() {
            for k in 0..width {
                let mut sum = T::ZERO;
                for (lane, &weight) in weights.iter().enumerate() {
                    sum += self.rows[(index * lanes + lane) * width + k] * T::of(weight);
                }
                // Never ahead of what is still to be read: rows shrink.
                self.rows[index * width + k] = sum;
            }
        }
        self.rows.truncate(self.codes.len() * width);
        self.lanes = 1;
    }

    /// The codes, each once.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// Their gradients, `[codes, lanes, width]`.
    pub fn rows(&self) -> &[T] {
        &self.rows
    }

    /// Numbers a row of the table.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One lane as a gradient of the whole table, `[table, width]`.
    pub fn spread(&self, lane: usize, into: &mut [T]) {
        into.fill(T::ZERO);
        for (&code, row) in self.codes.iter().zip(self.rows.chunks_exact(self.lanes * self.width)) {
            let to = &mut into[code as usize * self.width..][..self.width];
            to.copy_from_slice(&row[lane * self.width..][..self.width]);
        }
    }
}

/// Where a code lies, or may.
#[inline(always)]
fn find(places: &[u32], codes: &[u32], code: u32) -> usize {
    debug_assert!(code != NOTHING, "nothing has no row");
    let mask = places.len() - 1;
    // Fibonacci hashing: the upper bits of the product are the well mixed ones.
    let mut place = (u64::from(code).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
    while places[place] != 0 && codes[places[place] as usize - 1] != code {
        place = (place + 1) & mask;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_code_add_up() {
        let gradient = SparseGradient::<f64>::new(2);
        let mut touched = gradient.open();
        touched.begin(1, 5, false);
        for (code, x) in [(7, 1.0), (4_000_000_000, 2.0), (7, 4.0), (0, 8.0)] {
            touched.row(code).iter_mut().for_each(|sum| *sum += x);
        }
        touched.begin(1, 1000, true);
        touched.row(0)[1] += 16.0;
        assert_eq!(touched.codes(), [7, 4_000_000_000, 0]);
        assert_eq!(touched.rows(), [5.0, 5.0, 2.0, 2.0, 8.0, 24.0]);
        touched.begin(1, 1, false);
        assert_eq!(touched.row(7), [0.0, 0.0]);
    }

    #[test]
    fn every_code_is_found_again() {
        let gradient = SparseGradient::<f64>::new(1);
        let mut touched = gradient.open();
        for step in 0..3 {
            touched.begin(1, 1000, false);
            (0..1000).for_each(|k| touched.row(k % 400 * 1_048_576 + step)[0] += 1.0);
            assert_eq!(touched.codes().len(), 400);
            assert_eq!(touched.rows().iter().sum::<f64>(), 1000.0);
        }
    }

    #[test]
    fn lanes_combine_with_their_weights() {
        let gradient = SparseGradient::<f64>::new(2);
        let mut touched = gradient.open();
        touched.begin(3, 2, false);
        touched.row(5).copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        touched.row(1).copy_from_slice(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        touched.combine(&[1.0, 10.0, -1.0]);
        assert_eq!(touched.rows(), [26.0, 36.0, 0.0, 9.0]);
        let mut whole = [7.0; 12];
        touched.spread(0, &mut whole);
        assert_eq!(whole, [0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 26.0, 36.0]);
    }
}
