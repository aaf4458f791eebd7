//! Weightings: from evidence about the tasks of a batch to weights, or to a direction for the shared parameters.

use std::fmt::{Debug, Display};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::component::{Component, Described, Info};
use crate::error::Result;
use crate::task::About;
use crate::value_error;

pub mod bilevel;
pub mod combination;
pub mod evidence;
pub mod foreign;
pub mod gradient;
pub mod learned;
pub mod loss;
pub mod modes;
pub mod notice;
pub mod positive;
pub mod standalone;

pub use combination::{Combination, Decision};
pub use evidence::{Evidence, Given, Moment, On, Probed};
pub use foreign::{Foreign, ForeignWeighting};
use modes::Modes;
pub use notice::Notice;
pub use standalone::Standalone;

/// What a weighting looks at, the dearest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Needs {
    /// Task losses at most: its weights apply to the losses, and so to all parameters.
    Losses,
    /// The products of the tasks' gradients: its weights apply where gradients enter shared parameters.
    Gramian,
    /// The tasks' gradients themselves: its weights or its direction apply likewise.
    Jacobian,
}

/// How long the combined gradient is when tasks agree, in the method's paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActsLike {
    /// As the sum of the tasks' gradients.
    Sum,
    /// As their mean.
    Mean,
    /// Neither: a norm of its own.
    Own,
}

/// What a weighting promises of its weights or its direction, in its paper or by its formula. Each promise is put to the
/// test for all that make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// The direction is the rows' combination by weights that the Gramian gives.
    Weighted,
    /// The order of tasks does not matter.
    Permutes,
    /// No task conflicts with the direction.
    Safe,
    /// No task does, if their gradients are independent.
    SafeIndependent,
    /// Neither of two tasks does.
    SafePair,
    /// The direction is linear in each row's scale, the others held.
    Linear,
    /// Twice the gradients, twice the direction.
    Homogeneous,
    /// The scale of the gradients does not change the direction.
    ScaleFree,
    /// The direction's projection is the same on all rows of length 1, if they are independent.
    Impartial,
    /// The direction is zero where any convex combination of rows is zero.
    StopsWeakly,
    /// The direction is zero where a combination with positive weights is zero, and only there.
    StopsStrongly,
    /// Steps end where nothing makes one loss less without making another more, from wherever they start.
    Pareto,
    /// Weights are above zero.
    Positive,
    /// Weighted losses are equal.
    Levels,
    /// Weights sum to one.
    One,
    /// Weights sum to the number of tasks.
    Count,
}

/// What a weighting says of itself: what it needs to see of each step, and what its direction is like. By default what
/// one of losses says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// What it looks at.
    pub needs: Needs,
    /// Disjoint parts of each batch whose Jacobians it wants to see; 1 for the batch as a whole.
    pub parts: usize,
    /// Whether it probes, and so needs validation data.
    pub validates: bool,
    /// Whether it looks at anything of the batch at all, losses included; if not, its weights are its constants.
    pub looks: bool,
    /// Whether all tasks of a batch weigh the same, whatever the batch is.
    pub even: bool,
    /// Whether it wants to see the losses of the batch again after the step, in [`Weighting::look_back`].
    pub looks_back: bool,
    /// Whether it keeps gradients from step to step, so that their numbers must mean the same in each.
    pub keeps_gradients: bool,
    /// How long its combined gradient is.
    pub acts_like: ActsLike,
    /// Whether anything bounds its direction, for gradients of bounded lengths.
    pub bounded: bool,
    /// What it promises before it has learned anything.
    pub promises: &'static [Promise],
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            needs: Needs::Losses,
            parts: 1,
            validates: false,
            looks: true,
            even: false,
            looks_back: false,
            keeps_gradients: false,
            acts_like: ActsLike::Own,
            bounded: true,
            promises: &[],
        }
    }
}

/// What a weighting has learned: small things as JSON, large ones as arrays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Small things; numbers in it are finite.
    pub value: Value,
    /// Arrays by name, `[tasks, shared parameters]` or empty.
    #[serde(skip)]
    pub arrays: Vec<(String, Vec<f32>)>,
}

