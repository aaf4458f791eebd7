//! In which order positions are gone through: the longest rows first, so that those that still have a position are the first.

/// What goes through the first position of all rows at once, then through the second of those that have one, and so on.
/// Memory in this order has no gap: the rows of a time stand in their order behind those of the time before.
#[derive(Debug)]
pub(super) struct Order {
    /// How many rows have a position at each time, up to one where none has.
    counts: Vec<usize>,
    /// Where the rows of each time begin.
    offsets: Vec<usize>,
    /// Positions in this order, going forward and going backward through each row.
    positions: [Vec<u32>; 2],
    /// How many rows of each length were met.
    met: Vec<usize>,
    longest: usize,
}

impl Order {
    /// Room for so many positions.
    pub fn new(room: usize) -> Self {
        Self {
            counts: vec![0; room + 2],
            offsets: vec![0; room + 2],
            positions: [vec![0; room], vec![0; room]],
            met: vec![0; room + 2],
            longest: 0,
        }
    }

    /// Rows of such lengths, whose positions lie end to end.
    pub fn lay(&mut self, lengths: &[i32]) {
        let Self { counts, offsets, positions, met, longest } = self;
        *longest = lengths.iter().map(|&length| length as usize).max().unwrap_or(0);
        met[..=*longest + 1].fill(0);
        counts[..=*longest + 1].fill(0);
        for &length in lengths {
            met[length as usize] += 1;
        }
        // Longer than `t` are those of length `t + 1`, and those longer than that.
        for t in (0..=*longest).rev() {
            counts[t] = counts[t + 1] + met[t + 1];
        }
        offsets[0] = 0;
        for t in 0..=*longest {
            offsets[t + 1] = offsets[t] + counts[t];
        }
        met[..=*longest].fill(0);
        let mut start = 0;
        for &length in lengths {
            let length = length as usize;
            let place = counts[length] + met[length];
            met[length] += 1;
            for t in 0..length {
                positions[0][offsets[t] + place] = (start + t) as u32;
                positions[1][offsets[t] + place] = (start + length - 1 - t) as u32;
            }
            start += length;
        }
    }

    /// Times: positions of the longest row.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Rows that have a position at a time.
    pub fn count(&self, t: usize) -> usize {
        self.counts[t]
    }

    /// Where the rows of a time begin.
    pub fn offset(&self, t: usize) -> usize {
        self.offsets[t]
    }

    /// Positions in all.
    pub fn total(&self) -> usize {
        self.offsets[self.longest]
    }

    /// The positions of the rows at a time.
    pub fn positions(&self, backward: bool, t: usize) -> &[u32] {
        &self.positions[usize::from(backward)][self.offsets[t]..][..self.counts[t]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rows_come_first() {
        let mut order = Order::new(8);
        order.lay(&[1, 1, 1, 5]);
        order.lay(&[1, 0, 3, 2, 1]);
        assert_eq!((order.longest(), order.total()), (3, 7));
        let through = |backward| (0..3).map(|t| order.positions(backward, t).to_vec()).collect::<Vec<_>>();
        assert_eq!(through(false), [vec![1, 4, 0, 6], vec![2, 5], vec![3]]);
        assert_eq!(through(true), [vec![3, 5, 0, 6], vec![2, 4], vec![1]]);
        assert_eq!([0, 1, 2, 3].map(|t| (order.count(t), order.offset(t))), [(4, 0), (2, 4), (1, 6), (0, 7)]);
        order.lay(&[0, 0]);
        assert_eq!((order.longest(), order.total(), order.count(0)), (0, 0, 0));
    }
}
