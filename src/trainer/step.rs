//! One step: gather, forward, losses, backward, regularizers, clipping, optimizer.

use super::Trainer;
use super::ways::Look;
use crate::data::{Data, Order, Rows};
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::real::LANES;
use crate::meter::Meter;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::plan::Purpose;
use crate::parameters::flat::Params;
use crate::schedule::Moment;
use crate::task::Task;
use crate::weighting::Combination;
use crate::{bail, vectorised};

/// Most state buffers an optimizer has.
pub(super) const SLOTS: usize = 4;

/// Numbers of the running step, a task each unless said otherwise; a row is a task that has labels in it.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Total label weight.
    pub(super) weights: Vec<f64>,
    /// Whether it was counted.
    pub(super) counted: bool,
    /// Sum of weighted losses.
    pub(super) sums: Vec<f64>,
    /// Room for sums that are not needed.
    pub(super) again: Vec<f64>,
    /// Terms of the objective that the network adds, one each.
    pub(super) terms: Vec<f64>,
    /// Factor on the gradient: lambda over the label weight.
    pub(super) scales: Vec<f64>,
    /// lambda, times what a weighting of losses says: the factor in the weighted sum.
    pub(super) lambdas: Vec<f64>,
    /// What the weighting says of the whole loss.
    pub(super) factors: Vec<f64>,
    /// What it says beyond that where gradients enter shared values.
    pub(super) boundary: Vec<f64>,
    /// Tasks that have a label in this step: the rows.
    pub(super) present: Vec<usize>,
    /// lambda times their losses.
    pub(super) losses: Vec<f64>,
    /// Products of their gradients `[rows, rows]`, and one such a layer.
    pub(super) gramian: Vec<f64>,
    pub(super) layers: Vec<Vec<f64>>,
    /// Products of all tasks' gradients.
    pub(super) whole: Vec<f64>,
    /// Their gradients `[rows, width]`, where they are put together.
    pub(super) jacobian: Vec<f32>,
    /// One parameter's part of it.
    pub(super) room: Vec<f32>,
    /// Gradients at the representation, `[rows, numbers]` of each micro-batch.
    pub(super) pieces: Vec<Lent<f32>>,
    /// Batch statistics as they were before the step.
    pub(super) state: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(tasks: usize, terms: usize) -> Self {
        let zeros = || vec![0.0; tasks];
        Self {
            terms: vec![0.0; terms],
            weights: zeros(),
            sums: zeros(),
            again: zeros(),
            scales: zeros(),
            lambdas: zeros(),
            factors: zeros(),
            boundary: zeros(),
            present: Vec::with_capacity(tasks),
            losses: zeros(),
            ..Self::default()
        }
    }

    /// Begins a step.
    fn begin(&mut self, state: &[f32]) {
        self.weights.fill(0.0);
        self.sums.fill(0.0);
        self.terms.fill(0.0);
        self.present.clear();
        self.counted = false;
        self.state.clear();
        self.state.extend_from_slice(state);
    }

    /// What follows from the label weights of all micro-batches.
    pub(super) fn settle(&mut self, tasks: &[Task]) {
        self.counted = true;
        self.present.extend((0..tasks.len()).filter(|&j| self.weights[j] > 0.0));
        for (j, task) in tasks.iter().enumerate() {
            self.lambdas[j] = task.weight;
            self.scales[j] = if self.weights[j] > 0.0 { task.weight / self.weights[j] } else { 0.0 };
        }
        self.factors.fill(1.0);
        self.boundary.fill(1.0);
    }

    /// lambda times each row's mean loss.
    pub(super) fn take_losses(&mut self) {
        let Self { weights, sums, lambdas, present, losses, .. } = self;
        losses.clear();
        losses.extend(present.iter().map(|&j| lambdas[j] * sums[j] / weights[j]));
    }

    /// Takes over what the weighting said; `of_losses` if it weighs whole losses.
    pub(super) fn decided(&mut self, combination: &Combination, of_losses: bool) {
        let said = combination.weights.iter().zip(&combination.own);
        for (&j, (&weight, &own)) in self.present.iter().zip(said) {
            if of_losses {
                self.factors[j] = weight;
                self.lambdas[j] *= weight;
            } else {
                self.factors[j] = own;
                self.boundary[j] = if own == 0.0 { 0.0 } else { weight / own };
            }
        }
    }

    /// The tasks that have labels in this step.
    pub(super) fn present(&self) -> &[usize] {
        &self.present
    }

    /// The Gramian of their gradients.
    pub(super) fn gramian(&self) -> &[f64] {
        &self.gramian
    }
}

