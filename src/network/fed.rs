//! What a plan tells its formulas from step to step, in tensors that stay where they are.

use tch::{Device, Kind, Tensor};

use super::Network;
use super::pass::Step;
use crate::error::Result;

/// What changes from step to step, on the device: all kernels of a plan read the same tensors.
#[derive(Debug)]
pub(crate) struct Fed {
    /// The step's number, `i64` without dimensions.
    number: Tensor,
    /// In the summed pass, a task's factor where its gradient enters what all tasks reach, `[tasks]` of `f64`.
    weights: Tensor,
}

impl Fed {
    /// For a network on a device.
    pub fn new(net: &Network, device: Device) -> Result<Self> {
        Ok(Self {
            number: Tensor::f_zeros([], (Kind::Int64, device))?,
            weights: Tensor::f_ones([net.tasks() as i64], (Kind::Double, device))?,
        })
    }

    /// Other handles on the same tensors.
    pub fn share(&self) -> Self {
        let Self { number, weights } = self;
        Self { number: number.shallow_clone(), weights: weights.shallow_clone() }
    }

    /// Before a forward.
    pub fn feed(&mut self, step: &Step<'_>) -> Result<()> {
        let _ = self.number.f_fill_(step.number as i64)?;
        Ok(())
    }

    /// Before a backward.
    pub fn weigh(&mut self, step: &Step<'_>) -> Result<()> {
        if !step.weights.is_empty() {
            self.weights.f_copy_(&Tensor::from_slice(step.weights))?;
        }
        Ok(())
    }

    /// The step's number.
    pub fn number(&self) -> &Tensor {
        &self.number
    }

    /// A handle on the tasks' factors.
    pub fn weights(&self) -> Tensor {
        self.weights.shallow_clone()
    }
}
