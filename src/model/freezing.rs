//! What of a model is frozen.

use std::collections::HashSet;

use super::Model;
use crate::bail;
use crate::error::Result;
use crate::parameters::Entry;
use crate::parameters::path::instead;

impl Model {
    /// Paths of all frozen parameters and statistics.
    pub fn frozen(&self) -> Vec<String> {
        self.net.entries.iter().filter(|entry| entry.frozen).map(|entry| entry.name.to_string()).collect()
    }

    /// Freezes or unfreezes everything below the given paths; everything there is, if none is given.
    ///
    /// # Errors
    /// A path that nothing is below.
    pub fn freeze(&mut self, below: &[String], frozen: bool) -> Result<()> {
        self.check_paths(if frozen { "freeze" } else { "unfreeze" }, below)?;
        self.freeze_where(|entry| if meant(entry, below) { frozen } else { entry.frozen })
    }

    /// Paths of everything below the given paths, those that nothing is below aside; of everything, if none is given.
    pub fn below(&self, paths: &[String]) -> Vec<String> {
        self.net.entries.iter().filter(|entry| meant(entry, paths)).map(|entry| entry.name.to_string()).collect()
    }

    /// Checks that there is something below each of the paths that `call` was given.
    ///
    /// # Errors
    /// A path that nothing is below.
    pub fn check_paths(&self, call: &str, paths: &[String]) -> Result<()> {
        let entries = &self.net.entries;
        if let Some(path) = paths.iter().find(|path| !entries.iter().any(|entry| entry.name.below(path))) {
            let instead = instead(path, entries.iter().map(|entry| &entry.name));
            bail!("`{call}`: no parameter is called {path:?}; {instead}");
        }
        Ok(())
    }

    /// Freezes these paths and nothing else.
    ///
    /// # Errors
    /// A path that does not exist.
    pub fn freeze_only(&mut self, paths: &[String]) -> Result<()> {
        let known: HashSet<&str> = self.net.entries.iter().map(|entry| &*entry.name).collect();
        if let Some(path) = paths.iter().find(|path| !known.contains(path.as_str())) {
            bail!("`frozen`: the model has no parameter {path:?}");
        }
        let wanted: HashSet<_> = paths.iter().map(String::as_str).collect();
        self.freeze_where(|entry| wanted.contains(&*entry.name))
    }

    /// Plans are made for what learns, so that those kept are of no more use.
    fn freeze_where(&mut self, frozen: impl Fn(&Entry) -> bool) -> Result<()> {
        if self.net.entries.iter().any(|entry| frozen(entry) != entry.frozen) {
            self.net.freeze(frozen);
            self.params.gradients.clear_all()?;
            self.params.tables.iter().flatten().for_each(|gradient| gradient.open().forget());
            self.kept().clear();
        }
        Ok(())
    }
}

/// Whether an entry lies below any of the paths; each does, if none is given.
fn meant(entry: &Entry, below: &[String]) -> bool {
    below.is_empty() || below.iter().any(|path| entry.name.below(path))
}
