//! The named pieces of a network's flat parameters.

use super::Network;
use super::owner::Owner;
use crate::parameters::{Block, Reach, Role};

impl Network {
    /// The named pieces of the flat parameters but for sparse tables; padding belongs to the piece before it.
    pub fn blocks(&self) -> Vec<Block> {
        let entries = self.entries.iter().filter_map(|entry| Some((entry, entry.param?)));
        let entries: Vec<_> = entries.filter(|(_, param)| !self.params[*param].sparse).collect();
        let mut blocks: Vec<Block> = Vec::with_capacity(entries.len());
        let mut pieces = vec![0; self.params.len()];
        let mut seen = vec![0; self.params.len()];
        entries.iter().for_each(|(_, param)| pieces[*param] += 1);
        for (entry, param) in &entries {
            let reach = self.params[*param].reach;
            let role = self.params[*param].role;
            let piece = seen[*param];
            let pieces = pieces[*param];
            seen[*param] += 1;
            let task = match reach {
                Reach::All => None,
                _ => Some(Owner::new(reach, pieces, self.tasks()).task(piece)),
            };
            if let Some(last) = blocks.last_mut() {
                last.range.end = entry.range.start;
            }
            let decays = matches!(role, Role::Weight | Role::Embedding);
            let matrices = self.params[*param].matrix.map(|[rows, columns]| {
                // A layer without inputs has matrices of no numbers.
                [entry.range.len() / (rows * columns).max(1), rows, columns]
            });
            blocks.push(Block { path: entry.name.clone(), range: entry.range.clone(), decays, task, matrices });
        }
        blocks
    }

    /// The named pieces of the flat parameters that are not frozen.
    pub fn learning(&self) -> Vec<Block> {
        let mut blocks = self.blocks();
        // Blocks stand in the order of the entries.
        let mut frozen = self.dense_entries().map(|entry| entry.frozen);
        blocks.retain(|_| frozen.next() == Some(false));
        blocks
    }
}
