//! Epochs over rows in memory, and what an epoch sums up.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Trainer;
use super::batches::Slices;
use super::scratch::Scratch;
use super::step::total;
use super::sums::Sums;
use crate::bail;
use crate::data::{Data, Mix, Order, Pace};
use crate::error::Result;
use crate::meter::Meter;
use crate::model::Model;
use crate::regularizer::Term;

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
    /// Rows of a batch are of similar length.
    #[serde(default)]
    pub group_by_length: bool,
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
    /// Its batches, where it goes over several data sets; one data set's follow from the rows.
    pub(super) mixed: Option<usize>,
    order: Order,
    /// What `order` is of.
    ordered: Option<Ordered>,
    /// Metrics, of each task once they are wanted.
    pub(super) meters: Vec<Meter>,
    /// Foreign batches that wait for the rest of their accumulation.
    pub(super) pending: Vec<Data>,
}

/// What an order follows from: the epoch, the rows of each data set, how they are gone through and mixed.
#[derive(Debug)]
struct Ordered {
    epoch: u64,
    rows: Vec<usize>,
    pace: Pace,
    mix: Option<Mix>,
}

impl Ordered {
    fn is(&self, epoch: u64, data: Sets<'_>, pace: Pace) -> bool {
        let rows = self.rows.iter().copied().eq(data.each.iter().map(|each| each.rows()));
        rows && (self.epoch, self.pace, self.mix.as_ref()) == (epoch, pace, data.mix)
    }
}

/// Rows in memory: one data set, or several that are mixed.
#[derive(Debug, Clone, Copy)]
pub struct Sets<'a> {
    /// The data sets; one without a mix.
    pub each: &'a [&'a Data],
    /// How they are mixed.
    pub mix: Option<&'a Mix>,
}

impl Sets<'_> {
    /// Rows of all.
    pub fn rows(&self) -> usize {
        self.before(self.each.len())
    }

    /// Rows before a data set's first one.
    fn before(&self, set: usize) -> usize {
        self.each[..set].iter().map(|each| each.rows()).sum()
    }
}

impl Run {
    fn pace(self) -> Pace {
        let Self { batch_size: size, shuffle, drop_last, group_by_length, .. } = self;
        Pace { size, shuffle, drop_last, group_by_length }
    }

    /// Refuses to group rows that have no length, or whose order is not ours.
    fn check_lengths(self, model: &Model) -> Result<()> {
        if self.group_by_length && !self.shuffle {
            bail!("`group_by_length` chooses an order of rows, and with `shuffle` false there is none to choose");
        }
        if self.group_by_length && model.inputs().positions.is_empty() {
            bail!("`group_by_length`: the length of a row is its positions, and the model's inputs have none");
        }
        Ok(())
    }
}

impl Epoch {
    /// Refuses a running epoch that can never have been: more batches than rows, outputs of other rows.
    pub(super) fn check(&self, widths: &[usize]) -> Result<()> {
        let Some((rows, how)) = self.begun else {
            // Batches from outside are not begun.
            return Ok(());
        };
        let total = self.mixed.unwrap_or(rows.div_ceil(how.batch_size.max(1)));
        let possible = how.batch_size > 0 && self.batches <= total;
        let fits = |(kept, width): (&Vec<f32>, &usize)| kept.is_empty() || Some(kept.len()) == rows.checked_mul(*width);
        let whole = !how.keep_outputs || self.batches == 0 || self.kept.len() == widths.len();
        match possible && whole && (!how.keep_outputs || self.kept.iter().zip(widths).all(fits)) {
            true => Ok(()),
            false => bail!("its running epoch is damaged: {} batches of {how:?} over {rows} rows", self.batches),
        }
    }

    pub(super) fn new(tasks: usize, regularizers: usize, terms: usize) -> Self {
        let zeros = |count| vec![0.0; count];
        let losses = zeros(tasks);
        let weights = zeros(tasks);
        let regularizers = zeros(regularizers);
        let sums = Sums { losses, weights, regularizers, terms: zeros(terms), ..Sums::default() };
        Self { sums, ..Self::default() }
    }