impl State {
    /// The state of a value that can be written as JSON.
    pub fn of(value: &impl Serialize) -> Self {
        Self { value: serde_json::to_value(value).unwrap_or_default(), arrays: Vec::new() }
    }

    /// Reads back what [`State::of`] wrote of a state `like` this one, which the tasks gave its lengths.
    ///
    /// # Errors
    /// Something else was written, or of other tasks.
    pub fn read<S: Serialize + DeserializeOwned>(&self, class: &str, like: &S) -> Result<S> {
        let wrong = |error: &dyn Display| value_error!("{class}: not a state of this weighting: {error}");
        if !same_lengths(&Self::of(like).value, &self.value) {
            return Err(wrong(&"it is of another number of tasks"));
        }
        S::deserialize(&self.value).map_err(|error| wrong(&error))
    }

    /// The array of a name; empty if there is none.
    pub fn array(&self, name: &str) -> Vec<f32> {
        self.arrays.iter().find(|(known, _)| known == name).map_or(Vec::new(), |(_, array)| array.clone())
    }
}

/// Whether lists have the lengths that they have in `like`; where it has none yet, before `prepare`, any will do.
fn same_lengths(like: &Value, given: &Value) -> bool {
    match (like, given) {
        (Value::Array(like), Value::Array(given)) => {
            let mut pairs = like.iter().zip(given);
            like.is_empty() || (like.len() == given.len() && pairs.all(|(like, given)| same_lengths(like, given)))
        }
        (Value::Object(like), given) => like.iter().all(|(key, like)| same_lengths(like, &given[key])),
        _ => true,
    }
}

/// How the tasks of a batch share one step. It sees evidence, never a model.
pub trait Weighting: Described + Debug + Send {
    /// The weighting inside this one, if it changes what another decides: every answer below that it does not give itself
    /// is that one's.
    fn inside(&self) -> Option<&dyn Weighting> {
        None
    }

    /// As [`Weighting::inside`].
    fn inside_mut(&mut self) -> Option<&mut dyn Weighting> {
        None
    }

    /// What it says of itself, whatever the batch. One that changes another's says what differs:
    /// `Claims { looks: true, ..self.inner.claims() }`.
    fn claims(&self) -> Claims {
        self.inside().map_or_else(Claims::default, Weighting::claims)
    }

    /// What the user wants each task's loss multiplied by beside the task's own `weight`, in the order of the tasks it
    /// was prepared for; empty for ones.
    fn constants(&self) -> &[f64] {
        self.inside().map_or(&[], Weighting::constants)
    }

    /// Where it looks, how often, and at what scale; what a weighting from gradients was given.
    fn modes(&self) -> Modes {
        self.inside().map_or_else(Modes::default, Weighting::modes)
    }

    /// Whether it wants the evidence of [`Claims::needs`] in this step; if not, it goes by what it remembers.
    fn due(&self, moment: Moment) -> bool {
        self.inside().is_none_or(|inside| inside.due(moment))
    }

    /// Gets to know the tasks, before the first step and after [`Weighting::reset`].
    ///
    /// # Errors
    /// Arguments that do not fit these tasks.
    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.inside_mut().map_or(Ok(()), |inside| inside.prepare(tasks))
    }

    /// Decides for one batch; `into` comes cleared. What it knows of tasks without labels stays as it is.
    ///
    /// # Errors
    /// What gathering the evidence returns.
    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()>;

    /// The losses `[rows]` of the batch's tasks before and after the step.
    ///
    /// # Errors
    /// Losses it cannot work with.
    fn look_back(&mut self, tasks: &[usize], before: &[f64], after: &[f64]) -> Result<()> {
        self.inside_mut().map_or(Ok(()), |inside| inside.look_back(tasks, before, after))
    }

    /// What it has learned so far.
    fn state(&self) -> State {
        self.inside().map_or_else(State::default, Weighting::state)
    }

    /// Continues from a state.
    ///
    /// # Errors
    /// The state is not one of this weighting.
    fn restore(&mut self, state: &State) -> Result<()> {
        self.inside_mut().map_or(Ok(()), |inside| inside.restore(state))
    }

    /// One like it that has learned nothing, of a weighting that no description says all of.
    fn anew(&self) -> Option<Box<dyn Weighting>> {
        None
    }

    /// Forgets what it has learned; [`Weighting::prepare`] comes next.
    fn reset(&mut self) {
        if let Some(inside) = self.inside_mut() {
            inside.reset();
        }
    }
}

