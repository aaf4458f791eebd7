//! What a trainer is made of, and how files and callers write it.

use serde_json::{Value, json};

use super::observed::Observe;
use super::threads::Threads;
use crate::error::Result;
use crate::model::description::read_seed;
use crate::optim::Optimizer;
use crate::regularizer::Regularizer;
use crate::schedule::Schedule;
use crate::weighting::Weighting;
use crate::{bail, optim, regularizer, schedule, value_error, weighting};

/// What a trainer is made of; the defaults are those of `pt.Trainer`.
#[derive(Debug)]
pub struct Settings {
    /// What makes steps of gradients.
    pub optimizer: Box<dyn Optimizer>,
    /// The factor on its learning rates.
    pub schedule: Box<dyn Schedule>,
    /// How the tasks share a step.
    pub weighting: Box<dyn Weighting>,
    /// Terms of the objective that depend on the parameters alone.
    pub regularizers: Vec<Box<dyn Regularizer>>,
    /// Greatest norm of a gradient, above 0.
    pub clip_norm: Option<f64>,
    /// Batches a step, at least 1.
    pub accumulate: usize,
    /// Seed of orders, dropout and weightings.
    pub seed: u64,
    /// How many threads steps take.
    pub(super) threads: Threads,
    /// What an epoch is to show beside losses.
    pub observe: Observe,
}

impl Settings {
    /// Reads `{"optimizer", "schedule", "weighting", "regularizers", "clip_norm", "accumulate", "seed", "threads", "observe"}`;
    /// what is missing or null has its default.
    ///
    /// # Errors
    /// Whatever is unknown or out of range.
    pub fn of(settings: &Value) -> Result<Self> {
        let or = |key: &str, default: &str| match &settings[key] {
            Value::Null => Value::from(default),
            given => given.clone(),
        };
        Ok(Self {
            optimizer: optim::of(&or("optimizer", "adam"))?,
            weighting: weighting::build(&or("weighting", "equal"))?,
            schedule: schedule::build(&or("schedule", "constant"))?,
            clip_norm: clip_norm(&settings["clip_norm"])?,
            accumulate: accumulate(&settings["accumulate"])?,
            threads: Threads::new(&settings["threads"])?,
            observe: Observe::read(&settings["observe"])?,
            regularizers: match &settings["regularizers"] {
                Value::Null => Vec::new(),
                Value::Array(each) => each.iter().map(regularizer::build).collect::<Result<_>>()?,
                other => bail!("`regularizers` should be a list; got {other}"),
            },
            seed: read_seed(&settings["seed"])?,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(&json!({})).expect("all defaults can be built")
    }
}

fn clip_norm(value: &Value) -> Result<Option<f64>> {
    if value.is_null() {
        return Ok(None);
    }
    match value.as_f64().filter(|&x| x > 0.0 && x.is_finite()) {
        Some(norm) => Ok(Some(norm)),
        None => Err(value_error!("`clip_norm` should be a number above 0 or None; got {value}")),
    }
}

fn accumulate(value: &Value) -> Result<usize> {
    if value.is_null() {
        return Ok(1);
    }
    match value.as_u64().filter(|&batches| batches > 0) {
        Some(batches) => Ok(batches as usize),
        None => Err(value_error!("`accumulate` should be a whole number of at least 1; got {value}")),
    }
}
