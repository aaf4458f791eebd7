//! What a weighting is shown of the running step.

use super::probe::Probe;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::parameters::TaskId;
use crate::value_error;
use crate::weighting::{Evidence, Moment, On, Probed};

/// What the weighting is shown of the running step.
pub(super) struct StepEvidence<'a> {
    pub tasks: &'a [TaskId],
    pub losses: &'a [f64],
    pub moment: Moment,
    /// How far off cosines of the Gramian may be.
    pub rounding: f64,
    /// `[rows, rows]`; empty if gradients were not looked at.
    pub gramian: &'a [f64],
    /// One a layer, `[rows, rows]`.
    pub layers: &'a [Vec<f64>],
    /// `[rows, width]`; empty likewise.
    pub jacobian: &'a [f32],
    pub probe: Option<Probe<'a>>,
    pub part: Lent<f32>,
}

impl Evidence for StepEvidence<'_> {
    fn tasks(&self) -> &[TaskId] {
        self.tasks
    }

    fn losses(&self) -> &[f64] {
        self.losses
    }

    fn moment(&self) -> Moment {
        self.moment
    }

    fn rounding(&self) -> f64 {
        self.rounding
    }

    fn gramian(&mut self) -> Result<&[f64]> {
        match self.gramian.is_empty() && !self.tasks.is_empty() {
            true => Err(value_error!("the weighting asked for a Gramian that it did not say it needs")),
            false => Ok(self.gramian),
        }
    }

    fn layers(&self) -> usize {
        self.layers.len().max(1)
    }

    fn layer(&mut self, index: usize) -> Result<&[f64]> {
        let layer = self.layers.get(index).map(Vec::as_slice);
        layer.ok_or_else(|| value_error!("the weighting asked for layer {index} of {}", self.layers.len()))
    }

    fn jacobian(&mut self) -> Result<&[f32]> {
        match self.jacobian.is_empty() && !self.tasks.is_empty() {
            true => Err(value_error!("the weighting asked for a Jacobian that it did not say it needs")),
            false => Ok(self.jacobian),
        }
    }

    fn part(&mut self, index: usize) -> Result<&[f32]> {
        let Some(probe) = &mut self.probe else { return Err(value_error!("there are no parts of the batch here")) };
        let all = probe.part(index)?;
        let width = probe.requirements.columns.width;
        let part = self.part.emptied(self.tasks.len() * width);
        self.tasks.iter().for_each(|&task| part.extend_from_slice(&all[task * width..][..width]));
        Ok(&self.part)
    }

    fn probe(&mut self, shift: &[f32], on: On) -> Result<Probed> {
        match &mut self.probe {
            Some(probe) => probe.probe(shift, on),
            None => Err(value_error!("there is no validation data here")),
        }
    }
}
