//! The micro-batches of a step: slices of an epoch over rows in memory, or whole batches from outside.

use crate::data::{Data, Order, Rows};

/// The micro-batches of one step.
pub(super) trait MicroBatches {
    fn count(&self) -> usize;
    fn part(&self, index: usize) -> (&Data, Rows<'_>);
}

/// Batches of an epoch over rows in memory.
pub(super) struct Slices<'a> {
    pub sets: &'a [&'a Data],
    pub order: &'a Order,
    /// Which of its batches.
    pub batches: std::ops::Range<usize>,
    /// Rows of a batch are neighbours.
    pub contiguous: bool,
}

impl Slices<'_> {
    /// The data set of a micro-batch, and its rows there.
    pub fn rows(&self, index: usize) -> (usize, Rows<'_>) {
        let (set, rows) = self.order.batch(self.batches.start + index);
        match (self.contiguous, rows) {
            (true, &[first, ..]) => (set, Rows::Range(first as usize..first as usize + rows.len())),
            _ => (set, Rows::Index(rows)),
        }
    }
}

impl MicroBatches for Slices<'_> {
    fn count(&self) -> usize {
        self.batches.len()
    }

    fn part(&self, index: usize) -> (&Data, Rows<'_>) {
        let (set, rows) = self.rows(index);
        (self.sets[set], rows)
    }
}

/// Whole batches, one data set each.
pub(super) struct Wholes<'a>(pub &'a [Data]);

impl MicroBatches for Wholes<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn part(&self, index: usize) -> (&Data, Rows<'_>) {
        (&self.0[index], Rows::Range(0..self.0[index].rows()))
    }
}
