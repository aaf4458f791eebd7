//! The same way by formulas: the tasks' gradients stay where they are, and their products alone come to the host.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::shared::weight;
use crate::error::Result;
use crate::machine::buffer::Layout;
use crate::machine::crossing::{constant, fetch, launching};
use crate::machine::gram;
use crate::machine::storage::{Storage, square_sum};
use crate::model::Model;
use crate::model::columns::Columns;
use crate::model::workspace::Workspace;
use crate::network::gradient::Slabs;
use crate::parameters::TaskId;
use crate::trainer::Trainer;
use crate::trainer::scratch::{Scratch, TaskGradients};
use crate::weighting::{Decision, Needs};

impl Trainer {
    /// Adds a micro-batch's rows of the Jacobian, those of all tasks; the first one's replace what was there.
    pub(super) fn add_rows_there(&mut self, model: &Model, work: &mut Workspace, first: bool) -> Result<()> {
        let columns = &self.decider.requirements.columns;
        let layout = Layout { groups: 1, rows: 1, lanes: model.tasks.len(), width: columns.width };
        let backend = model.backend();
        let known = self.scratch.gradients.there.take();
        let mut rows = match known.filter(|known| (known.layout(), known.backend()) == (layout, backend)) {
            Some(known) => known,
            None => Storage::zeros(layout, backend)?,
        };
        launching(|| {
            if first {
                rows.clear_all()?;
            }
            let slabs = work.plan().slabs().expect("the way by shared parameters keeps gradients");
            for column in &columns.params {
                slabs.add_rows_there(column.param, &rows, column.at.start)?;
            }
            Ok(())
        })?;
        self.scratch.gradients.there = Some(rows);
        Ok(())
    }

    /// What follows from the gradients of all micro-batches, by one fetch: their products, and those in each layer; for a
    /// weighting that wants to see the rows themselves, by another one.
    pub(super) fn settle_there(&mut self, model: &Model, work: &mut Workspace) -> Result<()> {
        let requirements = &self.decider.requirements;
        let columns = &requirements.columns;
        let gradient = &model.params.gradients;
        let tasks = model.tasks.len();
        let TaskGradients { gramian, layers, jacobian, there, .. } = &mut self.scratch.gradients;
        let rows = &self.scratch.labels.rows;
        let count = if requirements.per_layer { columns.layers } else { 0 };
        let slabs = work.plan().slabs().expect("the way by shared parameters keeps gradients");
        let products = launching(|| {
            let _guard = tch::no_grad_guard();
            if let Some(there) = there.as_ref().filter(|_| requirements.gathers) {
                copy_own(columns, gradient, there)?;
            }
            let of = |layer| match there.as_ref().filter(|_| requirements.gathers) {
                Some(there) => of_rows(columns, there, layer),
                None => of_slabs(columns, slabs, gradient, tasks, layer),
            };
            let all = std::iter::once(None).chain((0..count).map(Some)).map(of).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::f_stack(&all, 0)?)
        })?;
        layers.resize_with(count, Vec::new);
        let products = fetch::<f64>(&products)?;
        let each = std::iter::once(gramian).chain(layers).zip(products.chunks_exact(tasks * tasks));
        for (gramian, all) in each {
            gramian.clear();
            rows.iter().for_each(|&s| gramian.extend(rows.iter().map(|&t| all[s * tasks + t])));
        }
        if let Some(there) = there.as_ref().filter(|_| requirements.claims.needs == Needs::Jacobian) {
            let all = there.all()?;
            rows.iter().for_each(|&task| jacobian.extend_from_slice(&all[task * columns.width..][..columns.width]));
        }
        Ok(())
    }

    /// What tasks' heads count, and the gradient of shared parameters from the tasks' gradients; a direction is there.
    pub(super) fn combine_there(&mut self, model: &mut Model, work: &mut Workspace) -> Result<()> {
        let Scratch { labels, factors, gradients, .. } = &mut self.scratch;
        let requirements = &self.decider.requirements;
        let columns = &requirements.columns;
        let rows = &labels.rows;
        let tasks = model.tasks.len();
        let decision = self.decider.decision();
        let directed = matches!(decision, Decision::Direction { .. });
        let gradient = &model.params.gradients;
        let mut told = vec![0.0; columns.layers * tasks];
        for (layer, of_layer) in told.chunks_exact_mut(tasks).enumerate().filter(|_| !directed) {
            let each = rows.iter().enumerate();
            each.for_each(|(row, &task)| of_layer[task] = weight(decision, factors, rows, row, layer));
        }
        told.extend(&factors.outputs);
        let all = gradient.range(&(0..gradient.layout().len()))?;
        let told = gradients.told.holding(&told, all.device())?.f_to_kind(all.kind())?;
        let there = gradients.there.as_ref().filter(|_| requirements.gathers);
        launching(|| {
            let _guard = tch::no_grad_guard();
            let scale = |range: &Range<usize>, at: usize| -> Result<()> {
                let _ = gradient.range(range)?.f_mul_(&told.f_select(0, at as i64)?)?;
                Ok(())
            };
            for (task, range) in &requirements.heads {
                scale(range, columns.layers * tasks + task)?;
            }
            if directed {
                return Ok(());
            }
            if columns.separate() {
                for &task in rows {
                    columns.own[task].iter().try_for_each(|own| scale(&own.flat, own.layer * tasks + task))?;
                }
                return Ok(());
            }
            for column in &columns.params {
                let weights = told.f_narrow(0, (column.layer * tasks) as i64, tasks as i64)?;
                match (there, work.plan().slabs()) {
                    (Some(there), _) => {
                        let own = there.view(&[tasks, column.at.len()], &[columns.width, 1], column.at.start)?;
                        gradient.range(&column.flat)?.f_copy_(&weights.f_matmul(&own)?)?;
                    }
                    (None, Some(slabs)) => slabs.combine_there(column.param, &weights, gradient, &column.flat)?,
                    (None, None) => {}
                }
            }
            Ok(())
        })
    }
}

