//! Checkpoints: everything a run needs to go on with the same bits.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Trainer;
use super::epoch::{Run, Sums};
use super::observed::Observed;
use crate::description::read_frozen;
use crate::error::Result;
use crate::file::{self, Contents};
use crate::model::Model;
use crate::{bail, value_error, weighting};

/// What a checkpoint calls itself.
const FORMAT: &str = "polytask checkpoint 1";

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
    schedule: Value,
    weighting: Value,
    regularizers: Vec<Value>,
    observed: Observed,
    widths: Vec<usize>,
    /// Names of the weighting's arrays.
    arrays: Vec<String>,
}

impl Trainer {
    /// Writes model, optimizer and all state, with the caller's own notes, atomically.
    ///
    /// # Errors
    /// What the operating system says; batches that wait for the rest of their accumulation.
    pub fn save(&self, model: &Model, path: &Path, extra: &str) -> Result<()> {
        if !self.pending.is_empty() {
            bail!(
                "a checkpoint is possible only between steps: {} batches wait for their accumulation",
                self.pending.len()
            );
        }
        let mut contents = Contents::new(FORMAT);
        model.store(&mut contents);
        for (name, slot) in self.optimizer.slots().iter().zip(&self.slots) {
            contents.tensor(&format!("optimizer/{name}"), &[slot.len()], slot.as_slice());
        }
        self.tables.store(&mut contents);
        for (name, array) in self.weighting.state().arrays {
            contents.tensor(&format!("weighting/{name}"), &[array.len()], array);
        }
        let kept = self.epoch.kept.iter().filter(|_| self.epoch.batches > 0);
        for (task, outputs) in kept.enumerate() {
            contents.tensor(&format!("outputs/{task}"), &[outputs.len()], outputs.as_slice());
        }
        let state = serde_json::to_string(&self.state(model)).map_err(|error| value_error!("checkpoint: {error}"))?;
        contents.text("state", state);
        contents.text("description", model.description());
        contents.text("settings", self.settings());
        contents.text("extra", extra.to_owned());
        file::write(path, &contents)
    }

    /// Takes over everything [`Trainer::save`] wrote, what is frozen included, or nothing; gives the caller's notes.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged, or belongs to another model or other settings.
    pub fn restore(&mut self, model: &mut Model, path: &Path) -> Result<String> {
        let contents = file::read(path, FORMAT)?;
        same(&self.settings(), contents.get_text("settings")?, "settings")?;
        let stored = json(contents.get_text("description")?)?;
        same_model(&json(&model.description())?, &stored)?;
        let state: State = serde_json::from_str(contents.get_text("state")?)
            .map_err(|error| value_error!("{}: damaged state ({error})", path.display()))?;
        let parameters = model.fetch(&contents)?;
        let slot =
            |name: &&str| contents.get_tensor(&format!("optimizer/{name}"), &[model.net.dense()]).map(<[f32]>::to_vec);
        let slots = self.optimizer.slots().iter().map(slot).collect::<Result<Vec<_>>>()?;
        self.tables.check(&contents)?;
        let losses = model.read_losses(&stored)?;
        let relation = Model::fetch_relation(&contents)?;
        let extra = contents.get_text("extra")?.to_owned();
        let named =
            state.arrays.iter().map(|name| Some((name.clone(), contents.find_tensor(&format!("weighting/{name}"))?)));
        let arrays = named.flatten().map(|(name, array)| (name, array.to_vec())).collect();
        let weighting = weighting::State { value: state.weighting.clone(), arrays };

        let before = model.frozen();
        model.freeze_only(&read_frozen(&stored)?)?;
        if let Err(error) = self.notice(model) {
            model.freeze_only(&before)?;
            return Err(error);
        }
        self.schedule.restore(&state.schedule)?;
        self.weighting.restore(&weighting)?;
        for (term, state) in self.regularizers.iter_mut().zip(&state.regularizers) {
            term.regularizer.restore(state)?;
        }
        model.assign(&parameters);
        model.relation = relation;
        model.assign_losses(losses);
        self.slots = slots;
        self.tables.restore(&contents);
        self.take(state, model.tasks.len());
        let kept = (0..model.tasks.len()).map_while(|task| contents.find_tensor(&format!("outputs/{task}")));
        self.epoch.kept = kept.map(<[f32]>::to_vec).collect();
        Ok(extra)
    }

    fn state(&self, model: &Model) -> State {
        State {
            steps: self.steps,
            epochs: self.epochs,
            batches: self.epoch.batches,
            total_steps: self.total_steps,
            balanced: self.balanced,
            lr: self.lr,
            sums: self.epoch.sums.clone(),
            begun: self.epoch.begun,
            schedule: self.schedule.state(),
            weighting: self.weighting.state().value,
            regularizers: self.regularizers.iter().map(|term| term.regularizer.state()).collect(),
            observed: self.observed.clone(),
            widths: model.widths(),
            arrays: self.weighting.state().arrays.into_iter().map(|(name, _)| name).collect(),
        }
    }

    fn take(&mut self, state: State, tasks: usize) {
        self.pending.clear();
        self.epoch = super::Epoch::new(tasks, self.regularizers.len(), self.scratch.terms.len());
        self.epoch.batches = state.batches;
        self.epoch.sums = state.sums;
        self.epoch.begun = state.begun;
        self.observed.restore(state.observed);
        self.steps = state.steps;
        self.epochs = state.epochs;
        self.total_steps = state.total_steps;
        self.balanced = state.balanced;
        self.lr = state.lr;
    }
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| value_error!("damaged description ({error})"))
}

/// Refuses a checkpoint whose settings differ, naming the first that does.
fn same(ours: &str, theirs: &str, what: &str) -> Result<()> {
    let (ours, theirs) = (json(ours)?, json(theirs)?);
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

/// Models are the same if all but the losses' resolved weights, what is frozen and the face's notes agree.
fn same_model(ours: &Value, theirs: &Value) -> Result<()> {
    let bare = |description: &Value| {
        let mut bare = description.clone();
        bare["face"] = Value::Null;
        bare["frozen"] = Value::Null;
        for task in bare["tasks"].as_array_mut().into_iter().flatten() {
            task["loss"] = task["loss"]["name"].clone();
        }
        bare.to_string()
    };
    same(&bare(ours), &bare(theirs), "model parts")
}
