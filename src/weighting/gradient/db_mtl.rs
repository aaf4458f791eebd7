//! Dual balancing: losses through their logarithms, gradients through their largest norm.

use serde::{Deserialize, Serialize};

use super::rows::{fit, width};
use crate::component::Component;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::rows::{combine, long_dot};
use crate::task::About;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, State, Weighting};
use crate::{bail, vectorised};

crate::component! {
    /// DB-MTL (Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Tsang and Kwok, Dual-Balancing for Multi-Task Learning, arXiv
    /// 2308.12029, 2023).
    ///
    /// Losses are replaced by their logarithms, so gradients become `g_j / L_j`, those of a task's own parameters too. In
    /// the shared ones each is averaged over time, `m_j = b m_j + (1 - b) g_j / L_j` with `b = beta / k^sigma` at the
    /// task's batch number `k`, from `m_j = 0`; the direction is `sum_j (max_i |m_i| / |m_j|) m_j`, sums of rows as long
    /// as the longest. It keeps `[tasks, shared parameters]` numbers.
    ///
    /// Losses must be positive. A loss of exactly 0 counts as solved: it adds no gradient. The published code adds 1e-8 to
    /// losses and norms, which matters for small ones; nothing is added here.
    pub struct DbMtl = "DBMTL" {
        /// How much of the average stays at a task's first batch.
        beta: f64 = 0.9, in 0.0..1.0;
        /// How fast that decays with the batches; not at all by default, as in the authors' LibMTL.
        sigma: f64 = 0.0, in 0.0..;
    }
    state: Averages;
}

/// The averaged gradients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Averages {
    /// Batches of each task.
    batches: Vec<u64>,
    /// `[tasks, shared parameters]`, empty before the first batch.
    #[serde(skip)]
    gradients: Vec<f32>,
}

impl Weighting for DbMtl {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Jacobian,
            keeps_gradients: true,
            acts_like: ActsLike::Sum,
            promises: &[Promise::Permutes],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.batches.resize(tasks.len(), 0);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        if tasks.is_empty() {
            return Ok(());
        }
        for (own, &loss) in into.own.iter_mut().zip(evidence.losses()) {
            *own = slope_of_log(loss)?;
        }
        let jacobian = evidence.jacobian()?;
        let width = width(jacobian, tasks.len());
        let Averages { batches, gradients } = &mut self.state;
        fit(gradients, batches.len(), width, Self::CLASS)?;
        let mut norms = Lent::with_capacity(tasks.len());
        for (row, &task) in tasks.iter().enumerate() {
            batches[task] += 1;
            let keep = self.beta / (batches[task] as f64).powf(self.sigma);
            let average = &mut gradients[task * width..][..width];
            follow(average, &jacobian[row * width..][..width], keep, into.own[row]);
            norms.push(long_dot(average, average).sqrt());
        }
        let most = norms.iter().copied().fold(0.0, f64::max);
        let factors: Lent<f64> = norms.iter().map(|&norm| if norm > 0.0 { most / norm } else { 0.0 }).collect();
        into.direction.resize(width, 0.0);
        combine(&factors, |row| &gradients[tasks[row] * width..][..width], &mut into.direction);
        Ok(())
    }

    fn state(&self) -> State {
        let arrays = vec![("gradients".to_owned(), self.state.gradients.clone())];
        State { arrays, ..State::of(&self.state) }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.state = Averages { gradients: state.array("gradients"), ..state.read(Self::CLASS, &self.state)? };
        Ok(())
    }

    fn reset(&mut self) {
        self.state = Averages::default();
    }
}

/// The derivative of a loss's logarithm by the loss; 0 for a loss of 0, whose gradient is 0 too.
fn slope_of_log(loss: f64) -> Result<f64> {
    if loss < 0.0 {
        bail!("DBMTL: takes the logarithms of losses, so they may not be negative; got {loss}");
    }
    let slope = 1.0 / loss;
    Ok(if slope.is_finite() { slope } else { 0.0 })
}

vectorised! {
/// `average = keep average + (1 - keep) factor row`.
fn follow(average: &mut [f32], row: &[f32], keep: f64, factor: f64) {
    let add = (1.0 - keep) * factor;
    for (average, &g) in average.iter_mut().zip(row) {
        // In double precision: the factor of a tiny loss may not fit a single.
        *average = (keep * f64::from(*average) + add * f64::from(g)) as f32;
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    #[test]
    fn by_hand() {
        let mut weighting = trial::prepared(&DbMtl { beta: 0.5, sigma: 1.0, ..DbMtl::default() }, 2);
        // Over their losses the gradients are (3, 4) and (0, 1); half of that is averaged: norms 2.5 and 0.5, and the
        // second is made five times as long.
        let first = Given { losses: vec![2.0, 4.0], ..Given::jacobian(2, &[6.0, 8.0, 0.0, 4.0]) };
        let decided = trial::decide(&mut weighting, &first);
        assert_eq!(decided.own, [0.5, 0.25]);
        trial::close(&trial::wide(&decided.direction), &[1.5, 2.0 + 2.5], 1e-6);
        // Now b = 1/4: the averages are (1.5, 2)/4 + 3/4 (2, 0) = (1.875, 0.5) and (0, 0.5)/4 + 3/4 (0, 4) = (0, 3.125).
        let second = Given { losses: vec![1.0, 1.0], ..Given::jacobian(2, &[2.0, 0.0, 0.0, 4.0]) };
        let longer = 3.125 / (1.875_f64 * 1.875 + 0.25).sqrt();
        let direction = trial::wide(&trial::decide(&mut weighting, &second).direction);
        trial::close(&direction, &[1.875 * longer, 0.5 * longer + 3.125], 1e-6);
    }

    #[test]
    fn without_memory_all_rows_are_as_long_as_the_longest() {
        let mut weighting = trial::prepared(&DbMtl { beta: 0.0, ..DbMtl::default() }, 2);
        let direction = trial::shared(&mut weighting, &Given::jacobian(2, &[3.0, 0.0, 0.0, 1e-20]));
        trial::close(&direction, &[3.0, 3.0], 1e-6);
    }

    #[test]
    fn losses_below_zero_are_refused_and_zero_counts_as_solved() {
        let mut weighting = trial::prepared(&DbMtl { beta: 0.0, ..DbMtl::default() }, 2);
        let mut evidence = Given { losses: vec![0.0, 2.0], ..Given::jacobian(2, &[0.0, 0.0, 4.0, 2.0]) };
        let decided = trial::decide(&mut weighting, &evidence);
        assert_eq!((decided.own, decided.direction), (vec![0.0, 0.5], vec![2.0, 1.0]));
        evidence.losses[0] = -1.5;
        let mut into = Combination::default();
        into.clear(2);
        let error = weighting.weigh(&mut evidence, &mut into).unwrap_err().to_string();
        assert!(error.contains("DBMTL") && error.contains("-1.5"), "{error}");
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let mut weighting = trial::prepared(&DbMtl::default(), 1);
        trial::decide(&mut weighting, &Given::jacobian(1, &[1.0, 2.0]));
        let mut into = Combination::default();
        into.clear(1);
        let error = weighting.weigh(&mut Given::jacobian(1, &[1.0, 2.0, 3.0]), &mut into).unwrap_err().to_string();
        assert!(error.contains("has 2 numbers") && error.contains("need 3"), "{error}");
    }

    #[test]
    fn general() {
        trial::general(&DbMtl::default());
    }
}
