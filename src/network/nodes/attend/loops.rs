//! One head of attention over the positions of one row: its weights for some queries at a time, so that none are kept.

use crate::machine::real::Real;
use crate::machine::small::{Strided, multiply, padded};
use crate::vectorised;

/// Queries whose weights are there at once.
const QUERIES: usize = 48;

/// Which head of how many, in rows of `width` numbers, of a row of so many positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub head: usize,
    pub heads: usize,
    pub width: usize,
    pub count: usize,
}

impl Head {
    /// Numbers of a head.
    fn size(self) -> usize {
        self.width / self.heads
    }
}

/// Cosines and sines of the turns of each place, if there are any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn<'a, T> {
    pub on: bool,
    pub turns: &'a [T],
}

impl<'a, T> Turn<'a, T> {
    /// Cosines and sines of a place.
    #[inline(always)]
    fn of(self, place: usize, half: usize) -> [&'a [T]; 2] {
        [0, half].map(|first| &self.turns[place * 2 * half + first..][..half])
    }
}

/// Memory that a head needs for a moment. Rows are padded to whole registers, and what pads them is zero.
pub(super) struct Room<'a, T> {
    /// Turned and scaled queries, turned keys, and values, `[positions, size]` each.
    q: &'a mut [T],
    k: &'a mut [T],
    v: &'a mut [T],
    /// Keys and values as columns, `[size, positions]`.
    k_columns: &'a mut [T],
    v_columns: &'a mut [T],
    /// Weights of some queries, and their gradient, `[queries, positions]`.
    p: &'a mut [T],
    dp: &'a mut [T],
    /// Of some queries what they make or what arrives, and their gradient, `[queries, size]`.
    o: &'a mut [T],
    dq: &'a mut [T],
    /// Gradients of keys and values, `[lanes, positions, size]`.
    dk: &'a mut [T],
    dv: &'a mut [T],
}

impl<'a, T: Real> Room<'a, T> {
    /// Numbers that each part has for rows of at most so many positions.
    fn sizes(longest: usize, size: usize, lanes: usize) -> [usize; 11] {
        let (wide, long) = (padded(size), padded(longest));
        let (rows, columns) = (longest * wide, size * long);
        let queries = QUERIES.min(longest);
        let (weights, some, all) = (queries * long, queries * wide, lanes * rows);
        [rows, rows, rows, columns, columns, weights, weights, some, some, all, all]
    }

    /// Numbers in all.
    pub fn size(longest: usize, size: usize, lanes: usize) -> usize {
        Self::sizes(longest, size, lanes).iter().sum()
    }

    /// Of memory of that size.
    pub fn new(memory: &'a mut [T], longest: usize, size: usize, lanes: usize) -> Self {
        let mut rest = memory;
        let [q, k, v, k_columns, v_columns, p, dp, o, dq, dk, dv] = Self::sizes(longest, size, lanes).map(|size| {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(size);
            rest = behind;
            part
        });
        Self { q, k, v, k_columns, v_columns, p, dp, o, dq, dk, dv }
    }
}

vectorised! {
/// Copies a head of queries (0), keys (1) or values (2), turned and times a factor.
fn pack<T: Real>(of: Head, turn: Turn<'_, T>, x: &[T], part: usize, factor: T, to: &mut [T]) {
    let size = of.size();
    let (wide, half) = (padded(size), size / 2);
    for (place, to) in to.chunks_exact_mut(wide).take(of.count).enumerate() {
        let x = &x[(3 * place + part) * of.width + of.head * size..][..size];
        let (to, pad) = to.split_at_mut(size);
        pad.fill(T::ZERO);
        if turn.on {
            let [cos, sin] = turn.of(place, half);
            let [a, b] = [&x[..half], &x[half..][..half]];
            let (to_a, to_b) = to.split_at_mut(half);
            let [to_a, to_b] = [&mut to_a[..half], &mut to_b[..half]];
            for i in 0..half {
                to_a[i] = (a[i] * cos[i] - b[i] * sin[i]) * factor;
                to_b[i] = (b[i] * cos[i] + a[i] * sin[i]) * factor;
            }
        } else {
            for (to, &x) in to.iter_mut().zip(x) {
                *to = x * factor;
            }
        }
    }
}
}

