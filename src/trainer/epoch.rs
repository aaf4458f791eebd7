//! Epochs over rows in memory, and what an epoch sums up.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Trainer;
use super::step::{Scratch, Slices};
use crate::bail;
use crate::data::{Data, Order, Rows};
use crate::error::Result;
use crate::model::Model;
use crate::regularizer::Term;

/// Time between two looks at the outside world.
const POLL: Duration = Duration::from_millis(50);

/// How to go through rows in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Rows a batch.
    pub batch_size: usize,
    /// In an order of the epoch's own, or as they are.
    pub shuffle: bool,
    /// Keep the raw outputs of training, for metrics.
    pub keep_outputs: bool,
    /// Leave out a last batch that is not full.
    pub drop_last: bool,
}

/// The running epoch.
#[derive(Debug, Default)]
pub struct Epoch {
    /// Batches done.
    pub batches: usize,
    /// Raw outputs, `[rows, width]` a task.
    pub kept: Vec<Vec<f32>>,
    pub(super) sums: Sums,
    /// How it was begun: rows and settings; a resumed epoch must go on in the same way.
    pub(super) begun: Option<(usize, Run)>,
    order: Order,
    /// Which epoch `order` is of.
    ordered: Option<(u64, usize, bool)>,
}

/// What an epoch sums up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sums {
    pub(super) objective: f64,
    pub(super) steps: u64,
    pub(super) losses: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) regularizers: Vec<f64>,
    /// Of each term that the network adds to the objective.
    pub(super) terms: Vec<f64>,
}

impl Sums {
    /// Whether these are sums over the same tasks, regularizers and terms.
    pub(super) fn fits(&self, other: &Self) -> bool {
        let lengths = |of: &Self| [&of.losses, &of.weights, &of.regularizers, &of.terms].map(Vec::len);
        lengths(self) == lengths(other)
    }
}

impl Epoch {
    /// Refuses a running epoch that can never have been: more batches than rows, outputs of other rows.
    pub(super) fn check(&self, widths: &[usize]) -> Result<()> {
        let Some((rows, how)) = self.begun else {
            // Batches from outside are not begun.
            return Ok(());
        };
        let possible = how.batch_size > 0 && self.batches <= rows.div_ceil(how.batch_size.max(1));
        let fits = |(kept, width): (&Vec<f32>, &usize)| Some(kept.len()) == rows.checked_mul(*width);
        let whole = !how.keep_outputs || self.batches == 0 || self.kept.len() == widths.len();
        match possible && whole && (!how.keep_outputs || self.kept.iter().zip(widths).all(fits)) {
            true => Ok(()),
            false => bail!("its running epoch is damaged: {} batches of {how:?} over {rows} rows", self.batches),
        }
    }

    pub(super) fn new(tasks: usize, regularizers: usize, terms: usize) -> Self {
        let zeros = |count| vec![0.0; count];
        let (losses, weights, regularizers) = (zeros(tasks), zeros(tasks), zeros(regularizers));
        let sums = Sums { losses, weights, regularizers, terms: zeros(terms), ..Sums::default() };
        Self { sums, ..Self::default() }
    }

    /// Adds one step.
    pub(super) fn add(&mut self, objective: f64, scratch: &Scratch, regularizers: &[Term]) {
        let Scratch { sums: losses, weights, terms, .. } = scratch;
        self.sums.objective += objective;
        self.sums.steps += 1;
        self.sums.losses.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        self.sums.weights.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        self.sums.regularizers.iter_mut().zip(regularizers).for_each(|(sum, term)| *sum += term.value);
        self.sums.terms.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
    }

    /// The mean objective so far.
    fn mean(&self) -> f64 {
        self.mean_of(self.sums.objective)
    }

    /// A sum over steps as a mean.
    fn mean_of(&self, sum: f64) -> f64 {
        sum / self.sums.steps.max(1) as f64
    }
}

impl Trainer {
    /// Goes on with the running epoch over rows that were checked, for at most `stop_after` batches; gives whether the
    /// epoch is through. `poll(batches done, batches in all, mean objective)` is called now and then, and may stop it.
    ///
    /// # Errors
    /// As [`Trainer::step`]; an epoch that was begun in another way; what `poll` returns.
    pub fn run(
        &mut self,
        model: &mut Model,
        data: &Data,
        how: Run,
        stop_after: Option<usize>,
        poll: &mut dyn FnMut(usize, usize, f64) -> Result<()>,
    ) -> Result<bool> {
        let total = self.begin(model, data, how)?;
        let stop = stop_after.map_or(total, |limit| total.min(self.epoch.batches.saturating_add(limit)));
        let mut looked = Instant::now();
        while self.epoch.batches < stop {
            self.next(model, data, how)?;
            if looked.elapsed() >= POLL {
                poll(self.epoch.batches, total, self.epoch.mean())?;
                looked = Instant::now();
            }
        }
        Ok(self.epoch.batches >= total)
    }

