//! A plan together with the rows it works on: gathered features, labels and weights of one batch.

use std::borrow::Cow;

use tch::{Kind, Tensor};

use super::Model;
use super::labels::TaskLabels;
use crate::data::{Data, Field, Rows};
use crate::error::Result;
use crate::loss::{Batch, ForeignLoss, Link, Loops, ScaledGradient};
use crate::machine::buffer::codes_mut;
use crate::machine::crossing::{fetch, launching};
use crate::machine::real::Cell;
use crate::machine::storage::{Backend, Storage};
use crate::meter::Meter;
use crate::network::axis::Extent;
use crate::network::axis::Extents;
use crate::network::pass::{Pass, Purpose, Step};
use crate::network::plan::{Plan, Window};
use crate::network::{Axis, AxisId, Input, InputKind, Network, Output, ROWS};
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
    /// Features on their way to another device.
    numbers: Vec<f32>,
    codes: Vec<i32>,
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
        extents: Extents,
        purpose: Purpose,
    ) -> Result<Self> {
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
        let labels = tasks.iter().zip(&axes).map(|(task, &axis)| TaskLabels::new(extents.each()[axis], task.labels));
        let labels = labels.collect();
        let none = |axis: &Axis| if axis.extent == Extent::Ragged { vec![0; extents.rows() + 1] } else { Vec::new() };
        let starts = net.axes.iter().map(none).collect();
        Ok(Self { plan, purpose, axes, members, starts, labels, numbers: Vec::new(), codes: Vec::new() })
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

    /// Each task's sum of weighted losses; with a pass and a factor a task, also the outputs' gradients.
    ///
    /// # Errors
    /// What a loss of the caller's own making raises.
    pub fn losses(&mut self, model: &Model, gradient: Option<(Pass, &[f64])>) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; model.tasks.len()];
        self.add_losses(model, gradient, &mut sums)?;
        Ok(sums)
    }

    /// Adds each task's sum of weighted losses, as [`Workspace::losses`].
    ///
    /// # Errors
    /// What a loss of the caller's own making raises.
    pub fn add_losses(&mut self, model: &Model, gradient: Option<(Pass, &[f64])>, sums: &mut [f64]) -> Result<()> {
        if let Some((pass, _)) = gradient {
            self.plan.clear(pass)?;
        }
        let by_loops = self.plan.backend() == Backend::Loops;
        let scales = match gradient {
            Some((_, scales)) if !by_loops => self.plan.scales(scales)?,
            _ => Vec::new(),
        };
        let mut by_formula = Vec::new();
        for (j, (task, sum)) in model.tasks.iter().zip(&mut *sums).enumerate() {
            let own = gradient.map(|(pass, scales)| (pass, scales[j]));
            if let Some(members) = self.members[j].filter(|_| self.purpose == Purpose::Evaluate) {
                *sum += model.lend(|| self.loss_together(j, task, members))?;
                continue;
            }
            match task.loss.foreign() {
                Some(code) => *sum += model.lend(|| self.foreign_loss(j, code, own))?,
                None if by_loops => *sum += self.loss_by_loops(j, task, own),
                None => {
                    let own = gradient.map(|(pass, _)| (pass, &scales[j]));
                    by_formula.push((j, launching(|| self.loss_by_formula(j, task, own))?));
                }
            }
        }
        if by_formula.is_empty() {
            return Ok(());
        }
        // One number a task comes to the host, all at once.
        let losses: Vec<_> = by_formula.iter().map(|(_, loss)| loss).collect();
        let losses = fetch::<f64>(&Tensor::f_stack(&losses, 0)?)?;
        by_formula.iter().zip(losses).for_each(|(&(j, _), loss)| sums[j] += loss);
        Ok(())
    }

    /// Adds the same to `[tasks]` of a plan by formulas, where they stay; no loss may be code of the caller's own.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_losses_there(&mut self, model: &Model, pass: Pass, scales: &[f64], sums: &Tensor) -> Result<()> {
        self.plan.clear(pass)?;
        let scales = self.plan.scales(scales)?;
        for (j, (task, scale)) in model.tasks.iter().zip(&scales).enumerate() {
            let loss = self.loss_by_formula(j, task, Some((pass, scale)))?;
            let _ = sums.f_select(0, j as i64)?.f_add_(&loss)?;
        }
        Ok(())
    }

    /// Adds the terms of the objective to `[terms]` of a plan by formulas, where they stay.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_terms_there(&self, sums: &Tensor) -> Result<()> {
        self.plan.add_terms_there(sums)
    }

    /// One task's sum of weighted losses, in the host's memory; with a pass and a factor, also its outputs' gradient.
    fn loss_by_loops(&mut self, j: usize, task: &Task, gradient: Option<(Pass, f64)>) -> f64 {
        let labels = &self.labels[j];
        let (outputs, gradient, window, scale) = match gradient {
            Some((pass, scale)) => {
                let (outputs, gradient, window) = self.plan.output_and_gradient(j, pass);
                (outputs, gradient, window, scale as f32)
            }
            None => {
                let (outputs, window) = self.plan.output(j);
                (outputs, None, window, 0.0)
            }
        };
        let outputs = &outputs.host().expect("loops work in the host's memory").slice()[window.start..];
        let gradient = gradient.and_then(Storage::host_mut);
        let gradient = gradient.map(|gradient| &mut gradient.slice_mut()[window.start..]);
        let targets = labels.targets();
        let weights = labels.weights();
        let Window { rows, width, stride, .. } = window;
        let Some(Members { count: members, .. }) = self.members[j] else {
            return task.loss.evaluate(Batch { rows, width, outputs, gradient, stride, targets, weights, scale });
        };
        let mut gradient = gradient;
        let (rows, scale) = (rows / members, scale / members as f32);
        let of_member = |member: usize| {
            let outputs = &outputs[member * stride..];
            let gradient = gradient.as_deref_mut().map(|gradient| &mut gradient[member * stride..]);
            let stride = members * stride;
            task.loss.evaluate(Batch { rows, width, outputs, gradient, stride, targets, weights, scale })
        };
        (0..members).map(of_member).sum::<f64>() / members as f64
    }

    /// The raw outputs `[rows, width]` that a task's members stand for together.
    fn together(&self, j: usize, members: Members) -> Result<Tensor> {
        let raw = self.plan.output_tensor(j)?;
        let width = raw.size()[1];
        members.link.of_members(&raw.f_reshape([-1, members.count as i64, width])?)
    }

    /// The sum of weighted losses of what a task's members stand for together.
    fn loss_together(&self, j: usize, task: &Task, members: Members) -> Result<f64> {
        let raw = self.together(j, members)?;
        let labels = self.labels[j].tensors()?;
        match task.loss.foreign() {
            Some(code) => code.sum(&labels.batch(&raw), None),
            None => Ok(fetch::<f64>(&task.loss.sums(&labels.batch(&raw)).loss.f_to_kind(Kind::Double)?)?[0]),
        }
    }

    /// The same on any device; the sum stays there.
    fn loss_by_formula(&mut self, j: usize, task: &Task, gradient: Option<(Pass, &Tensor)>) -> Result<Tensor> {
        let raw = self.plan.output_tensor(j)?.f_detach()?.f_set_requires_grad(gradient.is_some())?;
        let labels = self.labels[j].tensors()?.of_members(self.members[j].map(|members| members.count))?;
        let loss = tch::with_grad(|| task.loss.sums(&labels.batch(&raw))).loss;
        let loss = match self.members[j] {
            Some(members) => loss.f_div_scalar(members.count as f64)?,
            None => loss,
        };
        if let Some((pass, scale)) = gradient
            && let Some(mut slopes) = self.plan.gradient_tensor(j, pass)?
        {
            let along = tch::with_grad(|| loss.f_add(&raw.f_narrow(0, 0, 0)?.f_sum(raw.kind())?))?;
            let slope = Tensor::f_run_backward(&[along], &[&raw], false, false)?.remove(0);
            slopes.f_copy_(&slope.f_mul(&scale.f_to_kind(slope.kind())?)?)?;
        }
        Ok(loss.f_detach()?.f_to_kind(Kind::Double)?)
    }

    /// The same by code of the caller's own, which sees memory where it is.
    fn foreign_loss(&mut self, j: usize, code: &dyn ForeignLoss, gradient: Option<(Pass, f64)>) -> Result<f64> {
        let raw = self.plan.output_tensor(j)?;
        let labels = self.labels[j].tensors()?.of_members(self.members[j].map(|members| members.count))?;
        let members = self.members[j].map_or(1.0, |members| members.count as f64);
        let into = match gradient {
            Some((pass, _)) => self.plan.gradient_tensor(j, pass)?,
            None => None,
        };
        let scale = gradient.map_or(0.0, |(_, scale)| scale / members);
        Ok(code.sum(&labels.batch(&raw), into.as_ref().map(|into| ScaledGradient { into, scale }))? / members)
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
            let (_, gradient, window) = self.plan.output_and_gradient(task, pass);
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