/// `state`, `restore` and `reset` of a weighting whose field `state` can be written as JSON.
#[macro_export]
macro_rules! remembers {
    () => {
        fn state(&self) -> $crate::weighting::State {
            $crate::weighting::State::of(&self.state)
        }

        fn restore(&mut self, state: &$crate::weighting::State) -> $crate::error::Result<()> {
            self.state = state.read(<Self as $crate::component::Component>::CLASS, &self.state)?;
            Ok(())
        }

        fn reset(&mut self) {
            self.state = Default::default();
        }
    };
}

/// All methods, without the modes.
mod methods {
    use serde_json::Value;

    use super::{Weighting, bilevel, gradient, loss};
    use crate::component::{self, Info, Members};
    use crate::error::Result;

    const FOLDERS: [&Members<dyn Weighting>; 3] = [&loss::MEMBERS, &gradient::MEMBERS, &bilevel::MEMBERS];

    pub fn build(description: &Value) -> Result<Box<dyn Weighting>> {
        component::build("weighting", &FOLDERS, description)
    }

    pub fn infos() -> Vec<Info> {
        FOLDERS.iter().flat_map(|folder| (folder.infos)()).collect()
    }
}

/// Builds a weighting from its description; one from gradients also takes the arguments of [`Modes`].
///
/// # Errors
/// An unknown name or argument, or a value outside its range.
pub fn build(description: &Value) -> Result<Box<dyn Weighting>> {
    let (name, parameters) = crate::component::split("weighting", description)?;
    if let Some(own) = Foreign::read(&name, &parameters) {
        return own;
    }
    let Some(info) = methods::infos().into_iter().find(|info| info.name == name) else {
        return methods::build(description);
    };
    let method = |parameters: &Map<String, Value>| {
        let mut whole = parameters.clone();
        whole.insert("name".to_owned(), Value::from(name.clone()));
        methods::build(&Value::Object(whole))
    };
    if from_gradients(&name) { modes::with_modes(info.class, &parameters, method) } else { method(&parameters) }
}

/// Whether a method of this name looks at gradients.
fn from_gradients(name: &str) -> bool {
    methods::build(&Value::from(name)).is_ok_and(|method| method.claims().needs > Needs::Losses)
}

/// A weighting's name as callers type it, or that of the function or class of their own.
pub fn called(weighting: &dyn Weighting) -> String {
    let described = weighting.describe();
    let name = if described["name"] == foreign::NAME { "class" } else { "name" };
    described[name].as_str().unwrap_or_default().to_owned()
}

/// What a weighting is called in messages: its class, or the function or class of code of the caller's own.
pub fn class(weighting: &dyn Weighting) -> String {
    let described = weighting.describe();
    let name = described["name"].as_str().unwrap_or_default();
    match infos().into_iter().find(|info| info.name == name) {
        Some(info) => info.class.to_owned(),
        None => described["class"].as_str().unwrap_or("weighting").to_owned(),
    }
}

/// What every weighting says of itself.
pub fn infos() -> Vec<Info> {
    let all = methods::infos().into_iter();
    all.map(|info| if from_gradients(&info.name) { modes::extend(info) } else { info }).collect()
}

/// What a weighting says of itself beside its [`Info`], with its defaults: its [`Claims`] and `"modes"`, the names of the arguments of [`Modes`] that it has.
///
/// # Errors
/// An unknown name.
pub fn traits(name: &str) -> Result<Value> {
    let mut traits =
        serde_json::to_value(build(&Value::from(name))?.claims()).map_err(|e| value_error!("{name}: {e}"))?;
    let modes = if from_gradients(name) { Modes::parameters() } else { Vec::new() };
    traits["modes"] = modes.iter().map(|parameter| parameter.name).collect();
    Ok(traits)
}