/// What one step gave.
#[derive(Debug, Clone)]
pub struct Report {
    /// [`Trainer::total`] of this step; 0 for a batch without any label, NaN for one that waits for others.
    pub loss: f64,
    /// What the step minimised, as its weighting has it; see [`Trainer::minimizes_another`].
    pub objective: f64,
    /// Each task's mean loss; NaN without a label.
    pub losses: Vec<f64>,
    /// Each task's total label weight.
    pub weights: Vec<f64>,
}

/// The micro-batches of one step.
pub(super) trait Parts {
    fn count(&self) -> usize;
    fn part(&self, index: usize) -> (&Data, Rows<'_>);
}

/// Batches of an epoch over rows in memory.
pub(super) struct Slices<'a> {
    pub sets: &'a [&'a Data],
    pub order: &'a Order,
    /// Which of its batches.
    pub batches: std::ops::Range<usize>,
    /// Rows of a batch are neighbours.
    pub contiguous: bool,
}

impl Slices<'_> {
    /// The data set of a micro-batch, and its rows there.
    pub fn rows(&self, index: usize) -> (usize, Rows<'_>) {
        let (set, rows) = self.order.batch(self.batches.start + index);
        match (self.contiguous, rows) {
            (true, &[first, ..]) => (set, Rows::Range(first as usize..first as usize + rows.len())),
            _ => (set, Rows::Index(rows)),
        }
    }
}

impl Parts for Slices<'_> {
    fn count(&self) -> usize {
        self.batches.len()
    }

    fn part(&self, index: usize) -> (&Data, Rows<'_>) {
        let (set, rows) = self.rows(index);
        (self.sets[set], rows)
    }
}

/// Whole batches, one data set each.
pub(super) struct Wholes<'a>(pub &'a [Data]);

impl Parts for Wholes<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn part(&self, index: usize) -> (&Data, Rows<'_>) {
        (&self.0[index], Rows::Range(0..self.0[index].rows()))
    }
}

impl Trainer {
    /// One step on a foreign batch that was checked; with accumulation it may wait for others first.
    ///
    /// # Errors
    /// What a loss raises, or an objective that is no longer finite; the model is then as after its last step.
    pub fn step(&mut self, model: &mut Model, data: Data, keep_outputs: bool) -> Result<Report> {
        // A loader may use the memory of a batch again before its step comes.
        self.pending.push(if self.accumulate > 1 { data.detach() } else { data });
        if keep_outputs && self.pending.len() == 1 {
            self.epoch.kept = vec![Vec::new(); model.tasks.len()];
        }
        if self.pending.len() < self.accumulate {
            return Ok(Report::nothing(model.tasks.len()));
        }
        self.flush_with(model, keep_outputs)
    }

