//! The geometric mean of the losses.

use crate::component::Component;
use crate::error::Result;
use crate::task::About;
use crate::weighting::positive::{Names, reciprocal};
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// Geometric loss strategy (Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss
    /// Strategy for Multi-Task Learning, CVPR Workshops 2019): `L = (prod_j L_j)^(1/T)`, which is the weights
    /// `L / (T L_j)`, `T` being the tasks that have labels in the batch.
    ///
    /// Neither sum nor mean: the gradient is the mean of the relative gradients, times `L`. Published codes multiply
    /// the losses, which over- or underflows with many tasks; here the mean is that of logarithms. A loss of exactly 0,
    /// which would stop all tasks, has weight 0 and does not count; a negative loss is refused.
    pub struct Gls = "GLS" {}
    state: Names;
}

impl Weighting for Gls {
    fn claims(&self) -> Claims {
        Claims { promises: &[Promise::Permutes, Promise::Positive, Promise::Levels], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state = Names::of(tasks);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        self.state.refuse_negative(Self::CLASS, evidence)?;
        let losses = evidence.losses();
        let count = losses.iter().filter(|loss| **loss > 0.0).count().max(1) as f64;
        let mean = losses.iter().filter(|loss| **loss > 0.0).map(|loss| loss.ln()).sum::<f64>() / count;
        for (weight, &loss) in into.weights.iter_mut().zip(losses) {
            *weight = mean.exp() / count * reciprocal(loss);
        }
        into.objective = Some(if losses.iter().any(|loss| *loss > 0.0) { mean.exp() } else { 0.0 });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, prepared, weigh};

    #[test]
    fn weights_are_those_of_the_geometric_mean() {
        // (1 * 4 * 16)^(1/3) = 4
        let mut method = prepared(Gls::default(), 3);
        close(&weigh(&mut method, &[1.0, 4.0, 16.0]).unwrap(), &[4.0 / 3.0, 1.0 / 3.0, 1.0 / 12.0]);
        close(&weigh(&mut method, &[9.0]).unwrap(), &[1.0]);
        assert_eq!(weigh(&mut method, &[]).unwrap(), [0.0; 0]);
    }

    #[test]
    fn many_tiny_losses_do_not_underflow() {
        let mut method = prepared(Gls::default(), 60);
        close(&weigh(&mut method, &[1e-10; 60]).unwrap(), &[1.0 / 60.0; 60]);
    }

    #[test]
    fn zero_does_not_stop_the_others_and_less_is_refused() {
        let mut method = prepared(Gls::default(), 3);
        close(&weigh(&mut method, &[0.0, 1.0, 4.0]).unwrap(), &[0.0, 1.0, 0.25]);
        assert_eq!(weigh(&mut method, &[0.0, 0.0]).unwrap(), [0.0, 0.0]);
        assert!(weigh(&mut method, &[1.0, 1.0, -1e-9]).unwrap_err().to_string().contains("task \"c\""));
    }
}
