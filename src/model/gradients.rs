//! Gradients of a model on given rows: of the sum, of each task, and their products.

use super::Model;
use crate::data::{Data, Rows};
use crate::error::Result;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Purpose, Step};
use crate::parameters::flat::Params;
use crate::parameters::{Entry, Reach};
use crate::value_error;

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
                Some(whole)
            }
            None => Some(gradients.slice()[entry.range.clone()].to_vec()),
        };
        Ok(self.net.entries.iter().filter_map(gradient).collect())
    }

    /// The per-task gradients (times lambda) of the shared parameters, likewise; a task without a label gives zeros.
    ///
    /// # Errors
    /// What libtorch refuses; a Jacobian beyond the budget of memory.
    pub fn jacobian(&mut self, data: &Data) -> Result<Jacobian> {
        let work = self.differentiate(data, Pass::PerTask)?;
        let shared = self.net.shared();
        let names = self.net.entries.iter().filter(|e| e.param.is_some_and(|p| shared.contains(&p)));
        let names = names.map(|e| e.name.to_string()).collect();
        let row = |task: usize| shared.iter().map(|&p| self.row(&work, p, task)).collect::<Option<Vec<_>>>();
        let rows = (0..self.tasks.len()).map(|task| row(task).map(|parts| parts.concat())).collect::<Option<_>>();
        self.give_back(work);
        let rows = rows.ok_or_else(|| value_error!("the Jacobian is too large to keep; ask for the Gramian"))?;
        Ok(Jacobian { names, rows })
    }

    /// The Gramian `[tasks, tasks]` of those gradients.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn gramian(&mut self, data: &Data) -> Result<Vec<f64>> {
        let work = self.differentiate(data, Pass::PerTask)?;
        let tasks = self.tasks.len();
        let mut gramian = work.gramian();
        // Where no task shares parameters the rows are disjoint, and the Gramian is diagonal.
        for p in self.net.shared().into_iter().filter(|&p| self.net.params[p].reach != Reach::All) {
            for task in 0..tasks {
                let row = self.row(&work, p, task).unwrap_or_default();
                gramian[task * tasks + task] += row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            }
        }
        self.give_back(work);
        Ok(gramian)
    }

    /// One task's gradient of a shared parameter, whether all tasks reach it or each its own group.
    fn row(&self, work: &Workspace, param: usize, task: usize) -> Option<Vec<f32>> {
        let p = &self.net.params[param];
        if p.reach == Reach::All {
            return work.row(param, task);
        }
        let mut row = vec![0.0; p.range.len()];
        let size = row.len() / self.tasks.len();
        let own = task * size..(task + 1) * size;
        row[own.clone()].copy_from_slice(&self.params.gradients.slice()[p.range.clone()][own]);
        Some(row)
    }

    fn differentiate(&mut self, data: &Data, pass: Pass) -> Result<Workspace> {
        let purpose = if pass == Pass::Summed { Purpose::Train } else { Purpose::BOTH };
        let mut work = self.workspace(data.rows(), purpose)?;
        work.load(data, Rows::Range(0..data.rows()), true);
        work.forward(Step::EVALUATION)?;
        let weights = work.weights(&self.tasks);
        let scales = self.tasks.iter().zip(&weights).map(|(t, &w)| if w > 0.0 { t.weight / w } else { 0.0 });
        let scales: Vec<_> = scales.collect();
        work.losses(&self.tasks, Some((pass, &scales)))?;
        work.backward(Step::EVALUATION, pass)?;
        Ok(work)
    }
}
