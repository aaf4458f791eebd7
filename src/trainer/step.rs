//! One step: gather, forward, losses, backward, regularizers, clipping, optimizer.

use super::Trainer;
use super::batches::{MicroBatches, Wholes};
use super::scratch::{Look, Scratch};
use crate::data::Data;
use crate::error::Result;
use crate::machine::real::LANES;
use crate::meter::Meter;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::pass::Purpose;
use crate::parameters::flat::Params;
use crate::schedule::Position;
use crate::{bail, vectorised};

/// Most state buffers an optimizer has.
pub(super) const SLOTS: usize = 4;

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
        parts: &dyn MicroBatches,
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

    fn attempt(&mut self, model: &mut Model, parts: &dyn MicroBatches, look: &mut Look<'_>) -> Result<Totals> {
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
    fn count_labels(&mut self, model: &mut Model, parts: &dyn MicroBatches) -> Result<()> {
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
        let moment = Position { step: self.steps, epoch: self.epochs, total_steps: self.total_steps };
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
