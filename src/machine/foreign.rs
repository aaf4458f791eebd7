//! Functions that are code of the caller's own: tensors cross as memory, and how they are differentiated stays on the other
//! side.

use std::fmt::Debug;
use std::ops::Deref;

use tch::Tensor;

use crate::error::Result;

/// A differentiable function of tensors, with parameters and buffers.
pub trait Foreign: Debug + Send + Sync {
    /// Has it work on these tensors, for one plan.
    ///
    /// # Errors
    /// What that code raises.
    fn tie(&self, tensors: Tensors) -> Result<Box<dyn Tied>>;
}

/// All that such a function reads and writes: tensors over memory that stays where it is.
#[derive(Debug)]
pub struct Tensors {
    /// Where it stands in its network: `encoder`, `experts.3`, `heads.income`.
    pub path: String,
    /// Its inputs, `[rows, width]` each.
    pub inputs: Vec<Tensor>,
    /// Whether nothing else reads the inputs, which it may then write on.
    pub alone: bool,
    /// Of inputs that are positions within rows: how many each row has, `[rows]`.
    pub lengths: Option<Tensor>,
    /// Where its output goes, `[rows, width]`.
    pub output: Tensor,
    /// Its parameters, in shapes of their own.
    pub parameters: Vec<Tensor>,
    /// Of inputs and then parameters: whether a gradient is wanted.
    pub wanted: Vec<bool>,
    /// What it keeps from step to step, in shapes of their own.
    pub buffers: Vec<Tensor>,
    /// Which of them stay as they are.
    pub frozen: Vec<bool>,
}

/// A function at work on the memory of a plan.
pub trait Tied: Send {
    /// Fills the output. While training it moves its buffers, and what it draws at random follows from `seed`.
    ///
    /// # Errors
    /// What that code raises.
    fn forward(&mut self, training: bool, seed: u64) -> Result<()>;

    /// The gradients that are wanted, along one of the last forward's output; as often as needed, until the `last`.
    ///
    /// # Errors
    /// What that code raises.
    fn backward(&mut self, along: &Tensor, last: bool) -> Result<Vec<Received>>;
}

/// A tensor over memory of somebody else, who is kept with it.
pub struct Received {
    tensor: Tensor,
    /// Dropped after the tensor.
    _owner: Option<Box<dyn Send>>,
}

impl Received {
    /// Memory that `owner` keeps.
    pub fn of(tensor: Tensor, owner: Box<dyn Send>) -> Self {
        Self { tensor, _owner: Some(owner) }
    }
}

impl From<Tensor> for Received {
    fn from(tensor: Tensor) -> Self {
        Self { tensor, _owner: None }
    }
}

impl Deref for Received {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}
