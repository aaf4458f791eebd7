//! All tasks alike, on average.

use crate::error::Result;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// The mean of the tasks' losses, each times its task's own `weight`: `L = sum_j lambda_j L_j / T`, where `T` counts
    /// the tasks that have labels in the batch.
    ///
    /// `Equal` is the sum, `T` times as long: under plain gradient descent the two want different learning rates.
    pub struct Mean = "Mean" {}
}

impl Weighting for Mean {
    fn claims(&self) -> Claims {
        Claims {
            even: true,
            acts_like: ActsLike::Mean,
            promises: &[Promise::Permutes, Promise::Positive, Promise::One],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, _evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = into.weights.len() as f64;
        into.weights.fill(1.0 / rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::weigh;

    #[test]
    fn tasks_share_one() {
        assert_eq!(weigh(&mut Mean::default(), &[1.0, -2.0, 0.0, 5.0]).unwrap(), [0.25; 4]);
        assert_eq!(weigh(&mut Mean::default(), &[7.0]).unwrap(), [1.0]);
        assert_eq!(weigh(&mut Mean::default(), &[]).unwrap(), [0.0; 0]);
    }
}
