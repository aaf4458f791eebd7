//! What of a model is frozen.

use std::collections::HashSet;

use super::Model;
use crate::bail;
use crate::error::Result;
use crate::network::Entry;
use crate::optim::{beginnings, begins};

impl Model {
    /// Paths of all frozen parameters and statistics.
    pub fn frozen(&self) -> Vec<String> {
        self.net.entries.iter().filter(|entry| entry.frozen).map(|entry| entry.name.clone()).collect()
    }

    /// Freezes or unfreezes everything below the given paths; everything there is, if none is given.
    ///
    /// # Errors
    /// A path that nothing is below.
    pub fn freeze(&mut self, below: &[String], frozen: bool) -> Result<()> {
        let entries = &self.net.entries;
        if let Some(path) = below.iter().find(|path| !entries.iter().any(|entry| begins(&entry.name, path))) {
            let known = beginnings(entries.iter().map(|entry| entry.name.as_str()));
            let call = if frozen { "freeze" } else { "unfreeze" };
            bail!("`{call}`: no parameter is called {path:?}; names begin with {known}");
        }
        let meant = |entry: &Entry| below.is_empty() || below.iter().any(|path| begins(&entry.name, path));
        self.freeze_where(|entry| if meant(entry) { frozen } else { entry.frozen });
        Ok(())
    }

    /// Freezes these paths and nothing else.
    ///
    /// # Errors
    /// A path that does not exist.
    pub fn freeze_only(&mut self, paths: &[String]) -> Result<()> {
        let known: HashSet<_> = self.net.entries.iter().map(|entry| entry.name.as_str()).collect();
        if let Some(path) = paths.iter().find(|path| !known.contains(path.as_str())) {
            bail!("`frozen`: the model has no parameter {path:?}");
        }
        let wanted: HashSet<_> = paths.iter().collect();
        self.freeze_where(|entry| wanted.contains(&entry.name));
        Ok(())
    }

    /// Plans are made for what learns, so that those kept are of no more use.
    fn freeze_where(&mut self, frozen: impl Fn(&Entry) -> bool) {
        if self.net.entries.iter().any(|entry| frozen(entry) != entry.frozen) {
            self.net.freeze(frozen);
            self.params.gradients.slice_mut().fill(0.0);
            self.params.tables.iter().flatten().for_each(|gradient| gradient.open().forget());
            self.workspaces.clear();
        }
    }
}
