//! Losses of a batch and the gradients at its raw outputs: by loops, by formulas, by code of the caller's own; of each member of
//! an ensemble while it trains, of what members stand for together else.

use tch::{Kind, Tensor};

use super::{Members, Workspace};
use crate::error::Result;
use crate::loss::{Batch, ForeignLoss, ScaledGradient};
use crate::machine::crossing::{fetch, launching};
use crate::machine::storage::{Backend, Storage};
use crate::model::Model;
use crate::network::pass::{Pass, Purpose};
use crate::network::plan::Window;
use crate::task::Task;

impl Workspace {
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

    /// One task's sum of weighted losses, in the host's memory; with a pass and a factor, also its outputs' gradient.
    fn loss_by_loops(&mut self, j: usize, task: &Task, gradient: Option<(Pass, f64)>) -> f64 {
        let labels = &self.labels[j];
        let (outputs, gradient, window, scale) = match gradient {
            Some((pass, scale)) => {
                let (outputs, gradient, window) = self.plan.judged_and_gradient(j, pass);
                (outputs, gradient, window, scale as f32)
            }
            None => {
                let (outputs, window) = self.plan.judged(j);
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
    pub(super) fn together(&self, j: usize, members: Members) -> Result<Tensor> {
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
        let raw = self.plan.judged_tensor(j)?.f_detach()?.f_set_requires_grad(gradient.is_some())?;
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
        let raw = self.plan.judged_tensor(j)?;
        let labels = self.labels[j].tensors()?.of_members(self.members[j].map(|members| members.count))?;
        let members = self.members[j].map_or(1.0, |members| members.count as f64);
        let into = match gradient {
            Some((pass, _)) => self.plan.gradient_tensor(j, pass)?,
            None => None,
        };
        let scale = gradient.map_or(0.0, |(_, scale)| scale / members);
        Ok(code.sum(&labels.batch(&raw), into.as_ref().map(|into| ScaledGradient { into, scale }))? / members)
    }
}
