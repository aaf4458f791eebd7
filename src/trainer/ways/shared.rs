//! The way of a step by the tasks' gradients at all shared parameters.

use crate::bail;
use crate::error::Result;
use crate::machine::gram::{add_products, combine};
use crate::machine::lent::Lent;
use crate::machine::storage::Backend;
use crate::model::Model;
use crate::model::columns::Columns;
use crate::model::workspace::Workspace;
use crate::network::gradient::Slabs;
use crate::network::pass::{Pass, Step};
use crate::parameters::TaskId;
use crate::trainer::Trainer;
use crate::trainer::finite::finite;
use crate::trainer::scratch::{Factors, Scratch, TaskGradients};
use crate::weighting::Decision;

impl Trainer {
    /// Adds a micro-batch's losses and the tasks' gradients of shared parameters; the others' go into the flat gradient.
    pub(in crate::trainer) fn add_task_gradients(
        &mut self,
        model: &Model,
        work: &mut Workspace,
        step: Step<'_>,
    ) -> Result<()> {
        let Scratch { labels, losses, gradients, .. } = &mut self.scratch;
        let steps = self.clock.steps;
        let check = |work: &Workspace, sums: &[f64]| finite(&model.tasks, sums, work, steps, "at");
        work.differentiate(model, step, Pass::PerTask, &labels.scales, &mut losses.sums, check)?;
        let requirements = &self.decider.requirements;
        if requirements.gathers && model.backend() != Backend::Loops {
            return self.add_rows_there(model, work, !step.accumulate);
        }
        if requirements.gathers {
            gradients.jacobian.resize(labels.rows.len() * requirements.columns.width, 0.0);
            requirements.columns.add(work, labels.rows.iter().copied(), &mut gradients.jacobian)?;
        }
        Ok(())
    }

