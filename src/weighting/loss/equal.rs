//! All tasks alike.

use crate::error::Result;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// The sum of the tasks' losses, each times its task's own `weight`: `L = sum_j lambda_j L_j`.
    pub struct Equal = "Equal" {}
}

impl Weighting for Equal {
    fn claims(&self) -> Claims {
        Claims {
            looks: false,
            even: true,
            acts_like: ActsLike::Sum,
            promises: &[Promise::Permutes, Promise::Positive, Promise::Count],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, _evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        into.weights.fill(1.0);
        Ok(())
    }
}
