//! All gradients as long as their mean length.

use crate::error::Result;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// Scales the tasks' gradients to the mean of their lengths and averages them.
    pub struct EqualNorms = "EqualNorms" {}
}

impl Weighting for EqualNorms {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Mean,
            promises: &[Promise::Weighted, Promise::Permutes],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let gramian = evidence.gramian()?;
        let norm = |row: usize| gramian[row * (rows + 1)].max(0.0).sqrt();
        let mean = (0..rows).map(norm).sum::<f64>() / rows as f64;
        for (row, weight) in into.weights.iter_mut().enumerate() {
            *weight = if norm(row) > 0.0 { mean / norm(row) / rows as f64 } else { 0.0 };
        }
        Ok(())
    }
}
