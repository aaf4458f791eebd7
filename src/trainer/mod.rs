//! The training loop: batches, steps, epochs, and their exact resumption.

mod batches;
pub mod checkpoint;
pub mod epoch;
mod evidence;
mod finite;
pub mod observed;
mod probe;
mod regularized;
pub mod requirements;
mod scratch;
pub mod step;
mod tables;
mod ways;

use serde_json::{Value, json};

use crate::data::Data;
use crate::error::Result;
use crate::meter::{Meter, Wanted};
use crate::model::Model;
use crate::model::description::read_seed;
use crate::optim::Optimizer;
use crate::parameters::{Block, Segments};
use crate::regularizer::{Relation, Term};
use crate::schedule::Schedule;
use crate::task::Task;
use crate::weighting::{Combination, Needs, Notice, Weighting};
use crate::{bail, optim, schedule, value_error, weighting};

use epoch::Epoch;
use observed::Observed;
use requirements::Requirements;
use scratch::Scratch;
use tables::Tables;

/// Trains one model.
#[derive(Debug)]
pub struct Trainer {
    optimizer: Box<dyn Optimizer>,
    schedule: Box<dyn Schedule>,
    weighting: Box<dyn Weighting>,
    requirements: Requirements,
    observed: Observed,
    /// Rows that a weighting may learn from beside the batches.
    validation: Option<Data>,
    combination: Combination,
    /// What each task's loss is multiplied by in the loss that the user means.
    lambdas: Vec<f64>,
    /// What the run should be told of the weighting.
    notice: Notice,
    regularizers: Vec<Term>,
    blocks: Vec<Block>,
    /// What does not learn, in the flat parameters.
    frozen: Vec<std::ops::Range<usize>>,
    clip_norm: Option<f64>,
    accumulate: usize,
    seed: u64,
    /// The network's count of changes to what is frozen, as blocks, segments and requirements have it.
    freezes: u64,
    /// Parameters by learning rate and decay.
    segments: Segments,
    /// The optimizer's state, one flat buffer a slot.
    slots: Vec<Vec<f32>>,
    tables: Tables,
    steps: u64,
    epochs: u64,
    total_steps: Option<u64>,
    balanced: bool,
    lr: f64,
    epoch: Epoch,
    /// Metrics of the running epoch, of each task once they are wanted.
    meters: Vec<Meter>,
    /// Foreign batches that wait for the rest of their accumulation.
    pending: Vec<Data>,
    scratch: Scratch,
}

impl Trainer {
    /// Reads JSON settings for a model: `{"optimizer", "schedule", "weighting", "regularizers", "clip_norm",
    /// "accumulate", "seed", "observe"}`.
    ///
    /// # Errors
    /// Whatever is unknown or out of range.
    pub fn new(model: &Model, settings: &str) -> Result<Self> {
        let settings: Value = serde_json::from_str(settings).map_err(|error| value_error!("settings: {error}"))?;
        let or = |key: &str, default: &str| match &settings[key] {
            Value::Null => Value::from(default),
            given => given.clone(),
        };
        let optimizer = optim::build(&or("optimizer", "adam"))?;
        let mut weighting = weighting::build(&or("weighting", "equal"))?;
        weighting.prepare(&model.tasks.iter().map(Task::about).collect::<Vec<_>>())?;
        let clip_norm = positive(&settings["clip_norm"], "clip_norm")?;
        let accumulate = match &settings["accumulate"] {
            Value::Null => 1,
            value => value
                .as_u64()
                .filter(|&n| n > 0)
                .map(|n| n as usize)
                .ok_or_else(|| value_error!("`accumulate` should be a whole number of at least 1; got {value}"))?,
        };
        let constants = weighting.constants().iter().copied().chain(std::iter::repeat(1.0));
        let lambdas = model.tasks.iter().zip(constants).map(|(task, constant)| task.weight * constant).collect();
        let observed = Observed::new(&settings["observe"], model.tasks.len())?;
        let requirements = Requirements::new(weighting.as_ref(), model, accumulate, observed.gradients)?;
        let all = model.net.blocks();
        let names: Vec<_> = model.tasks.iter().map(|task| task.name.as_str()).collect();
        let places = regularized::places(&model.net, &names);
        let mut regularizers: Vec<_> = match &settings["regularizers"] {
            Value::Null => Vec::new(),
            Value::Array(each) => each.iter().map(|each| Term::new(each, &places)).collect::<Result<_>>()?,
            other => bail!("`regularizers` should be a list; got {other}"),
        };
        let frozen = model.net.frozen();
        regularizers.iter_mut().for_each(|term| term.freeze(&frozen));
        let tables = Tables::new(&model.net, optimizer.as_ref());
        Segments::new(optimizer.rates(), &all, &tables.blocks())?;
        let blocks = model.net.learning();
        let mut segments = Segments::of(optimizer.rates(), &blocks, &tables.blocks());
        let (size, terms) = (model.net.dense(), model.net.terms().len());
        let slots = (0..optimizer.slots().len()).map(|slot| vec![optimizer.initial(slot); size]).collect();
        Ok(Self {
            lr: segments.at(1.0).0.first().map_or(0.0, |segment| segment.lr),
            schedule: schedule::build(&or("schedule", "constant"))?,
            seed: read_seed(&settings["seed"])?,
            epoch: Epoch::new(model.tasks.len(), regularizers.len(), terms),
            scratch: Scratch::new(model.tasks.len(), terms),
            optimizer,
            weighting,
            requirements,
            observed,
            validation: None,
            combination: Combination::default(),
            lambdas,
            notice: Notice::default(),
            regularizers,
            blocks,
            frozen,
            clip_norm,
            accumulate,
            freezes: model.net.freezes,
            segments,
            slots,
            tables,
            steps: 0,
            epochs: 0,
            total_steps: None,
            balanced: false,
            meters: Vec::new(),
            pending: Vec::new(),
        })
    }

