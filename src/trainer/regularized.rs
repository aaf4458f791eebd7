//! A network's parameters as regularizers see them.

use crate::network::{Network, ValueId};
use crate::parameters::{Block, Entry};
use crate::regularizer::{Piece, Places};

/// The named pieces of a network of these tasks, and what is multiplied with them.
pub(super) fn places(net: &Network, tasks: &[&str]) -> Places {
    let all = || net.entries.iter().filter_map(|entry| Some((entry, entry.param?)));
    let entries = || all().filter(|(_, param)| !net.params[*param].sparse);
    let mut all = vec![0; net.params.len()];
    entries().for_each(|(_, param)| all[param] += 1);
    let mut seen = vec![0; net.params.len()];
    let mut inputs = vec![None; net.params.len()];
    for op in net.ops.iter().rev() {
        op.params().into_iter().for_each(|param| inputs[param] = op.inputs().first().copied());
    }
    let piece = |(block, (entry, param)): (&Block, (&Entry, usize))| {
        let group = seen[param];
        seen[param] += 1;
        Piece {
            path: block.path.clone(),
            start: entry.range.start,
            shape: entry.shape.clone(),
            decays: block.decays,
            task: block.task,
            // Several groups in turn may read the same group of a value.
            reads: inputs[param].map(|value: ValueId| (value, group * net.values[value].groups / all[param])),
        }
    };
    Places::of(net.blocks().iter().zip(entries()).map(piece).collect(), tasks)
}
