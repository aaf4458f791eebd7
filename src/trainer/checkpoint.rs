//! Checkpoints: everything a run needs to go on with the same bits.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Trainer;
use super::epoch::Run;
use super::observed::Observed;
use super::settings::Settings;
use super::sums::Sums;
use super::threads::{self, Threads};
use crate::error::Result;
use crate::file::format::CHECKPOINT;
use crate::file::{self, Contents};
use crate::loss::Loss;
use crate::machine::storage::Storage;
use crate::meter::Meter;
use crate::model::description::{is_own, read_frozen};
use crate::model::{Model, description};
use crate::regularizer::Relation;
use crate::{bail, optim, regularizer, schedule, value_error, weighting};

/// Before the names of the caller's arrays.
const ARRAYS: &str = "arrays/";

/// A trainer's state beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    steps: u64,
    epochs: u64,
    batches: usize,
    total_steps: Option<u64>,
    balanced: bool,
    lr: f64,
    sums: Sums,
    begun: Option<(usize, Run)>,
    #[serde(default)]
    mixed: Option<usize>,
    schedule: Value,
    weighting: Value,
    regularizers: Vec<Value>,
    observed: Observed,
    widths: Vec<usize>,
    /// Names of the weighting's arrays.
    arrays: Vec<String>,
    /// Of threads; earlier versions kept none.
    #[serde(default)]
    threads: threads::State,
    /// Counts of metrics, of each task; earlier versions counted none.
    #[serde(default)]
    meters: Option<Vec<Value>>,
}

/// A checkpoint that was read and fits the trainer that opened it, in which nothing has changed yet.
#[derive(Debug)]
pub struct Checkpoint {
    /// The caller's notes.
    pub extra: String,
    /// The caller's arrays, by name.
    pub arrays: Vec<(String, Vec<u8>)>,
    trainer: Box<Trainer>,
    parameters: Vec<Vec<f32>>,
    frozen: Vec<String>,
    losses: Vec<Option<Box<dyn Loss>>>,
    relation: Option<Relation>,
}

impl Checkpoint {
    /// Epochs and steps of the optimizer when it was written.
    pub fn place(&self) -> [u64; 2] {
        [self.trainer.clock.epochs, self.trainer.clock.steps]
    }
}

impl Trainer {
    /// Writes model, optimizer and all state, with the caller's own notes and arrays, atomically.
    ///
    /// # Errors
    /// What the operating system says; batches that wait for the rest of their accumulation.
    pub fn save(&self, model: &Model, path: &Path, extra: &str, arrays: &[(String, &[u8])]) -> Result<()> {
        file::write(path, &self.contents(model, extra, arrays)?)
    }

    /// What [`Trainer::save`] writes, in memory.
    ///
    /// # Errors
    /// Notes that are too long for a file; batches that wait for the rest of their accumulation.
    pub fn to_bytes(&self, model: &Model, extra: &str, arrays: &[(String, &[u8])]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let written = self.contents(model, extra, arrays)?.write(&mut bytes);
        written.map_err(|error| value_error!("cannot serialise the trainer: {error}"))?;
        Ok(bytes)
    }

