//! The backward of the weighted sum of the losses.

use crate::error::Result;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Step};
use crate::trainer::Trainer;
use crate::trainer::scratch::Scratch;

impl Trainer {
    /// The outputs' gradients once more, for a summed pass over a micro-batch whose losses are summed already.
    pub(in crate::trainer) fn once_more(&mut self, model: &Model, work: &mut Workspace) -> Result<()> {
        let Scratch { labels, losses, .. } = &mut self.scratch;
        losses.again.fill(0.0);
        work.add_losses(model, Some((Pass::Summed, &labels.scales)), &mut losses.again)
    }

    /// The summed backward of one micro-batch, with the weights that were decided on; `last` of all.
    pub(in crate::trainer) fn backward(
        &mut self,
        model: &mut Model,
        work: &mut Workspace,
        step: Step<'_>,
        last: bool,
    ) -> Result<()> {
        let factors = &self.scratch.factors;
        work.scale_gradients(Pass::Summed, &factors.outputs)?;
        let weights = factors.weights();
        work.backward(model, Step { weights, ..step }, Pass::Summed)?;
        if last && !weights.is_empty() { self.weigh_separate(model) } else { Ok(()) }
    }

    /// Where no value is shared, weights apply to the tasks' own encoders.
    fn weigh_separate(&self, model: &mut Model) -> Result<()> {
        let boundary = self.scratch.factors.boundary.iter();
        for (own, &weight) in self.decider.requirements.columns.own.iter().zip(boundary) {
            for own in own.iter().filter(|_| weight != 1.0) {
                model.params.gradients.scale(own.flat.clone(), weight as f32)?;
            }
        }
        Ok(())
    }
}
