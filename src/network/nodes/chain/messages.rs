//! Sums over all paths of labels, forwards and backwards along a row (Rabiner, Proceedings of the IEEE 1989), and the gradient of
//! what follows from them: in double precision, and up to a factor at each position, on which nothing depends.

use crate::machine::real::Real;
use crate::vectorised;

/// Numbers a label that are kept of each position: those of [`Slots`].
pub(super) const SLOTS: usize = 7;

/// What is kept of one position, a number a label each.
struct Slots<'a> {
    /// `exp(x)`; backwards the gradient at the logarithm of the probability, before that is normalised.
    lit: &'a mut [f64],
    /// The sum over all paths that follow a label.
    after: &'a mut [f64],
    /// The same times `exp(x)`.
    whole: &'a mut [f64],
    /// The sum over all paths that lead to a label and are not at odds with those that are given.
    before: &'a mut [f64],
    /// The same times `exp(x)`, or the label that is given.
    here: &'a mut [f64],
    /// The gradient at the logarithm of `whole`.
    of_whole: &'a mut [f64],
    /// The gradient at the logarithm of `before`.
    of_before: &'a mut [f64],
}

/// Exponentials of the scores of moves, up to a factor.
#[derive(Debug)]
pub(super) struct Moves {
    labels: usize,
    /// From row to column.
    there: Vec<f64>,
    /// From column to row.
    back: Vec<f64>,
    start: Vec<f64>,
    end: Vec<f64>,
}

impl Moves {
    pub fn new(labels: usize) -> Self {
        let square = vec![0.0; labels * labels];
        let one = vec![0.0; labels];
        Self { labels, there: square.clone(), back: square, start: one.clone(), end: one }
    }

    /// Takes the scores `[labels + 2, labels]`.
    pub fn tell<T: Real>(&mut self, scores: &[T]) {
        let Self { labels, there, back, start, end } = self;
        let (square, ends) = scores.split_at(*labels * *labels);
        let (starts, ends) = ends.split_at(*labels);
        for (scores, to) in [(square, &mut *there), (starts, start), (ends, end)] {
            let top = scores.iter().fold(f64::NEG_INFINITY, |top, score| top.max(score.wide()));
            scores.iter().zip(to).for_each(|(score, to)| *to = (score.wide() - top).exp());
        }
        for (from, row) in there.chunks_exact(*labels).enumerate() {
            row.iter().enumerate().for_each(|(to, &number)| back[to * *labels + from] = number);
        }
    }

    /// Gradients at the scores, from sums of products of what surrounds each move.
    pub fn slopes<'a>(&'a self, sums: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        let factors = self.there.iter().copied().chain(std::iter::repeat(1.0));
        sums.iter().zip(factors).map(|(sum, factor)| sum * factor)
    }
}

/// The messages of one row.
pub(super) struct Messages<'a> {
    pub moves: &'a Moves,
    /// `[positions, SLOTS, labels]`.
    pub room: &'a mut [f64],
    /// [`Messages::own`] numbers: sums of the gradient at the scores of moves, start and end, and room.
    pub own: &'a mut [f64],
}

/// The slots of the first position of some.
fn slots(positions: &mut [f64], labels: usize) -> Slots<'_> {
    let mut each = positions.chunks_exact_mut(labels);
    let mut next = || each.next().expect("a position has all slots");
    Slots {
        lit: next(),
        after: next(),
        whole: next(),
        before: next(),
        here: next(),
        of_whole: next(),
        of_before: next(),
    }
}

/// Numbers divided by their largest, so that nothing grows or fades along a row.
fn scale(numbers: &mut [f64]) {
    let top = numbers.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    numbers.iter_mut().for_each(|number| *number /= top);
}

/// Logarithms of probabilities in proportion to `exp(x) before after`, of which none is too small; NaN of what is no number.
fn normalise<T: Real>(x: &[T], [before, after]: [&[f64]; 2], room: &mut [f64], y: &mut [T]) {
    let least = |number: f64| if number < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { number };
    let sums = &mut room[..x.len()];
    for (k, sum) in sums.iter_mut().enumerate() {
        *sum = x[k].wide() + least(before[k]).ln() + least(after[k]).ln();
    }
    let top = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let whole = top + sums.iter().map(|sum| (sum - top).exp()).sum::<f64>().ln();
    y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::of(*sum - whole));
}

