//! What steps by formulas sum up on the device, until somebody asks.

use tch::Tensor;

use super::sums::Sums;
use crate::error::Result;
use crate::machine::buffer::Layout;
use crate::machine::crossing::{Placed, fetch};
use crate::machine::storage::{Backend, Storage};

/// How many of each there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub tasks: usize,
    pub regularizers: usize,
    pub terms: usize,
}

impl Counts {
    /// Numbers of a step or an epoch: one, losses and label weights of tasks, values of regularizers, terms.
    fn size(self) -> usize {
        1 + 2 * self.tasks + self.regularizers + self.terms
    }
}

/// Sums on the device. Steps wait in it: the host does not know of them until [`Tally::settle`]. The first of them that
/// comes to a loss or a norm that is not finite changes nothing, and no later one does.
#[derive(Debug)]
pub(super) struct Tally {
    counts: Counts,
    /// The epoch's objective and sums; the step's norm and sums; whether all was finite; steps that were.
    numbers: Storage<f64>,
    /// What the host knows of the step: label weights, and factors on losses in the objective.
    told: Placed,
    /// Where each of the waiting steps began.
    waiting: Vec<Begun>,
}

/// What the host knows of a step before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    pub steps: u64,
    pub batches: usize,
    pub lr: f64,
}

/// What the last step came to.
#[derive(Debug)]
pub(super) struct OfStep {
    /// The gradient's norm, where it was clipped.
    pub norm: f64,
    pub losses: Vec<f64>,
    pub regularizers: Vec<f64>,
    pub terms: Vec<f64>,
}

/// What the steps that waited came to.
#[derive(Debug)]
pub(super) struct Settled {
    pub step: OfStep,
    /// The first of them that was not finite.
    pub failed: Option<Begun>,
}

impl Tally {
    /// Of no step.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn new(counts: Counts, backend: Backend) -> Result<Self> {
        let numbers = Storage::zeros(Layout::flat(2 * counts.size() + 2), backend)?;
        Ok(Self { counts, numbers, told: Placed::default(), waiting: Vec::new() })
    }

    fn part(&self, start: usize, count: usize) -> Result<Tensor> {
        self.numbers.range(&(start..start + count))
    }

    fn number(&self, at: usize) -> Result<Tensor> {
        self.numbers.view(&[], &[], at)
    }

    fn of_step(&self) -> usize {
        self.counts.size()
    }

    /// The step's sums of losses, `[tasks]`.
    pub fn losses(&self) -> Result<Tensor> {
        self.part(self.of_step() + 1, self.counts.tasks)
    }

    /// The step's values of regularizers, `[regularizers]`.
    pub fn regularizers(&self) -> Result<Tensor> {
        self.part(self.of_step() + 1 + 2 * self.counts.tasks, self.counts.regularizers)
    }

    /// The step's terms of the network, `[terms]`.
    pub fn terms(&self) -> Result<Tensor> {
        self.part(2 * self.of_step() - self.counts.terms, self.counts.terms)
    }

    /// The norm of the step's gradient.
    pub fn norm(&self) -> Result<Tensor> {
        self.number(self.of_step())
    }

    fn finite(&self) -> Result<Tensor> {
        self.number(2 * self.of_step())
    }

    /// Begins a step that is looked at before the next one.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn begin(&mut self) -> Result<()> {
        self.numbers.clear(self.of_step()..2 * self.of_step())?;
        let _ = self.finite()?.f_fill_(1.0)?;
        Ok(())
    }

    /// Begins a step that waits, of these label weights and factors on losses in the objective; the first to wait brings the
    /// sums of the epoch so far.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn wait(&mut self, begun: Begun, sums: &Sums, weights: &[f64], factors: &[f64]) -> Result<()> {
        if self.waiting.is_empty() {
            let all = sums.flat().chain(std::iter::repeat_n(0.0, self.of_step())).chain([1.0, 0.0]);
            self.numbers.put(0, &all.collect::<Vec<_>>())?;
        }
        self.waiting.push(begun);
        self.numbers.clear(self.of_step()..2 * self.of_step())?;
        let each =
            factors.iter().zip(weights).map(|(factor, &weight)| if weight > 0.0 { factor / weight } else { 0.0 });
        let told: Vec<_> = weights.iter().copied().chain(each).collect();
        self.told.holding(&told, self.norm()?.device()).map(drop)
    }

    /// Forgets the last step that waits, which broke off.
    pub fn forget_last(&mut self) {
        self.waiting.pop();
    }

    /// Whether losses and norm of this step, and of those that wait before it, are finite: a tensor of a truth without
    /// dimensions.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn check(&self) -> Result<Tensor> {
        let finite = self.part(self.of_step(), 1 + self.counts.tasks)?.f_isfinite()?.f_all()?;
        let mut all = self.finite()?;
        let _ = all.f_mul_(&finite)?;
        self.good()
    }

    /// What [`Tally::check`] said.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn good(&self) -> Result<Tensor> {
        Ok(self.finite()?.f_ne(0.0)?)
    }

    /// Ends a step that waits: adds it to the epoch, if it was finite.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add(&self) -> Result<()> {
        let tasks = self.counts.tasks as i64;
        let sums = self.part(self.of_step() + 1, self.of_step() - 1)?;
        let told = self.part(self.of_step() + 1 + self.counts.tasks, self.counts.tasks);
        let known = self.told.held()?;
        told?.f_copy_(&known.f_narrow(0, 0, tasks)?)?;
        let objective = sums.f_narrow(0, 0, tasks)?.f_dot(&known.f_narrow(0, tasks, tasks)?)?;
        let added = sums.f_narrow(0, 2 * tasks, sums.size()[0] - 2 * tasks)?.f_sum(sums.kind())?;
        let all = Tensor::f_cat(&[objective.f_add(&added)?.f_reshape([1])?, sums], 0)?;
        let _ = self.part(0, self.of_step())?.f_add_(&all.f_where_self(&self.good()?, &all.f_zeros_like()?)?)?;
        let _ = self.number(2 * self.of_step() + 1)?.f_add_(&self.finite()?)?;
        Ok(())
    }

    /// What the last step came to, by one fetch.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn last(&self) -> Result<OfStep> {
        Ok(self.read(&fetch::<f64>(&self.part(self.of_step(), self.of_step())?)?))
    }

    fn read(&self, step: &[f64]) -> OfStep {
        let Counts { tasks, terms, .. } = self.counts;
        OfStep {
            norm: step[0],
            losses: step[1..=tasks].to_vec(),
            regularizers: step[1 + 2 * tasks..step.len() - terms].to_vec(),
            terms: step[step.len() - terms..].to_vec(),
        }
    }

    /// What the steps that waited came to, if there are any, by one fetch; `sums` are the epoch's afterwards.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn settle(&mut self, sums: &mut Sums) -> Result<Option<Settled>> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let waiting = std::mem::take(&mut self.waiting);
        let numbers = self.numbers.all()?;
        let good = numbers[2 * self.of_step() + 1] as usize;
        sums.refill(&numbers[..self.of_step()], good as u64);
        let step = self.read(&numbers[self.of_step()..2 * self.of_step()]);
        Ok(Some(Settled { step, failed: waiting.get(good).copied() }))
    }
}
