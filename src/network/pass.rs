//! The passes over a plan: what they are for, what they carry, what they need to know.

use super::{Network, ValueId};
use crate::machine::real::Real;
use crate::parameters::TaskId;

/// Elements of the largest Jacobian that is kept whole: 64 MiB of `f32`.
pub const BUDGET: usize = 16 << 20;

/// The two forms of the backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// One lane: the gradient of the weighted sum.
    Summed,
    /// One lane a task: the Jacobian of the shared parameters, or its Gramian.
    PerTask,
}

/// One thing for each pass that was prepared.
#[derive(Debug)]
pub struct PerPass<V>(pub [Option<V>; 2]);

impl<V> PerPass<V> {
    /// What was prepared for this pass.
    #[inline]
    pub fn of(&mut self, pass: Pass) -> &mut V {
        self.0[pass as usize].as_mut().expect("a plan runs only the passes it was made for")
    }
}

/// What becomes of the per-task gradients of shared parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    /// The Jacobian is kept, whatever its size.
    Whole,
    /// It is kept if it has at most so many elements; beyond that only its Gramian, tile by tile.
    Within(usize),
    /// Only its Gramian, from products in bfloat16.
    Halves,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Forward only.
    Evaluate,
    /// The summed backward too.
    Train,
    /// Both backwards.
    PerTask(Store),
    /// The summed backward, and, where `lanes` says so, the per-task one as far as the representation.
    Representation {
        /// Whether the tasks' gradients at the representation are wanted themselves.
        lanes: bool,
    },
}

impl Purpose {
    pub(super) fn passes(self) -> &'static [Pass] {
        match self {
            Purpose::Evaluate => &[],
            Purpose::Train => &[Pass::Summed],
            Purpose::Representation { lanes: false } => &[Pass::Summed],
            Purpose::PerTask(_) | Purpose::Representation { lanes: true } => &[Pass::Summed, Pass::PerTask],
        }
    }

    /// Whether the per-task backward comes through the node that fills this value.
    pub(super) fn reaches(self, net: &Network, value: ValueId) -> bool {
        !matches!(self, Purpose::Representation { .. }) || value > net.representation
    }

    /// Both backwards, of which the Jacobian is kept within the usual budget.
    pub const BOTH: Self = Purpose::PerTask(Store::Within(BUDGET));
}

/// What a pass needs to know beside the buffers.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Seed of dropout.
    pub seed: u64,
    /// Which step this is, for dropout.
    pub number: u64,
    /// Training, or evaluation.
    pub training: bool,
    /// Add to the flat gradient instead of replacing it; slabs of the Jacobian hold one batch.
    pub accumulate: bool,
    /// In the summed pass, a factor a task on its gradient where it enters values that all tasks reach, `[tasks]`; empty
    /// for ones. Gradients of parameters of one task stay as they are.
    pub weights: &'a [f64],
    /// This micro-batch's share of the step's rows: the factor on terms of the objective that nodes add.
    pub share: f64,
}

impl Step<'_> {
    /// Of an evaluation: nothing is drawn, weighed or added to what was there.
    pub const EVALUATION: Step<'static> =
        Step { seed: 0, number: 0, training: false, accumulate: false, weights: &[], share: 1.0 };

    /// A task's factor in the summed pass.
    pub fn weight<T: Real>(&self, task: TaskId) -> T {
        self.weights.get(task).map_or(T::ONE, |&weight| T::of(weight))
    }

    /// The part of a term's gradient that goes to each lane of a value that all so many tasks reach: equal parts, which
    /// add up to the whole; weighed like the lanes in the summed pass.
    pub fn part<T: Real>(&self, tasks: usize, pass: Pass) -> T {
        let sum = if self.weights.is_empty() { tasks as f64 } else { self.weights.iter().sum() };
        T::of(if pass == Pass::PerTask { 1.0 } else { sum } / tasks as f64)
    }
}
