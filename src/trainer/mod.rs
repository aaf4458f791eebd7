//! The training loop: batches, steps, epochs, and their exact resumption.

mod batches;
pub mod checkpoint;
mod clock;
mod decider;
pub mod epoch;
mod evidence;
mod finite;
mod launch;
pub mod observed;
mod probe;
mod regularized;
pub mod requirements;
mod scratch;
pub mod settings;
pub mod step;
pub mod sums;
mod tables;
mod tally;
mod threads;
mod updater;
mod ways;

use std::time::Duration;

use serde_json::{Value, json};

use crate::data::Data;
use crate::error::Result;
use crate::machine::storage::Backend;
use crate::meter::{Meter, Wanted};
use crate::model::Model;
use crate::regularizer::Term;
use crate::weighting::{Needs, Notice};
use crate::{bail, weighting};

use clock::Clock;
use decider::Decider;
use epoch::Epoch;
use observed::Observed;
use scratch::Scratch;
use settings::Settings;
use sums::Sums;
use tally::Counts;
use threads::{Stretch, Threads};
use updater::Updater;

/// Time between two looks at the outside world.
const POLL: Duration = Duration::from_millis(50);

/// Trains one model.
#[derive(Debug)]
pub struct Trainer {
    clock: Clock,
    decider: Decider,
    updater: Updater,
    threads: Threads,
    epoch: Epoch,
    /// Whether "balanced" class weights were resolved.
    balanced: bool,
    /// Time between two looks at the outside world.
    pause: Duration,
    scratch: Scratch,
}

impl Trainer {
    /// For a model, of these settings.
    ///
    /// # Errors
    /// Settings that do not fit the model.
    pub fn new(model: &Model, settings: Settings) -> Result<Self> {
        let Settings { optimizer, schedule, weighting, regularizers, clip_norm, accumulate, seed, threads, observe } =
            settings;
        let tasks = model.tasks.len();
        let backend = model.backend();
        let decider = Decider::new(weighting, model, accumulate, Observed::new(observe, tasks))?;
        let names: Vec<_> = model.tasks.iter().map(|task| task.name.as_str()).collect();
        let places = regularized::places(&model.net, &names);
        let terms = regularizers.into_iter().map(|regularizer| Term::new(regularizer, &places));
        let updater = Updater::new(&model.net, optimizer, schedule, terms.collect::<Result<_>>()?, clip_norm, backend)?;
        let counts = Counts { tasks, regularizers: updater.regularizers.len(), terms: model.net.terms().len() };
        decider.check_device(backend)?;
        Ok(Self {
            clock: Clock { seed, accumulate, steps: 0, epochs: 0, total_steps: None },
            epoch: Epoch::new(tasks, counts.regularizers, counts.terms),
            decider,
            updater,
            threads,
            balanced: false,
            pause: POLL,
            scratch: Scratch::new(counts, &model.params.state)?,
        })
    }

    /// Takes notice of what was frozen or unfrozen since the last step; the optimizer's state stays.
    ///
    /// # Errors
    /// What [`Requirements::new`](requirements::Requirements::new) refuses.
    fn notice(&mut self, model: &Model) -> Result<()> {
        if self.decider.requirements.freezes != model.net.freezes {
            self.decider.freeze(model, self.clock.accumulate)?;
            self.updater.freeze(&model.net);
            self.threads.forget();
        }
        if self.scratch.state.backend() != model.backend() {
            self.check_device(model.backend())?;
            let Sums { losses, regularizers, terms, .. } = &self.epoch.sums;
            let counts = Counts { tasks: losses.len(), regularizers: regularizers.len(), terms: terms.len() };
            self.scratch = Scratch::new(counts, &model.params.state)?;
            self.updater.move_to(model.backend())?;
        }
        Ok(())
    }

    /// Shows an optimizer of the caller's own the parameters, which the first step would do else.
    ///
    /// # Errors
    /// What that code raises.
    pub fn tie(&mut self, model: &Model) -> Result<()> {
        self.updater.tie(model)
    }

    /// Whether its steps can be made there.
    ///
    /// # Errors
    /// A weighting that works on the processor alone.
    pub fn check_device(&self, backend: Backend) -> Result<()> {
        self.decider.check_device(backend)
    }

    /// The settings with every default filled in, as [`Settings::of`] reads them.
    pub fn settings(&self) -> Value {
        json!({"optimizer": self.updater.optimizer.describe(), "schedule": self.updater.schedule.describe(),
               "weighting": self.decider.weighting.describe(), "clip_norm": self.updater.clip_norm, "accumulate": self.clock.accumulate,
               "regularizers": self.updater.regularizers.iter().map(|term| term.regularizer.describe()).collect::<Vec<_>>(),
               "seed": self.clock.seed})
    }