    /// Adds one step.
    pub(super) fn add(&mut self, objective: f64, scratch: &Scratch, regularizers: &[Term]) {
        let losses = &scratch.losses.sums;
        let terms = &scratch.losses.terms;
        let weights = &scratch.labels.weights;
        self.sums.objective += objective;
        self.sums.steps += 1;
        self.sums.losses.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        self.sums.weights.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        self.sums.regularizers.iter_mut().zip(regularizers).for_each(|(sum, term)| *sum += term.value);
        self.sums.terms.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
    }

    /// A sum over steps as a mean.
    fn mean_of(&self, sum: f64) -> f64 {
        sum / self.sums.steps.max(1) as f64
    }
}

impl Trainer {
    /// As [`Trainer::run_over`], for one data set.
    ///
    /// # Errors
    /// As there.
    pub fn run(
        &mut self,
        model: &mut Model,
        data: &Data,
        how: Run,
        stop_after: Option<usize>,
        poll: &mut dyn FnMut(usize, usize, f64) -> Result<()>,
    ) -> Result<bool> {
        self.run_over(model, Sets { each: &[data], mix: None }, how, stop_after, poll)
    }

    /// Goes on with the running epoch over rows that were checked, for at most `stop_after` batches; gives whether the
    /// epoch is through. `poll(batches done, batches in all, loss so far)` is called now and then, and may stop it.
    ///
    /// # Errors
    /// As [`Trainer::step`]; an epoch that was begun in another way; what `poll` returns.
    pub fn run_over(
        &mut self,
        model: &mut Model,
        data: Sets<'_>,
        how: Run,
        stop_after: Option<usize>,
        poll: &mut dyn FnMut(usize, usize, f64) -> Result<()>,
    ) -> Result<bool> {
        let total = self.begin(model, data, how)?;
        let stop = stop_after.map_or(total, |limit| total.min(self.epoch.batches.saturating_add(limit)));
        let mut held = self.threads.begin();
        let mut looked = Instant::now();
        while self.epoch.batches < stop {
            let rows = match self.next(model, data, how, !how.keep_outputs) {
                Ok(rows) => rows,
                Err(error) => {
                    self.catch_up(model, data, how)?;
                    return Err(error);
                }
            };
            let now = self.threads.stepped(&mut held, rows, self.clock.steps);
            if now - looked >= self.pause || self.epoch.batches >= stop {
                self.catch_up(model, data, how)?;
            }
            if now - looked >= self.pause {
                poll(self.epoch.batches, total, self.running())?;
                looked = Instant::now();
                self.threads.paused(looked);
            }
        }
        Ok(self.epoch.batches >= total)
    }

    /// Checks that the epoch goes on as it began, brings its order to mind, and counts its batches.
    fn begin(&mut self, model: &Model, data: Sets<'_>, how: Run) -> Result<usize> {
        let rows = data.rows();
        if how.batch_size == 0 {
            bail!("`batch_size` should be at least 1; got 0");
        }
        if how.batch_size.saturating_mul(self.clock.accumulate) < self.decider.requirements.claims.parts {
            bail!(
                "`weighting`: it splits each batch into {} parts; `batch_size` is {}",
                self.decider.requirements.claims.parts,
                how.batch_size
            );
        }
        if self.decider.requirements.claims.validates && self.decider.validation.is_none() {
            bail!("`weighting`: it learns from validation data; pass `validation=` to `fit`");
        }
        if let Some(empty) = data.each.iter().find(|data| how.pace().batches(data.rows()) == 0) {
            bail!("`batch_size` of {} leaves no batch of {} rows with `drop_last`", how.batch_size, empty.rows());
        }
        how.check_lengths(model)?;
        match self.epoch.begun {
            Some(begun) if self.epoch.batches > 0 && begun != (rows, how) => bail!(
                "the running epoch was begun over {} rows with {:?}; it cannot go on over {rows} rows with {how:?}",
                begun.0,
                begun.1
            ),
            _ => self.epoch.begun = Some((rows, how)),
        }
        self.epoch.mixed = data.mix.map(Mix::batches);
        self.order(model, data, how.pace());
        self.epoch.meters.iter_mut().for_each(|meter| meter.reserve(rows));
        if how.keep_outputs {
            self.epoch.kept.resize(model.tasks.len(), Vec::new());
            for (j, (kept, task)) in self.epoch.kept.iter_mut().zip(&model.tasks).enumerate() {
                if self.epoch.meters.get(j).is_some_and(|meter| !meter.keeps()) {
                    kept.clear();
                    continue;
                }
                if self.epoch.batches > 0 && kept.is_empty() {
                    bail!(
                        "task `{}` has metrics that need the outputs of the whole epoch, and the checkpoint, written in \
                         the middle of it, does not hold them: resume with the metrics it was made with",
                        task.name
                    );
                }
                kept.resize(rows * task.width(), 0.0);
            }
        }
        Ok(self.epoch.order.batches())
    }