/// Copies what one task's gradient alone reaches from the flat gradient to its row.
fn copy_own(columns: &Columns, gradient: &Storage<f32>, rows: &Storage<f32>) -> Result<()> {
    for (task, own) in columns.own.iter().enumerate() {
        for own in own {
            let to = task * columns.width + own.at.start;
            rows.range(&(to..to + own.at.len()))?.f_copy_(&gradient.range(&own.flat)?)?;
        }
    }
    Ok(())
}

/// The products `[tasks, tasks]` of rows, in a layer or in all.
fn of_rows(columns: &Columns, rows: &Storage<f32>, layer: Option<usize>) -> Result<Tensor> {
    let tasks = rows.layout().lanes;
    let part = |at: &Range<usize>| rows.view(&[tasks, at.len()], &[columns.width, 1], at.start);
    if layer.is_none() {
        return gram::formula(&part(&(0..columns.width))?);
    }
    let wanted = columns.params.iter().filter(|column| Some(column.layer) == layer);
    let parts = wanted.map(|column| part(&column.at)).collect::<Result<Vec<_>>>()?;
    gram::formula(&Tensor::f_cat(&parts, 1)?)
}

/// The same of a Jacobian whose products were taken when its rows were there, with what each task has alone.
fn of_slabs(
    columns: &Columns,
    slabs: &Slabs<f32>,
    gradient: &Storage<f32>,
    tasks: usize,
    layer: Option<usize>,
) -> Result<Tensor> {
    let wanted = columns.params.iter().filter(|column| layer.is_none_or(|layer| column.layer == layer));
    let products = slabs.gramian_there(wanted.map(|column| column.param))?;
    if !columns.separate() {
        return Ok(products);
    }
    let device = products.device();
    let squares = |task: TaskId| {
        let own = columns.own[task].iter().filter(|own| layer.is_none_or(|layer| own.layer == layer));
        let zero = constant(&[0.0], Kind::Double, device)?.f_select(0, 0)?;
        own.map(|own| square_sum(&gradient.range(&own.flat)?)).try_fold(zero, |sum, own| Ok(sum.f_add(&own?)?))
    };
    let squares = (0..tasks).map(squares).collect::<Result<Vec<_>>>()?;
    Ok(products.f_add(&Tensor::f_stack(&squares, 0)?.f_diag(0)?)?)
}
