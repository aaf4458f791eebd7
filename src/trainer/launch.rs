//! Steps that wait: told all they need to know ahead, launched, and looked at when somebody asks.

use super::Trainer;
use super::batches::MicroBatches;
use super::decider::Decider;
use super::scratch::Scratch;
use super::tally::{Begun, Settled};
use super::ways::Way;
use crate::error::Result;
use crate::machine::crossing::launching;
use crate::meter::Meter;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Step};
use crate::weighting::Needs;

impl Trainer {
    /// Whether a step can go without the host knowing what it comes to: by formulas, of a weighting that does not look, where
    /// nothing else is to be seen of it.
    pub(super) fn waits(&self, model: &Model, way: Way) -> bool {
        let Decider { requirements, observed, .. } = &self.decider;
        let claims = &requirements.claims;
        let looks = claims.parts > 1 || claims.validates || claims.looks_back || observed.weights;
        self.scratch.tally.is_some()
            && way == (Way::Losses { looks: false })
            && !self.updater.optimizer.is_foreign()
            && claims.needs == Needs::Losses
            && !looks
            && !self.scratch.labels.rows.is_empty()
            && !self.epoch.meters.iter().any(Meter::counts)
            && !self.updater.regularizers.iter().any(|term| term.regularizer.learns())
            && model.tasks.iter().all(|task| task.loss.foreign().is_none())
    }

    /// A step that waits.
    pub(super) fn launch(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        loaded: Option<Workspace>,
    ) -> Result<()> {
        self.decide(model, parts)?;
        self.updater.feed(model, self.clock.position())?;
        let begun = Begun { steps: self.clock.steps, batches: self.epoch.batches, lr: self.updater.lr };
        let Scratch { labels, factors, tally, .. } = &mut self.scratch;
        let tally = tally.as_mut().expect("steps by formulas have a tally");
        tally.wait(begun, &self.epoch.sums, &labels.weights, &factors.losses)?;
        let done = self.launch_all(model, parts, loaded);
        if let (Err(_), Some(tally)) = (&done, &mut self.scratch.tally) {
            tally.forget_last();
        }
        done?;
        self.clock.steps += 1;
        Ok(())
    }

    /// Micro-batch by micro-batch all is sent, then all is launched; with a single one that is the whole step.
    fn launch_all(&mut self, model: &mut Model, parts: &dyn MicroBatches, loaded: Option<Workspace>) -> Result<()> {
        if let Some(mut work) = loaded {
            let step = self.pass(parts, 0);
            self.feed(&mut work, step)?;
            return launching(|| {
                let done = self.launch_micro_batch(model, &mut work, step, true);
                model.give_back(work);
                done.and_then(|()| self.launch_update(model))
            });
        }
        for index in 0..parts.count() {
            let mut work = self.load(model, parts, index, Way::Losses { looks: false })?;
            let step = self.pass(parts, index);
            let last = index + 1 == parts.count();
            let done = self.feed(&mut work, step);
            let done = done.and_then(|()| launching(|| self.launch_micro_batch(model, &mut work, step, last)));
            model.give_back(work);
            done?;
        }
        launching(|| self.launch_update(model))
    }

    /// Sends what a micro-batch's passes will be told.
    fn feed(&self, work: &mut Workspace, step: Step<'_>) -> Result<()> {
        let Scratch { labels, factors, .. } = &self.scratch;
        work.feed(Step { weights: factors.weights(), ..step }, &labels.scales, &factors.outputs)
    }

    fn launch_micro_batch(
        &mut self,
        model: &mut Model,
        work: &mut Workspace,
        step: Step<'_>,
        last: bool,
    ) -> Result<()> {
        work.forward(model, step)?;
        let Scratch { labels, tally, .. } = &self.scratch;
        let tally = tally.as_ref().expect("steps by formulas have a tally");
        work.add_losses_there(model, Pass::Summed, &labels.scales, &tally.losses()?)?;
        work.add_terms_there(&tally.terms()?)?;
        self.backward(model, work, step, last)
    }

    fn launch_update(&mut self, model: &mut Model) -> Result<()> {
        let Scratch { tally, state, .. } = &self.scratch;
        let tally = tally.as_ref().expect("steps by formulas have a tally");
        self.updater.update_there(model, self.clock.position(), tally)?;
        // Batch statistics of a step that failed are forgotten with it.
        let all = 0..state.layout().len();
        let mut now = model.params.state.range(&all)?;
        now.f_copy_(&now.f_where_self(&tally.good()?, &state.range(&all)?)?)?;
        tally.add()
    }

    /// Learns what the steps that waited came to; false if one of them failed, to which all has come back.
    pub(super) fn settle(&mut self) -> Result<bool> {
        let Some(tally) = &mut self.scratch.tally else { return Ok(true) };
        let Some(Settled { step, failed }) = tally.settle(&mut self.epoch.sums)? else { return Ok(true) };
        self.scratch.losses.sums.copy_from_slice(&step.losses);
        self.note(&step);
        let Some(Begun { steps, batches, lr }) = failed else { return Ok(true) };
        self.clock.steps = steps;
        self.epoch.batches = batches;
        self.updater.lr = lr;
        Ok(false)
    }
}
