//! Names and numbers that a builder can afford.

use super::Builder;
use super::limit::Limit;
use crate::error::{Error, Result};
use crate::value_error;

impl Builder {
    /// Paths of so many equal networks: `prefix.0`, `prefix.1` ...; each will have a parameter at least.
    ///
    /// # Errors
    /// More than the limit lets have one.
    pub fn numbered(&self, prefix: &str, count: usize) -> Result<Vec<String>> {
        self.numbered_each(&[prefix.to_owned()], count)
    }

    /// So many paths for each of these prefixes, in turn.
    ///
    /// # Errors
    /// As [`Builder::numbered`].
    pub fn numbered_each(&self, prefixes: &[String], count: usize) -> Result<Vec<String>> {
        let all = count.saturating_mul(prefixes.len());
        self.afford(&[all])?;
        if all > Limit::NAMES {
            return Err(many());
        }
        Ok(prefixes.iter().flat_map(|prefix| (0..count).map(move |i| format!("{prefix}.{i}"))).collect())
    }

    /// Refuses what would need more numbers, the product of these, than are left.
    ///
    /// # Errors
    /// The limit.
    pub fn afford(&self, factors: &[usize]) -> Result<()> {
        self.check()?;
        let more = factors.iter().fold(1, |product: usize, &n| product.saturating_mul(n));
        if more > self.limit.numbers { Err(self.limit.error()) } else { Ok(()) }
    }

    /// Refuses to go on where what is there already is too much.
    ///
    /// # Errors
    /// The limit.
    pub fn check(&self) -> Result<()> {
        if self.full() {
            return Err(self.limit.error());
        }
        if self.net.entries.len() + self.state_entries.len() > Limit::NAMES {
            return Err(many());
        }
        Ok(())
    }

    /// Whether it is too much already: then nothing more is added, until somebody checks.
    pub(super) fn full(&self) -> bool {
        self.wanted > self.limit.numbers
    }
}

fn many() -> Error {
    value_error!(
        "the model would have more than {} experts, branches or named parameters: make it smaller",
        Limit::NAMES
    )
}