    /// Brings the epoch's order to mind.
    fn order(&mut self, model: &Model, data: Sets<'_>, pace: Pace) {
        let (seed, epoch) = (self.clock.seed, self.clock.epochs);
        // An epoch that begins may be over rows of other lengths than what was known of it.
        let settled = self.epoch.batches > 0 || !pace.group_by_length;
        if settled && self.epoch.ordered.as_ref().is_some_and(|of| of.is(epoch, data, pace)) {
            return;
        }
        let mut rows = self.epoch.ordered.take().map_or_else(Vec::new, |of| of.rows);
        rows.clear();
        rows.extend(data.each.iter().map(|each| each.rows()));
        let mut lengths = Vec::new();
        if pace.group_by_length {
            lengths.extend(data.each.iter().map(|each| model.lengths(each)));
        }
        let length = |set: usize, row: u32| lengths[set](row as usize);
        match data.mix {
            Some(mix) => self.epoch.order.fill_mixed(seed, epoch, &rows, mix, pace, length),
            None => self.epoch.order.fill(seed, epoch, rows[0], pace, |row| length(0, row)),
        }
        self.epoch.ordered = Some(Ordered { epoch, rows, pace, mix: data.mix.cloned() });
    }

    /// Learns what steps that waited came to. The one that failed is made again, to say why.
    fn catch_up(&mut self, model: &mut Model, data: Sets<'_>, how: Run) -> Result<()> {
        match self.settle()? {
            true => Ok(()),
            false => self.next(model, data, how, false).map(drop),
        }
    }

    /// One step on the next batch, or the next few with accumulation, which may wait; gives its rows.
    fn next(&mut self, model: &mut Model, data: Sets<'_>, how: Run, waits: bool) -> Result<usize> {
        let order = std::mem::take(&mut self.epoch.order);
        let ordered = self.epoch.ordered.take();
        let mut kept = std::mem::take(&mut self.epoch.kept);
        let first = self.epoch.batches;
        let batches = first..order.batches().min(first + self.clock.accumulate);
        let parts = Slices { sets: data.each, order: &order, batches, contiguous: !how.shuffle };
        let done = self.step_on(model, &parts, waits, |work, index| {
            if how.keep_outputs {
                let (set, rows) = parts.rows(index);
                let before = data.before(set);
                let all = data.rows();
                for (j, out) in kept.iter_mut().enumerate().filter(|(_, out)| !out.is_empty()) {
                    let width = out.len() / all;
                    work.scatter_outputs(j, rows.clone(), &mut out[before * width..])?;
                }
            }
            Ok(())
        });
        let count = parts.batches.len();
        let rows = (0..count).map(|index| parts.rows(index).1.len()).sum();
        self.epoch.order = order;
        self.epoch.ordered = ordered;
        self.epoch.kept = kept;
        done?;
        self.epoch.batches += count;
        Ok(rows)
    }

