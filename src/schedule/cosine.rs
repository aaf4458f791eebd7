//! Linear warm-up, then half a cosine.

use super::{Position, Schedule, total};
use crate::error::Result;

crate::component! {
    /// A linear warm-up, then half a cosine down to `minimum` at the end of the run (Loshchilov and Hutter, SGDR:
    /// Stochastic Gradient Descent with Warm Restarts, ICLR 2017, without restarts).
    ///
    /// Step `t`, counted from 0, has the factor `(t + 1) / (warmup + 1)` while `t < warmup`, then
    /// `minimum + (1 - minimum) (1 + cos(pi (t - warmup) / (steps - warmup))) / 2`: PyTorch's `LinearLR` followed by
    /// `CosineAnnealingLR`. After the run it stays at `minimum`.
    pub struct Cosine = "Cosine" {
        /// Steps of warm-up.
        warmup: u64 = 0;
        /// Factor at the end of the run.
        minimum: f64 = 0.0, in 0.0..=1.0;
    }
}

impl Schedule for Cosine {
    fn factor(&self, at: Position) -> Result<f64> {
        let steps = total("Cosine", at)?;
        if at.step < self.warmup {
            return Ok((at.step + 1) as f64 / (self.warmup + 1) as f64);
        }
        let length = steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((at.step - self.warmup) as f64 / length).min(1.0);
        Ok(self.minimum + (1.0 - self.minimum) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
    }

    fn needs_total(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::moment;
    use super::*;

    // from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
    // o = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    // s = SequentialLR(o, [LinearLR(o, 1 / 4, total_iters=3), CosineAnnealingLR(o, 7, eta_min=0.1)], [3])
    // [(s.get_last_lr()[0], o.step(), s.step())[0] for _ in range(10)]
    #[test]
    fn factors_are_those_of_torch() {
        let schedule = Cosine { warmup: 3, minimum: 0.1 };
        let golden = [
            0.25,
            0.5,
            0.75,
            1.0,
            0.9554359905560885,
            0.83057041083643,
            0.6501344202803414,
            0.44986557971965857,
            0.26942958916356996,
            0.14456400944391146,
        ];
        for (step, want) in golden.into_iter().enumerate() {
            let got = schedule.factor(moment(step as u64, 10)).unwrap();
            assert!((got - want).abs() < 1e-12, "{step}: {got} {want}");
        }
        assert!((schedule.factor(moment(25, 10)).unwrap() - 0.1).abs() < 1e-12);
    }
}
