//! Task weights that add up to one, of which a batch sees those of the tasks that have labels.

use serde::{Deserialize, Serialize};

use crate::machine::lent::Lent;

/// A point of the probability simplex, one coordinate a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Shares(Vec<f64>);

impl Shares {
    /// Equal shares, unless there is one for each task already.
    pub(super) fn prepare(&mut self, tasks: usize) {
        if self.0.len() != tasks {
            self.0 = vec![1.0 / tasks as f64; tasks];
        }
    }

    /// Lets `step` move the shares of these tasks, scaled to add up to one, within their simplex. The other tasks keep
    /// their shares, so these together keep what they had.
    pub(super) fn update(&mut self, tasks: &[usize], step: impl FnOnce(&mut [f64])) -> Lent<f64> {
        let mass: f64 = tasks.iter().map(|&task| self.0[task]).sum();
        let equal = 1.0 / tasks.len().max(1) as f64;
        let mut shares = Lent::filled(equal, tasks.len());
        if mass > 0.0 {
            for (share, &task) in shares.iter_mut().zip(tasks) {
                *share = self.0[task] / mass;
            }
        }
        step(&mut shares);
        for (&task, share) in tasks.iter().zip(&shares) {
            self.0[task] = share * mass;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_tasks_keep_their_shares_and_the_sum_stays_one() {
        let mut shares = Shares(vec![0.2, 0.5, 0.3]);
        let got = shares.update(&[0, 2], |part| {
            assert!((part[0] - 0.4).abs() < 1e-15 && (part[1] - 0.6).abs() < 1e-15);
            part.copy_from_slice(&[1.0, 0.0]);
        });
        assert_eq!(got, [1.0, 0.0]);
        assert_eq!(shares, Shares(vec![0.5, 0.5, 0.0]));
        assert_eq!(shares.update(&[2], |_| ()), [1.0]);
        assert!(shares.update(&[], |_| ()).is_empty());
    }
}