    fn contents<'a>(&'a self, model: &'a Model, extra: &str, arrays: &'a [(String, &'a [u8])]) -> Result<Contents<'a>> {
        if !self.epoch.pending.is_empty() {
            bail!(
                "a checkpoint is possible only between steps: {} batches wait for their accumulation",
                self.epoch.pending.len()
            );
        }
        let mut contents = Contents::new(&CHECKPOINT);
        model.store(&mut contents)?;
        for (name, slot) in self.updater.optimizer.slots().iter().zip(&self.updater.slots) {
            contents.tensor(&format!("optimizer/{name}"), &[slot.layout().len()], slot.all()?);
        }
        self.updater.tables.store(&mut contents);
        for (name, array) in self.decider.weighting.state().arrays {
            contents.tensor(&format!("weighting/{name}"), &[array.len()], array);
        }
        let kept = self.epoch.kept.iter().filter(|_| self.epoch.batches > 0);
        for (task, outputs) in kept.enumerate() {
            contents.tensor(&format!("outputs/{task}"), &[outputs.len()], outputs.as_slice());
        }
        for (task, meter) in self.epoch.meters.iter().enumerate().filter(|_| self.epoch.batches > 0) {
            for (column, scores) in meter.scores().into_iter().enumerate().filter(|(_, scores)| !scores.is_empty()) {
                contents.tensor(&format!("meters/{task}/{column}"), &[scores.len()], scores);
            }
        }
        let state = serde_json::to_string(&self.state(model)).map_err(|error| value_error!("checkpoint: {error}"))?;
        contents.text("state", state);
        contents.text("description", model.describe().to_string());
        contents.text("settings", self.settings().to_string());
        contents.text("extra", extra.to_owned());
        arrays.iter().for_each(|(name, bytes)| contents.bytes(&format!("{ARRAYS}{name}"), *bytes));
        Ok(contents)
    }

    /// Takes over everything [`Trainer::save`] wrote, what is frozen included, or nothing; gives the caller's notes.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged, or belongs to another model or other settings.
    pub fn restore(&mut self, model: &mut Model, path: &Path) -> Result<String> {
        let checkpoint = self.read_checkpoint(model, path)?;
        let extra = checkpoint.extra.clone();
        self.take_over(model, checkpoint)?;
        Ok(extra)
    }

    /// Reads what [`Trainer::save`] wrote for this trainer and model, and changes neither.
    ///
    /// # Errors
    /// As [`Trainer::restore`].
    pub fn read_checkpoint(&self, model: &mut Model, path: &Path) -> Result<Checkpoint> {
        let contents = file::read(path, &CHECKPOINT)?;
        self.read(model, &contents).map_err(|error| error.within(&path.display().to_string()))
    }

    /// The same of what [`Trainer::to_bytes`] gave.
    ///
    /// # Errors
    /// As [`Trainer::restore`].
    pub fn read_checkpoint_bytes(&self, model: &mut Model, bytes: &[u8]) -> Result<Checkpoint> {
        let contents = file::parse(&mut &bytes[..], bytes.len() as u64, "a checkpoint in memory", &CHECKPOINT)?;
        self.read(model, &contents)
    }

    /// Goes on from a checkpoint that this trainer opened.
    ///
    /// # Errors
    /// What was frozen then is not there any more.
    pub fn take_over(&mut self, model: &mut Model, checkpoint: Checkpoint) -> Result<()> {
        let Checkpoint { trainer, parameters, frozen, losses, relation, .. } = checkpoint;
        model.freeze_only(&frozen)?;
        model.assign(&parameters.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        model.relation = relation;
        model.assign_losses(losses);
        let validation = self.decider.validation.take();
        *self = *trainer;
        self.decider.validation = validation;
        Ok(())
    }

    fn read(&self, model: &mut Model, contents: &Contents<'_>) -> Result<Checkpoint> {
        let stored = json(contents.get_text("settings")?)?;
        let stored = renewed_settings(&stored)?;
        let ours = renewed_settings(&self.settings())?;
        same_code(&ours, &stored, "weighting")?;
        same_code(&ours, &stored, "optimizer")?;
        same(&ours, &stored, "settings")?;
        let stored = json(contents.get_text("description")?)?;
        same_model(&model.describe(), &description::renewed(&stored)?)?;
        let parameters = model.fetch(contents)?.into_iter().map(<[f32]>::to_vec).collect();
        let losses = model.read_losses(&stored)?;
        let relation = model.fetch_relation(contents)?;
        let extra = contents.get_text("extra")?.to_owned();
        let arrays = contents.bytes_below(ARRAYS).map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
        let before = model.frozen();
        let frozen = read_frozen(&stored)?;
        model.freeze_only(&frozen)?;
        let trainer = self.resumed(model, contents);
        model.freeze_only(&before)?;
        Ok(Checkpoint { trainer: Box::new(trainer?), parameters, frozen, losses, relation, extra, arrays })
    }

    /// A trainer like this one that is where the checkpoint was written.
    fn resumed(&self, model: &Model, contents: &Contents<'_>) -> Result<Self> {
        let state: State = serde_json::from_str(contents.get_text("state")?)
            .map_err(|error| value_error!("damaged state ({error})"))?;
        let observe = self.decider.observed.wanted();
        let threads = Threads::new(&self.threads.describe())?;
        let mut settings = Settings { observe, threads, ..Settings::of(&self.settings())? };
        // What a description does not hold is that of the trainer that goes on.
        if let Some(weighting) = self.decider.weighting.anew() {
            settings.weighting = weighting;
        }
        if let Some(optimizer) = self.updater.again()? {
            settings.optimizer = optimizer;
        }
        let mut fresh = Self::new(model, settings)?;
        let slot = |name: &&str| {
            contents
                .get_tensor(&format!("optimizer/{name}"), &[model.net.dense()])
                .and_then(|slot| Storage::of(slot, model.backend()))
        };
        fresh.updater.slots = fresh.updater.optimizer.slots().iter().map(slot).collect::<Result<_>>()?;
        fresh.updater.tables.check(contents)?;
        fresh.updater.tables.restore(contents);
        fresh.updater.schedule.restore(&state.schedule)?;
        let named =
            state.arrays.iter().map(|name| Some((name.clone(), contents.find_tensor(&format!("weighting/{name}"))?)));
        let arrays: Vec<_> = named.flatten().map(|(name, array)| (name, array.to_vec())).collect();
        let size = model.tasks.len() * fresh.decider.requirements.columns.width;
        if let Some((name, array)) = arrays.iter().find(|(_, array)| ![0, size].contains(&array.len())) {
            bail!("the weighting's `{name}` should have {size} numbers; the file has {}", array.len());
        }
        fresh.decider.weighting.restore(&weighting::State { value: state.weighting.clone(), arrays })?;
        if state.regularizers.len() != fresh.updater.regularizers.len() {
            bail!(
                "it has states of {} regularizers, not of {}",
                state.regularizers.len(),
                fresh.updater.regularizers.len()
            );
        }
        for (term, state) in fresh.updater.regularizers.iter_mut().zip(&state.regularizers) {
            term.regularizer.restore(state)?;
        }
        let kept = (0..model.tasks.len()).map_while(|task| contents.find_tensor(&format!("outputs/{task}")));
        fresh.epoch.kept = kept.map(<[f32]>::to_vec).collect();
        fresh.epoch.meters = match &state.meters {
            _ if state.batches == 0 => Vec::new(),
            // Of an earlier version: what it counts would be of the rest of the epoch alone.
            None => model.tasks.iter().map(|_| Meter::partial()).collect(),
            Some(meters) => {
                let scores = |task: usize, column: usize| {
                    contents.find_tensor(&format!("meters/{task}/{column}")).map_or(Vec::new(), <[f32]>::to_vec)
                };
                let each = meters.iter().enumerate();
                each.map(|(task, state)| Meter::restore(state, |column| scores(task, column))).collect::<Result<_>>()?
            }
        };
        fresh.take(state)?;
        fresh.epoch.check(&model.widths())?;
        Ok(fresh)
    }

    fn state(&self, model: &Model) -> State {
        State {
            steps: self.clock.steps,
            epochs: self.clock.epochs,
            batches: self.epoch.batches,
            total_steps: self.clock.total_steps,
            balanced: self.balanced,
            lr: self.updater.lr,
            sums: self.epoch.sums.clone(),
            begun: self.epoch.begun,
            mixed: self.epoch.mixed,
            schedule: self.updater.schedule.state(),
            weighting: self.decider.weighting.state().value,
            regularizers: self.updater.regularizers.iter().map(|term| term.regularizer.state()).collect(),
            observed: self.decider.observed.clone(),
            widths: model.widths(),
            threads: self.threads.state(),
            arrays: self.decider.weighting.state().arrays.into_iter().map(|(name, _)| name).collect(),
            meters: Some(self.epoch.meters.iter().map(Meter::state).collect()),
        }
    }

    fn take(&mut self, state: State) -> Result<()> {
        if !state.sums.fits(&self.epoch.sums) {
            bail!("the sums of its epoch are of other tasks, regularizers or terms");
        }
        self.epoch.batches = state.batches;
        self.epoch.sums = state.sums;
        self.epoch.begun = state.begun;
        self.epoch.mixed = state.mixed;
        self.decider.observed.restore(state.observed);
        self.threads.restore(state.threads, state.steps)?;
        self.clock.steps = state.steps;
        self.clock.epochs = state.epochs;
        self.clock.total_steps = state.total_steps;
        self.balanced = state.balanced;
        self.updater.lr = state.lr;
        Ok(())
    }
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| value_error!("damaged description ({error})"))
}

/// Stored settings as this version would write them: what was added since has its defaults.
fn renewed_settings(stored: &Value) -> Result<Value> {
    let mut renewed = stored.clone();
    renewed["optimizer"] = optim::of(&stored["optimizer"])?.describe();
    renewed["schedule"] = schedule::build(&stored["schedule"])?.meaning();
    renewed["weighting"] = weighting::build(&stored["weighting"])?.describe();
    for each in renewed["regularizers"].as_array_mut().into_iter().flatten() {
        *each = regularizer::build(each)?.describe();
    }
    Ok(renewed)
}

/// Refuses a checkpoint that was made with code of the caller's own that is not here: no file holds it.
fn same_code(ours: &Value, theirs: &Value, argument: &str) -> Result<()> {
    let class = |settings: &Value| {
        let part = &settings[argument];
        is_own(part).then(|| part["class"].as_str().unwrap_or_default().to_owned())
    };
    match (class(theirs), class(ours)) {
        (Some(there), None) => {
            bail!(
                "its {argument} was code of your own, `{there}`, which no file holds: pass it again, `{argument}={there}`"
            )
        }
        (Some(there), Some(here)) if here != there => {
            bail!(
                "its {argument} was code of your own, `{there}`, and here it is `{here}`: pass the same, `{argument}={there}`"
            )
        }
        _ => Ok(()),
    }
}

/// Refuses a checkpoint whose settings differ, naming the first that does.
fn same(ours: &Value, theirs: &Value, what: &str) -> Result<()> {
    let differ = |(key, value): &(&String, &Value)| theirs.get(key.as_str()) != Some(*value);
    match ours.as_object().and_then(|map| map.iter().find(differ)) {
        Some((key, value)) => {
            bail!(
                "the checkpoint was made with other {what}: `{key}` is {} there and {value} here",
                theirs[key.as_str()]
            )
        }
        None => Ok(()),
    }
}

/// Models are the same if all but the losses' resolved weights, what is frozen, Python's notes and the name of a class agree.
fn same_model(ours: &Value, theirs: &Value) -> Result<()> {
    let bare = |description: &Value| {
        let mut bare = description.clone();
        bare["face"] = Value::Null;
        bare["frozen"] = Value::Null;
        // By which a model starts, and no more.
        bare["inputs"]["unseen"] = Value::Null;
        let positions = bare["inputs"]["positions"].as_array_mut();
        positions.into_iter().flatten().for_each(|each| each["unseen"] = Value::Null);
        let bare_class = |part: &mut Value| {
            if is_own(part) {
                part["class"] = Value::Null;
            }
        };
        bare_class(&mut bare["encoder"]);
        bare["heads"].as_object_mut().into_iter().flat_map(|heads| heads.values_mut()).for_each(bare_class);
        for task in bare["tasks"].as_array_mut().into_iter().flatten() {
            task["loss"] = task["loss"]["name"].clone();
        }
        bare
    };
    same(&bare(ours), &bare(theirs), "model parts")
}