    /// Checks that the epoch goes on as it began, brings its order to mind, and counts its batches.
    fn begin(&mut self, model: &Model, data: &Data, how: Run) -> Result<usize> {
        let rows = data.rows();
        if how.batch_size == 0 {
            bail!("`batch_size` should be at least 1; got 0");
        }
        if how.batch_size * self.accumulate < self.guide.parts {
            bail!(
                "`weighting`: it splits each batch into {} parts; `batch_size` is {}",
                self.guide.parts,
                how.batch_size
            );
        }
        if self.weighting.validates() && self.validation.is_none() {
            bail!("`weighting`: it learns from validation data; pass `validation=` to `fit`");
        }
        let total = if how.drop_last { rows / how.batch_size } else { rows.div_ceil(how.batch_size) };
        if total == 0 {
            bail!("`batch_size` of {} leaves no batch of {rows} rows with `drop_last`", how.batch_size);
        }
        match self.epoch.begun {
            Some(begun) if self.epoch.batches > 0 && begun != (rows, how) => bail!(
                "the running epoch was begun over {} rows with {:?}; it cannot go on over {rows} rows with {how:?}",
                begun.0,
                begun.1
            ),
            _ => self.epoch.begun = Some((rows, how)),
        }
        if self.epoch.ordered != Some((self.epochs, rows, how.shuffle)) {
            self.epoch.order.fill(self.seed, self.epochs, rows, how.shuffle);
            self.epoch.ordered = Some((self.epochs, rows, how.shuffle));
        }
        if how.keep_outputs {
            self.epoch.kept.resize(model.tasks.len(), Vec::new());
            for (kept, task) in self.epoch.kept.iter_mut().zip(&model.tasks) {
                kept.resize(rows * task.width(), 0.0);
            }
        }
        Ok(total)
    }

    /// One step on the next batch, or the next few with accumulation.
    fn next(&mut self, model: &mut Model, data: &Data, how: Run) -> Result<()> {
        let (order, ordered) = (std::mem::take(&mut self.epoch.order), self.epoch.ordered.take());
        let mut kept = std::mem::take(&mut self.epoch.kept);
        let end = if how.drop_last { data.rows() / how.batch_size * how.batch_size } else { data.rows() };
        let first = self.epoch.batches * how.batch_size;
        let last = end.min(first + how.batch_size * self.accumulate);
        let contiguous = (!how.shuffle).then_some(first);
        let parts = Slices { data, rows: &order.rows()[first..last], contiguous, size: how.batch_size };
        let done = self.step_on(model, &parts, |work, index| {
            if how.keep_outputs {
                let rows = parts.rows.chunks(how.batch_size).nth(index).unwrap_or_default();
                kept.iter_mut().enumerate().for_each(|(j, out)| work.scatter_outputs(j, Rows::Index(rows), out));
            }
        });
        self.epoch.order = order;
        self.epoch.ordered = ordered;
        self.epoch.kept = kept;
        done?;
        self.epoch.batches += (last - first).div_ceil(how.batch_size);
        Ok(())
    }

    /// Raw outputs kept: after [`Trainer::run`] in the data's order, after [`Trainer::step`] the batch's.
    pub fn outputs(&self) -> &[Vec<f32>] {
        &self.epoch.kept
    }

    /// Closes the epoch: `{"loss", "tasks", "labels", "lr", "regularizers", "terms", "observed"}` as JSON, with `null` for a
    /// task without a label; the terms in the order of the network's names.
    ///
    /// # Errors
    /// As [`Trainer::step`], for what still waits for the rest of its accumulation.
    pub fn end_epoch(&mut self, model: &mut Model) -> Result<String> {
        self.flush(model)?;
        let mean = self.epoch.mean();
        let Sums { losses, weights, regularizers, terms, .. } = &self.epoch.sums;
        let each = |sums: &[f64]| sums.iter().map(|&sum| self.epoch.mean_of(sum)).collect::<Vec<_>>();
        let means: Vec<_> = losses.iter().zip(weights).map(|(l, &w)| (w > 0.0).then(|| l / w)).collect();
        let line = json!({"loss": mean, "tasks": means, "labels": weights, "lr": self.lr, "terms": each(terms),
                          "regularizers": each(regularizers), "observed": self.observed.means()});
        self.observed.clear(model.tasks.len());
        self.epochs += 1;
        self.epoch.batches = 0;
        self.epoch.begun = None;
        self.epoch.sums = Epoch::new(model.tasks.len(), self.regularizers.len(), self.scratch.terms.len()).sums;
        Ok(line.to_string())
    }
}
