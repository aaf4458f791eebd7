//! Which tasks to train in one network: groups of tasks with the largest summed gain.
//!
//! What task `i` gains in a group is taken as the mean of what it gains beside each of the others alone (Standley et al.,
//! ICML 2020; Fifty et al., NeurIPS 2021); alone it gains 0. So a group of `n` tasks is worth its pairs' gains over `n - 1`,
//! and only the sum of both directions of a pair counts.

use crate::bail;
use crate::error::Result;
use crate::machine::random::Stream;

/// Tasks up to which the best groups are found by going through all sets of tasks.
pub const EXACT: usize = 20;
/// Local searches for more tasks than that, each from groups of its own.
const STARTS: u64 = 64;
/// How often each is shaken, and goes on from where that leads if it is better.
const SHAKES: u64 = 16;
/// Gains closer than this, relative to the largest, are one.
const SLACK: f64 = 1e-12;

/// Groups and what they are worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// The number of each task's group, in order of their first tasks.
    pub groups: Vec<usize>,
    /// The sum over tasks of what they gain.
    pub gain: f64,
    /// What no groups exceed: the gain itself where it is the best.
    pub bound: f64,
}

/// The groups with the largest summed gain, at most `most` of them with at most `largest` tasks each: the best up to
/// [`EXACT`] tasks, beyond that the best of local searches, with a bound. `gains[i][j]` is what task `i` gains beside `j`.
pub fn best(gains: &[Vec<f64>], most: usize, largest: usize, seed: u64) -> Result<Partition> {
    let n = gains.len();
    if n == 0 || gains.iter().any(|row| row.len() != n) {
        bail!("`gains` should be a square matrix with a row a task; got {n} rows");
    }
    for (i, row) in gains.iter().enumerate() {
        if let Some(j) = (0..n).find(|&j| j != i && !row[j].is_finite()) {
            bail!("`gains[{i}][{j}]` should be a finite number; got {}", row[j]);
        }
    }
    if most == 0 || largest == 0 || most.saturating_mul(largest) < n {
        bail!("{n} tasks do not go into {most} groups of at most {largest}");
    }
    // A group of which all tasks are is as many as there can be.
    let (most, largest) = (most.min(n), largest.min(n));
    let pairs: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| if i == j { 0.0 } else { gains[i][j] + gains[j][i] }).collect()).collect();
    let groups = if n <= EXACT { exact(&pairs, most, largest) } else { searched(&pairs, most, largest, seed) };
    let groups = in_order(&groups);
    let gain = worth(&pairs, &groups);
    let bound = if n <= EXACT { gain } else { gain.max(bound(gains, &pairs)) };
    Ok(Partition { groups, gain, bound })
}

/// What groups are worth.
fn worth(pairs: &[Vec<f64>], groups: &[usize]) -> f64 {
    let count = groups.iter().max().map_or(0, |&last| last + 1);
    (0..count)
        .map(|group| {
            let of: Vec<usize> = (0..groups.len()).filter(|&i| groups[i] == group).collect();
            let sum: f64 = of.iter().enumerate().flat_map(|(at, &i)| of[..at].iter().map(move |&j| pairs[i][j])).sum();
            sum / (of.len().max(2) - 1) as f64
        })
        .sum()
}

/// No task has more than beside its best other one, by its own gains or by the mean of both directions.
fn bound(gains: &[Vec<f64>], pairs: &[Vec<f64>]) -> f64 {
    let most = |matrix: &[Vec<f64>]| -> f64 {
        let rows = matrix.iter().enumerate();
        rows.map(|(i, row)| (0..row.len()).filter(|&j| j != i).map(|j| row[j]).fold(0.0, f64::max)).sum()
    };
    most(gains).min(0.5 * most(pairs))
}

/// Groups renumbered in the order of their first tasks.
fn in_order(groups: &[usize]) -> Vec<usize> {
    let mut seen: Vec<usize> = Vec::new();
    groups
        .iter()
        .map(|group| {
            seen.iter().position(|known| known == group).unwrap_or_else(|| {
                seen.push(*group);
                seen.len() - 1
            })
        })
        .collect()
}

