//! Learned weights, and a penalty on losses that differ.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;
use crate::weighting::learned::{Learned, through_softmax};
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Weighting};

crate::component! {
    /// LDC-MTL (Xiao et al., LDC-MTL: Balancing Multi-Task Learning through Scalable Loss Discrepancy Control,
    /// arXiv 2502.08585, 2025), the single-level form that it trains with one backward pass.
    ///
    /// `L = sum_j sigma_j l_j + penalty sum_j |tau_j l_j - tau_(j+1) l_(j+1)|` over neighbours in the order of the
    /// tasks, with learned `sigma = softmax(w)`, `tau` 1 or `sigma`, and `l_j` the loss over the size of the task's
    /// first one. The model and `w` descend the same `L`, and the weights are its derivatives by the losses, which a
    /// large penalty can make negative. As long as the mean, of relative losses.
    ///
    /// The paper's `sigma` is a small network on the features, trained by the model's optimizer (or, for QM9 in the
    /// authors' code, plain numbers); here it is a number a task with an Adam of its own. Dividing by first losses is in
    /// the paper's second version, not in its third. Losses of 0 and less are taken as they are.
    pub struct Ldc = "LDC" {
        /// Factor on the differences; the authors' code has 0.01 to 0.1, by the data.
        penalty: f64 = 0.1, in 0.0..;
        /// Whether the differences are those of weighted losses, `tau = sigma`.
        weighted: bool = false;
        /// Whether losses are divided by the size of the first.
        relative: bool = true;
        /// Learning rate of `w`.
        lr: f64 = 1e-3, in 0.0..;
    }
    state: Router;
}

/// What is known of the tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Router {
    logits: Learned,
    /// Sizes of their first losses other than 0.
    firsts: Vec<Option<f64>>,
}

impl Ldc {
    /// What a task's loss is divided by.
    fn unit(&mut self, task: usize, loss: f64) -> f64 {
        let first = &mut self.state.firsts[task];
        if first.is_none() && loss != 0.0 {
            *first = Some(loss.abs());
        }
        first.filter(|_| self.relative).unwrap_or(1.0)
    }
}

impl Weighting for Ldc {
    fn claims(&self) -> Claims {
        Claims { acts_like: ActsLike::Mean, ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.logits.fit(tasks.len(), 0.0);
        self.state.firsts.resize(tasks.len(), None);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = evidence.tasks();
        let losses = evidence.losses();
        let units: Lent<f64> = tasks.iter().zip(losses).map(|(&task, &loss)| self.unit(task, loss)).collect();
        let relative: Lent<f64> = losses.iter().zip(&units).map(|(loss, unit)| loss / unit).collect();
        let sigma = self.state.logits.softmax(tasks);
        let tau = if self.weighted { sigma.clone() } else { Lent::filled(1.0, sigma.len()) };
        // How often each term appears in the differences, with its sign.
        let mut signs = Lent::<f64>::zeros(losses.len());
        let mut objective: f64 = sigma.iter().zip(&relative).map(|(sigma, loss)| sigma * loss).sum();
        for row in 1..losses.len() {
            let gap = tau[row - 1] * relative[row - 1] - tau[row] * relative[row];
            let sign = if gap == 0.0 { 0.0 } else { gap.signum() };
            signs[row - 1] += sign;
            signs[row] -= sign;
            objective += self.penalty * gap.abs();
        }
        into.objective = Some(objective);
        let mut gradient = relative;
        for (row, weight) in into.weights.iter_mut().enumerate() {
            *weight = (sigma[row] + self.penalty * tau[row] * signs[row]) / units[row];
            if self.weighted {
                gradient[row] *= 1.0 + self.penalty * signs[row];
            }
        }
        for (&task, &gradient) in tasks.iter().zip(&through_softmax(&sigma, &gradient)) {
            self.state.logits.descend(task, gradient, self.lr);
        }
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, continues, prepared, spares_absent, weigh};

    #[test]
    fn weights_are_the_derivatives() {
        let plain = Ldc { relative: false, ..Ldc::default() };
        let mut method = prepared(plain.clone(), 3);
        // |1 - 4| + |4 - 2|: signs -1, 1 + 1, -1.
        let third = 1.0 / 3.0;
        close(&weigh(&mut method, &[1.0, 4.0, 2.0]).unwrap(), &[third - 0.1, third + 0.2, third - 0.1]);
        let mut method = prepared(Ldc { weighted: true, ..plain }, 3);
        close(&weigh(&mut method, &[1.0, 4.0, 2.0]).unwrap(), &[third * 0.9, third * 1.2, third * 0.9]);
        // w descends sum_j sigma_j l_j (1 + 0.1 s_j), whose terms are a third of 0.9, 4.8, 1.8, on average 2.5: Adam's
        // first step is its learning rate.
        let step = |gradient: f64| -1e-3 * gradient / (gradient.abs() + 1e-8);
        close(&method.state.logits.values, &[-1.6, 2.3, -0.7].map(|g| step(g / 3.0)));
        assert_eq!(weigh(&mut method, &[0.0, 0.0]).unwrap().len(), 2);
        assert_eq!(weigh(&mut method, &[]).unwrap(), [0.0; 0]);
    }

    #[test]
    fn units_do_not_matter_after_the_first_batch() {
        let mut one = prepared(Ldc::default(), 2);
        let mut other = prepared(Ldc::default(), 2);
        close(&weigh(&mut one, &[2.0, -5.0]).unwrap(), &[0.6 / 2.0, 0.4 / 5.0]);
        weigh(&mut other, &[2e10, -5e-10]).unwrap();
        let one = weigh(&mut one, &[1.0, 4.0]).unwrap();
        let other = weigh(&mut other, &[1e10, 4e-10]).unwrap();
        close(&[other[0] * 1e10, other[1] * 1e-10], &one);
    }

    #[test]
    fn a_first_loss_of_zero_waits_for_another() {
        let mut method = prepared(Ldc::default(), 1);
        assert_eq!(weigh(&mut method, &[0.0]).unwrap(), [1.0]);
        assert_eq!(weigh(&mut method, &[4.0]).unwrap(), [0.25]);
        assert_eq!(weigh(&mut method, &[8.0]).unwrap(), [0.25]);
    }

    #[test]
    fn state_follows_tasks_and_checkpoints() {
        spares_absent(&mut prepared(Ldc::default(), 3));
        continues(|| prepared(Ldc { weighted: true, ..Ldc::default() }, 3));
    }
}
