//! The order in which an epoch visits the rows: a function of seed and epoch alone, and of the rows' lengths where those of
//! similar length come together.

use super::mix::Mix;
use crate::machine::random::Stream;

/// Stream of the order within a seed.
const ORDER: u64 = 3;
/// Stream of the order of batches within that of the rows.
const BATCHES: u64 = 0;
/// Batches, at most, whose rows are sorted by length together: enough for batches of similar rows, few enough that a row
/// meets others in each epoch. As many as in Hugging Face's `group_by_length`.
const WINDOW: usize = 50;

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
    /// Rows of a batch are of similar length; in an order of the epoch's own alone.
    pub group_by_length: bool,
}

impl Pace {
    /// Batches in so many rows.
    pub fn batches(self, rows: usize) -> usize {
        if self.drop_last { rows / self.size } else { rows.div_ceil(self.size) }
    }
}

impl Order {
    /// An epoch over one data set of `count` rows; `length` says how long one is.
    pub fn fill(&mut self, seed: u64, epoch: u64, count: usize, pace: Pace, length: impl Fn(u32) -> usize) {
        pass(&mut self.rows, count, pace, Stream::new(seed, &[ORDER, epoch]), length);
        self.cuts.clear();
        for batch in 0..pace.batches(count) {
            self.cuts.push(Cut { set: 0, end: count.min((batch + 1) * pace.size) });
        }
    }

