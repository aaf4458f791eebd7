//! Losses and gradients beside a step: on parts of its batch, on validation rows, with parameters moved.

use super::batches::MicroBatches;
use super::finite::finite;
use super::requirements::Requirements;
use crate::bail;
use crate::data::{Data, Rows};
use crate::error::Result;
use crate::machine::random::Stream;
use crate::model::Model;
use crate::network::pass::{Pass, Purpose, Step, Store};
use crate::parameters::{Block, TaskId};
use crate::weighting::{Moment, On, Probed};

/// Stream of validation rows within a seed.
const VALIDATION: u64 = 8;

/// What it takes to look beside a step. The model comes back as it was.
pub(super) struct Probe<'a> {
    pub model: &'a mut Model,
    pub parts: &'a dyn MicroBatches,
    pub requirements: &'a Requirements,
    pub blocks: &'a [Block],
    pub validation: Option<&'a Data>,
    pub moment: Moment,
    /// Of the step, for dropout.
    pub number: u64,
}

impl Probe<'_> {
    /// The Jacobian `[tasks, width]` of the shared parameters on one part of the batch, for all tasks.
    pub fn part(&mut self, index: usize) -> Result<Vec<f32>> {
        let count = self.requirements.parts;
        let mut indices = Vec::new();
        let batches: Vec<_> = (0..self.parts.count())
            .map(|micro| {
                let (data, rows) = self.parts.part(micro);
                let (from, to) = (index * rows.len() / count, (index + 1) * rows.len() / count);
                (data.clone(), slice(rows, from..to, &mut indices))
            })
            .collect();
        Ok(self.differentiate(&batches, &indices, &[], false, "on a part of the batch of")?.jacobian)
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
        self.differentiate(&batches, &indices, shift, true, rows_of)
    }

    /// Runs both ways over batches of rows `indices[range]`, and leaves everything as it was.
    fn differentiate(
        &mut self,
        batches: &[(Data, std::ops::Range<usize>)],
        indices: &[u32],
        shift: &[f32],
        all: bool,
        rows_of: &str,
    ) -> Result<Probed> {
        let params = &mut self.model.params;
        let (state, gradients) = (params.state.slice().to_vec(), params.gradients.slice().to_vec());
        let tables: Vec<_> = params.tables.iter().map(|table| table.as_ref().map(|t| t.open().clone())).collect();
        let values = params.values.slice()[..shift.len()].to_vec();
        params.values.slice_mut().iter_mut().zip(shift).for_each(|(value, by)| *value += by);
        let done = self.run(batches, indices, all, rows_of);
        let params = &mut self.model.params;
        params.state.slice_mut().copy_from_slice(&state);
        params.gradients.slice_mut().copy_from_slice(&gradients);
        params.values.slice_mut()[..values.len()].copy_from_slice(&values);
        for (table, before) in params.tables.iter().zip(tables) {
            table.iter().zip(before).for_each(|(table, before)| *table.open() = before);
        }
        done
    }

    fn run(
        &mut self,
        batches: &[(Data, std::ops::Range<usize>)],
        indices: &[u32],
        all: bool,
        rows_of: &str,
    ) -> Result<Probed> {
        let (tasks, purpose) = (self.model.tasks.len(), Purpose::PerTask(Store::Whole));
        let width = if all { self.model.net.dense() } else { self.requirements.width };
        let (mut weights, mut sums) = (vec![0.0; tasks], vec![0.0; tasks]);
        let mut jacobian = vec![0.0; tasks * width];
        let filled: Vec<_> = batches.iter().filter(|(_, range)| !range.is_empty()).collect();
        for (data, range) in &filled {
            let mut work = self.model.workspace(range.len(), purpose)?;
            work.load_labels(data, Rows::Index(&indices[range.clone()]));
            work.add_weights(&self.model.tasks, &mut weights);
            self.model.give_back(work);
        }
        let each = self.model.tasks.iter().zip(&weights);
        let scales: Vec<_> = each.map(|(task, &w)| if w > 0.0 { task.weight / w } else { 0.0 }).collect();
        let rows: usize = filled.iter().map(|(_, range)| range.len()).sum();
        for (index, (data, range)) in filled.iter().enumerate() {
            let mut work = self.model.workspace(range.len(), purpose)?;
            work.load(data, Rows::Index(&indices[range.clone()]), true);
            let accumulate = index > 0;
            let (seed, number) = (self.moment.seed, self.number + index as u64);
            let share = range.len() as f64 / rows as f64;
            let step = Step { codes: &[], seed, number, training: true, accumulate, weights: &[], share };
            work.forward(step)?;
            work.add_losses(&self.model.tasks, Some((Pass::PerTask, &scales)), &mut sums)?;
            finite(&self.model.tasks, &sums, &work, self.moment.step, rows_of)?;
            work.backward(step, Pass::PerTask)?;
            for (task, row) in jacobian.chunks_exact_mut(width.max(1)).enumerate() {
                for piece in self.requirements.shared.iter().filter(|piece| piece.parts.is_none()) {
                    work.add_row(piece.param, task, &mut row[if all { piece.flat.clone() } else { piece.row() }]);
                }
            }
            self.model.give_back(work);
        }
        for (task, row) in jacobian.chunks_exact_mut(width.max(1)).enumerate().filter(|_| !filled.is_empty()) {
            self.add_own(task, row, all);
        }
        let loss = |(task, &sum): (TaskId, &f64)| self.model.tasks[task].weight * sum / weights[task];
        let losses = sums.iter().enumerate().map(loss).collect();
        Ok(Probed { losses, jacobian })
    }

    /// Copies what only this task's gradient reaches.
    fn add_own(&self, task: TaskId, row: &mut [f32], all: bool) {
        let gradients = self.model.params.gradients.slice();
        if all {
            for block in self.blocks.iter().filter(|block| block.task == Some(task)) {
                row[block.range.clone()].copy_from_slice(&gradients[block.range.clone()]);
            }
            return;
        }
        for piece in &self.requirements.shared {
            if let Some(own) = piece.own(task) {
                let from = &gradients[piece.flat.clone()][own.clone()];
                row[piece.row()][own].copy_from_slice(from);
            }
        }
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
