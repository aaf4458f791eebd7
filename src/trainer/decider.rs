//! The middle of a step: what a weighting is shown, and what it decides.

use super::batches::MicroBatches;
use super::clock::Clock;
use super::evidence::StepEvidence;
use super::observed::Observed;
use super::probe::Probe;
use super::requirements::Requirements;
use super::scratch::Scratch;
use crate::data::Data;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::storage::Backend;
use crate::model::Model;
use crate::task::Task;
use crate::weighting::{Combination, Decision, Moment, Needs, Notice, Weighting};
use crate::{bail, value_error};

/// What decides how the tasks share a step.
#[derive(Debug)]
pub(super) struct Decider {
    pub weighting: Box<dyn Weighting>,
    pub requirements: Requirements,
    /// Means of weights and gradients over an epoch, where they are asked for.
    pub observed: Observed,
    /// Rows that a weighting may learn from beside the batches.
    pub validation: Option<Data>,
    /// What each task's loss is multiplied by in the loss that the user means.
    pub lambdas: Vec<f64>,
    /// What the run should be told of the weighting.
    pub notice: Notice,
    /// What was decided last.
    pub combination: Combination,
}

impl Decider {
    /// Introduces the tasks to a weighting and finds out what that needs of this model.
    ///
    /// # Errors
    /// What [`Weighting::prepare`] and [`Requirements::new`] refuse.
    pub fn new(
        mut weighting: Box<dyn Weighting>,
        model: &Model,
        accumulate: usize,
        observed: Observed,
    ) -> Result<Self> {
        weighting.prepare(&about(model))?;
        let constants = weighting.constants().iter().copied().chain(std::iter::repeat(1.0));
        let lambdas = model.tasks.iter().zip(constants).map(|(task, constant)| task.weight * constant).collect();
        let requirements = Requirements::new(weighting.as_ref(), model, accumulate, observed.gradients)?;
        let validation = None;
        let notice = Notice::default();
        let combination = Combination::default();
        Ok(Self { weighting, requirements, observed, validation, lambdas, notice, combination })
    }

    /// Takes notice of what is frozen.
    ///
    /// # Errors
    /// What [`Requirements::new`] refuses.
    pub fn freeze(&mut self, model: &Model, accumulate: usize) -> Result<()> {
        let new = Requirements::new(self.weighting.as_ref(), model, accumulate, self.observed.gradients)?;
        if self.requirements.claims.keeps_gradients && new.columns != self.requirements.columns {
            // Averages of other parameters' gradients say nothing of these.
            self.weighting.reset();
            self.weighting.prepare(&about(model))?;
        }
        self.requirements = new;
        Ok(())
    }

    /// Lets the weighting decide on what was seen of the step; what it said is in `scratch.factors`, and in full in
    /// [`Decider::decision`].
    ///
    /// # Errors
    /// What gathering the evidence returns, and weights that are no numbers.
    pub fn decide(
        &mut self,
        scratch: &mut Scratch,
        model: &mut Model,
        parts: &dyn MicroBatches,
        clock: &Clock,
        moment: Moment,
    ) -> Result<()> {
        let Scratch { labels, losses, gradients, factors, .. } = scratch;
        losses.settle(labels, &model.tasks);
        self.combination.clear(labels.rows.len());
        let requirements = &self.requirements;
        let validation = self.validation.as_ref();
        let beside = requirements.claims.parts > 1 || requirements.claims.validates;
        let gramian = &gradients.gramian;
        let layers = &gradients.layers;
        let mut seen = StepEvidence {
            tasks: &labels.rows,
            losses: &losses.rows,
            moment,
            rounding: requirements.rounding,
            gramian,
            layers,
            jacobian: &gradients.jacobian,
            probe: None,
            part: Lent::default(),
        };
        if beside {
            seen.probe = Some(Probe { model, parts, requirements, validation, moment, clock });
            self.weighting.weigh(&mut seen, &mut self.combination)?;
        } else {
            // Code of the caller's own may ask the model for predictions.
            model.lend(|| self.weighting.weigh(&mut seen, &mut self.combination))?;
        }
        check(&self.combination, moment.step)?;
        self.notice.look(self.weighting.as_ref(), &self.combination, |layer| match layer {
            None => gramian,
            Some(at) => &layers[at],
        });
        let decision = self.combination.decision(requirements.claims.needs);
        factors.take(decision, &labels.rows);
        self.observed.add(&labels.rows, decision, gramian);
        Ok(())
    }

    /// Whether its evidence can be gathered there.
    ///
    /// # Errors
    /// A weighting that works on the processor alone.
    pub fn check_device(&self, backend: Backend) -> Result<()> {
        let claims = &self.requirements.claims;
        let looks_beside = claims.parts > 1 || claims.validates;
        if backend.on_processor() || !(looks_beside || claims.needs == Needs::Jacobian) {
            return Ok(());
        }
        let name = self.weighting.describe();
        bail!("`device`: the weighting {} computes on the processor alone: use device=\"cpu\"", name["name"]);
    }

    /// What was decided last.
    pub fn decision(&self) -> Decision<'_> {
        self.combination.decision(self.requirements.claims.needs)
    }
}

fn about(model: &Model) -> Vec<crate::task::About> {
    model.tasks.iter().map(Task::about).collect()
}

/// Stops before weights that are no numbers reach the parameters.
fn check(combination: &Combination, steps: u64) -> Result<()> {
    let all = combination.weights.iter().chain(&combination.own).chain(&combination.layers);
    // The model computes in single precision.
    let wrong = all.copied().find(|weight| !(*weight as f32).is_finite());
    if let Some(weight) = wrong {
        return Err(value_error!(
            "the weighting gave a weight of {weight} at step {}: are the tasks' losses or gradients of extreme size?",
            steps + 1
        ));
    }
    match combination.direction.iter().any(|x| !x.is_finite()) {
        true => Err(value_error!("the weighting gave a direction that is not finite at step {}", steps + 1)),
        false => Ok(()),
    }
}
