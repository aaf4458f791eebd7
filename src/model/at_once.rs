//! How many rows are gone through at once where nothing is learned: memory goes with what they have together.

use std::ops::Range;

use super::Model;
use crate::data::Data;
use crate::network::axis::Extent;

/// Positions that rows gone through at once may have, if they are several.
const POSITIONS: usize = 1 << 14;
/// The same of pairs of positions, where a task is of pairs.
const PAIRS: usize = 1 << 16;

impl Model {
    /// Rows at once when so many are asked for: members of an ensemble have a row each, which take memory like others.
    pub(super) fn at_once(&self, batch: usize) -> usize {
        let members = self.net.axes.iter().find_map(|axis| match axis.extent {
            Extent::Members(members) => Some(members),
            _ => None,
        });
        (batch / members.unwrap_or(1)).max(1)
    }

    /// The rows from this one on that are gone through at once when so many are asked for: fewer where they have many positions,
    /// or pairs of them.
    pub(super) fn part(&self, data: &Data, first: usize, batch: usize) -> Range<usize> {
        let most = data.rows().min(first.saturating_add(self.at_once(batch)));
        if self.parts.inputs.positions.is_empty() {
            return first..most;
        }
        let length = self.lengths(data);
        let paired = self.tasks.iter().any(|task| task.pairing.is_some());
        let (mut positions, mut pairs) = (0_usize, 0_usize);
        let fits = (first..most).take_while(|&row| {
            let each = length(row);
            positions = positions.saturating_add(each);
            pairs = pairs.saturating_add(each.saturating_pow(2));
            positions <= POSITIONS && (!paired || pairs <= PAIRS)
        });
        first..first + fits.count().max(1)
    }

    /// How many positions a row has, on all ragged axes together.
    pub(crate) fn lengths(&self, data: &Data) -> impl Fn(usize) -> usize {
        let offsets = self.parts.inputs.positions.iter().filter_map(|of| data.field(&of.first())?.offsets());
        let offsets: Vec<_> = offsets.collect();
        move |row| offsets.iter().map(|offsets| offsets.span(row).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::data::Field;
    use crate::data::array::Array;
    use crate::model::{Description, Own};

    /// The parts in which rows of so many positions each are gone through.
    fn parts(task: &Value, lengths: &[usize], batch: usize) -> Vec<Range<usize>> {
        let description = json!({
            "inputs": {"positions": [{"name": "words", "numeric": 1}]},
            "tasks": [task],
            "encoder": {"name": "mlp", "hidden": [2]},
            "head": if task["pairs"].is_null() { json!({"name": "linear"}) } else { json!({"name": "biaffine"}) },
        });
        let model = Description::of(&description, Own::default()).and_then(Model::new).unwrap();
        let ends = std::iter::once(0).chain(lengths.iter().scan(0, |end, &length| {
            *end += length as i64;
            Some(*end)
        }));
        let numbers = vec![0.0_f32; lengths.iter().sum()];
        let ends = Array::own(ends.collect::<Vec<_>>(), 1);
        let field = Field::ragged(Array::own(numbers, 1), ends, "`x`").unwrap();
        let data = Data { rows: lengths.len(), fields: vec![("words/numeric".to_owned(), field)], ..Data::default() };
        let mut found: Vec<Range<usize>> = Vec::new();
        while found.last().is_none_or(|last| last.end < lengths.len()) {
            found.push(model.part(&data, found.last().map_or(0, |last| last.end), batch));
        }
        found
    }

    #[test]
    fn rows_of_many_positions_are_gone_through_in_parts() {
        let task = json!({"name": "size", "loss": {"name": "mean_squared"}, "per": "words"});
        let lengths = [vec![4096; 5], vec![2 * POSITIONS], vec![1; 10]].concat();
        assert_eq!(parts(&task, &lengths, 4096), [0..4, 4..5, 5..6, 6..16]);
        assert_eq!(parts(&task, &lengths, 3), [0..3, 3..5, 5..6, 6..9, 9..12, 12..15, 15..16]);
        // Where there are pairs fewer rows have as many of them.
        let pairs = json!({"name": "arc", "loss": {"name": "tree"}, "per": "words", "pairs": true, "classes": 3});
        assert_eq!(parts(&pairs, &[128; 9], 4096), [0..4, 4..8, 8..9]);
        assert_eq!(parts(&task, &[128; 9], 4096), std::iter::once(0..9).collect::<Vec<_>>());
    }
}
