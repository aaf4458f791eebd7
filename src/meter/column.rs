//! What is counted of one column of labels, and the metrics that follow from it.

use serde::{Deserialize, Serialize};

/// What is known of one column of labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Labelled ones.
    pub rows: u64,
    /// Right decisions.
    pub right: u64,
    /// Sum of absolute errors.
    pub absolute: f64,
    /// Of squared errors.
    pub square: f64,
    /// Mean of the targets.
    mean: f64,
    /// Sum of their squared distances from it.
    pub spread: f64,
    first: f64,
    /// Whether two of them differ.
    pub differ: bool,
    /// A score a labelled row: the bits of a probability, and the label behind them.
    #[serde(skip)]
    pub scores: Vec<u32>,
    /// Whether a score was no number.
    pub unknown: bool,
}

impl Column {
    /// Begins again; the scores keep their room.
    pub fn clear(&mut self) {
        let mut scores = std::mem::take(&mut self.scores);
        scores.clear();
        *self = Self { scores, ..Self::default() };
    }

    /// Takes up probabilities of 1 and labels, of at most so many rows; rows that do not count are said to be missing.
    pub fn decide(&mut self, rows: usize, cells: impl Iterator<Item = (f64, f64, bool)>, ranks: bool) {
        let before = self.scores.len();
        if ranks {
            self.scores.resize(before + rows, 0);
        }
        let mut count = 0;
        let mut right = 0;
        let mut unknown = false;
        let room = &mut self.scores[before..];
        // note: without branches, since neither labels nor decisions can be foreseen.
        for (p, y, there) in cells {
            let positive = y >= 0.5;
            right += usize::from(there & ((p > 0.5) == positive));
            if ranks {
                unknown |= there & p.is_nan();
                room[count] = bits(p, positive);
            }
            count += usize::from(there);
        }
        self.rows += count as u64;
        self.right += right as u64;
        self.unknown |= unknown;
        self.scores.truncate(before + if ranks { count } else { 0 });
    }

    /// Takes up one row's probability of 1 and label.
    pub fn score(&mut self, p: f64, positive: bool) {
        self.unknown |= p.is_nan();
        self.scores.push(bits(p, positive));
    }

    /// Takes up predictions and targets of so many rows, where they are there.
    pub fn errors(&mut self, rows: usize, cell: impl Fn(usize) -> (f64, f64, bool)) {
        let Some(start) = (0..rows).find(|&row| cell(row).2) else { return };
        if self.rows == 0 {
            self.first = cell(start).1;
            self.mean = self.first;
        }
        let first = self.first;
        let middle = self.mean;
        let mut count = 0_u64;
        let mut differ = false;
        let [mut absolute, mut square, mut sum, mut squares] = [0.0; 4];
        for row in start..rows {
            let (p, y, there) = cell(row);
            // From the mean so far, since a large number's square has no room for its last digits.
            let (error, apart) = if there { (p - y, y - middle) } else { (0.0, 0.0) };
            absolute += error.abs();
            square += error * error;
            sum += apart;
            squares += apart * apart;
            differ |= there & (y != first);
            count += u64::from(there);
        }
        self.absolute += absolute;
        self.square += square;
        self.differ |= differ;
        self.rows += count;
        // Means and squared distances of two parts are those of the whole.
        let all = self.rows as f64;
        self.mean += sum / all;
        self.spread += (squares - sum * sum / all).max(0.0);
    }

    /// Positives and negatives of each group of equal scores, from the lowest on.
    pub fn groups(&self) -> impl DoubleEndedIterator<Item = [f64; 2]> + '_ {
        self.scores.chunk_by(|a, b| a >> 1 == b >> 1).map(|group| {
            let positive = group.iter().map(|bits| u64::from(bits & 1)).sum::<u64>() as f64;
            [positive, group.len() as f64 - positive]
        })
    }
}

/// Sorts scores by their probability, whose bits are 30, ten at a time.
pub fn sort(scores: &mut Vec<u32>, room: &mut Vec<u32>) {
    if scores.len() < 1024 || u32::try_from(scores.len()).is_err() {
        return scores.sort_unstable();
    }
    const DIGITS: [u32; 3] = [1, 11, 21];
    let mut places = [[0_u32; 1024]; 3];
    for &score in scores.iter() {
        for (&shift, counts) in DIGITS.iter().zip(&mut places) {
            counts[digit(score, shift)] += 1;
        }
    }
    room.resize(scores.len(), 0);
    for (&shift, places) in DIGITS.iter().zip(&mut places) {
        let mut next = 0;
        for place in places.iter_mut() {
            let count = *place;
            *place = next;
            next += count;
        }
        for &score in scores.iter() {
            let place = &mut places[digit(score, shift)];
            room[*place as usize] = score;
            *place += 1;
        }
        std::mem::swap(scores, room);
    }
}

/// Ten bits of a score.
#[inline(always)]
fn digit(score: u32, shift: u32) -> usize {
    (score >> shift & 1023) as usize
}

/// A probability and a label in one number; the bits of numbers from 0 to 1 leave the two highest free, and are in the
/// order of the numbers.
fn bits(p: f64, positive: bool) -> u32 {
    let p = if p > 0.0 { p.min(1.0) as f32 } else { 0.0 };
    p.to_bits() << 1 | u32::from(positive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_sorted_in_any_number() {
        for (rows, spread) in [(10, 7), (1023, 1 << 30), (1024, 1 << 30), (5000, 3), (5001, 1 << 30)] {
            let mut scores: Vec<u32> =
                (0..rows).map(|k: u32| ((k.wrapping_mul(2_654_435_761) % spread) << 1) | (k & 1)).collect();
            let mut expected = scores.clone();
            expected.sort_unstable();
            sort(&mut scores, &mut Vec::new());
            assert!(scores.is_sorted_by_key(|score| score >> 1));
            scores.sort_unstable();
            assert_eq!(scores, expected);
        }
    }
}
