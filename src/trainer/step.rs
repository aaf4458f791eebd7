//! One step, from top to bottom: count labels, run forward, gather evidence, decide, run backward, update.

use super::Trainer;
use super::batches::{MicroBatches, Wholes};
use super::finite::finite;
use super::scratch::{Look, Scratch};
use super::tally::OfStep;
use super::updater::check_norm;
use super::ways::Way;
use crate::bail;
use crate::data::Data;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::meter::Meter;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Purpose, Step};

/// Which of a step's micro-batches it is the turn of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub index: usize,
    /// Whether none comes after it.
    pub last: bool,
    /// Whether all were looked at, and the weighting decided, before the first's turn.
    pub decided: bool,
}

/// What one step gave.
#[derive(Debug, Clone)]
pub struct Report {
    /// What the user means by loss, of this step; 0 for a batch without any label, NaN for one that waits for others.
    pub loss: f64,
    /// What the step minimised, as its weighting has it; see [`Trainer::minimizes_another`].
    pub objective: f64,
    /// Each task's mean loss; NaN without a label.
    pub losses: Vec<f64>,
    /// Each task's total label weight.
    pub weights: Vec<f64>,
}

impl Trainer {
    /// One step on a foreign batch that was checked; with accumulation it may wait for others first.
    ///
    /// # Errors
    /// What a loss raises, or an objective that is no longer finite; the model is then as after its last step.
    pub fn step(&mut self, model: &mut Model, data: Data, keep_outputs: bool) -> Result<Report> {
        let accumulate = self.clock.accumulate;
        // A loader may use the memory of a batch again before its step comes.
        self.epoch.pending.push(if accumulate > 1 { data.detach() } else { data });
        if keep_outputs && self.epoch.pending.len() == 1 {
            self.epoch.kept = vec![Vec::new(); model.tasks.len()];
        }
        if self.epoch.pending.len() < accumulate {
            return Ok(Report::nothing(model.tasks.len()));
        }
        self.flush_with(model, keep_outputs)
    }

