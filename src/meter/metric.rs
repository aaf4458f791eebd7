//! What a metric is that is counted here.

use super::column::Column;
use crate::label::Kind;

/// A metric that follows from what is counted of a column of labels.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// What users type: the name of its file.
    pub name: &'static str,
    /// The labels it suits.
    pub kinds: &'static [Kind],
    /// Which direction is better.
    pub higher_is_better: bool,
    /// Whether it is about the order of scores, which are kept for it and sorted.
    pub ranks: bool,
    /// Its value, where that is defined, of a column that has a row.
    pub value: fn(&Column) -> Option<f64>,
}

impl Metric {
    /// Its value, if it is defined; scores are to be sorted before.
    pub fn of(&self, column: &Column) -> Option<f64> {
        // What was counted before a checkpoint may have been other metrics.
        let lacks_scores = self.ranks && column.scores.len() as u64 != column.rows;
        if column.rows == 0 || column.unknown || lacks_scores {
            return None;
        }
        (self.value)(column)
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
