//! Every loss by its share of the sum.

use crate::error::Result;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// Weights each task by its share of the losses' sum, which pulls the largest down first.
    pub struct Shares = "Shares" {}
}

impl Weighting for Shares {
    fn claims(&self) -> Claims {
        Claims {
            acts_like: ActsLike::Mean,
            promises: &[Promise::Permutes, Promise::Positive, Promise::One],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let sum: f64 = evidence.losses().iter().sum();
        for (weight, loss) in into.weights.iter_mut().zip(evidence.losses()) {
            *weight = if sum > 0.0 { loss / sum } else { 1.0 };
        }
        Ok(())
    }
}