    /// Rows of each data set that the epoch at hand visits, in their order: those with outputs once it is through.
    pub fn visited(&self) -> Vec<Vec<u32>> {
        let order = &self.epoch.order;
        let mut rows = vec![Vec::new(); self.epoch.ordered.as_ref().map_or(0, |of| of.rows.len())];
        for (set, of) in (0..order.batches()).map(|index| order.batch(index)) {
            rows[set].extend_from_slice(of);
        }
        rows.iter_mut().for_each(|rows| {
            rows.sort_unstable();
            rows.dedup();
        });
        rows
    }

    /// Raw outputs kept: after [`Trainer::run`] in the data's order, one data set behind the other, after [`Trainer::step`] the batch's.
    pub fn outputs(&self) -> &[Vec<f32>] {
        &self.epoch.kept
    }

    /// The loss that the user means: the sum over the tasks that have labels of lambda (the task's `weight`, times the
    /// weighting's constants) times `sums` of weighted losses over `weights` of labels, plus `added`, the regularizers and
    /// the network's terms. NaN without any label.
    fn total(&self, sums: &[f64], weights: &[f64], added: f64) -> f64 {
        if weights.iter().all(|weight| *weight <= 0.0) {
            return f64::NAN;
        }
        total(&self.decider.lambdas, sums, weights, added)
    }

    /// The loss of the running epoch so far.
    pub fn running(&self) -> f64 {
        let Sums { losses, weights, regularizers, terms, .. } = &self.epoch.sums;
        let added = terms.iter().sum::<f64>() + regularizers.iter().sum::<f64>();
        self.total(losses, weights, self.epoch.mean_of(added))
    }

    /// The same of an evaluation's sums, with the regularizers of the parameters at hand, who learn nothing of them.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn evaluated(&mut self, model: &Model, sums: &[f64], weights: &[f64]) -> Result<f64> {
        let mut added = 0.0;
        for term in &mut self.updater.regularizers {
            added += term.look(&model.params.values, model.net.dense())?;
        }
        Ok(self.total(sums, weights, added))
    }

    /// Closes the epoch: `{"loss", "objective", "tasks", "labels", "lr", "regularizers", "terms", "observed", "metrics"}`,
    /// with `null` for a task without a label and for an objective that is the loss; the terms in the order of the
    /// network's names.
    ///
    /// # Errors
    /// As [`Trainer::step`], for what still waits for the rest of its accumulation.
    pub fn end_epoch(&mut self, model: &mut Model) -> Result<Value> {
        self.flush(model, false)?;
        let loss = self.running();
        let minimized = self.minimizes_another() && self.epoch.sums.steps > 0;
        let objective = minimized.then(|| self.epoch.mean_of(self.epoch.sums.objective));
        let Sums { losses, weights, regularizers, terms, .. } = &self.epoch.sums;
        let each = |sums: &[f64]| sums.iter().map(|&sum| self.epoch.mean_of(sum)).collect::<Vec<_>>();
        let means: Vec<_> = losses.iter().zip(weights).map(|(l, &w)| (w > 0.0).then(|| l / w)).collect();
        let line = json!({"loss": loss, "objective": objective, "tasks": means, "labels": weights, "lr": self.updater.lr, "terms": each(terms),
                          "regularizers": each(regularizers), "observed": self.decider.observed.means(),
                          "metrics": self.epoch.meters.iter_mut().map(Meter::values).collect::<Vec<_>>()});
        self.epoch.meters.iter_mut().for_each(Meter::clear);
        self.decider.observed.clear(model.tasks.len());
        self.clock.epochs += 1;
        self.epoch.batches = 0;
        self.epoch.begun = None;
        self.epoch.mixed = None;
        self.epoch.sums =
            Epoch::new(model.tasks.len(), self.updater.regularizers.len(), self.scratch.losses.terms.len()).sums;
        Ok(line)
    }
}