    /// Takes notice of what was frozen or unfrozen since the last step; the optimizer's state stays.
    ///
    /// # Errors
    /// What [`Requirements::new`] refuses.
    fn notice(&mut self, model: &Model) -> Result<()> {
        if self.freezes != model.net.freezes {
            let requirements =
                Requirements::new(self.weighting.as_ref(), model, self.accumulate, self.observed.gradients)?;
            let same = requirements.shared.iter().map(|piece| piece.param).eq(self
                .requirements
                .shared
                .iter()
                .map(|piece| piece.param));
            if self.weighting.keeps_gradients() && !same {
                // Averages of other parameters' gradients say nothing of these.
                self.weighting.reset();
                self.weighting.prepare(&model.tasks.iter().map(Task::about).collect::<Vec<_>>())?;
            }
            self.requirements = requirements;
            self.blocks = model.net.learning();
            self.frozen = model.net.frozen();
            self.regularizers.iter_mut().for_each(|term| term.freeze(&self.frozen));
            self.segments = Segments::of(self.optimizer.rates(), &self.blocks, &self.tables.blocks());
            self.freezes = model.net.freezes;
        }
        Ok(())
    }

    /// The settings with every default filled in, as JSON.
    pub fn settings(&self) -> String {
        json!({"optimizer": self.optimizer.describe(), "schedule": self.schedule.describe(),
               "weighting": self.weighting.describe(), "clip_norm": self.clip_norm, "accumulate": self.accumulate,
               "regularizers": self.regularizers.iter().map(|term| term.regularizer.describe()).collect::<Vec<_>>(),
               "seed": self.seed})
        .to_string()
    }

    /// Steps of the optimizer so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Complete epochs so far.
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Batches done in the running epoch.
    pub fn batches(&self) -> usize {
        self.epoch.batches
    }

    /// The learning rate of the last step.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Whether steps minimise something else than the loss that the user means: a weighting changes what losses count.
    pub fn minimizes_another(&self) -> bool {
        self.weighting.needs() == Needs::Losses && self.weighting.looks()
    }

    /// Tells schedules that need it how many steps the run will have.
    ///
    /// # Errors
    /// An unknown length, where the schedule needs one.
    pub fn plan(&mut self, total_steps: Option<u64>) -> Result<()> {
        if total_steps.is_none() && self.schedule.needs_total() {
            bail!(
                "`schedule`: {} needs to know the number of steps; pass a loader with a length",
                self.schedule.describe()
            );
        }
        self.total_steps = total_steps;
        self.notice = Notice::default();
        Ok(())
    }

    /// What is to be said of the steps so far, once a run.
    pub fn warning(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// Resolves `"balanced"` class weights from these labels, the first time.
    ///
    /// # Errors
    /// Labels that cannot be counted.
    pub fn balance(&mut self, model: &mut Model, data: &Data) -> Result<()> {
        if !std::mem::replace(&mut self.balanced, true) {
            for (task, description) in model.tasks.iter_mut().enumerate() {
                let labels = description.labels;
                description.loss.balance(&mut || data.count(task, labels))?;
            }
        }
        Ok(())
    }

    /// Counts metrics of training from here on, of each task or of none; what the running epoch has counted stays.
    pub fn measure(&mut self, model: &Model, wanted: &[Wanted]) {
        self.meters.resize_with(model.tasks.len(), Meter::default);
        for (j, (meter, task)) in self.meters.iter_mut().zip(&model.tasks).enumerate() {
            meter.want(wanted.get(j), task);
        }
    }

    /// Whether the weighting learns from validation rows.
    pub fn needs_validation(&self) -> bool {
        self.weighting.validates()
    }

    /// Whether the weighting compares the gradients of the tasks in a step.
    pub fn compares(&self) -> bool {
        self.requirements.needs > weighting::Needs::Losses
    }

    /// Rows, checked for this model, that the weighting may learn from.
    pub fn validate_on(&mut self, data: Data) {
        self.validation = Some(data);
    }

    /// Shows the model what regularizers learned of its tasks' relation; the last of them counts.
    fn relate(&self, model: &mut Model) {
        let learned = self.regularizers.iter().filter_map(|term| term.regularizer.relation());
        for matrix in learned {
            match &mut model.relation {
                Some(relation) if relation.matrix.len() == matrix.len() => relation.matrix.copy_from_slice(matrix),
                relation => {
                    let tasks = model.tasks.iter().map(|task| task.name.clone()).collect();
                    *relation = Some(Relation { tasks, matrix: matrix.to_vec() });
                }
            }
        }
    }

    /// The column of the history that the schedule wants to see, and which direction is better.
    pub fn watches(&self) -> Option<(String, &'static str)> {
        self.schedule.watches().map(|(column, mode)| (column.to_owned(), mode))
    }

    /// Shows the schedule what it watches, at the end of an epoch.
    pub fn observe(&mut self, value: f64, higher_is_better: bool) {
        self.schedule.observe(value, higher_is_better);
    }
}

fn positive(value: &Value, name: &str) -> Result<Option<f64>> {
    match value {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|&x| x > 0.0 && x.is_finite()) {
            Some(x) => Ok(Some(x)),
            None => Err(value_error!("`{name}` should be a number above 0 or None; got {value}")),
        },
    }
}
