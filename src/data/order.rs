//! The order in which an epoch visits the rows: a function of seed and epoch alone.

use crate::network::random::Stream;

/// Stream of the order within a seed.
const ORDER: u64 = 3;

/// Row indices of one epoch.
#[derive(Debug, Clone, Default)]
pub struct Order {
    rows: Vec<u32>,
}

impl Order {
    /// A random permutation of `0..count` (Fisher & Yates), or the rows as they are.
    pub fn fill(&mut self, seed: u64, epoch: u64, count: usize, shuffle: bool) {
        self.rows.clear();
        self.rows.extend(0..count as u32);
        if shuffle {
            let stream = Stream::new(seed, &[ORDER, epoch]);
            for i in (1..count).rev() {
                // The upper half of a 64-bit product maps bits to 0..=i; its bias is below 2^-32.
                let j = ((stream.bits(i as u64) >> 32) * (i as u64 + 1)) >> 32;
                self.rows.swap(i, j as usize);
            }
        }
    }

    /// The rows in order.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64, epoch: u64, count: usize) -> Vec<u32> {
        let mut order = Order::default();
        order.fill(seed, epoch, count, true);
        order.rows().to_vec()
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
}
