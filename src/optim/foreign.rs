//! An optimizer that is code of the caller's own.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::{Value, json};
use tch::Tensor;

use super::{Optimizer, TensorStep, Updated};
use crate::bail;
use crate::component::Described;
use crate::error::Result;
use crate::parameters::touched::Touched;
use crate::parameters::{PerGroup, Rates, Segment};

/// A parameter that such an optimizer steps on, where it is.
#[derive(Debug)]
pub struct Parameter {
    /// Its path, as people see it.
    pub name: String,
    /// Its numbers, in a shape of their own.
    pub value: Tensor,
    /// Its gradient, likewise.
    pub gradient: Tensor,
    /// Whether it is not frozen.
    pub learns: bool,
}

/// Makes steps; its state stays on the other side.
pub trait ForeignOptimizer: Debug + Send + Sync {
    /// Has it work on these parameters, all of a model's in order, and again when they are elsewhere or frozen. Gives the
    /// learning rate of the coming step.
    ///
    /// # Errors
    /// What that code raises.
    fn tie(&self, parameters: &[Parameter]) -> Result<f64>;

    /// One step against the gradients where they are, with its learning rates times a factor. Gives the learning rate.
    ///
    /// # Errors
    /// What that code raises.
    fn step(&self, factor: f64) -> Result<f64>;
}

/// Such an optimizer in the core: one whose rule nobody here knows.
#[derive(Debug, Clone)]
pub struct Foreign {
    description: Value,
    /// None where a description alone is known, as that of a checkpoint.
    code: Option<Arc<dyn ForeignOptimizer>>,
    /// What segments are made of.
    one: PerGroup,
    zero: PerGroup,
}

impl Foreign {
    /// Of a description `{"name": "custom", "class", "schedule"}`.
    ///
    /// # Errors
    /// A description that is none.
    pub fn of(description: &Value, code: Option<Arc<dyn ForeignOptimizer>>) -> Result<Self> {
        if !description["class"].is_string() {
            bail!("an optimizer of your own needs `class`, its name; got {}", description["class"]);
        }
        let described = json!({"name": "custom", "class": description["class"], "schedule": description["schedule"]});
        Ok(Self { description: described, code, one: PerGroup::All(1.0), zero: PerGroup::All(0.0) })
    }
}

impl Described for Foreign {
    fn describe(&self) -> Value {
        self.description.clone()
    }
}

impl Optimizer for Foreign {
    fn slots(&self) -> &'static [&'static str] {
        &[]
    }

    fn rates(&self) -> Rates<'_> {
        Rates { lr: &self.one, weight_decay: &self.zero, defaults: [1.0, 0.0], of_matrices: None }
    }

    fn formula(&self, _: &TensorStep<'_>) -> Updated {
        unreachable!("it is foreign")
    }

    fn update(&self, _: u64, _: f32, _: &[Segment], _: &mut [f32], _: &[f32], _: &mut [&mut [f32]]) {
        unreachable!("it is foreign")
    }

    fn update_rows(&self, _: u64, _: f32, _: &Segment, _: &mut [f32], _: &Touched<f32>, _: &mut [&mut [f32]]) {
        unreachable!("models with sparse tables are refused")
    }

    fn is_foreign(&self) -> bool {
        true
    }

    fn foreign(&self) -> Option<&Arc<dyn ForeignOptimizer>> {
        self.code.as_ref()
    }
}
