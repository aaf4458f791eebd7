//! The ways of a step to what its weighting decides on: losses alone, or the tasks' gradients at shared parameters or at
//! the representation.

mod losses;
mod representation;
mod shared;
mod shared_there;

use super::Trainer;
use super::decider::Decider;
use crate::network::pass::Purpose;
use crate::weighting::Needs;
use crate::weighting::modes::At;

/// Which way a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By losses, or by weights that are remembered: one backward, of the weighted sum.
    Losses {
        /// Whether the weighting looks at the losses.
        looks: bool,
    },
    /// By the tasks' gradients at all shared parameters: a backward with a lane a task, whose rows are combined.
    Shared,
    /// By the tasks' gradients at the representation: a backward with a lane a task to there, and one lane from there.
    Representation,
}

impl Way {
    /// Whether all of so many micro-batches are looked at before the first backward.
    pub fn looks_ahead(self, parts: usize) -> bool {
        let needs_all = match self {
            Way::Losses { looks } => looks,
            Way::Shared => false,
            Way::Representation => true,
        };
        parts > 1 && needs_all
    }
}

impl Trainer {
    /// Which way the coming step goes.
    pub(super) fn way(&self) -> Way {
        let Decider { weighting, requirements, observed, .. } = &self.decider;
        let by_losses = requirements.claims.needs == Needs::Losses;
        let by_gradients = !by_losses && weighting.due(self.clock.moment(self.updater.lr));
        match requirements.at {
            _ if !by_gradients && !observed.gradients => Way::Losses { looks: by_losses && requirements.claims.looks },
            At::Shared => Way::Shared,
            At::Representation => Way::Representation,
        }
    }

    /// What workspaces of this way are for.
    pub(super) fn purpose(&self, way: Way) -> Purpose {
        match way {
            Way::Losses { .. } => Purpose::Train,
            Way::Shared | Way::Representation => self.decider.requirements.purpose,
        }
    }
}
