//! A learning rate that falls every epoch.

use super::{Position, Schedule};
use crate::error::Result;

crate::component! {
    /// Multiplies the learning rate by `gamma` every epoch, as `torch.optim.lr_scheduler.ExponentialLR`.
    pub struct Exponential = "Exponential" {
        /// Factor of one epoch.
        gamma: f64 = 0.95, in 0.0..;
    }
}

impl Schedule for Exponential {
    fn factor(&self, at: Position) -> Result<f64> {
        Ok(self.gamma.powf(at.epoch as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // o = torch.optim.SGD([torch.zeros(1)], lr=1.0); s = torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.9)
    // [(s.get_last_lr()[0], o.step(), s.step())[0] for _ in range(6)]
    #[test]
    fn falls_are_those_of_torch() {
        let schedule = Exponential { gamma: 0.9 };
        let golden = [1.0, 0.9, 0.81, 0.7290000000000001, 0.6561000000000001, 0.5904900000000002];
        for (epoch, want) in golden.into_iter().enumerate() {
            let got = schedule.factor(Position { step: 7, epoch: epoch as u64, total_steps: None }).unwrap();
            assert!((got - want).abs() < 1e-12, "{epoch}: {got} {want}");
        }
    }
}