    /// Steps on what still waits for the rest of its accumulation.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn flush(&mut self, model: &mut Model, keep_outputs: bool) -> Result<()> {
        if !self.pending.is_empty() {
            self.flush_with(model, keep_outputs)?;
        }
        Ok(())
    }

    fn flush_with(&mut self, model: &mut Model, keep_outputs: bool) -> Result<Report> {
        let pending = std::mem::take(&mut self.pending);
        let mut kept = std::mem::take(&mut self.epoch.kept);
        let keeps: Vec<bool> = match keep_outputs {
            true => (0..kept.len()).map(|j| self.meters.get(j).is_none_or(Meter::keeps)).collect(),
            false => Vec::new(),
        };
        let totals = self.step_on(model, &Wholes(&pending), |work, _| {
            let kept = kept.iter_mut().zip(&keeps).enumerate().filter(|(_, (_, keeps))| **keeps);
            kept.for_each(|(task, (out, _))| work.append_outputs(task, out));
        });
        self.epoch.kept = kept;
        let Totals { loss, objective } = totals?;
        self.epoch.batches += pending.len();
        let Scratch { sums, weights, .. } = &self.scratch;
        Ok(Report {
            loss,
            objective,
            losses: sums.iter().zip(weights).map(|(s, w)| s / w).collect(),
            weights: weights.clone(),
        })
    }

    /// The step itself; `look` sees each micro-batch's outputs.
    pub(super) fn step_on(
        &mut self,
        model: &mut Model,
        parts: &dyn Parts,
        mut look: impl FnMut(&Workspace, usize),
    ) -> Result<Totals> {
        self.notice(model)?;
        if self.blocks.is_empty() {
            bail!("there is nothing to train: all parameters of the model are frozen; see `model.unfreeze`");
        }
        self.scratch.begin(model.params.state.slice());
        let done = self.attempt(model, parts, &mut look);
        if done.is_err() {
            // Batch statistics of a step that failed are forgotten with it.
            model.params.state.slice_mut().copy_from_slice(&self.scratch.state);
        }
        let totals = done?;
        if self.weighting.looks_back() && !self.scratch.present.is_empty() {
            self.look_back(model, parts)?;
        }
        Ok(totals)
    }

    fn attempt(&mut self, model: &mut Model, parts: &dyn Parts, look: &mut Look<'_>) -> Result<Totals> {
        if parts.count() > 1 {
            self.count_labels(model, parts)?;
        }
        self.go(model, parts, look)?;
        if self.scratch.present.is_empty() {
            return Ok(Totals::default());
        }
        self.update(model)
    }

    /// Label weights of all micro-batches, before the first backward needs them.
    fn count_labels(&mut self, model: &mut Model, parts: &dyn Parts) -> Result<()> {
        for index in 0..parts.count() {
            let (data, rows) = parts.part(index);
            let mut work = model.workspace(rows.len(), Purpose::Train)?;
            work.load_labels(data, rows);
            work.add_weights(&model.tasks, &mut self.scratch.weights);
            model.give_back(work);
        }
        self.scratch.settle(&model.tasks);
        Ok(())
    }

    /// Regularizers, clipping and the optimizer.
    fn update(&mut self, model: &mut Model) -> Result<Totals> {
        let moment = Moment { step: self.steps, epoch: self.epochs, total_steps: self.total_steps };
        let factor = self.schedule.factor(moment)?;
        let mut added = self.scratch.terms.iter().sum::<f64>();
        let (params, dense) = (&mut model.params, model.net.dense());
        for regularizer in &mut self.regularizers {
            added += regularizer.add(&params.values.slice()[..dense], params.gradients.slice_mut());
        }
        if !self.regularizers.is_empty() {
            self.frozen.iter().for_each(|range| params.gradients.slice_mut()[range.clone()].fill(0.0));
        }
        let scale = self.clip(params)?;
        let (segments, of_tables) = self.segments.at(factor);
        self.lr = segments.first().map_or(0.0, |segment| segment.lr);
        self.tables.update(self.optimizer.as_ref(), self.steps + 1, scale, of_tables, params);
        let (values, gradients) = (&mut params.values.slice_mut()[..dense], params.gradients.slice());
        let count = self.slots.len();
        let mut slots = self.slots.iter_mut();
        let mut state: [&mut [f32]; SLOTS] = std::array::from_fn(|_| slots.next().map_or(&mut [][..], |slot| slot));
        self.optimizer.update(self.steps + 1, scale, segments, values, gradients, &mut state[..count]);
        self.steps += 1;
        let Scratch { weights, sums, lambdas, .. } = &self.scratch;
        let totals = Totals {
            loss: total(&self.lambdas, sums, weights, added),
            objective: match self.combination.objective {
                Some(objective) => objective + added,
                None => total(lambdas, sums, weights, added),
            },
        };
        self.epoch.add(totals.objective, &self.scratch, &self.regularizers);
        self.relate(model);
        Ok(totals)
    }

    /// The factor that brings the gradient's norm down to `clip_norm`.
    fn clip(&self, params: &Params<f32>) -> Result<f32> {
        let Some(limit) = self.clip_norm else { return Ok(1.0) };
        let norm_by = |squares: fn(&[f32]) -> f64| {
            let of_tables = params.tables.iter().flatten().map(|table| squares(table.open().rows()));
            (squares(params.gradients.slice()) + of_tables.sum::<f64>()).sqrt()
        };
        let quick = norm_by(square_sum);
        // Squares of single precision end where clipping is wanted most.
        let wide = || norm_by(|gradients| gradients.iter().map(|&x| f64::from(x).powi(2)).sum());
        let norm = if quick.is_finite() { quick } else { wide() };
        if !norm.is_finite() {
            bail!("the gradient's norm is {norm} at step {}: try a smaller learning rate", self.steps + 1);
        }
        Ok((limit / (norm + 1e-6)).min(1.0) as f32)
    }
}

