//! Rows of features and labels that somebody else owns: gathered into a plan, never copied as a whole.

pub mod array;
mod check;
mod check_field;
mod field;
pub mod float16;
mod mix;
mod order;
mod pairs;
mod ragged;
mod rows;

use crate::error::Result;
use crate::label::{Counts, Labels, Pairing, Targets};

use array::Array;
pub use check_field::check_lengths;
pub use field::{Along, Entries, Field};
pub use mix::Mix;
pub use order::{Order, Pace};
pub use pairs::Pairs;
pub use ragged::Offsets;
pub use rows::Rows;

/// A task whose labels are checked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// What its labels look like.
    pub labels: Labels,
    /// The field whose positions have a label each; none where rows have one.
    pub per: Option<String>,
    /// Where pairs of these positions have labels, how they are paired.
    pub pairing: Option<Pairing>,
}

/// Features, targets and row weights of the same rows.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Number of rows.
    pub rows: usize,
    /// `[rows, numeric]`.
    pub numeric: Option<Array>,
    /// `[rows, columns]` of codes.
    pub categorical: Option<Array>,
    /// Inputs beside these, by name.
    pub fields: Vec<(String, Field)>,
    /// Of each task `[rows]` or `[rows, outputs]`; none if it has no labels here. With offsets `[positions]` or
    /// `[positions, outputs]`.
    pub targets: Vec<Option<Array>>,
    /// Of each task whose labels are of positions, where those of each row lie.
    pub offsets: Vec<Option<Offsets>>,
    /// Of each task, true where a label is missing; shaped as the target.
    pub masks: Vec<Option<Array>>,
    /// Of each task `[rows]`.
    pub weights: Vec<Option<Array>>,
    /// What errors call the numeric features, the categorical ones, then each task's targets and weights.
    pub names: Vec<String>,
}

impl Data {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A copy that does not depend on the owners' memory.
    pub fn detach(&self) -> Self {
        Self {
            rows: self.rows,
            numeric: self.numeric.as_ref().map(Array::detach),
            categorical: self.categorical.as_ref().map(Array::detach),
            fields: self.fields.iter().map(|(name, field)| (name.clone(), field.detach())).collect(),
            targets: self.detach_entries(&self.targets),
            offsets: self.offsets.iter().map(|offsets| offsets.as_ref().map(Offsets::detach)).collect(),
            masks: self.detach_entries(&self.masks),
            weights: self.weights.iter().map(|array| array.as_ref().map(Array::detach)).collect(),
            names: self.names.clone(),
        }
    }

    /// A copy of each task's targets or masks, as far as its rows have entries.
    fn detach_entries(&self, arrays: &[Option<Array>]) -> Vec<Option<Array>> {
        let detach = |(task, array): (usize, &Option<Array>)| {
            let array = array.as_ref()?;
            Some(of(&self.offsets, task).map_or_else(|| array.detach(), |offsets| array.detach_rows(offsets.all())))
        };
        arrays.iter().enumerate().map(detach).collect()
    }

    /// The input of a name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, field)| field)
    }

    /// Whether a task has labels here.
    pub fn has_targets(&self, task: usize) -> bool {
        of(&self.targets, task).is_some()
    }

    /// Whether a task has row weights here.
    pub fn has_weights(&self, task: usize) -> bool {
        of(&self.weights, task).is_some()
    }

    /// A task's targets, if it has labels here.
    pub fn targets(&self, task: usize) -> Option<Entries<'_>> {
        let values = of(&self.targets, task)?;
        Some(Entries { values, offsets: of(&self.offsets, task), mask: of(&self.masks, task) })
    }

    /// A task's labels of pairs, if it has some here.
    pub fn pairs(&self, task: usize, asked: &Asked) -> Option<Pairs<'_>> {
        let positions = self.field(asked.per.as_deref()?)?.offsets()?;
        Pairs::new(self.targets(task)?, positions, asked.pairing?)
    }

    /// Numeric features of some rows, `[rows, numeric]`.
    pub fn gather_numeric(&self, rows: Rows<'_>, out: &mut [f32]) {
        if let Some(array) = &self.numeric {
            Entries::of(array).numbers(rows, out, 0.0);
        }
    }

    /// Codes of some rows, `[rows, columns]`; -1 becomes [`NOTHING`](crate::input::NOTHING).
    pub fn gather_codes(&self, rows: Rows<'_>, out: &mut [u32]) {
        if let Some(array) = &self.categorical {
            Entries::of(array).codes(rows, out, 0);
        }
    }

    /// Class indices of some rows, `[entries]`, -1 where missing.
    pub fn gather_classes(&self, task: usize, asked: &Asked, rows: Rows<'_>, out: &mut [i32]) {
        if let Some(pairs) = self.pairs(task, asked) {
            pairs.classes(rows, out);
        } else if let Some(targets) = self.targets(task) {
            targets.classes(rows, out);
        }
    }

    /// Numbers of some rows, `[entries, outputs]`, NaN where missing; `labels` says whether -1 is missing too.
    pub fn gather_values(&self, task: usize, labels: Labels, rows: Rows<'_>, out: &mut [f32]) {
        if let Some(targets) = self.targets(task) {
            targets.labels(labels, rows, out);
        }
    }

    /// The same as shares of the sum of each row's, column by column; rows whose sum is 0 have none.
    pub fn gather_shares(&self, task: usize, labels: Labels, rows: Rows<'_>, out: &mut [f32]) {
        if let Some(targets) = self.targets(task) {
            targets.labels(labels, rows.clone(), out);
            targets.share(rows, out);
        }
    }

    /// Row weights of some rows, `[entries]`: each entry of a task's targets has its row's.
    pub fn gather_weights(&self, task: usize, asked: &Asked, rows: Rows<'_>, out: &mut [f32]) {
        let Some(weights) = of(&self.weights, task) else { return };
        if let Some(pairs) = self.pairs(task, asked) {
            return pairs.repeat(weights, rows, out);
        }
        match self.targets(task) {
            Some(targets) => targets.repeat(weights, rows, out, 0.0),
            None => Entries::of(weights).numbers(rows, out, 0.0),
        }
    }

    /// How often each class, or each side of a binary label, occurs.
    ///
    /// # Errors
    /// A task without labels here.
    pub fn count(&self, task: usize, asked: &Asked) -> Result<Counts> {
        let labels = asked.labels;
        let mut counts = Counts::new(labels);
        let Some(targets) = self.targets(task) else {
            crate::bail!("class weights cannot be balanced without labels of task {task}");
        };
        let all = Rows::Range(0..self.rows);
        let entries = match self.pairs(task, asked) {
            Some(pairs) => pairs.count(all.clone()),
            None => targets.count(all.clone()),
        };
        match labels.columns() {
            None => {
                let mut classes = vec![-1; entries];
                self.gather_classes(task, asked, all, &mut classes);
                counts.add(Targets::Classes(&classes));
            }
            Some(columns) => {
                let mut values = vec![f32::NAN; entries * columns];
                targets.labels(labels, all, &mut values);
                counts.add(Targets::Values(&values));
            }
        }
        Ok(counts)
    }
}

fn of<T>(each: &[Option<T>], task: usize) -> Option<&T> {
    each.get(task)?.as_ref()
}