    /// What follows from the gradients of all micro-batches: their products, and, if wanted, those in each layer.
    pub(in crate::trainer) fn settle_shared(&mut self, model: &Model, work: &mut Workspace) -> Result<()> {
        if model.backend() != Backend::Loops {
            return self.settle_there(model, work);
        }
        let requirements = &self.decider.requirements;
        let gradient = &model.params.gradients;
        let Scratch { labels, gradients, .. } = &mut self.scratch;
        let columns = &requirements.columns;
        if requirements.gathers {
            columns.copy_own(gradient, labels.rows.iter().copied(), &mut gradients.jacobian)?;
        }
        gradients.layers.resize_with(if requirements.per_layer { columns.layers } else { 0 }, Vec::new);
        let TaskGradients { gramian, layers, jacobian, of_all, columns: room, .. } = gradients;
        let rows = &labels.rows;
        let layers = layers.iter_mut().enumerate().map(|(layer, gramian)| (Some(layer), gramian));
        for (layer, gramian) in std::iter::once((None, gramian)).chain(layers) {
            gramian.clear();
            gramian.resize(rows.len() * rows.len(), 0.0);
            match work.plan().slabs().filter(|_| !requirements.gathers) {
                None if layer.is_none() => add_products(jacobian, rows.len(), gramian),
                None => {
                    for column in columns.params.iter().filter(|column| Some(column.layer) == layer) {
                        pick(jacobian, columns.width, column.at.clone(), room);
                        add_products(room, rows.len(), gramian);
                    }
                }
                Some(slabs) => {
                    of_all.clear();
                    of_all.resize(model.tasks.len() * model.tasks.len(), 0.0);
                    add_layer(slabs, columns, layer, of_all)?;
                    for (i, &s) in rows.iter().enumerate() {
                        for (j, &t) in rows.iter().enumerate() {
                            gramian[i * rows.len() + j] = of_all[s * model.tasks.len() + t];
                        }
                        // Where every task has parameters of its own alone, these count.
                        gramian[i * rows.len() + i] += columns.own_squares(gradient, s, layer)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the flat gradient of the tasks' gradients and what was decided.
    pub(in crate::trainer) fn backward_at_shared(
        &mut self,
        model: &mut Model,
        work: &mut Workspace,
        step: Step<'_>,
    ) -> Result<()> {
        let kept = self.decider.requirements.gathers || work.plan().slabs().is_some_and(Slabs::kept);
        if !kept {
            // Only the Gramian was kept: a summed pass with the weights follows.
            self.once_more(model, work)?;
            return self.backward(model, work, step, true);
        }
        if let Decision::Direction { direction, .. } = self.decider.decision() {
            for column in &self.decider.requirements.columns.params {
                model.params.gradients.put(column.flat.start, &direction[column.at.clone()])?;
            }
        }
        match model.backend() {
            Backend::Loops => self.combine(model, work)?,
            Backend::Formulas(_) => self.combine_there(model, work)?,
        }
        self.combine_tables(model);
        Ok(())
    }

    /// What tasks' heads count, and the gradient of shared parameters from the tasks' gradients; a direction is there.
    fn combine(&mut self, model: &mut Model, work: &mut Workspace) -> Result<()> {
        let Scratch { labels, factors, gradients, .. } = &mut self.scratch;
        let requirements = &self.decider.requirements;
        let columns = &requirements.columns;
        let rows = &labels.rows;
        let gradient = &mut model.params.gradients;
        for (task, range) in &requirements.heads {
            let factor = factors.outputs[*task];
            if factor != 1.0 {
                gradient.scale(range.clone(), factor as f32)?;
            }
        }
        let decision = self.decider.decision();
        if matches!(decision, Decision::Direction { .. }) {
            return Ok(());
        }
        let weight = |row: usize, layer: usize| weight(decision, factors, rows, row, layer);
        if columns.separate() {
            for (row, &task) in rows.iter().enumerate() {
                for own in &columns.own[task] {
                    let factor = weight(row, own.layer) as f32;
                    gradient.scale(own.flat.clone(), factor)?;
                }
            }
            return Ok(());
        }
        let Some(gradient) = gradient.host_mut() else { bail!("loops work in the host's memory") };
        for column in &columns.params {
            let part = &mut gradient.slice_mut()[column.flat.clone()];
            if requirements.gathers {
                let weights: Lent<f64> = (0..rows.len()).map(|row| weight(row, column.layer)).collect();
                pick(&gradients.jacobian, columns.width, column.at.clone(), &mut gradients.columns);
                combine(&gradients.columns, &weights, part);
            } else if let Some(slabs) = work.plan().slabs() {
                let mut weights = Lent::zeros(model.tasks.len());
                rows.iter().enumerate().for_each(|(row, &task)| weights[task] = weight(row, column.layer));
                slabs.combine(column.param, &weights, part);
            }
        }
        Ok(())
    }

    /// The gradient of sparse tables. A table has no layers and no direction of its own: it takes the mean of the layers'
    /// weights, or the tasks' own.
    fn combine_tables(&self, model: &Model) {
        let Scratch { labels, factors, .. } = &self.scratch;
        let decision = self.decider.decision();
        let mut weights = Lent::zeros(model.tasks.len());
        for (row, &task) in labels.rows.iter().enumerate() {
            let of_layers = matches!(decision, Decision::Layers { .. }).then(|| decision.weight(row)).flatten();
            weights[task] = of_layers.unwrap_or_else(|| factors.shared(task));
        }
        self.updater.tables.combine(&model.params.tables, &weights);
    }
}

/// What the gradient in a row counts in a layer, where rows are put together with weights.
pub(super) fn weight(decision: Decision<'_>, factors: &Factors, rows: &[TaskId], row: usize, layer: usize) -> f64 {
    match decision {
        Decision::Layers { layers, .. } => layers[layer * rows.len() + row],
        _ => factors.shared(rows[row]),
    }
}

/// Adds the Gramian of the columns in a layer, or of all.
fn add_layer(slabs: &Slabs<f32>, columns: &Columns, layer: Option<usize>, into: &mut [f64]) -> Result<()> {
    let Some(layer) = layer else { return slabs.add_gramian(|_| true, into) };
    slabs.add_gramian(|param| columns.params.iter().any(|column| column.param == param && column.layer == layer), into)
}

/// Some columns `[rows, size]` of a Jacobian `[rows, width]`.
fn pick(jacobian: &[f32], width: usize, columns: std::ops::Range<usize>, into: &mut Vec<f32>) {
    into.clear();
    for row in jacobian.chunks_exact(width) {
        into.extend_from_slice(&row[columns.clone()]);
    }
}
