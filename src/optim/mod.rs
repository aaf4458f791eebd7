//! Optimizers: one pass over the flat parameters, gradients and state.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::component::Described;
use crate::error::Result;
use crate::machine::level;
use crate::parameters::touched::Touched;
use crate::parameters::{Rates, Segment};

pub mod foreign;
pub mod matrices;
pub mod rows;

use foreign::{Foreign, ForeignOptimizer};
use matrices::MatrixRule;

/// Most state buffers an optimizer has.
pub const SLOTS: usize = 4;

/// One step as tensors, for a rule's formula.
#[derive(Debug)]
pub struct TensorStep<'a> {
    /// The step's number, from 1: `f64` without dimensions, since a captured step counts on its device.
    pub number: &'a Tensor,
    /// The learning rate, without dimensions.
    pub lr: &'a Tensor,
    /// The weight decay, without dimensions.
    pub weight_decay: &'a Tensor,
    /// The parameters `[numbers]`.
    pub parameters: &'a Tensor,
    /// Their gradients, clipped.
    pub gradients: &'a Tensor,
    /// The state, one tensor a slot.
    pub state: &'a [Tensor],
}

/// What a step makes of parameters and state.
#[derive(Debug)]
pub struct Updated {
    /// The parameters.
    pub parameters: Tensor,
    /// The state, one tensor a slot.
    pub state: Vec<Tensor>,
}

impl TensorStep<'_> {
    /// The gradients with weight decay in them.
    fn pulled(&self) -> Tensor {
        self.gradients + self.weight_decay.to_kind(self.parameters.kind()) * self.parameters
    }

    /// The learning rate in the kind of the parameters.
    fn rate(&self) -> Tensor {
        self.lr.to_kind(self.parameters.kind())
    }

    /// `1 - factor^number`, in `f64`.
    fn warmed(&self, factor: f64) -> Tensor {
        Tensor::pow_scalar(factor, &self.number.to_kind(Kind::Double)) * -1.0 + 1.0
    }

    /// One number in the first step, another in all later ones.
    fn first_or(&self, first: f64, later: f64) -> Tensor {
        let is_first = self.number.eq(1.0).to_kind(self.parameters.kind());
        is_first * (first - later) + later
    }
}

/// An update rule; its state is `slots` flat buffers as long as the parameters.
pub trait Optimizer: Described + Debug + Send {
    /// Names of the state buffers.
    fn slots(&self) -> &'static [&'static str];

    /// What a state buffer holds before the first step.
    fn initial(&self, slot: usize) -> f32 {
        let _ = slot;
        0.0
    }

    /// Learning rates and weight decays as given.
    fn rates(&self) -> Rates<'_>;

    /// The rule as tensor algebra.
    fn formula(&self, step: &TensorStep<'_>) -> Updated;

    /// Step number `step`, counted from 1; gradients count `gradient_scale` times (clipping). Parameters outside all
    /// segments stay as they are.
    fn update(
        &self,
        step: u64,
        gradient_scale: f32,
        segments: &[Segment],
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    );

    /// Numbers that a state buffer has for a row of a sparse table.
    fn row_state(&self, slot: usize, width: usize) -> usize {
        let _ = slot;
        width
    }

    /// The same for a sparse table: of parameters and state only the rows that were touched.
    fn update_rows(
        &self,
        step: u64,
        gradient_scale: f32,
        segment: &Segment,
        table: &mut [f32],
        touched: &Touched<f32>,
        state: &mut [&mut [f32]],
    );

    /// Its rule for weight matrices of hidden layers, if they learn by another one than all other parameters.
    fn of_matrices(&self) -> Option<&dyn MatrixRule> {
        None
    }

    /// Whether its steps are made by code of the caller's own, and not by the methods above.
    fn is_foreign(&self) -> bool {
        false
    }

    /// That code, if it is there: a description alone has none.
    fn foreign(&self) -> Option<&Arc<dyn ForeignOptimizer>> {
        None
    }
}

/// The optimizer of a description, which may be that of code of the caller's own, without it.
///
/// # Errors
/// As [`build`].
pub fn of(description: &Value) -> Result<Box<dyn Optimizer>> {
    match description["class"] {
        Value::Null => build(description),
        _ => Ok(Box::new(Foreign::of(description, None)?)),
    }
}

crate::family!(
    Optimizer, "optim":
    sgd::Sgd,
    adam::Adam,
    adamw::AdamW,
    rmsprop::RmsProp,
    adagrad::Adagrad,
    muon::Muon,
);

/// The method of an [`Optimizer`] that hands out its fields `lr` and `weight_decay`.
macro_rules! rates {
    () => {
        fn rates(&self) -> $crate::parameters::Rates<'_> {
            let own = Self::default();
            let defaults = [own.lr.rest(f64::NAN), own.weight_decay.rest(f64::NAN)];
            let (lr, weight_decay) = (&self.lr, &self.weight_decay);
            $crate::parameters::Rates { lr, weight_decay, defaults, of_matrices: None }
        }
    };
}
pub(crate) use rates;

/// One segment's parameters, gradients and state.
struct Slices<'a, const S: usize> {
    parameters: &'a mut [f32],
    gradients: &'a [f32],
    state: [&'a mut [f32]; S],
}

/// A rule for one element: parameter, gradient and state in, parameter and state out.
trait Rule<const S: usize> {
    /// The new parameter; the state is updated in place.
    fn apply(&self, parameter: f32, gradient: f32, state: &mut [f32; S]) -> f32;
}

/// Applies one rule to one segment.
struct Sweep<'a, R, const S: usize> {
    rule: R,
    slices: Slices<'a, S>,
}

impl<R: Rule<S>, const S: usize> pulp::NullaryFnOnce for Sweep<'_, R, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Slices { parameters, gradients, mut state } = self.slices;
        let count = parameters.len();
        let gradients = &gradients[..count];
        state = state.map(|slot| &mut slot[..count]);
        for i in 0..count {
            let mut own = std::array::from_fn(|s| state[s][i]);
            parameters[i] = self.rule.apply(parameters[i], gradients[i], &mut own);
            for s in 0..S {
                state[s][i] = own[s];
            }
        }
    }
}

/// Applies the rule that `rule` makes for each segment.
fn sweep<R: Rule<S>, const S: usize>(
    segments: &[Segment],
    parameters: &mut [f32],
    gradients: &[f32],
    state: &mut [&mut [f32]],
    rule: impl Fn(&Segment) -> R,
) {
    for segment in segments {
        let range = segment.range.clone();
        let mut slots = state.iter_mut();
        let slices = Slices {
            parameters: &mut parameters[range.clone()],
            gradients: &gradients[range.clone()],
            state: std::array::from_fn(|_| &mut slots.next().expect("one buffer a slot")[range.clone()]),
        };
        level::run(Sweep { rule: rule(segment), slices });
    }
}