    /// An epoch over several. Each goes on where the epoch before left it and begins anew when it is through; one of 0
    /// rows is somebody else's to go through, and its batches are empty here. `length` says how long a data set's row is.
    pub fn fill_mixed(
        &mut self,
        seed: u64,
        epoch: u64,
        rows: &[usize],
        mix: &Mix,
        pace: Pace,
        length: impl Fn(usize, u32) -> usize,
    ) {
        self.rows.clear();
        self.cuts.clear();
        let mut next: Vec<_> = mix.counts.iter().map(|&count| epoch * count as u64).collect();
        let mut passes = vec![(None, Vec::new()); rows.len()];
        for set in mix.sequence(seed, epoch) {
            let each = pace.batches(rows[set]) as u64;
            if let Some(number) = next[set].checked_div(each) {
                let batch = (next[set] % each) as usize;
                let (now, order) = &mut passes[set];
                if *now != Some(number) {
                    *now = Some(number);
                    let stream = Stream::new(seed, &[ORDER, set as u64, number]);
                    pass(order, rows[set], pace, stream, |row| length(set, row));
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

/// All rows of a data set, in the order of one pass.
fn pass(rows: &mut Vec<u32>, count: usize, pace: Pace, stream: Stream, length: impl Fn(u32) -> usize) {
    rows.clear();
    rows.extend(0..count as u32);
    if pace.shuffle {
        permute(count, stream, |i, j| rows.swap(i, j));
    }
    if pace.group_by_length {
        // Rows that fill no batch stay as they came, at random: the last batch is not that of the longest ones.
        let full = count / pace.size * pace.size;
        group(&mut rows[..full], pace.size, stream.part(BATCHES), length);
    }
}

/// Brings rows of similar length together in full batches, whose own order is random. Rows of equal length stay in the order
/// they had.
fn group(rows: &mut [u32], size: usize, stream: Stream, length: impl Fn(u32) -> usize) {
    let batches = rows.len() / size;
    let window = batches.div_ceil(batches.div_ceil(WINDOW).max(1)).max(1);
    rows.chunks_mut(window * size).for_each(|rows| rows.sort_by_cached_key(|&row| length(row)));
    permute(batches, stream, |i, j| {
        if i != j {
            let (before, behind) = rows.split_at_mut(i * size);
            before[j * size..][..size].swap_with_slice(&mut behind[..size]);
        }
    });
}

/// Fisher & Yates: which of `count` places to swap, the first of which is never before the second.
fn permute(count: usize, stream: Stream, mut swap: impl FnMut(usize, usize)) {
    for i in (1..count).rev() {
        // The upper half of a 64-bit product maps bits to 0..=i; its bias is below 2^-32.
        let j = ((stream.bits(i as u64) >> 32) * (i as u64 + 1)) >> 32;
        swap(i, j as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(size: usize) -> Pace {
        Pace { size, shuffle: true, drop_last: false, group_by_length: false }
    }

    fn order(seed: u64, epoch: u64, count: usize) -> Vec<u32> {
        let mut order = Order::default();
        order.fill(seed, epoch, count, pace(count), |_| 0);
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
            order.fill_mixed(5, epoch, &rows, &mix, pace(4), |_, _| 0);
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

    /// Lengths that differ as those of sentences do.
    fn length(row: u32) -> usize {
        (Stream::new(11, &[]).normal(u64::from(row)) * 0.7 + 3.0).exp() as usize
    }

    fn grouped(size: usize) -> Pace {
        Pace { group_by_length: true, ..pace(size) }
    }

    fn filled(seed: u64, epoch: u64, count: usize, pace: Pace) -> Vec<Vec<u32>> {
        let mut order = Order::default();
        order.fill(seed, epoch, count, pace, length);
        (0..order.batches()).map(|batch| order.batch(batch).1.to_vec()).collect()
    }

    fn sorted(batches: &[Vec<u32>]) -> Vec<u32> {
        let mut rows = batches.concat();
        rows.sort_unstable();
        rows
    }

    /// The sum over batches of how much longer the longest row is than the shortest.
    fn spread(batches: &[Vec<u32>]) -> usize {
        let ends = |batch: &Vec<u32>| {
            let lengths = batch.iter().map(|&row| length(row));
            lengths.clone().max().unwrap() - lengths.min().unwrap()
        };
        batches.iter().map(ends).sum()
    }

    #[test]
    fn rows_of_similar_length_come_together_and_each_once() {
        let (count, size) = (2021, 8);
        let of = |seed, epoch| filled(seed, epoch, count, grouped(size));
        let batches = of(1, 2);
        assert_eq!(sorted(&batches), (0..count as u32).collect::<Vec<_>>());
        let plain = filled(1, 2, count, pace(size));
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), plain.iter().map(Vec::len).collect::<Vec<_>>());
        assert!(8 * spread(&batches) < spread(&plain), "{} of {}", spread(&batches), spread(&plain));
        assert_eq!(batches, of(1, 2));
        assert_ne!(sorted(&batches[..100]), sorted(&of(1, 3)[..100]));
        assert_ne!(sorted(&batches[..100]), sorted(&of(2, 2)[..100]));
        // A row meets others in another epoch.
        let together = |batches: &[Vec<u32>]| batches.iter().find(|batch| batch.contains(&0)).unwrap().clone();
        let shared = together(&batches).into_iter().filter(|row| together(&of(1, 3)).contains(row)).count();
        assert!(shared < size / 2, "{shared}");
    }

    #[test]
    fn batches_do_not_come_by_length() {
        let batches = filled(3, 0, 8 * 400, grouped(8));
        let firsts: Vec<_> = batches.iter().map(|batch| length(batch[0]) as f64).collect();
        let mean = firsts.iter().sum::<f64>() / firsts.len() as f64;
        let ends = |lag: usize| firsts.iter().zip(&firsts[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
        let correlation = ends(1) / ends(0);
        assert!(correlation.abs() < 0.15, "{correlation}");
    }

    #[test]
    fn rows_that_fill_no_batch_are_random_ones_and_come_last() {
        let (count, size) = (8 * 30 + 7, 8);
        let mean = |rows: &[u32]| rows.iter().map(|&row| length(row) as f64).sum::<f64>() / rows.len() as f64;
        let mut last = Vec::new();
        for epoch in 0..200 {
            let batches = filled(4, epoch, count, grouped(size));
            assert_eq!(batches.last().unwrap().len(), 7);
            last.extend_from_slice(batches.last().unwrap());
            let dropping = filled(4, epoch, count, Pace { drop_last: true, ..grouped(size) });
            assert_eq!(dropping, batches[..30]);
        }
        let all: Vec<_> = (0..count as u32).collect();
        assert!((mean(&last) / mean(&all) - 1.0).abs() < 0.1, "{} of {}", mean(&last), mean(&all));
        for count in [1, size - 1, size, size + 1] {
            assert_eq!(sorted(&filled(4, 0, count, grouped(size))), (0..count as u32).collect::<Vec<_>>());
            let full = filled(4, 0, count, Pace { drop_last: true, ..grouped(size) });
            assert_eq!(full.len(), count / size);
        }
    }

    #[test]
    fn data_sets_of_a_mix_are_grouped_each_by_its_own_lengths() {
        let sets = [403, 250];
        let mix = Mix { counts: vec![60, 30], in_turn: false };
        let filled = |pace: Pace| {
            let mut passes = [Vec::new(), Vec::new()];
            let mut order = Order::default();
            for epoch in 0..5 {
                order.fill_mixed(5, epoch, &sets, &mix, pace, |set, row| length(1000 * set as u32 + row));
                for (set, rows) in (0..order.batches()).map(|batch| order.batch(batch)) {
                    passes[set].push(rows.iter().map(|row| 1000 * set as u32 + row).collect::<Vec<_>>());
                }
            }
            passes
        };
        let (plain, batches) = (filled(pace(4)), filled(grouped(4)));
        for set in 0..2 {
            let each = sets[set].div_ceil(4);
            for pass in batches[set].chunks_exact(each) {
                let first = 1000 * set as u32;
                assert_eq!(sorted(pass), (first..first + sets[set] as u32).collect::<Vec<_>>());
            }
            assert!(5 * spread(&batches[set]) < spread(&plain[set]));
        }
    }
}
