//! A plan together with the rows it works on: gathered features, labels and weights of one batch.

mod losses;

use std::borrow::Cow;
use std::sync::Arc;

use tch::Tensor;

use super::Model;
use super::labels::TaskLabels;
use crate::data::{Asked, Data, Field, Rows};
use crate::error::Result;
use crate::label::Targets;
use crate::loss::{Batch, Link, Loops, Together};
use crate::machine::buffer::codes_mut;
use crate::machine::crossing::fetch;
use crate::machine::memory;
use crate::machine::real::Cell;
use crate::machine::storage::{Backend, Storage};
use crate::meter::Meter;
use crate::network::axis::{Extent, Extents};
use crate::network::pass::{Pass, Purpose, Step};
use crate::network::plan::{Plan, Window};
use crate::network::{Axis, AxisId, Input, InputId, InputKind, Network, Output, ROWS};
use crate::parameters::TaskId;
use crate::parameters::flat::Params;
use crate::task::Task;

/// Buffers for one number of rows.
#[derive(Debug)]
pub struct Workspace {
    plan: Plan<f32>,
    purpose: Purpose,
    /// Whose rows each task's labels are.
    axes: Vec<AxisId>,
    /// The members of an ensemble that each task has outputs of, if it has.
    members: Vec<Option<Members>>,
    /// Where each row's positions begin and the last row's end, of ragged axes.
    starts: Vec<Vec<i32>>,
    labels: Vec<TaskLabels>,
    /// Tasks whose labels nodes are shown, and the inputs by which.
    shown: Vec<(TaskId, InputId)>,
    /// Features on their way to another device.
    numbers: Vec<f32>,
    codes: Vec<i32>,
    bytes: usize,
    /// Of the model's workspaces.
    _handle: Arc<()>,
}

/// Members of an ensemble, of whose predictions the mean counts.
#[derive(Debug, Clone, Copy)]
struct Members {
    count: usize,
    link: Link,
}

/// Has memory written: the host's where it is, another device's by way of the host's.
fn fill<T: Cell>(to: &mut Storage<T>, way: &mut Vec<T>, write: impl FnOnce(&mut [T])) -> Result<()> {
    match to {
        Storage::Host(buffer) => write(buffer.slice_mut()),
        away => {
            way.resize(away.layout().len(), T::ZERO);
            write(way);
            away.put(0, way)?;
        }
    }
    Ok(())
}