vectorised! {
/// Brings the gradient of what was packed, from a place on, to a lane of so many of queries, keys or values, turned back.
fn unpack<T: Real>(
    of: Head,
    turn: Turn<'_, T>,
    from: &[T],
    [first, part, lane, lanes]: [usize; 4],
    factor: T,
    to: &mut [T],
    add: bool,
) {
    let size = of.size();
    let (wide, half) = (padded(size), size / 2);
    for (i, from) in from.chunks_exact(wide).enumerate() {
        let place = first + i;
        let to = &mut to[((place * lanes + lane) * 3 + part) * of.width + of.head * size..][..size];
        if !add {
            to.fill(T::ZERO);
        }
        if turn.on {
            let [cos, sin] = turn.of(place, half);
            let [a, b] = [&from[..half], &from[half..][..half]];
            let (to_a, to_b) = to.split_at_mut(half);
            let [to_a, to_b] = [&mut to_a[..half], &mut to_b[..half]];
            for i in 0..half {
                to_a[i] += (a[i] * cos[i] + b[i] * sin[i]) * factor;
                to_b[i] += (b[i] * cos[i] - a[i] * sin[i]) * factor;
            }
        } else {
            for (to, &from) in to.iter_mut().zip(from) {
                *to += from * factor;
            }
        }
    }
}
}

vectorised! {
/// Rows of so many numbers as columns, `[size, positions]`.
fn turn_over<T: Real>(from: &[T], count: usize, size: usize, to: &mut [T]) {
    let (wide, long) = (padded(size), padded(count));
    for c in 0..size {
        let to = &mut to[c * long..(c + 1) * long];
        for (place, to) in to[..count].iter_mut().enumerate() {
            *to = from[place * wide + c];
        }
        to[count..].fill(T::ZERO);
    }
}
}

/// Weights of some queries from `first` on before they are normalised: products with all keys.
fn score<T: Real>(of: Head, room: &mut Room<'_, T>, first: usize, queries: usize) {
    let size = of.size();
    let (wide, long) = (padded(size), padded(of.count));
    let q = Strided { from: &room.q[first * wide..], row: wide, column: 1 };
    multiply([queries, size], q, room.k_columns, room.p, long, false);
}

vectorised! {
/// Exponentials of scores less their largest, `[queries, positions]`, whose sum is 1; the logarithm of what it was.
fn normalise<T: Real>(p: &mut [T], count: usize, of: [usize; 2], sums: &mut [T]) {
    let [head, heads] = of;
    for (p, sums) in p.chunks_exact_mut(padded(count)).zip(sums.chunks_exact_mut(heads)) {
        let (p, pad) = p.split_at_mut(count);
        let mut most = T::LOWEST;
        for &score in &*p {
            most = if score > most { score } else { most };
        }
        let mut sum = T::ZERO;
        for p in &mut *p {
            *p = (*p - most).exp();
        }
        for &p in &*p {
            sum += p;
        }
        let factor = T::ONE / sum;
        for p in &mut *p {
            *p = *p * factor;
        }
        pad.fill(T::ZERO);
        sums[head] = most + sum.ln();
    }
}
}

vectorised! {
/// The same from the logarithm of that sum.
fn weigh<T: Real>(p: &mut [T], count: usize, of: [usize; 2], sums: &[T]) {
    let [head, heads] = of;
    for (p, sums) in p.chunks_exact_mut(padded(count)).zip(sums.chunks_exact(heads)) {
        let (p, pad) = p.split_at_mut(count);
        let sum = sums[head];
        for p in &mut *p {
            *p = (*p - sum).exp();
        }
        pad.fill(T::ZERO);
    }
}
}

vectorised! {
/// From the gradient of weights to that of scores: `p (dp - sum over positions of p dp)`.
fn slope<T: Real>(p: &[T], dp: &mut [T], long: usize) {
    for (p, dp) in p.chunks_exact(long).zip(dp.chunks_exact_mut(long)) {
        let mut mean = T::ZERO;
        for (&p, &dp) in p.iter().zip(&*dp) {
            mean += p * dp;
        }
        for (&p, dp) in p.iter().zip(dp) {
            *dp = p * (*dp - mean);
        }
    }
}
}