    /// The factor of each task's loss in the objective, up to one for all, if nothing changes that.
    pub fn constant_weights(&self) -> Option<&[f64]> {
        let claims = self.decider.requirements.claims;
        Some(&self.decider.lambdas[..]).filter(|_| claims.even || !claims.looks)
    }

    /// Batches a step.
    pub fn accumulate(&self) -> usize {
        self.clock.accumulate
    }

    /// The name of the weighting, or of the function or class that is the caller's own.
    pub fn weighting(&self) -> String {
        weighting::called(self.decider.weighting.as_ref())
    }

    /// The names of the regularizers.
    pub fn regularizers(&self) -> Vec<String> {
        let name = |term: &Term| term.regularizer.describe()["name"].as_str().unwrap_or_default().to_owned();
        self.updater.regularizers.iter().map(name).collect()
    }

    /// Steps of the optimizer so far.
    pub fn steps(&self) -> u64 {
        self.clock.steps
    }

    /// Numbers of threads so far, each with the first of its steps, counted from 0.
    pub fn stretches(&self) -> &[Stretch] {
        self.threads.stretches()
    }

    /// Threads of a call that begins now.
    pub fn threads(&mut self) -> usize {
        self.threads.count()
    }

    /// Complete epochs so far.
    pub fn epochs(&self) -> u64 {
        self.clock.epochs
    }

    /// Batches done in the running epoch.
    pub fn batches(&self) -> usize {
        self.epoch.batches
    }

    /// The learning rate of the last step.
    pub fn lr(&self) -> f64 {
        self.updater.lr
    }

    /// Whether steps minimise something else than the loss that the user means: a weighting changes what losses count.
    pub fn minimizes_another(&self) -> bool {
        self.decider.requirements.claims.needs == Needs::Losses && self.decider.requirements.claims.looks
    }

    /// Says how long a run goes on before it looks at the outside world again: 50 milliseconds, where nobody says.
    pub fn look_every(&mut self, pause: Duration) {
        self.pause = pause;
    }

    /// Tells schedules that need it how many steps the run will have.
    ///
    /// # Errors
    /// An unknown length, where the schedule needs one.
    pub fn plan(&mut self, total_steps: Option<u64>) -> Result<()> {
        if total_steps.is_none() && self.updater.schedule.needs_total() {
            bail!(
                "`schedule`: {} needs to know the number of steps; pass a loader with a length",
                self.updater.schedule.describe()
            );
        }
        self.clock.total_steps = total_steps;
        self.decider.notice = Notice::default();
        Ok(())
    }

    /// What is to be said of the steps so far, once a run.
    pub fn warning(&mut self) -> Option<String> {
        self.decider.notice.take()
    }

    /// Resolves `"balanced"` class weights from these labels, the first time.
    ///
    /// # Errors
    /// Labels that cannot be counted.
    pub fn balance(&mut self, model: &mut Model, data: &Data) -> Result<()> {
        if !std::mem::replace(&mut self.balanced, true) {
            let asked = model.asked();
            for (task, (description, asked)) in model.tasks.iter_mut().zip(&asked).enumerate() {
                description.loss.balance(&mut || data.count(task, asked))?;
            }
        }
        Ok(())
    }

    /// Counts metrics of training from here on, of each task or of none; what the running epoch has counted stays.
    pub fn measure(&mut self, model: &Model, wanted: &[Wanted]) {
        self.epoch.meters.resize_with(model.tasks.len(), Meter::default);
        for (j, (meter, task)) in self.epoch.meters.iter_mut().zip(&model.tasks).enumerate() {
            meter.want(wanted.get(j), task);
        }
    }

    /// Whether the weighting learns from validation rows.
    pub fn needs_validation(&self) -> bool {
        self.decider.requirements.claims.validates
    }

    /// Whether the weighting compares the gradients of the tasks in a step.
    pub fn compares(&self) -> bool {
        self.decider.requirements.claims.needs > weighting::Needs::Losses
    }

    /// Rows, checked for this model, that the weighting may learn from.
    pub fn validate_on(&mut self, data: Data) {
        self.decider.validation = Some(data);
    }

    /// The column of the history that the schedule wants to see, and which direction is better.
    pub fn watches(&self) -> Option<(String, &'static str)> {
        self.updater.schedule.watches().map(|(column, mode)| (column.to_owned(), mode))
    }

    /// Shows the schedule what it watches, at the end of an epoch.
    pub fn observe(&mut self, value: f64, higher_is_better: bool) {
        self.updater.schedule.observe(value, higher_is_better);
    }
}
