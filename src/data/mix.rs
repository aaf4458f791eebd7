//! Several data sets in one epoch: how many batches each gives, and which one is next.

use serde::{Deserialize, Serialize};

use crate::machine::random::Stream;

/// Stream of the sequence of data sets within a seed.
const SEQUENCE: u64 = 9;

/// How often each of several data sets comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// Batches of each data set in an epoch.
    pub counts: Vec<usize>,
    /// Whether they take turns in their order; else they come at random, each spread evenly over the epoch.
    pub in_turn: bool,
}

impl Mix {
    /// Batches an epoch.
    pub fn batches(&self) -> usize {
        self.counts.iter().sum()
    }

    /// The data set of each batch of an epoch: a function of seed and epoch alone.
    ///
    /// The `k`-th of `n` batches of a data set comes somewhere in the `k`-th `n`-th of the epoch, so that whatever part of
    /// an epoch one looks at has nearly its share of each.
    pub fn sequence(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let stream = Stream::new(seed, &[SEQUENCE, epoch]);
        let sets = self.counts.len();
        let mut order = Vec::with_capacity(self.batches());
        for (set, &count) in self.counts.iter().enumerate() {
            let random = stream.part(set as u64);
            for k in 0..count {
                let place = if self.in_turn { set as f64 / sets as f64 } else { random.uniform(k as u64) };
                order.push(((k as f64 + place) / count as f64, set));
            }
        }
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order.into_iter().map(|(_, set)| set).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(counts: &[usize], in_turn: bool) -> Mix {
        Mix { counts: counts.to_vec(), in_turn }
    }

    #[test]
    fn every_part_of_an_epoch_has_its_share() {
        let mix = mix(&[100, 300, 20], false);
        let window = 84;
        for epoch in 0..20 {
            let order = mix.sequence(3, epoch);
            let count = |part: &[usize], set| part.iter().filter(|&&s| s == set).count();
            assert_eq!((0..3).map(|set| count(&order, set)).collect::<Vec<_>>(), mix.counts);
            for part in order.chunks(window) {
                for (set, &all) in mix.counts.iter().enumerate() {
                    let share = all as f64 * window as f64 / 420.0;
                    assert!((count(part, set) as f64 - share).abs() <= 3.0, "{set}: {} of {share}", count(part, set));
                }
            }
        }
        assert_ne!(mix.sequence(3, 0), mix.sequence(3, 1));
        assert_ne!(mix.sequence(3, 0), mix.sequence(4, 0));
        assert_eq!(mix.sequence(3, 7), mix.sequence(3, 7));
    }

    #[test]
    fn equal_counts_come_once_in_each_round() {
        let order = mix(&[50; 4], false).sequence(1, 0);
        for round in order.chunks(4) {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
        }
        assert!(order.chunks(4).any(|round| round != &order[..4]));
        assert_eq!(mix(&[2; 3], true).sequence(1, 0), [0, 1, 2, 0, 1, 2]);
    }
}
