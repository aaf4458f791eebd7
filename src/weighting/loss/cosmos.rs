//! Losses drawn towards a preference by the angle between the two.

use super::r#static::{Resolved, TaskWeights};
use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// The scalarization of COSMOS (Ruchte & Grabocka, Scalable Pareto Front Approximation for Deep Multi-Objective
    /// Learning, ICDM 2021): `L = sum_j r_j L_j - similarity cos(r, L)`, where the preference `r` sums to 1 over all
    /// tasks; the weights are `r_j - similarity (r_j / (|r| |L|) - cos L_j / |L|^2)`.
    ///
    /// Without the second term as long as the mean; with it the scale is the method's own, and a weight can be
    /// negative. The tasks that have no labels in a batch are left out of the angle; where all losses are 0 there is
    /// none. The paper draws a preference for each batch and shows it to the network; here it is given.
    pub struct Cosmos = "COSMOS" {
        /// One number a task in order, or `{task: number}`, where tasks without an entry have 1.
        preference: TaskWeights = TaskWeights::none(), in 0.0..;
        /// Factor on the cosine; the paper has 0.01 to 8, by the data.
        similarity: f64 = 1.0, in 0.0..;
    }
    state: Resolved;
}

impl Weighting for Cosmos {
    fn claims(&self) -> Claims {
        Claims { promises: &[Promise::Permutes], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state = self.preference.share(Self::CLASS, "preference", tasks)?;
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let losses = evidence.losses();
        let weights = &mut into.weights;
        for (row, &task) in evidence.tasks().iter().enumerate() {
            weights[row] = self.state.0[task];
        }
        // Losses relative to the largest, whose squares neither over- nor underflow.
        let largest = losses.iter().fold(0.0_f64, |largest, loss| largest.max(loss.abs()));
        let norm = losses.iter().map(|loss| (loss / largest).powi(2)).sum::<f64>().sqrt();
        let preferred = weights.iter().map(|r| r * r).sum::<f64>().sqrt();
        if largest == 0.0 || preferred == 0.0 {
            return Ok(());
        }
        let unit: Lent<f64> = losses.iter().map(|loss| loss / largest / norm).collect();
        let cosine = weights.iter().zip(&unit).map(|(r, l)| r / preferred * l).sum::<f64>();
        let sum: f64 = weights.iter().zip(losses).map(|(r, loss)| r * loss).sum();
        into.objective = Some(sum - self.similarity * cosine);
        for (weight, l) in weights.iter_mut().zip(&unit) {
            *weight -= self.similarity * (*weight / preferred - cosine * l) / norm / largest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, given, prepared, weigh, weigh_given};

    #[test]
    fn weights_are_the_derivatives() {
        // r = (0.5, 0.5), L = (3, 4): cos = 3.5 / (5 sqrt(0.5)), and
        // w = 0.5 - 2 (0.5 / (5 sqrt(0.5)) - cos L / 25).
        let mut method = prepared(Cosmos { similarity: 2.0, ..Cosmos::default() }, 2);
        let root = 0.5_f64.sqrt();
        let expected = [3.0, 4.0].map(|l| 0.5 - 2.0 * (0.1 / root - 3.5 / (5.0 * root) * l / 25.0));
        close(&weigh(&mut method, &[3.0, 4.0]).unwrap(), &expected);
        let value = |a: f64, b: f64| 0.5 * (a + b) - 2.0 * 0.5 * (a + b) / (root * a.hypot(b));
        let slope = (value(3.0 + 1e-6, 4.0) - value(3.0 - 1e-6, 4.0)) / 2e-6;
        assert!((slope - expected[0]).abs() < 1e-8);
    }

    #[test]
    fn losses_along_the_preference_are_left_to_it() {
        let preference = TaskWeights::Each(vec![1.0, 3.0, 4.0]);
        let mut method = prepared(Cosmos { preference, ..Cosmos::default() }, 3);
        close(&weigh(&mut method, &[1e-10, 3e-10, 4e-10]).unwrap(), &[0.125, 0.375, 0.5]);
        close(&weigh_given(&mut method, &mut given(&[1], &[1e10])).unwrap(), &[0.375]);
        close(&weigh(&mut method, &[0.0; 3]).unwrap(), &[0.125, 0.375, 0.5]);
        assert!(weigh(&mut method, &[-1.0, 2.0, 1e-300]).unwrap().iter().all(|w| w.is_finite()));
        assert_eq!(weigh(&mut method, &[]).unwrap(), [0.0; 0]);
        let nobody = TaskWeights::Each(vec![0.0]);
        let message = Cosmos { preference: nobody, ..Cosmos::default() }.prepare(&About::named(&["a"]));
        assert!(message.unwrap_err().to_string().contains("`preference`"));
    }
}