/// The best over all sets of tasks, which are bits of a number.
///
/// The first task's group is tried last, so that tables are over sets of the others. How many groups there may be is left
/// open at first, which takes one table. Only if these are too many, a table has the best of at most so many groups for each
/// set; that of `a + b` groups is the best split of each set into one of `a` and one of `b`, so that few tables reach any
/// number.
fn exact(pairs: &[Vec<f64>], most: usize, largest: usize) -> Vec<usize> {
    let values = values(pairs, largest);
    let single: Vec<f64> = (0..1 << (pairs.len() - 1)).map(|set| values[set << 1]).collect();
    let open = any_number(&single);
    let groups = with_the_first(&values, &open, &mut |set, found| {
        let mut rest = set;
        while rest != 0 {
            let (part, _) = lowest_split(&single, &open, rest);
            found(part);
            rest &= !part;
        }
    });
    if groups.iter().max().is_some_and(|&last| last < most) {
        return groups;
    }
    let ladder = Ladder::up_to(most - 1, single);
    with_the_first(&values, ladder.last(), &mut |set, found| ladder.take_apart(set, found))
}

/// The first task's best group, and the others' groups, of which `table` says what each set is worth and `take_apart` which
/// they are.
fn with_the_first(
    values: &[f64],
    table: &[f64],
    take_apart: &mut impl FnMut(usize, &mut dyn FnMut(usize)),
) -> Vec<usize> {
    let others = table.len();
    let all = others - 1;
    let worth = |with: usize| values[with << 1 | 1] + table[all & !with];
    let with = (0..others).fold(0, |found, with| if worth(with) > worth(found) { with } else { found });
    let mut groups = vec![0; values.len().ilog2() as usize];
    let mut number = 0;
    take_apart(all & !with, &mut |set| {
        number += 1;
        for (i, group) in groups.iter_mut().enumerate().skip(1) {
            if set >> (i - 1) & 1 == 1 {
                *group = number;
            }
        }
    });
    groups
}

/// For each set what its best groups are worth, however many they are.
fn any_number(single: &[f64]) -> Vec<f64> {
    let mut table = vec![0.0; single.len()];
    for set in 1..single.len() {
        table[set] = lowest_split(single, &table, set).1;
    }
    table
}

/// The best group of a set's lowest task, and what it and the rest are worth.
fn lowest_split(single: &[f64], table: &[f64], set: usize) -> (usize, f64) {
    let low = set & set.wrapping_neg();
    let free = set & !low;
    let mut found = (low, f64::NEG_INFINITY);
    let mut part = free;
    loop {
        let worth = single[part | low] + table[free & !part];
        if worth > found.1 {
            found = (part | low, worth);
        }
        if part == 0 {
            return found;
        }
        part = (part - 1) & free;
    }
}

/// What each set of tasks is worth as one group; minus infinity beyond the largest size.
fn values(pairs: &[Vec<f64>], largest: usize) -> Vec<f64> {
    let n = pairs.len();
    let mut sums = vec![0.0; 1 << n];
    for set in 1usize..1 << n {
        let low = set.trailing_zeros() as usize;
        let rest = set & (set - 1);
        let beside: f64 = (low + 1..n).filter(|&j| rest >> j & 1 == 1).map(|j| pairs[low][j]).sum();
        sums[set] = sums[rest] + beside;
    }
    for (set, sum) in sums.iter_mut().enumerate() {
        let size = set.count_ones() as usize;
        *sum = if size > largest { f64::NEG_INFINITY } else { *sum / (size.max(2) - 1) as f64 };
    }
    sums
}

/// Tables of the best of at most so many groups for each set, each made of two below it.
struct Ladder {
    tables: Vec<Vec<f64>>,
    /// Of which two tables each is made; none of a single group.
    of: Vec<Option<(usize, usize)>>,
}

