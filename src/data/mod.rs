//! Rows of features and labels that somebody else owns: gathered into a plan, never copied as a whole.

pub mod array;
mod check;
mod mix;
mod order;
mod rows;

use crate::error::Result;
use crate::label::{Counts, Labels, Targets};

use array::{Array, Dtype, Element, with_dtype};
pub use mix::Mix;
pub use order::{Order, Pace};
pub use rows::Rows;

/// Features, targets and row weights of the same rows.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Number of rows.
    pub rows: usize,
    /// `[rows, numeric]`.
    pub numeric: Option<Array>,
    /// `[rows, columns]` of codes.
    pub categorical: Option<Array>,
    /// Of each task `[rows]` or `[rows, outputs]`; none if it has no labels here.
    pub targets: Vec<Option<Array>>,
    /// Of each task, true where a label is missing; shaped as the target.
    pub masks: Vec<Option<Array>>,
    /// Of each task `[rows]`.
    pub weights: Vec<Option<Array>>,
    /// What errors call the numeric features, the categorical ones, then each task's targets and weights.
    pub names: Vec<String>,
}

fn detach_each(arrays: &[Option<Array>]) -> Vec<Option<Array>> {
    arrays.iter().map(|array| array.as_ref().map(Array::detach)).collect()
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
            targets: detach_each(&self.targets),
            masks: detach_each(&self.masks),
            weights: detach_each(&self.weights),
            names: self.names.clone(),
        }
    }

    /// Whether a task has labels here.
    pub fn has_targets(&self, task: usize) -> bool {
        of(&self.targets, task).is_some()
    }

    /// Whether a task has row weights here.
    pub fn has_weights(&self, task: usize) -> bool {
        of(&self.weights, task).is_some()
    }

    /// Numeric features of some rows, `[rows, numeric]`.
    pub fn gather_numeric(&self, rows: Rows<'_>, out: &mut [f32]) {
        if let Some(array) = &self.numeric {
            narrow(array, rows, out);
        }
    }

    /// Codes of some rows, `[rows, columns]`; -1 becomes [`NOTHING`](crate::input::NOTHING).
    pub fn gather_codes(&self, rows: Rows<'_>, out: &mut [u32]) {
        if let Some(array) = &self.categorical {
            // A cast from a float to a whole number without sign would make 0 of -1, which stands for nothing.
            with_dtype!(array.dtype(), T => array.gather(rows, out, |x: T| x as i64 as u32));
        }
    }

    /// Class indices of some rows, `[rows]`, -1 where missing.
    pub fn gather_classes(&self, task: usize, rows: Rows<'_>, out: &mut [i32]) {
        let Some(array) = of(&self.targets, task) else { return };
        // NaN becomes 0 when cast: floats say themselves what is missing.
        let class = |x: f64| if x.is_nan() { -1 } else { x as i32 };
        match array.dtype() {
            Dtype::F32 => array.gather(rows.clone(), out, |x: f32| class(x.wide())),
            Dtype::F64 => array.gather(rows.clone(), out, class),
            dtype => with_dtype!(dtype, T => array.gather(rows.clone(), out, |x: T| x as i32)),
        }
        self.mask(task, rows, out, -1);
    }

    /// Numbers of some rows, `[rows, outputs]`, NaN where missing; `labels` says whether -1 is missing too.
    pub fn gather_values(&self, task: usize, labels: Labels, rows: Rows<'_>, out: &mut [f32]) {
        let Some(array) = of(&self.targets, task) else { return };
        narrow(array, rows.clone(), out);
        if labels.minus_one_is_missing() {
            out.iter_mut().filter(|x| **x == -1.0).for_each(|x| *x = f32::NAN);
        }
        self.mask(task, rows, out, f32::NAN);
    }

    /// Row weights of some rows, `[rows]`.
    pub fn gather_weights(&self, task: usize, rows: Rows<'_>, out: &mut [f32]) {
        if let Some(array) = of(&self.weights, task) {
            narrow(array, rows, out);
        }
    }

    /// How often each class, or each side of a binary label, occurs.
    ///
    /// # Errors
    /// A task without labels here.
    pub fn count(&self, task: usize, labels: Labels) -> Result<Counts> {
        let mut counts = Counts::new(labels);
        if !self.has_targets(task) {
            crate::bail!("class weights cannot be balanced without labels of task {task}");
        }
        match labels.columns() {
            None => {
                let mut classes = vec![-1; self.rows];
                self.gather_classes(task, Rows::Range(0..self.rows), &mut classes);
                counts.add(Targets::Classes(&classes));
            }
            Some(columns) => {
                let mut values = vec![f32::NAN; self.rows * columns];
                self.gather_values(task, labels, Rows::Range(0..self.rows), &mut values);
                counts.add(Targets::Values(&values));
            }
        }
        Ok(counts)
    }

    /// Overwrites what a mask declares missing.
    fn mask<O: Copy>(&self, task: usize, rows: Rows<'_>, out: &mut [O], missing: O) {
        let Some(mask) = of(&self.masks, task) else { return };
        mask.overwrite(rows, out, missing);
    }
}

fn of(arrays: &[Option<Array>], task: usize) -> Option<&Array> {
    arrays.get(task)?.as_ref()
}

fn narrow(array: &Array, rows: Rows<'_>, out: &mut [f32]) {
    if array.is_plain() {
        return array.copy(rows, out);
    }
    with_dtype!(array.dtype(), T => array.gather(rows, out, |x: T| x.narrow()));
}
