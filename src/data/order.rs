//! The order in which an epoch visits the rows: a function of seed and epoch alone.

use super::mix::Mix;
use crate::machine::random::Stream;

/// Stream of the order within a seed.
const ORDER: u64 = 3;

/// Row indices of one epoch, batch by batch.
#[derive(Debug, Clone, Default)]
pub struct Order {
    rows: Vec<u32>,
    cuts: Vec<Cut>,
}

/// Where a batch ends, and which data set it is of.
#[derive(Debug, Clone, Copy)]
struct Cut {
    set: u32,
    end: usize,
}

/// How one goes through rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Rows a batch.
    pub size: usize,
    /// In an order of its own each time, or as they are.
    pub shuffle: bool,
    /// Leave out a last batch that is not full.
    pub drop_last: bool,
}

impl Pace {
    /// Batches in so many rows.
    pub fn batches(self, rows: usize) -> usize {
        if self.drop_last { rows / self.size } else { rows.div_ceil(self.size) }
    }
}

impl Order {
    /// An epoch over one data set of `count` rows.
    pub fn fill(&mut self, seed: u64, epoch: u64, count: usize, pace: Pace) {
        self.rows.clear();
        self.rows.extend(0..count as u32);
        if pace.shuffle {
            permute(&mut self.rows, Stream::new(seed, &[ORDER, epoch]));
        }
        self.cuts.clear();
        for batch in 0..pace.batches(count) {
            self.cuts.push(Cut { set: 0, end: count.min((batch + 1) * pace.size) });
        }
    }

    /// An epoch over several. Each goes on where the epoch before left it and begins anew when it is through; one of 0
    /// rows is somebody else's to go through, and its batches are empty here.
    pub fn fill_mixed(&mut self, seed: u64, epoch: u64, rows: &[usize], mix: &Mix, pace: Pace) {
        self.rows.clear();
        self.cuts.clear();
        let mut next: Vec<_> = mix.counts.iter().map(|&count| epoch * count as u64).collect();
        let mut passes = vec![(None, Vec::new()); rows.len()];
        for set in mix.sequence(seed, epoch) {
            let each = pace.batches(rows[set]) as u64;
            if let Some(pass) = next[set].checked_div(each) {
                let batch = (next[set] % each) as usize;
                let (now, order) = &mut passes[set];
                if *now != Some(pass) {
                    *now = Some(pass);
                    order.clear();
                    order.extend(0..rows[set] as u32);
                    if pace.shuffle {
                        permute(order, Stream::new(seed, &[ORDER, set as u64, pass]));
                    }
                }
                let first = batch * pace.size;
                self.rows.extend_from_slice(&order[first..rows[set].min(first + pace.size)]);
                next[set] += 1;
            }
            self.cuts.push(Cut { set: set as u32, end: self.rows.len() });
        }
    }

    /// How many batches.
    pub fn batches(&self) -> usize {
        self.cuts.len()
    }

    /// The data set of a batch, and its rows there.
    pub fn batch(&self, index: usize) -> (usize, &[u32]) {
        let start = if index == 0 { 0 } else { self.cuts[index - 1].end };
        let Cut { set, end } = self.cuts[index];
        (set as usize, &self.rows[start..end])
    }
}

/// Fisher & Yates.
fn permute(rows: &mut [u32], stream: Stream) {
    for i in (1..rows.len()).rev() {
        // The upper half of a 64-bit product maps bits to 0..=i; its bias is below 2^-32.
        let j = ((stream.bits(i as u64) >> 32) * (i as u64 + 1)) >> 32;
        rows.swap(i, j as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(size: usize) -> Pace {
        Pace { size, shuffle: true, drop_last: false }
    }

    fn order(seed: u64, epoch: u64, count: usize) -> Vec<u32> {
        let mut order = Order::default();
        order.fill(seed, epoch, count, pace(count));
        order.batch(0).1.to_vec()
    }

    #[test]
    fn every_row_comes_once_and_seeds_and_epochs_differ() {
        let mut sorted = order(1, 2, 1000);
        assert_ne!(sorted, order(1, 3, 1000));
        assert_ne!(sorted, order(2, 2, 1000));
        assert_eq!(sorted, order(1, 2, 1000));
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &row)| i as u32 == row));
    }

    #[test]
    fn all_orders_of_four_rows_are_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        (0..24_000).for_each(|epoch| *counts.entry(order(5, epoch, 4)).or_insert(0) += 1);
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|&n| (850..1150).contains(&n)), "{counts:?}");
    }

    #[test]
    fn a_data_set_in_a_mix_is_gone_through_before_it_begins_anew() {
        let mut order = Order::default();
        let rows = [10, 7, 0];
        let mix = Mix { counts: vec![2, 3, 1], in_turn: false };
        let mut seen = [Vec::new(), Vec::new(), Vec::new()];
        for epoch in 0..8 {
            order.fill_mixed(5, epoch, &rows, &mix, pace(4));
            (0..order.batches()).map(|i| order.batch(i)).for_each(|(set, rows)| seen[set].extend_from_slice(rows));
        }
        // Two batches of 4, 4, 2 rows an epoch; three of 4 and 3.
        assert_eq!(seen.each_ref().map(Vec::len), [5 * 10 + 4, 12 * 7, 0]);
        for (set, &rows) in rows[..2].iter().enumerate() {
            let passes: Vec<_> = seen[set].chunks_exact(rows).collect();
            for pass in &passes {
                let mut sorted = pass.to_vec();
                sorted.sort_unstable();
                assert!(sorted.iter().enumerate().all(|(i, &row)| i as u32 == row), "{sorted:?}");
            }
            assert_ne!(passes[0], passes[1]);
        }
    }
}