impl Ladder {
    /// By doubling, so that the last table is that of `count` groups; with none, only the empty set is worth something.
    fn up_to(count: usize, single: Vec<f64>) -> Self {
        if count == 0 {
            let mut none = vec![f64::NEG_INFINITY; single.len()];
            none[0] = 0.0;
            return Self { tables: vec![none], of: vec![None] };
        }
        let mut ladder = Self { tables: vec![single], of: vec![None] };
        let highest = count.ilog2();
        // The bits of the number from the second on: double, and one more where it is set.
        for bit in (0..highest).rev() {
            let last = ladder.tables.len() - 1;
            ladder.add(last, last);
            if count >> bit & 1 == 1 {
                ladder.add(last + 1, 0);
            }
        }
        ladder
    }

    fn add(&mut self, a: usize, b: usize) {
        let (first, second) = (&self.tables[a], &self.tables[b]);
        let table = (0..first.len()).map(|set| split(first, second, set).1).collect();
        self.tables.push(table);
        self.of.push(Some((a, b)));
    }

    fn last(&self) -> &[f64] {
        &self.tables[self.tables.len() - 1]
    }

    /// The groups of a set, one after the other.
    fn take_apart(&self, set: usize, found: &mut dyn FnMut(usize)) {
        let mut open = vec![(self.tables.len() - 1, set)];
        while let Some((at, set)) = open.pop() {
            match self.of[at] {
                _ if set == 0 => {}
                None => found(set),
                Some((a, b)) => {
                    let (part, _) = split(&self.tables[a], &self.tables[b], set);
                    open.extend([(a, part), (b, set & !part)]);
                }
            }
        }
    }
}

/// The best part of a set for the first table, the rest being the second's, and what both are worth. The tables may be
/// exchanged, so that not all parts need have the set's lowest task, but all are tried where they differ.
fn split(first: &[f64], second: &[f64], set: usize) -> (usize, f64) {
    let same = std::ptr::eq(first, second);
    // With equal tables the lowest task may be in the first part.
    let low = if same { set & set.wrapping_neg() } else { 0 };
    let free = set & !low;
    let mut found = (set, first[set] + second[0]);
    let mut part = free;
    loop {
        let worth = first[part | low] + second[free & !part];
        if worth > found.1 {
            found = (part | low, worth);
        }
        if part == 0 {
            return found;
        }
        part = (part - 1) & free;
    }
}

/// The best of local searches: tasks move and change places while that gains most.
fn searched(pairs: &[Vec<f64>], most: usize, largest: usize, seed: u64) -> Vec<usize> {
    let n = pairs.len();
    let starts = (0..STARTS).map(|start| {
        let order = Stream::new(seed, &[start]);
        let mut tasks: Vec<usize> = (0..n).collect();
        tasks.sort_by_key(|&i| order.bits(i as u64));
        // From many small groups to few large ones.
        let fewest = n.div_ceil(largest);
        let count = fewest + (start as usize * (most - fewest)) / (STARTS as usize - 1);
        let mut groups = vec![0; n];
        for (at, &i) in tasks.iter().enumerate() {
            groups[i] = at % count;
        }
        let mut best = Sums::of(pairs, groups, most);
        while best.step(largest) {}
        for shake in 0..SHAKES {
            let mut sums = best.clone();
            let draws = order.part(shake);
            for at in 0..(n / 8).max(2) as u64 {
                let below = |number: usize, index: u64| (draws.uniform(index) * number as f64) as usize;
                let to = below(most, 2 * at + 1);
                if sums.sizes[to] < largest {
                    sums.put(below(n, 2 * at), to);
                }
            }
            while sums.step(largest) {}
            if sums.worth() > best.worth() {
                best = sums;
            }
        }
        best
    });
    let best = starts.max_by(|a, b| a.worth().total_cmp(&b.worth()));
    best.map(|sums| sums.groups).unwrap_or_default()
}

/// Groups while they are searched, with the sums that say at once what a move gains.
#[derive(Clone)]
struct Sums<'a> {
    pairs: &'a [Vec<f64>],
    groups: Vec<usize>,
    /// `[tasks][groups]`: of a task's pairs with the tasks of a group.
    with: Vec<Vec<f64>>,
    /// Of the pairs within each group.
    within: Vec<f64>,
    sizes: Vec<usize>,
    slack: f64,
}

