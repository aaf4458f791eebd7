//! Labels: their kinds, their numbers, and weights against imbalance among them.

mod balance;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

pub use balance::{ClassWeights, Counts, LabelWeights};

/// What labels say, as predictions, metrics and weightings tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One of several classes.
    Classes,
    /// 0 or 1, as many a row as there are outputs; others count as what they are nearer to.
    Binary,
    /// How much or how many: a regression's.
    Values,
}

/// How the positions of a row are paired, where pairs of them have labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Each pair is judged by itself; of class 0 are those that nothing is said of.
    Free,
    /// Each position is attached to one, the root to itself; what is not said is missing.
    Tree,
}

impl Pairing {
    /// The label of pairs that nothing is said of.
    pub fn rest(self) -> i32 {
        match self {
            Pairing::Free => 0,
            Pairing::Tree => -1,
        }
    }
}

/// What a task's labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// One of so many classes a row, by its index.
    Classes(usize),
    /// Decisions: 0 or 1, or a number between them.
    Binary {
        /// Decisions a row.
        columns: usize,
    },
    /// Counts: numbers from 0 on, whole ones or not.
    Counts {
        /// Counts a row.
        columns: usize,
    },
    /// Any numbers.
    Numbers {
        /// Numbers a row.
        columns: usize,
    },
}

impl Labels {
    /// Their kind.
    pub fn kind(self) -> Kind {
        match self {
            Labels::Classes(_) => Kind::Classes,
            Labels::Binary { .. } => Kind::Binary,
            Labels::Counts { .. } | Labels::Numbers { .. } => Kind::Values,
        }
    }

    /// Classes, or numbers a row.
    pub fn width(self) -> usize {
        match self {
            Labels::Classes(classes) => classes,
            Labels::Binary { columns } | Labels::Counts { columns } | Labels::Numbers { columns } => columns,
        }
    }

    /// Numbers a row; none where labels are classes.
    pub fn columns(self) -> Option<usize> {
        (self.kind() != Kind::Classes).then(|| self.width())
    }

    /// The least label and the greatest one.
    pub fn bounds(self) -> RangeInclusive<f64> {
        match self {
            Labels::Classes(classes) => 0.0..=classes as f64 - 1.0,
            Labels::Binary { .. } => 0.0..=1.0,
            Labels::Counts { .. } => 0.0..=f64::INFINITY,
            Labels::Numbers { .. } => f64::NEG_INFINITY..=f64::INFINITY,
        }
    }

    /// Whether a target of -1 is a missing label, as NaN always is.
    pub fn minus_one_is_missing(self) -> bool {
        self.kind() != Kind::Values
    }

    /// What a target should be, in words.
    pub fn words(self) -> String {
        let bounds = self.bounds();
        let label = match self {
            Labels::Classes(classes) => format!("classes from 0 to {}", classes - 1),
            Labels::Binary { .. } => format!("between {} and {}", bounds.start(), bounds.end()),
            Labels::Counts { .. } => format!("finite and at least {}", bounds.start()),
            Labels::Numbers { .. } => "finite".to_owned(),
        };
        let missing = if self.minus_one_is_missing() { "-1 or NaN" } else { "NaN" };
        format!("{label}, or {missing} where missing")
    }
}

/// The labels of one batch of one task.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a, T> {
    /// `[rows]`, negative where missing.
    Classes(&'a [i32]),
    /// `[rows, columns]`, NaN where missing.
    Values(&'a [T]),
}

impl<'a, T> Targets<'a, T> {
    /// The class indices; a loss whose [`Loss::labels`] are classes is handed nothing else.
    pub(crate) fn classes(self) -> &'a [i32] {
        match self {
            Targets::Classes(classes) => classes,
            Targets::Values(_) => panic!("this loss asked for class indices"),
        }
    }

    /// The numbers; a loss whose [`Loss::labels`] are values is handed nothing else.
    pub(crate) fn values(self) -> &'a [T] {
        match self {
            Targets::Values(values) => values,
            Targets::Classes(_) => panic!("this loss asked for values"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::loss;

    const CLASSES: Labels = Labels::Classes(3);
    const BINARY: Labels = Labels::Binary { columns: 2 };
    const COUNTS: Labels = Labels::Counts { columns: 2 };
    const NUMBERS: Labels = Labels::Numbers { columns: 2 };

    #[test]
    fn every_loss_names_its_labels() {
        for info in loss::infos() {
            let expected = match info.name.as_str() {
                "cross_entropy" | "crf" | "ordinal" | "tree" => [Some(CLASSES), None],
                "focal" => [Some(CLASSES), Some(BINARY)],
                "binary_cross_entropy" => [None, Some(BINARY)],
                "poisson" | "ranking" => [None, Some(COUNTS)],
                _ => [None, Some(NUMBERS)],
            };
            let loss = loss::build(&json!(info.name)).unwrap();
            let named = [loss.labels(Some(3), 1).ok(), loss.labels(None, 2).ok()];
            assert_eq!(named, expected, "{}", info.name);
        }
    }

    #[test]
    fn the_rest_follows_from_the_kind() {
        for (labels, kind, columns, bounds, words) in [
            (CLASSES, Kind::Classes, None, 0.0..=2.0, "classes from 0 to 2, or -1 or NaN where missing"),
            (BINARY, Kind::Binary, Some(2), 0.0..=1.0, "between 0 and 1, or -1 or NaN where missing"),
            (COUNTS, Kind::Values, Some(2), 0.0..=f64::INFINITY, "finite and at least 0, or NaN where missing"),
            (NUMBERS, Kind::Values, Some(2), f64::NEG_INFINITY..=f64::INFINITY, "finite, or NaN where missing"),
        ] {
            assert_eq!((labels.kind(), labels.bounds(), labels.words().as_str()), (kind, bounds, words));
            assert_eq!((labels.columns(), labels.width()), (columns, columns.unwrap_or(3)));
            assert!(!(labels.minus_one_is_missing() && labels.bounds().contains(&-1.0)), "{labels:?}");
        }
    }
}