/// `y`, of a head of a row, and of each position the logarithm of its sum of exponentials.
pub(super) fn attend<T: Real>(
    of: Head,
    turn: Turn<'_, T>,
    x: &[T],
    room: &mut Room<'_, T>,
    y: &mut [T],
    sums: &mut [T],
) {
    let size = of.size();
    let (wide, long) = (padded(size), padded(of.count));
    prepare(of, turn, x, room);
    for first in (0..of.count).step_by(QUERIES) {
        let queries = QUERIES.min(of.count - first);
        score(of, room, first, queries);
        let own = &mut sums[first * of.heads..(first + queries) * of.heads];
        normalise(&mut room.p[..queries * long], of.count, [of.head, of.heads], own);
        let p = Strided { from: room.p, row: long, column: 1 };
        multiply([queries, of.count], p, room.v, room.o, wide, false);
        for (i, o) in room.o.chunks_exact(wide).take(queries).enumerate() {
            y[(first + i) * of.width + of.head * size..][..size].copy_from_slice(&o[..size]);
        }
    }
}

/// Packs queries, keys and values.
fn prepare<T: Real>(of: Head, turn: Turn<'_, T>, x: &[T], room: &mut Room<'_, T>) {
    let size = of.size();
    pack(of, turn, x, 0, T::of(1.0 / (size as f64).sqrt()), room.q);
    pack(of, turn, x, 1, T::ONE, room.k);
    pack(of, Turn { on: false, turns: &[] }, x, 2, T::ONE, room.v);
    turn_over(room.k, of.count, size, room.k_columns);
}

/// What arrives in each lane at a row, `[positions, lanes, width]`, and where its gradient goes, `[positions, lanes, 3 * width]`.
pub(super) struct Lanes<'a, T> {
    pub lanes: usize,
    pub dy: &'a [T],
    pub to: &'a mut [T],
    pub add: bool,
}

/// The gradient of [`attend`], of all lanes.
pub(super) fn give_back<T: Real>(
    of: Head,
    turn: Turn<'_, T>,
    [x, sums]: [&[T]; 2],
    room: &mut Room<'_, T>,
    along: Lanes<'_, T>,
) {
    let Lanes { lanes, dy, to, add } = along;
    let size = of.size();
    let (wide, long) = (padded(size), padded(of.count));
    let rows = of.count * wide;
    let scale = T::of(1.0 / (size as f64).sqrt());
    let still = Turn { on: false, turns: &[] };
    prepare(of, turn, x, room);
    turn_over(room.v, of.count, size, room.v_columns);
    for first in (0..of.count).step_by(QUERIES) {
        let queries = QUERIES.min(of.count - first);
        score(of, room, first, queries);
        let own = &sums[first * of.heads..(first + queries) * of.heads];
        weigh(&mut room.p[..queries * long], of.count, [of.head, of.heads], own);
        for lane in 0..lanes {
            let later = first > 0;
            for (i, o) in room.o.chunks_exact_mut(wide).take(queries).enumerate() {
                let dy = &dy[((first + i) * lanes + lane) * of.width + of.head * size..][..size];
                o[..size].copy_from_slice(dy);
                o[size..].fill(T::ZERO);
            }
            let arriving = Strided { from: &*room.o, row: wide, column: 1 };
            multiply([queries, size], arriving, room.v_columns, room.dp, long, false);
            let turned = Strided { from: &*room.p, row: 1, column: long };
            multiply([of.count, queries], turned, room.o, &mut room.dv[lane * rows..], wide, later);
            slope(&room.p[..queries * long], &mut room.dp[..queries * long], long);
            let slopes = Strided { from: &*room.dp, row: long, column: 1 };
            multiply([queries, of.count], slopes, room.k, room.dq, wide, false);
            unpack(of, turn, &room.dq[..queries * wide], [first, 0, lane, lanes], scale, to, add);
            let turned = Strided { from: &*room.dp, row: 1, column: long };
            let dk = &mut room.dk[lane * rows..];
            multiply([of.count, queries], turned, &room.q[first * wide..], dk, wide, later);
        }
    }
    for lane in 0..lanes {
        let all = lane * rows..(lane + 1) * rows;
        unpack(of, turn, &room.dk[all.clone()], [0, 1, lane, lanes], T::ONE, to, add);
        unpack(of, still, &room.dv[all], [0, 2, lane, lanes], T::ONE, to, add);
    }
}