impl<'a> Sums<'a> {
    fn of(pairs: &'a [Vec<f64>], groups: Vec<usize>, most: usize) -> Self {
        let n = pairs.len();
        let mut with = vec![vec![0.0; most]; n];
        let mut within = vec![0.0; most];
        let mut sizes = vec![0; most];
        for i in 0..n {
            sizes[groups[i]] += 1;
            for j in 0..n {
                with[i][groups[j]] += pairs[i][j];
            }
        }
        for i in 0..n {
            within[groups[i]] += 0.5 * with[i][groups[i]];
        }
        let largest = pairs.iter().flatten().fold(0.0, |largest: f64, pair| largest.max(pair.abs()));
        Self { pairs, groups, with, within, sizes, slack: SLACK * largest * n as f64 }
    }

    fn value(sum: f64, size: usize) -> f64 {
        sum / (size.max(2) - 1) as f64
    }

    fn worth(&self) -> f64 {
        self.within.iter().zip(&self.sizes).map(|(&sum, &size)| Self::value(sum, size)).sum()
    }

    /// What two groups are worth after a change, less what they are worth.
    fn difference(&self, groups: [usize; 2], sums: [f64; 2], sizes: [usize; 2]) -> f64 {
        let before: f64 = groups.iter().map(|&g| Self::value(self.within[g], self.sizes[g])).sum();
        Self::value(sums[0], sizes[0]) + Self::value(sums[1], sizes[1]) - before
    }

    /// Makes the move, or the exchange, that gains most; gives whether there was one.
    fn step(&mut self, largest: usize) -> bool {
        let n = self.groups.len();
        let mut best = (self.slack, None);
        for i in 0..n {
            let from = self.groups[i];
            for to in (0..self.sizes.len()).filter(|&to| to != from && self.sizes[to] < largest) {
                let sums = [self.within[from] - self.with[i][from], self.within[to] + self.with[i][to]];
                let gain = self.difference([from, to], sums, [self.sizes[from] - 1, self.sizes[to] + 1]);
                if gain > best.0 {
                    best = (gain, Some((i, to, None)));
                }
            }
            for j in (0..i).filter(|&j| self.groups[j] != from) {
                let to = self.groups[j];
                let pair = self.pairs[i][j];
                let sums = [
                    self.within[from] - self.with[i][from] + self.with[j][from] - pair,
                    self.within[to] - self.with[j][to] + self.with[i][to] - pair,
                ];
                let gain = self.difference([from, to], sums, [self.sizes[from], self.sizes[to]]);
                if gain > best.0 {
                    best = (gain, Some((i, to, Some((j, from)))));
                }
            }
        }
        let Some((i, to, other)) = best.1 else { return false };
        self.put(i, to);
        if let Some((j, from)) = other {
            self.put(j, from);
        }
        true
    }

