//! What a plan tells its formulas from step to step, in tensors that stay where they are.

use tch::{Device, Kind, Tensor};

use super::pass::{Pass, Step};
use crate::error::Result;
use crate::machine::crossing::{Placed, constant, send};
use crate::parameters::TaskId;

/// Where numbers of the step stand, before those a task.
const SHARE: usize = 0;
const PART: usize = 1;
const OF_TASKS: usize = 2;

/// What changes from step to step, on the device: all kernels of a plan and its losses read the same tensors. The host
/// remembers what they hold, so that only what changed is sent, all at once.
#[derive(Debug)]
pub(crate) struct Fed {
    tasks: usize,
    /// The step's number, `i64` without dimensions.
    number: Tensor,
    /// What that holds.
    told: u64,
    /// The step's share of rows and the part of terms, then scales, factors and weights, `[tasks]` each.
    numbers: Placed,
    /// What these are to hold.
    wanted: Vec<f64>,
}

/// What a kernel reads of it.
#[derive(Debug)]
pub(crate) struct FedTensors {
    /// The step's number, `i64` without dimensions.
    pub number: Tensor,
    /// This micro-batch's share of the step's rows, `f64` without dimensions.
    pub share: Tensor,
    /// [`Step::part`] of the summed pass, `f64` without dimensions.
    pub part: Tensor,
    /// In the summed pass, a task's factor where its gradient enters what all tasks reach, `[tasks]` of `f64`.
    pub weights: Tensor,
}

impl Fed {
    /// For a network of so many tasks.
    pub fn new(tasks: usize, device: Device) -> Result<Self> {
        Ok(Self {
            tasks,
            number: Tensor::f_zeros([], (Kind::Int64, device))?,
            told: 0,
            numbers: Placed::default(),
            wanted: vec![1.0; OF_TASKS + 3 * tasks],
        })
    }

    /// The tensor of numbers, which holds what is wanted.
    fn held(&self) -> Result<Tensor> {
        self.numbers.holding(&self.wanted, self.number.device())
    }

    /// What kernels read.
    pub fn tensors(&self) -> Result<FedTensors> {
        let numbers = self.held()?;
        Ok(FedTensors {
            number: self.number.shallow_clone(),
            share: numbers.f_select(0, SHARE as i64)?,
            part: numbers.f_select(0, PART as i64)?,
            weights: numbers.f_narrow(0, self.at(2, 0) as i64, self.tasks as i64)?,
        })
    }

    /// Where a task's scale (0), factor (1) or weight (2) is.
    fn at(&self, which: usize, task: TaskId) -> usize {
        OF_TASKS + which * self.tasks + task
    }

    /// Sends what a forward needs to know.
    pub fn feed(&mut self, step: &Step<'_>) -> Result<()> {
        if self.told != step.number {
            self.number.f_copy_(&send(&[step.number as i64], Device::Cpu)?.f_squeeze()?)?;
            self.told = step.number;
        }
        self.wanted[SHARE] = step.share;
        self.held().map(drop)
    }

    /// Sends what a backward needs to know.
    pub fn weigh(&mut self, step: &Step<'_>) -> Result<()> {
        self.wanted[PART] = step.part(self.tasks, Pass::Summed);
        for task in 0..self.tasks {
            let at = self.at(2, task);
            self.wanted[at] = step.weight(task);
        }
        self.held().map(drop)
    }

    /// What the gradients of the tasks' losses are multiplied by, each `f64` without dimensions.
    pub fn scales(&mut self, scales: &[f64]) -> Result<Vec<Tensor>> {
        self.of_tasks(0, scales)
    }

    /// What the gradients of the tasks' outputs are multiplied by once more, likewise.
    pub fn factors(&mut self, factors: &[f64]) -> Result<Vec<Tensor>> {
        self.of_tasks(1, factors)
    }

    fn of_tasks(&mut self, which: usize, numbers: &[f64]) -> Result<Vec<Tensor>> {
        let first = self.at(which, 0);
        self.wanted[first..first + self.tasks].copy_from_slice(numbers);
        let held = self.held()?;
        (first..first + self.tasks).map(|at| Ok(held.f_select(0, at as i64)?)).collect()
    }

    /// Sends all that the passes of a step need to know.
    pub fn ahead(&mut self, step: &Step<'_>, scales: &[f64], factors: &[f64]) -> Result<()> {
        for (which, numbers) in [scales, factors].into_iter().enumerate() {
            let first = self.at(which, 0);
            self.wanted[first..first + self.tasks].copy_from_slice(numbers);
        }
        self.wanted[SHARE] = step.share;
        self.weigh(step)?;
        self.feed(step)
    }
}

impl FedTensors {
    /// [`Step::part`] of a pass over so many tasks.
    pub fn part(&self, tasks: usize, pass: Pass) -> Result<Tensor> {
        match pass {
            Pass::Summed => Ok(self.part.shallow_clone()),
            Pass::PerTask => constant(&[(tasks as f64).recip()], Kind::Double, self.part.device()),
        }
    }
}