impl Workspace {
    /// Allocates everything for so many rows and positions.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(super) fn new(
        net: &Network,
        params: &Params<f32>,
        tasks: &[Task],
        asked: Vec<Asked>,
        extents: Extents,
        purpose: Purpose,
        handle: Arc<()>,
    ) -> Result<Self> {
        let before = memory::taken();
        // SAFETY: a model makes workspaces of its own parameters alone, and they are used within the crate: by `Model` itself,
        // which reads while it evaluates and is `&mut` where it does more, or by a trainer, which has it as `&mut`. No slice of the
        // parameters is held across a call of the workspace.
        let plan = unsafe { Plan::new(net, params, extents, purpose) }?;
        let axis = |output: &Output| net.values[output.value].axis;
        let members = |(output, task): (&Output, &Task)| match net.axes[axis(output)].extent {
            Extent::Members(count) => Some(Members { count, link: task.loss.link(task.labels) }),
            _ => None,
        };
        let members: Vec<_> = net.outputs.iter().zip(tasks).map(members).collect();
        let axes = net.outputs.iter().zip(&members);
        let axes: Vec<_> = axes.map(|(output, members)| members.map_or(axis(output), |_| ROWS)).collect();
        let labels = asked.into_iter().zip(tasks).zip(&axes).map(|((asked, task), &axis)| {
            let shares = task.loss.together() == Some(Together::List);
            TaskLabels::new(extents.each()[axis], asked, shares)
        });
        let labels = labels.collect();
        let none = |axis: &Axis| if axis.extent == Extent::Ragged { vec![0; extents.rows() + 1] } else { Vec::new() };
        let starts = net.axes.iter().map(none).collect();
        let shown = net.shown.clone();
        let (numbers, codes) = (Vec::new(), Vec::new());
        let bytes = memory::taken() - before;
        Ok(Self { plan, purpose, axes, members, starts, labels, shown, numbers, codes, bytes, _handle: handle })
    }

    /// Rows it is made for.
    pub fn rows(&self) -> usize {
        self.plan.extents.rows()
    }

    /// Rows and positions it is made for.
    pub fn extents(&self) -> Extents {
        self.plan.extents
    }

    /// Rows that a task has outputs for: all rows, or the positions of the batch.
    fn count(&self, task: usize) -> usize {
        self.plan.count(self.axes[task])
    }

    /// Bytes of its buffers.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it is made for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Gathers features, and with `labels` also targets and weights, of rows that were checked before.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn load(&mut self, data: &Data, rows: Rows<'_>, labels: bool) -> Result<()> {
        for input in 0..self.plan.inputs().len() {
            let Input { axis, ref name, ref kind } = self.plan.inputs()[input];
            let field = data.field(name);
            if let (Some(starts), Some(offsets)) =
                (Some(&mut self.starts[axis]).filter(|starts| !starts.is_empty()), field.and_then(Field::offsets))
            {
                offsets.starts(rows.clone(), starts);
            }
            let entries = field.map(Field::entries);
            let rows = rows.clone();
            match (kind, axis) {
                (InputKind::Real(_), ROWS) => fill(self.plan.real(input), &mut self.numbers, |to| match entries {
                    Some(array) => array.numbers(rows, to, 0.0),
                    None => data.gather_numeric(rows, to),
                })?,
                (InputKind::Codes(_), ROWS) => {
                    fill(self.plan.codes(input), &mut self.codes, |to| data.gather_codes(rows, codes_mut(to)))?;
                }
                // Where there is room beyond the last position numbers and codes are 0.
                (InputKind::Real(_), _) => fill(self.plan.real(input), &mut self.numbers, |to| {
                    entries.into_iter().for_each(|entries| entries.numbers(rows.clone(), to, 0.0));
                })?,
                (InputKind::Codes(_), _) => fill(self.plan.codes(input), &mut self.codes, |to| {
                    entries.into_iter().for_each(|entries| entries.codes(rows.clone(), codes_mut(to), 0));
                })?,
            }
        }
        for (axis, starts) in self.starts.iter().enumerate().filter(|(_, starts)| !starts.is_empty()) {
            self.plan.place(axis, starts)?;
        }
        if labels {
            self.gather_labels(data, rows);
            let backend = self.plan.backend();
            self.labels.iter_mut().try_for_each(|labels| labels.send(backend))?;
        }
        for &(task, input) in &self.shown {
            let known = self.labels[task].targets();
            fill(self.plan.codes(input), &mut self.codes, |to| match known {
                _ if !labels => to.fill(-1),
                Targets::Classes(known) => to.copy_from_slice(known),
                Targets::Values(known) => {
                    to.iter_mut().zip(known).for_each(|(to, y)| *to = if y.is_nan() { -1 } else { 0 });
                }
            })?;
        }
        Ok(())
    }

    /// Gathers targets and weights alone, on the host, to count them.
    pub fn gather_labels(&mut self, data: &Data, rows: Rows<'_>) {
        self.labels.iter_mut().enumerate().for_each(|(task, labels)| labels.gather(data, task, rows.clone()));
    }

    /// Sends all that the passes of a step will be told, so that what follows are launches; a scale and a factor a task, as in
    /// [`Workspace::add_losses`] and [`Workspace::scale_gradients`].
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn feed(&mut self, step: Step<'_>, scales: &[f64], factors: &[f64]) -> Result<()> {
        self.plan.feed(&step, scales, factors)
    }

    /// Runs the network of the model whose workspace it is.
    ///
    /// # Errors
    /// What libtorch refuses, or code of the caller's own raises.
    pub fn forward(&mut self, model: &Model, step: Step<'_>) -> Result<()> {
        model.lend(|| self.plan.forward(&step))
    }

    /// Adds the terms of the objective that the last forward gave, in the order of [`Network::terms`].
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_terms(&self, into: &mut [f64]) -> Result<()> {
        self.plan.add_terms(into)
    }

    /// Total label weight of each task in this batch.
    pub fn weights(&self, tasks: &[Task]) -> Vec<f64> {
        let mut weights = vec![0.0; tasks.len()];
        self.add_weights(tasks, &mut weights);
        weights
    }

    /// Adds each task's total label weight.
    pub fn add_weights(&self, tasks: &[Task], sums: &mut [f64]) {
        for ((task, labels), sum) in tasks.iter().zip(&self.labels).zip(sums) {
            *sum += Loops::<f32>::weight(task.loss.as_ref(), labels.targets(), labels.weights());
        }
    }

    /// Adds the terms of the objective to `[terms]` of a plan by formulas, where they stay.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_terms_there(&self, sums: &Tensor) -> Result<()> {
        self.plan.add_terms_there(sums)
    }

    /// One task's raw outputs for the host, of all members together, and where its rows stand in them.
    fn outputs(&self, task: usize) -> Result<(Cow<'_, [f32]>, Window)> {
        let (outputs, window) = self.plan.output(task);
        if let Some(members) = self.members[task] {
            let own = fetch(&self.together(task, members)?)?;
            let window = Window { start: 0, rows: window.rows / members.count, stride: window.width, ..window };
            return Ok((Cow::Owned(own), window));
        }
        match outputs.host() {
            Some(outputs) => Ok((Cow::Borrowed(outputs.slice()), window)),
            None => {
                let own = self.plan.raw(task)?;
                Ok((Cow::Owned(own), Window { start: 0, stride: window.width, ..window }))
            }
        }
    }

    /// The sizes of a task's largest raw output and largest label; an output that is not finite is the largest.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn extremes(&self, task: usize) -> Result<[f32; 2]> {
        let (outputs, window) = self.outputs(task)?;
        let outputs = &outputs[window.start..];
        let rows = (0..self.count(task)).flat_map(|row| &outputs[row * window.stride..][..window.width]);
        let output = rows.fold(0.0_f32, |most, x| if x.is_finite() { most.max(x.abs()) } else { f32::INFINITY });
        Ok([output, self.labels[task].largest()])
    }

    /// Counts one task's metrics.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn measure(&self, index: usize, task: &Task, meter: &mut Meter) -> Result<()> {
        if !meter.counts() {
            return Ok(());
        }
        let (outputs, window) = self.outputs(index)?;
        let outputs = &outputs[window.start..];
        let labels = &self.labels[index];
        let Window { rows, width, stride, .. } = window;
        let targets = labels.targets();
        let weights = labels.weights();
        meter.add(task, &Batch { rows, width, outputs, gradient: None, stride, targets, weights, scale: 0.0 });
        Ok(())
    }

    /// Multiplies the gradients of the tasks' outputs by a factor each.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn scale_gradients(&mut self, pass: Pass, factors: &[f64]) -> Result<()> {
        if factors.iter().all(|&factor| factor == 1.0) {
            return Ok(());
        }
        if self.plan.backend() != Backend::Loops {
            let factors = self.plan.factors(factors)?;
            for (task, factor) in factors.iter().enumerate() {
                if let Some(mut gradient) = self.plan.gradient_tensor(task, pass)? {
                    let _ = gradient.f_mul_(&factor.f_to_kind(gradient.kind())?)?;
                }
            }
            return Ok(());
        }
        for (task, &factor) in factors.iter().enumerate().filter(|(_, factor)| **factor != 1.0) {
            let (_, gradient, window) = self.plan.judged_and_gradient(task, pass);
            if let Some(gradient) = gradient.and_then(Storage::host_mut) {
                let gradient = &mut gradient.slice_mut()[window.start..];
                for row in 0..window.rows {
                    let row = &mut gradient[row * window.stride..][..window.width];
                    row.iter_mut().for_each(|g| *g *= factor as f32);
                }
            }
        }
        Ok(())
    }

    /// The gradients of what the last forward gave: adds each task's sum of weighted losses to `sums`, has them looked at
    /// by `check`, and runs the network backwards with a factor a task.
    ///
    /// # Errors
    /// What a loss of the caller's own making raises, `check`, or libtorch.
    pub fn differentiate(
        &mut self,
        model: &Model,
        step: Step<'_>,
        pass: Pass,
        scales: &[f64],
        sums: &mut [f64],
        check: impl FnOnce(&Self, &[f64]) -> Result<()>,
    ) -> Result<()> {
        self.add_losses(model, Some((pass, scales)), sums)?;
        check(self, sums)?;
        self.backward(model, step, pass)
    }

    /// Runs the network backwards.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn backward(&mut self, model: &Model, step: Step<'_>, pass: Pass) -> Result<()> {
        self.backward_over(model, step, pass, 0..model.net.ops.len())
    }

    /// Appends one task's raw outputs `[rows, width]`, or those of the batch's positions.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn append_outputs(&self, task: usize, out: &mut Vec<f32>) -> Result<()> {
        let (outputs, window) = self.outputs(task)?;
        for row in 0..self.count(task) {
            out.extend_from_slice(&outputs[window.start + row * window.stride..][..window.width]);
        }
        Ok(())
    }

    /// Copies one task's raw outputs to the rows of `out` they belong to.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn scatter_outputs(&self, task: usize, rows: Rows<'_>, out: &mut [f32]) -> Result<()> {
        let (outputs, window) = self.outputs(task)?;
        let mut from = window.start;
        rows.for_each(|to| {
            out[to * window.width..][..window.width].copy_from_slice(&outputs[from..from + window.width]);
            from += window.stride;
        });
        Ok(())
    }

    /// Runs some nodes backwards.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn backward_over(
        &mut self,
        model: &Model,
        step: Step<'_>,
        pass: Pass,
        nodes: std::ops::Range<usize>,
    ) -> Result<()> {
        model.lend(|| self.plan.backward_over(&step, pass, nodes))
    }

    /// The plan.
    pub fn plan(&mut self) -> &mut Plan<f32> {
        &mut self.plan
    }

    /// Adds a row of a parameter's part of the Jacobian, where it is kept.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_row(&self, param: usize, task: usize, into: &mut [f32]) -> Result<()> {
        self.plan.slabs().map_or(Ok(()), |slabs| slabs.add_row(param, task, into))
    }
}
