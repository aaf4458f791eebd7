//! What an epoch sums up.

use serde::{Deserialize, Serialize};

/// What an epoch sums up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sums {
    pub(super) objective: f64,
    pub(super) steps: u64,
    pub(super) losses: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) regularizers: Vec<f64>,
    /// Of each term that the network adds to the objective.
    pub(super) terms: Vec<f64>,
}

impl Sums {
    /// Whether these are sums over the same tasks, regularizers and terms.
    pub(super) fn fits(&self, other: &Self) -> bool {
        let lengths = |of: &Self| [&of.losses, &of.weights, &of.regularizers, &of.terms].map(Vec::len);
        lengths(self) == lengths(other)
    }

    /// All sums, one after the other.
    pub(super) fn flat(&self) -> impl Iterator<Item = f64> {
        let Self { objective, losses, weights, regularizers, terms, .. } = self;
        let lists = [losses, weights, regularizers, terms].into_iter().flatten();
        std::iter::once(objective).chain(lists).copied()
    }

    /// Takes over what [`Sums::flat`] gives after so many steps more.
    pub(super) fn refill(&mut self, flat: &[f64], steps: u64) {
        self.steps += steps;
        let Self { objective, losses, weights, regularizers, terms, .. } = self;
        let lists = [losses, weights, regularizers, terms].into_iter().flatten();
        std::iter::once(objective).chain(lists).zip(flat).for_each(|(sum, &x)| *sum = x);
    }
}