    /// Steps on what still waits for the rest of its accumulation.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn flush(&mut self, model: &mut Model, keep_outputs: bool) -> Result<()> {
        if !self.epoch.pending.is_empty() {
            self.flush_with(model, keep_outputs)?;
        }
        Ok(())
    }

    fn flush_with(&mut self, model: &mut Model, keep_outputs: bool) -> Result<Report> {
        let pending = std::mem::take(&mut self.epoch.pending);
        let mut kept = std::mem::take(&mut self.epoch.kept);
        let keeps: Vec<bool> = match keep_outputs {
            true => (0..kept.len()).map(|j| self.epoch.meters.get(j).is_none_or(Meter::keeps)).collect(),
            false => Vec::new(),
        };
        let mut held = self.threads.begin();
        let parts = Wholes(&pending);
        let totals = self.step_on(model, &parts, !keep_outputs, |work, _| {
            let kept = kept.iter_mut().zip(&keeps).enumerate().filter(|(_, (_, keeps))| **keeps);
            let mut kept = kept;
            kept.try_for_each(|(task, (out, _))| work.append_outputs(task, out))
        });
        // Who hands in batches wants to see what they came to; a step that failed is made again, to say why.
        let totals = totals.and_then(|totals| match self.settle()? {
            true => Ok(totals.unwrap_or_else(|| self.totals())),
            false => Ok(self.step_on(model, &parts, false, |_, _| Ok(()))?.unwrap_or_default()),
        });
        self.epoch.kept = kept;
        let Totals { loss, objective } = totals?;
        self.threads.stepped(&mut held, pending.iter().map(|batch| batch.rows()).sum(), self.clock.steps);
        self.epoch.batches += pending.len();
        let Scratch { losses, labels, .. } = &self.scratch;
        Ok(Report {
            loss,
            objective,
            losses: losses.sums.iter().zip(&labels.weights).map(|(sum, weight)| sum / weight).collect(),
            weights: labels.weights.clone(),
        })
    }

    /// The step itself; `look` sees each micro-batch's outputs. Where nobody looks the step may wait for
    /// [`Trainer::settle`] to learn what it came to; it gives nothing then.
    pub(super) fn step_on(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        may_wait: bool,
        mut look: impl FnMut(&Workspace, usize) -> Result<()>,
    ) -> Result<Option<Totals>> {
        self.notice(model)?;
        if self.updater.segments.is_empty() {
            bail!("there is nothing to train: all parameters of the model are frozen; see `model.unfreeze`");
        }
        self.scratch.begin(&model.params.state)?;
        let done = self.attempt(model, parts, may_wait, &mut look);
        if done.is_err() {
            // Batch statistics of a step that failed are forgotten with it.
            model.params.state.copy_from(&self.scratch.state)?;
        }
        let totals = done?;
        if self.decider.requirements.claims.looks_back && !self.scratch.labels.rows.is_empty() {
            self.look_back(model, parts)?;
        }
        Ok(totals)
    }

    /// The step from top to bottom.
    fn attempt(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        may_wait: bool,
        look: &mut Look<'_>,
    ) -> Result<Option<Totals>> {
        let way = self.way();
        let mut loaded = self.count_labels(model, parts, way)?;
        if may_wait && self.waits(model, way) {
            return self.launch(model, parts, loaded).map(|()| None);
        }
        if let Some(tally) = self.scratch.tally.as_mut().filter(|_| !self.scratch.labels.rows.is_empty()) {
            tally.begin()?;
        }
        let ahead = way.looks_ahead(parts.count()) && !self.scratch.labels.rows.is_empty();
        if ahead {
            self.see_ahead(model, parts, way)?;
            self.decide(model, parts)?;
        }
        for index in 0..parts.count() {
            let mut work = match loaded.take() {
                Some(work) => work,
                None => self.load(model, parts, index, way)?,
            };
            let turn = Turn { index, last: index + 1 == parts.count(), decided: ahead };
            let done = self.micro_batch(model, parts, &mut work, way, turn);
            let done = done.and_then(|()| self.look(model, &work, index, look));
            model.give_back(work);
            done?;
        }
        match self.scratch.labels.rows.is_empty() {
            true => Ok(Some(Totals::default())),
            false => self.update(model).map(Some),
        }
    }

    /// The label weights of all micro-batches, which the first backward needs. A single one is loaded on the way.
    fn count_labels(&mut self, model: &mut Model, parts: &dyn MicroBatches, way: Way) -> Result<Option<Workspace>> {
        let single = parts.count() == 1;
        let mut loaded = None;
        for index in 0..parts.count() {
            let work = match single {
                true => self.load(model, parts, index, way)?,
                false => {
                    let (data, rows) = parts.part(index);
                    let mut work = model.workspace(model.extents(data, rows.clone())?, Purpose::Train)?;
                    work.gather_labels(data, rows);
                    work
                }
            };
            work.add_weights(&model.tasks, &mut self.scratch.labels.weights);
            match single {
                true => loaded = Some(work),
                false => model.give_back(work),
            }
        }
        self.scratch.labels.settle(&model.tasks);
        self.scratch.factors.begin(&model.tasks);
        Ok(loaded)
    }

    /// A workspace filled with a micro-batch.
    pub(super) fn load(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        index: usize,
        way: Way,
    ) -> Result<Workspace> {
        let (data, rows) = parts.part(index);
        let mut work = model.workspace(model.extents(data, rows.clone())?, self.purpose(way))?;
        work.load(data, rows, true)?;
        Ok(work)
    }

    /// Where a weighting must see all micro-batches before the first backward: runs them forward without leaving a trace in
    /// batch statistics.
    fn see_ahead(&mut self, model: &mut Model, parts: &dyn MicroBatches, way: Way) -> Result<()> {
        for index in 0..parts.count() {
            let mut work = self.load(model, parts, index, way)?;
            let step = self.pass(parts, index);
            let done = work.forward(model, step).and_then(|()| match way {
                Way::Representation => self.see_representation(model, &mut work, step),
                _ => self.add_losses(model, &mut work, None),
            });
            model.give_back(work);
            done?;
        }
        if way == Way::Representation {
            self.settle_representation();
        }
        model.params.state.copy_from(&self.scratch.state)
    }

    /// Lets the weighting decide on what was seen of all micro-batches.
    pub(super) fn decide(&mut self, model: &mut Model, parts: &dyn MicroBatches) -> Result<()> {
        let moment = self.clock.moment(self.updater.lr);
        self.decider.decide(&mut self.scratch, model, parts, &self.clock, moment)
    }

    /// One micro-batch: forward, and as much of evidence, decision and backward as its way has now.
    fn micro_batch(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        work: &mut Workspace,
        way: Way,
        turn: Turn,
    ) -> Result<()> {
        let step = self.pass(parts, turn.index);
        work.forward(model, step)?;
        if self.scratch.labels.rows.is_empty() {
            return Ok(());
        }
        match way {
            Way::Losses { .. } => {
                match turn.decided {
                    true => self.once_more(model, work)?,
                    false => self.add_losses(model, work, Some(Pass::Summed))?,
                }
                // A weighting that does not look decides before all losses are there.
                if !turn.decided && turn.index == 0 {
                    self.decide(model, parts)?;
                }
                self.backward(model, work, step, turn.last)
            }
            Way::Shared => {
                self.add_task_gradients(model, work, step)?;
                if !turn.last {
                    return Ok(());
                }
                self.settle_shared(model, work)?;
                self.decide(model, parts)?;
                self.backward_at_shared(model, work, step)
            }
            Way::Representation => {
                if !turn.decided {
                    self.see_representation(model, work, step)?;
                    self.settle_representation();
                    self.decide(model, parts)?;
                }
                self.backward_from_representation(model, work, step, turn)
            }
        }
    }

    /// Adds a micro-batch's losses; with a pass, also makes its outputs' gradients.
    pub(super) fn add_losses(&mut self, model: &Model, work: &mut Workspace, pass: Option<Pass>) -> Result<()> {
        let Scratch { labels, losses, .. } = &mut self.scratch;
        let gradient = pass.map(|pass| (pass, &labels.scales[..]));
        work.add_losses(model, gradient, &mut losses.sums)?;
        finite(&model.tasks, &losses.sums, work, self.clock.steps, "at")
    }

    /// What is taken down of a micro-batch that went through.
    fn look(&mut self, model: &Model, work: &Workspace, index: usize, look: &mut Look<'_>) -> Result<()> {
        match &self.scratch.tally {
            Some(tally) => work.add_terms_there(&tally.terms()?)?,
            None => work.add_terms(&mut self.scratch.losses.terms)?,
        }
        for (j, (meter, task)) in self.epoch.meters.iter_mut().zip(&model.tasks).enumerate() {
            work.measure(j, task, meter)?;
        }
        look(work, index)
    }

    /// The passes over micro-batch `index`. Without any label nothing may change, not even batch statistics.
    pub(super) fn pass(&self, parts: &dyn MicroBatches, index: usize) -> Step<'static> {
        let rows = |index| parts.part(index).1.len() as f64;
        Step {
            seed: self.clock.seed,
            number: self.clock.number(index),
            training: !self.scratch.labels.rows.is_empty(),
            accumulate: index > 0,
            weights: &[],
            share: rows(index) / (0..parts.count()).map(rows).sum::<f64>(),
        }
    }

    /// Regularizers, clipping and the optimizer; what the step came to.
    fn update(&mut self, model: &mut Model) -> Result<Totals> {
        let position = self.clock.position();
        match &self.scratch.tally {
            None => drop(self.updater.update(model, position)?),
            Some(tally) => {
                self.updater.update_there(model, position, tally)?;
                if self.updater.leaves_numbers() || !self.scratch.losses.terms.is_empty() {
                    let last = tally.last()?;
                    check_norm(last.norm, position.step + 1)?;
                    self.note(&last);
                }
            }
        }
        self.clock.steps += 1;
        let totals = self.totals();
        self.epoch.add(totals.objective, &self.scratch, &self.updater.regularizers);
        self.updater.relate(model);
        Ok(totals)
    }

    /// What regularizers and terms of a step by formulas came to.
    pub(super) fn note(&mut self, last: &OfStep) {
        self.scratch.losses.terms.copy_from_slice(&last.terms);
        self.updater.regularizers.iter_mut().zip(&last.regularizers).for_each(|(term, &value)| term.value = value);
    }

    /// The sums over tasks of the step at hand.
    fn totals(&self) -> Totals {
        let Scratch { labels, losses, factors, .. } = &self.scratch;
        let regularizers = self.updater.regularizers.iter().fold(0.0, |sum, term| sum + term.value);
        let added = losses.terms.iter().sum::<f64>() + regularizers;
        Totals {
            loss: total(&self.decider.lambdas, &losses.sums, &labels.weights, added),
            objective: match self.decider.combination.objective {
                Some(objective) => objective + added,
                None => total(&factors.losses, &losses.sums, &labels.weights, added),
            },
        }
    }

    /// The losses of the batch after the step, for a weighting that looks back.
    fn look_back(&mut self, model: &mut Model, parts: &dyn MicroBatches) -> Result<()> {
        // The step is through: what its state was is not needed any more.
        self.scratch.state.copy_from(&model.params.state)?;
        self.scratch.losses.again.fill(0.0);
        for index in 0..parts.count() {
            let mut work = self.load(model, parts, index, Way::Losses { looks: true })?;
            let done = work.forward(model, self.pass(parts, index));
            let done = done.and_then(|()| work.add_losses(model, None, &mut self.scratch.losses.again));
            model.give_back(work);
            done?;
        }
        model.params.state.copy_from(&self.scratch.state)?;
        let Scratch { labels, losses, .. } = &self.scratch;
        let mean = |&j: &usize| model.tasks[j].weight * losses.again[j] / labels.weights[j];
        let after: Lent<f64> = labels.rows.iter().map(mean).collect();
        // A step that broke the model is the next step's error; there is nothing to learn from it.
        if after.iter().any(|loss| !loss.is_finite()) {
            return Ok(());
        }
        self.decider.weighting.look_back(&labels.rows, &losses.rows, &after)
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
