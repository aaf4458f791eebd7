//! Losses and gradients beside a step: on parts of its batch, on validation rows, with parameters moved.

use super::batches::MicroBatches;
use super::clock::Clock;
use super::finite::finite;
use super::requirements::Requirements;
use crate::bail;
use crate::data::{Data, Rows};
use crate::error::Result;
use crate::machine::random::Stream;
use crate::model::Model;
use crate::model::columns::Columns;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Purpose, Step, Store};
use crate::parameters::TaskId;
use crate::weighting::{Moment, On, Probed};

/// Stream of validation rows within a seed.
const VALIDATION: u64 = 8;

/// What it takes to look beside a step. The model comes back as it was.
pub(super) struct Probe<'a> {
    pub model: &'a mut Model,
    pub parts: &'a dyn MicroBatches,
    pub requirements: &'a Requirements,
    pub validation: Option<&'a Data>,
    pub moment: Moment,
    pub clock: &'a Clock,
}

impl Probe<'_> {
    /// The Jacobian `[tasks, width]` of the shared parameters on one part of the batch, for all tasks.
    pub fn part(&mut self, index: usize) -> Result<Vec<f32>> {
        let count = self.requirements.claims.parts;
        let mut indices = Vec::new();
        let batches: Vec<_> = (0..self.parts.count())
            .map(|micro| {
                let (data, rows) = self.parts.part(micro);
                let from = index * rows.len() / count;
                let to = (index + 1) * rows.len() / count;
                (data.clone(), slice(rows, from..to, &mut indices))
            })
            .collect();
        let columns = &self.requirements.columns;
        Ok(self.differentiate(&batches, &indices, &[], columns, "on a part of the batch of")?.jacobian)
    }

    /// Losses and gradients at all parameters moved by `shift`; sparse tables stay where they are.
    pub fn probe(&mut self, shift: &[f32], on: On) -> Result<Probed> {
        let mut indices = Vec::new();
        let batches = match on {
            On::Batch => {
                let all = (0..self.parts.count()).map(|micro| {
                    let (data, rows) = self.parts.part(micro);
                    let count = rows.len();
                    (data.clone(), slice(rows, 0..count, &mut indices))
                });
                all.collect::<Vec<_>>()
            }
            On::Validation => {
                let Some(data) = self.validation else {
                    bail!("this weighting learns from validation data: pass `validation=` to `fit`");
                };
                let wanted: usize = (0..self.parts.count()).map(|micro| self.parts.part(micro).1.len()).sum();
                let stream = Stream::new(self.moment.seed, &[VALIDATION, self.moment.step]);
                let count = wanted.min(data.rows());
                indices.extend((0..count as u64).map(|i| (stream.bits(i) % data.rows() as u64) as u32));
                vec![(data.clone(), 0..count)]
            }
        };
        let dense = self.model.net.dense();
        if !shift.is_empty() && shift.len() != dense {
            bail!("a probe moves all {dense} parameters; got {} numbers", shift.len());
        }
        let rows_of = match on {
            On::Batch => "with the parameters moved at",
            On::Validation => "on validation rows at",
        };
        self.differentiate(&batches, &indices, shift, &self.requirements.all, rows_of)
    }

    /// Runs both ways over batches of rows `indices[range]`, and leaves everything as it was.
    fn differentiate(
        &mut self,
        batches: &[(Data, std::ops::Range<usize>)],
        indices: &[u32],
        shift: &[f32],
        columns: &Columns,
        rows_of: &str,
    ) -> Result<Probed> {
        let params = &mut self.model.params;
        let state = params.state.all()?.into_owned();
        let gradients = params.gradients.all()?.into_owned();
        let tables: Vec<_> = params.tables.iter().map(|table| table.as_ref().map(|t| t.open().clone())).collect();
        let values = params.values.numbers(0..shift.len())?.into_owned();
        params.values.add(shift)?;
        let done = self.run(batches, indices, columns, rows_of);
        let params = &mut self.model.params;
        params.state.put(0, &state)?;
        params.gradients.put(0, &gradients)?;
        params.values.put(0, &values)?;
        for (table, before) in params.tables.iter().zip(tables) {
            table.iter().zip(before).for_each(|(table, before)| *table.open() = before);
        }
        done
    }

    fn run(
        &mut self,
        batches: &[(Data, std::ops::Range<usize>)],
        indices: &[u32],
        columns: &Columns,
        rows_of: &str,
    ) -> Result<Probed> {
        let tasks = self.model.tasks.len();
        let purpose = Purpose::PerTask(Store::Whole);
        let mut weights = vec![0.0; tasks];
        let mut sums = vec![0.0; tasks];
        let mut jacobian = vec![0.0; tasks * columns.width];
        let filled: Vec<_> = batches.iter().filter(|(_, range)| !range.is_empty()).collect();
        for (data, range) in &filled {
            let rows = Rows::Index(&indices[range.clone()]);
            let mut work = self.model.workspace(self.model.extents(data, rows.clone())?, purpose)?;
            work.gather_labels(data, rows);
            work.add_weights(&self.model.tasks, &mut weights);
            self.model.give_back(work);
        }
        let each = self.model.tasks.iter().zip(&weights);
        let scales: Vec<_> = each.map(|(task, &weight)| task.scale(weight)).collect();
        let rows: usize = filled.iter().map(|(_, range)| range.len()).sum();
        for (index, (data, range)) in filled.iter().enumerate() {
            let rows_here = Rows::Index(&indices[range.clone()]);
            let mut work = self.model.workspace(self.model.extents(data, rows_here.clone())?, purpose)?;
            work.load(data, rows_here, true)?;
            let step = Step {
                seed: self.clock.seed,
                number: self.clock.number(index),
                training: true,
                accumulate: index > 0,
                weights: &[],
                share: range.len() as f64 / rows as f64,
            };
            work.forward(self.model, step)?;
            let check =
                |work: &Workspace, sums: &[f64]| finite(&self.model.tasks, sums, work, self.clock.steps, rows_of);
            work.differentiate(self.model, step, Pass::PerTask, &scales, &mut sums, check)?;
            columns.add(&work, 0..tasks, &mut jacobian)?;
            self.model.give_back(work);
        }
        if !filled.is_empty() {
            columns.copy_own(&self.model.params.gradients, 0..tasks, &mut jacobian)?;
        }
        let loss = |(task, &sum): (TaskId, &f64)| self.model.tasks[task].weight * sum / weights[task];
        let losses = sums.iter().enumerate().map(loss).collect();
        Ok(Probed { losses, jacobian })
    }
}

/// Notes the numbers of some of these rows; gives where.
fn slice(rows: Rows<'_>, range: std::ops::Range<usize>, indices: &mut Vec<u32>) -> std::ops::Range<usize> {
    let first = indices.len();
    match rows {
        Rows::Range(all) => indices.extend((all.start + range.start..all.start + range.end).map(|row| row as u32)),
        Rows::Index(all) => indices.extend_from_slice(&all[range]),
    }
    first..indices.len()
}