impl Messages<'_> {
    /// How many numbers a thread needs of its own.
    pub fn own(labels: usize) -> usize {
        (labels + 2) * labels + 2 * labels
    }

    /// Fills the logarithms of probabilities from scores, both `[positions, labels]`.
    pub fn forward<T: Real>(&mut self, x: &[T], given: Option<&[i32]>, y: &mut [T]) {
        let labels = self.moves.labels;
        let size = SLOTS * labels;
        let count = x.len() / labels;
        for t in (0..count).rev() {
            let (here, further) = self.room[t * size..].split_at_mut(size);
            let Slots { lit, after, whole, .. } = slots(here, labels);
            let x = &x[t * labels..][..labels];
            let top = x.iter().fold(f64::NEG_INFINITY, |top, score| top.max(score.wide()));
            x.iter().zip(&mut *lit).for_each(|(score, to)| *to = (score.wide() - top).exp());
            match further.is_empty() {
                false => combine(&self.moves.back, slots(further, labels).whole, after),
                true => after.copy_from_slice(&self.moves.end),
            }
            for k in 0..labels {
                whole[k] = lit[k] * after[k];
            }
            scale(whole);
        }
        for t in 0..count {
            let (early, here) = self.room.split_at_mut(t * size);
            let Slots { lit, after, before, here, .. } = slots(here, labels);
            let known = |t: usize| given.and_then(|given| usize::try_from(given[t]).ok());
            match t.checked_sub(1) {
                None => before.copy_from_slice(&self.moves.start),
                Some(last) => match known(last) {
                    Some(label) => before.copy_from_slice(&self.moves.there[label * labels..][..labels]),
                    None => combine(&self.moves.there, slots(&mut early[last * size..], labels).here, before),
                },
            }
            normalise(&x[t * labels..][..labels], [before, after], self.own, &mut y[t * labels..][..labels]);
            match known(t) {
                Some(label) => {
                    here.fill(0.0);
                    here[label] = 1.0;
                }
                None => {
                    for k in 0..labels {
                        here[k] = before[k] * lit[k];
                    }
                    scale(here);
                }
            }
        }
    }

    /// Finds the gradients at scores of labels, which [`Messages::give`] hands over, and adds those at scores of moves.
    pub fn backward<'b, T: Real>(&mut self, y: &[T], given: &[i32], dy: impl Iterator<Item = &'b [T]>) {
        let labels = self.moves.labels;
        let size = SLOTS * labels;
        let count = given.len();
        for ((position, y), dy) in self.room.chunks_exact_mut(size).zip(y.chunks_exact(labels)).zip(dy) {
            let Slots { lit: slopes, of_whole, of_before, .. } = slots(position, labels);
            let sum: f64 = dy.iter().map(|slope| slope.wide()).sum();
            for k in 0..labels {
                slopes[k] = dy[k].wide() - y[k].wide().exp() * sum;
            }
            of_whole.copy_from_slice(slopes);
            of_before.copy_from_slice(slopes);
        }
        let (sums, room) = self.own.split_at_mut((labels + 2) * labels);
        let (square, ends) = sums.split_at_mut(labels * labels);
        let (of_start, of_end) = ends.split_at_mut(labels);
        let (slope, onward) = room.split_at_mut(labels);
        // Along what follows: `after` of a position comes from `whole` of the next.
        for t in 0..count {
            let (here, further) = self.room[t * size..].split_at_mut(size);
            let Slots { after, of_whole, .. } = slots(here, labels);
            if further.is_empty() {
                add(of_whole, of_end);
                break;
            }
            for k in 0..labels {
                slope[k] = of_whole[k] / after[k].max(f64::MIN_POSITIVE);
            }
            combine(&self.moves.there, slope, onward);
            let Slots { whole, of_whole, .. } = slots(further, labels);
            outer(slope, whole, square);
            for k in 0..labels {
                of_whole[k] += onward[k] * whole[k];
            }
        }
        // Along what comes before: `before` of a position comes from `here` of the last.
        for t in (0..count).rev() {
            let (early, here) = self.room.split_at_mut(t * size);
            let Slots { before, of_before, .. } = slots(here, labels);
            if t == 0 {
                add(of_before, of_start);
                break;
            }
            for k in 0..labels {
                slope[k] = of_before[k] / before[k].max(f64::MIN_POSITIVE);
            }
            if let Ok(label) = usize::try_from(given[t - 1]) {
                add(slope, &mut square[label * labels..][..labels]);
                continue;
            }
            combine(&self.moves.back, slope, onward);
            let Slots { here, of_before, .. } = slots(&mut early[(t - 1) * size..], labels);
            outer(here, slope, square);
            for k in 0..labels {
                of_before[k] += onward[k] * here[k];
            }
        }
    }

    /// Hands over the gradients at scores, position by position, after [`Messages::backward`].
    pub fn give<'b, T: Real>(&mut self, dx: impl Iterator<Item = &'b mut [T]>, more: bool) {
        let labels = self.moves.labels;
        for (position, dx) in self.room.chunks_exact_mut(SLOTS * labels).zip(dx) {
            let Slots { lit: slopes, of_whole, of_before, .. } = slots(position, labels);
            for k in 0..labels {
                let slope = T::of(of_whole[k] + of_before[k] - slopes[k]);
                dx[k] = if more { dx[k] } else { T::ZERO } + slope;
            }
        }
    }
}

vectorised! {
/// `to = sum_k by[k] rows[k]`.
fn combine(rows: &[f64], by: &[f64], to: &mut [f64]) {
    to.fill(0.0);
    for (row, &by) in rows.chunks_exact(to.len()).zip(by) {
        for (to, &number) in to.iter_mut().zip(row) {
            *to += by * number;
        }
    }
}
}

vectorised! {
/// `square += of x by^T`.
fn outer(of: &[f64], by: &[f64], square: &mut [f64]) {
    for (row, &of) in square.chunks_exact_mut(by.len()).zip(of) {
        for (to, &by) in row.iter_mut().zip(by) {
            *to += of * by;
        }
    }
}
}

/// `to += numbers`.
fn add(numbers: &[f64], to: &mut [f64]) {
    to.iter_mut().zip(numbers).for_each(|(to, number)| *to += number);
}
