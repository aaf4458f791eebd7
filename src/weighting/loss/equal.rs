//! All tasks alike.

use crate::error::Result;
use crate::weighting::{ActsLike, Combination, Evidence, Weighting};

crate::component! {
    /// The sum of the tasks' losses, each times its task's own `weight`: `L = sum_j lambda_j L_j`.
    pub struct Equal = "Equal" {}
}

impl Weighting for Equal {
    fn looks(&self) -> bool {
        false
    }

    fn acts_like(&self) -> ActsLike {
        ActsLike::Sum
    }

    fn weigh(&mut self, _evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        into.weights.fill(1.0);
        Ok(())
    }
}