impl Report {
    fn nothing(tasks: usize) -> Self {
        Self { loss: f64::NAN, objective: f64::NAN, losses: vec![f64::NAN; tasks], weights: vec![0.0; tasks] }
    }
}

/// The two sums over tasks of a step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    loss: f64,
    objective: f64,
}

/// The sum over the tasks that have labels of a factor times the mean loss, and what is added.
pub(super) fn total(factors: &[f64], sums: &[f64], weights: &[f64], added: f64) -> f64 {
    let each = sums.iter().zip(weights).zip(factors).filter(|((_, weight), _)| **weight > 0.0);
    each.map(|((sum, weight), factor)| factor * sum / weight).fold(added, |total, loss| total + loss)
}

/// Stops before a loss that is no longer a number reaches the parameters; `when` says of which rows and where.
pub(super) fn finite(tasks: &[Task], sums: &[f64], work: &Workspace, steps: u64, when: &str) -> Result<()> {
    match sums.iter().position(|sum| !sum.is_finite()) {
        Some(j) => bail!(
            "the loss of task `{}` is {} {when} step {}: {}; the model is as after step {steps}",
            tasks[j].name,
            sums[j],
            steps + 1,
            why(&tasks[j], work.extremes(j), steps)
        ),
        None => Ok(()),
    }
}

/// Targets beyond this have squares that single precision cannot hold, with some room for their differences and sums.
const HUGE: f32 = 1e15;

/// The likeliest cause of a loss that is not finite, from the sizes of the task's largest output and target.
fn why(task: &Task, [output, target]: [f32; 2], steps: u64) -> String {
    match () {
        () if !output.is_finite() && steps == 0 => "its outputs are not finite before any step was made: are features \
             of extreme size, or parameters that were loaded not finite?"
            .to_owned(),
        () if !output.is_finite() => "its outputs are not finite: try a smaller learning rate".to_owned(),
        () if target > HUGE && target >= output => {
            format!("its targets go up to {target:e}: give them in a larger unit, or standardise them")
        }
        () if task.loss.is_foreign() => {
            format!("that is what its loss function made of outputs up to {output:e} and targets up to {target:e}")
        }
        () => format!("its outputs go up to {output:e}: try a smaller learning rate"),
    }
}

vectorised! {
/// The sum of squares, in lanes that vectorise, each lane's part widened before it can lose digits.
fn square_sum(values: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(LANES * 64) {
        let mut lanes = [0.0_f32; LANES];
        for row in block.chunks(LANES) {
            for (lane, &x) in lanes.iter_mut().zip(row) {
                *lane += x * x;
            }
        }
        for lane in lanes {
            total += f64::from(lane);
        }
    }
    total
}
}
