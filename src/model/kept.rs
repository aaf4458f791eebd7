//! Workspaces that nobody uses, kept for the next batch of their kind.

use std::sync::Arc;

use super::workspace::Workspace;
use crate::network::axis::Extents;
use crate::network::pass::Purpose;

/// Kinds that are kept, for row counts seen before.
const KINDS: usize = 6;
/// The same where they differ by room for positions too.
const KINDS_OF_POSITIONS: usize = 64;
/// Bytes that may be kept. Where more are in use by turns, a new workspace is made of the memory of one that was given up,
/// which costs less than pages that nobody had yet.
const BYTES: usize = 256 << 20;
/// Times as many bytes may be kept as the one that was used last has, if that is more.
const TIMES: usize = 4;

/// Those that were used last, of a bounded size together.
#[derive(Debug)]
pub(super) struct Kept {
    /// The one that was used last is the last one.
    workspaces: Vec<Workspace>,
    /// Bytes that they may have together.
    bound: usize,
    /// Each workspace of the model has a handle.
    all: Arc<()>,
    /// The most that were used at once: threads that read a model side by side have one each.
    most: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { workspaces: Vec::new(), bound: BYTES, all: Arc::default(), most: 0 }
    }
}

impl Kept {
    /// One of this kind, if there is one.
    pub fn take(&mut self, extents: Extents, purpose: Purpose) -> Option<Workspace> {
        let found = self.workspaces.iter().position(|work| kind(work) == (extents, purpose));
        Some(self.workspaces.remove(found?))
    }

    /// Keeps one, and gives up those that were not used for longest where there are too many; as many as were in use at once
    /// stay. `positions` says whether kinds differ by room for positions.
    pub fn put(&mut self, workspace: Workspace, positions: bool) {
        let used = Arc::strong_count(&self.all) - 1 - self.workspaces.len();
        self.most = self.most.max(used);
        let kinds = if positions { KINDS_OF_POSITIONS } else { KINDS };
        let bytes = self.bound.max(TIMES * workspace.bytes());
        self.workspaces.push(workspace);
        while self.workspaces.len() > self.most && (self.bytes() > bytes || self.has_more_kinds_than(kinds)) {
            self.workspaces.remove(0);
        }
    }

    /// Gives up all.
    pub fn clear(&mut self) {
        self.workspaces.clear();
    }

    /// A handle for a new one.
    pub fn handle(&self) -> Arc<()> {
        self.all.clone()
    }

    fn bytes(&self) -> usize {
        self.workspaces.iter().map(Workspace::bytes).sum()
    }

    fn has_more_kinds_than(&self, most: usize) -> bool {
        let first = |&at: &usize| !self.workspaces[..at].iter().any(|work| kind(work) == kind(&self.workspaces[at]));
        self.workspaces.len() > most && (0..self.workspaces.len()).filter(first).count() > most
    }
}

fn kind(work: &Workspace) -> (Extents, Purpose) {
    (work.extents(), work.purpose())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Description, Model, Own};

    fn model() -> Model {
        let description = json!({
            "inputs": {"positions": [{"name": "words", "numeric": 4}]},
            "tasks": [{"name": "size", "loss": {"name": "mean_squared"}, "per": "words"}],
            "encoder": {"name": "mlp", "hidden": [64]},
            "head": {"name": "linear"},
        });
        Description::of(&description, Own::default()).and_then(Model::new).unwrap()
    }

    fn extents(positions: usize) -> Extents {
        Extents::from(1).and(positions).unwrap()
    }

    fn made(model: &Model, positions: usize) -> Workspace {
        model.workspace(extents(positions), Purpose::Train).unwrap()
    }

    /// The room of those that are kept.
    fn rooms(model: &Model) -> Vec<usize> {
        model.kept().workspaces.iter().map(|work| work.extents().each()[1]).collect()
    }

    #[test]
    fn the_last_ones_are_kept_as_far_as_they_take_no_more_bytes_than_the_bound() {
        let model = model();
        let work = made(&model, 1000);
        // Values and gradients of 64 hidden numbers a position at least.
        assert!(work.bytes() > 2 * 4 * 64 * 1000, "{}", work.bytes());
        let bound = 10 * work.bytes();
        model.kept().bound = bound;
        for positions in 1000..1050 {
            model.give_back(made(&model, positions));
            assert!(model.kept().bytes() <= bound, "{} of {bound}", model.kept().bytes());
        }
        assert_eq!(rooms(&model), (1041..1050).collect::<Vec<_>>());
        // What is used again is not the next to go.
        model.give_back(made(&model, 1041));
        model.give_back(made(&model, 1050));
        assert_eq!(rooms(&model), [1043, 1044, 1045, 1046, 1047, 1048, 1049, 1041, 1050]);
    }

    #[test]
    fn of_large_ones_a_few_are_kept_until_small_ones_are_in_use() {
        let model = model();
        model.kept().bound = 0;
        (2000..2010).for_each(|positions| model.give_back(made(&model, positions)));
        assert_eq!(rooms(&model), [2006, 2007, 2008, 2009]);
        model.give_back(made(&model, 10));
        assert_eq!(rooms(&model), [10]);
    }

    #[test]
    fn small_ones_are_kept_up_to_a_number_of_kinds() {
        let model = model();
        (0..200).for_each(|positions| model.give_back(made(&model, positions)));
        assert_eq!(rooms(&model), (200 - KINDS_OF_POSITIONS..200).collect::<Vec<_>>());
    }

    #[test]
    fn as_many_are_kept_as_were_in_use_at_once() {
        let model = model();
        model.kept().bound = 0;
        for positions in [[100; 8], [1, 2, 3, 4, 5, 6, 7, 8]] {
            let all = positions.map(|positions| made(&model, positions));
            all.into_iter().for_each(|work| model.give_back(work));
            assert_eq!(rooms(&model), positions);
        }
        drop(made(&model, 1));
        model.give_back(made(&model, 9));
        assert_eq!(rooms(&model), [2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