    fn put(&mut self, i: usize, to: usize) {
        let from = self.groups[i];
        if from == to {
            return;
        }
        self.within[from] -= self.with[i][from];
        self.within[to] += self.with[i][to];
        self.sizes[from] -= 1;
        self.sizes[to] += 1;
        for (with, row) in self.with.iter_mut().zip(self.pairs) {
            with[from] -= row[i];
            with[to] += row[i];
        }
        self.groups[i] = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(n: usize, seed: u64, shift: f64) -> Vec<Vec<f64>> {
        let draws = Stream::new(seed, &[n as u64]);
        (0..n).map(|i| (0..n).map(|j| draws.normal((i * n + j) as u64) + shift).collect()).collect()
    }

    /// Of all assignments, by their definition.
    fn brute(gains: &[Vec<f64>], most: usize, largest: usize) -> f64 {
        fn go(gains: &[Vec<f64>], groups: &mut Vec<Vec<usize>>, i: usize, most: usize, largest: usize) -> f64 {
            if i == gains.len() {
                let of = |group: &Vec<usize>| -> f64 {
                    let others = |i: usize| group.iter().filter(move |&&j| j != i);
                    let mean = |i: usize| others(i).map(|&j| gains[i][j]).sum::<f64>() / others(i).count() as f64;
                    if group.len() < 2 { 0.0 } else { group.iter().map(|&i| mean(i)).sum() }
                };
                return groups.iter().map(of).sum();
            }
            let mut best = f64::NEG_INFINITY;
            for at in 0..groups.len() {
                if groups[at].len() < largest {
                    groups[at].push(i);
                    best = best.max(go(gains, groups, i + 1, most, largest));
                    groups[at].pop();
                }
            }
            if groups.len() < most {
                groups.push(vec![i]);
                best = best.max(go(gains, groups, i + 1, most, largest));
                groups.pop();
            }
            best
        }
        go(gains, &mut Vec::new(), 0, most, largest)
    }

    #[test]
    fn up_to_nine_tasks_are_as_by_brute_force() {
        let mut seen = 0;
        for draw in 0..200 {
            let n = 1 + (draw as usize % 9);
            let gains = drawn(n, draw, [-0.5, 0.0, 0.5][draw as usize % 3]);
            for (most, largest) in [(n, n), (1, n), (2, n), (3, n), (n, 2), (4, 3)] {
                if most * largest < n {
                    assert!(best(&gains, most, largest, 0).is_err());
                    continue;
                }
                let found = best(&gains, most, largest, 0).unwrap();
                let truth = brute(&gains, most, largest);
                assert!((found.gain - truth).abs() < 1e-9, "{found:?} {truth}");
                assert!(found.groups.iter().max().unwrap() < &most);
                assert!((0..n).all(|g| found.groups.iter().filter(|&&of| of == g).count() <= largest));
                seen += 1;
            }
        }
        assert!(seen > 900);
    }

    #[test]
    fn a_local_search_comes_near_the_best() {
        for draw in 0..20 {
            let gains = drawn(12, draw, -0.3);
            let pairs: Vec<Vec<f64>> = (0..12)
                .map(|i| (0..12).map(|j| if i == j { 0.0 } else { gains[i][j] + gains[j][i] }).collect())
                .collect();
            for (most, largest) in [(12, 12), (3, 12), (6, 3)] {
                let truth = best(&gains, most, largest, 0).unwrap().gain;
                let found = in_order(&searched(&pairs, most, largest, 0));
                assert!(found.iter().max().unwrap() < &most);
                assert!((0..12).all(|g| found.iter().filter(|&&of| of == g).count() <= largest));
                let gain = worth(&pairs, &found);
                assert!(gain <= truth + 1e-9 && gain >= truth - 0.02 * truth.abs(), "{gain} of {truth}");
                assert!(bound(&gains, &pairs) >= truth);
            }
        }
    }

    #[test]
    fn many_tasks_in_planted_groups_are_found() {
        let n = 60;
        let noise = drawn(n, 3, 0.0);
        let planted = |i: usize, j: usize| if i % 5 == j % 5 { 1.0 } else { -1.0 };
        let gains: Vec<Vec<f64>> =
            (0..n).map(|i| (0..n).map(|j| planted(i, j) + 0.3 * noise[i][j]).collect()).collect();
        let found = best(&gains, 8, n, 0).unwrap();
        // Parts of a planted group may be worth more than all of it, but nothing is in a group with what it is no part of.
        let pairs = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
        assert!(pairs.into_iter().all(|(i, j)| i % 5 == j % 5 || found.groups[i] != found.groups[j]));
        let planted = (0..n).map(|i| i % 5).collect::<Vec<_>>();
        let sums: Vec<Vec<f64>> =
            (0..n).map(|i| (0..n).map(|j| if i == j { 0.0 } else { gains[i][j] + gains[j][i] }).collect()).collect();
        assert!(found.gain >= worth(&sums, &planted) && found.bound >= found.gain);
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        assert!(best(&[], 1, 1, 0).is_err());
        assert!(best(&[vec![0.0, 1.0]], 1, 1, 0).is_err());
        assert!(best(&[vec![0.0, f64::NAN], vec![0.0, 0.0]], 2, 2, 0).is_err());
        // The diagonal says nothing.
        assert_eq!(best(&[vec![f64::NAN, 1.0], vec![1.0, f64::NAN]], 2, 2, 0).unwrap().groups, [0, 0]);
    }
}
