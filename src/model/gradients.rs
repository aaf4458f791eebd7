//! Gradients of a model on given rows: of the sum, of each task, and their products.

use std::borrow::Cow;

use super::Model;
use super::columns::Columns;
use crate::bail;
use crate::data::{Data, Rows};
use crate::error::Result;
use crate::model::workspace::Workspace;
use crate::network::gradient::Slabs;
use crate::network::pass::{Pass, Purpose, Step};
use crate::parameters::Entry;
use crate::parameters::flat::Params;

/// The per-task gradients of the shared parameters.
#[derive(Debug)]
pub struct Jacobian {
    /// Names of the parameters, in column order.
    pub names: Vec<String>,
    /// `[tasks, columns]`, row by row.
    pub rows: Vec<Vec<f32>>,
}

impl Model {
    /// The gradient of the weighted objective on all rows as one batch, without dropout: `out[i]` for entry `i`, of whole
    /// tables too.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn gradient(&mut self, data: &Data) -> Result<Vec<Vec<f32>>> {
        let work = self.differentiate(data, Pass::Summed)?;
        self.give_back(work);
        let Params { gradients, tables, .. } = &self.params;
        let gradient = |entry: &Entry| match &tables[entry.param?] {
            Some(table) => {
                let mut whole = vec![0.0; entry.range.len()];
                table.open().spread(0, &mut whole);
                Some(Ok(whole))
            }
            None => Some(gradients.numbers(entry.range.clone()).map(Cow::into_owned)),
        };
        self.net.entries.iter().filter_map(gradient).collect()
    }

    /// The per-task gradients (times lambda) of the shared parameters, likewise; a task without a label gives zeros.
    ///
    /// # Errors
    /// What libtorch refuses; a Jacobian beyond the budget of memory.
    pub fn jacobian(&mut self, data: &Data) -> Result<Jacobian> {
        let mut work = self.differentiate(data, Pass::PerTask)?;
        let columns = Columns::of_shared(&self.net);
        let kept = columns.separate() || work.plan().slabs().is_some_and(Slabs::kept);
        let mut rows = vec![0.0; if kept { self.tasks.len() * columns.width } else { 0 }];
        columns.add(&work, 0..self.tasks.len(), &mut rows)?;
        columns.copy_own(&self.params.gradients, 0..self.tasks.len(), &mut rows)?;
        self.give_back(work);
        if !kept {
            bail!("the Jacobian is too large to keep; ask for the Gramian");
        }
        let shared = self.net.shared();
        let names = self.net.entries.iter().filter(|e| e.param.is_some_and(|p| shared.contains(&p)));
        let names = names.map(|e| e.name.to_string()).collect();
        let row = |task: usize| rows[task * columns.width..][..columns.width].to_vec();
        Ok(Jacobian { names, rows: (0..self.tasks.len()).map(row).collect() })
    }

    /// The Gramian `[tasks, tasks]` of those gradients.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn gramian(&mut self, data: &Data) -> Result<Vec<f64>> {
        let mut work = self.differentiate(data, Pass::PerTask)?;
        let tasks = self.tasks.len();
        let columns = Columns::of_shared(&self.net);
        let mut gramian = vec![0.0; tasks * tasks];
        if let Some(slabs) = work.plan().slabs() {
            slabs.add_gramian(|_| true, &mut gramian)?;
        }
        // Where no task shares parameters the rows are disjoint, and the Gramian is diagonal.
        for task in 0..tasks {
            gramian[task * (tasks + 1)] += columns.own_squares(&self.params.gradients, task, None)?;
        }
        self.give_back(work);
        Ok(gramian)
    }

    fn differentiate(&mut self, data: &Data, pass: Pass) -> Result<Workspace> {
        let purpose = if pass == Pass::Summed { Purpose::Train } else { Purpose::BOTH };
        let mut work = self.workspace(self.extents(data, Rows::Range(0..data.rows()))?, purpose)?;
        work.load(data, Rows::Range(0..data.rows()), true)?;
        work.forward(self, Step::EVALUATION)?;
        let weights = work.weights(&self.tasks);
        let scales = self.tasks.iter().zip(&weights).map(|(task, &weight)| task.scale(weight));
        let scales: Vec<_> = scales.collect();
        let mut sums = vec![0.0; self.tasks.len()];
        work.differentiate(self, Step::EVALUATION, pass, &scales, &mut sums, |_, _| Ok(()))?;
        Ok(work)
    }
}
