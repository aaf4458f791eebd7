//! A learning rate that falls every few epochs.

use super::{Position, Schedule};
use crate::error::Result;

crate::component! {
    /// Multiplies the learning rate by `gamma` every `step_size` epochs, as `torch.optim.lr_scheduler.StepLR`.
    pub struct Step = "Step" {
        /// Epochs between two falls.
        step_size: u64 = 10, in 1.0..;
        /// Factor of one fall.
        gamma: f64 = 0.1, in 0.0..;
    }
}

impl Schedule for Step {
    fn factor(&self, at: Position) -> Result<f64> {
        Ok(self.gamma.powf((at.epoch / self.step_size) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // o = torch.optim.SGD([torch.zeros(1)], lr=1.0); s = torch.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.5)
    // [(s.get_last_lr()[0], o.step(), s.step())[0] for _ in range(6)]
    #[test]
    fn falls_are_those_of_torch() {
        let schedule = Step { step_size: 2, gamma: 0.5 };
        let at = |epoch| schedule.factor(Position { step: 7, epoch, total_steps: None }).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 5].map(at), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    }
}
