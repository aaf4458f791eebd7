//! One cycle: up to the learning rate, then far down.

use super::{Position, Schedule, total};
use crate::error::Result;

crate::component! {
    /// Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (2018), as
    /// `torch.optim.lr_scheduler.OneCycleLR` with cosine annealing and without cycling the momentum.
    ///
    /// The optimizer's learning rate is the maximum. It starts at `1 / div_factor` of it, rises during `pct_start` of
    /// the run and falls to `1 / (div_factor final_div_factor)` at its last step.
    pub struct OneCycle = "OneCycle" {
        /// Share of the run that rises.
        pct_start: f64 = 0.3, in 0.0..=1.0;
        /// Maximum over initial learning rate.
        div_factor: f64 = 25.0, in 1.0..;
        /// Initial over last learning rate.
        final_div_factor: f64 = 1e4, in 1.0..;
    }
}

/// Half a cosine from one value to another.
fn anneal(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * done.clamp(0.0, 1.0)).cos())
}

impl Schedule for OneCycle {
    fn factor(&self, at: Position) -> Result<f64> {
        let steps = total("OneCycle", at)? as f64;
        let step = at.step as f64;
        let initial = 1.0 / self.div_factor;
        let peak = self.pct_start * steps - 1.0;
        let end = steps - 1.0;
        if step <= peak {
            return Ok(if peak > 0.0 { anneal(initial, 1.0, step / peak) } else { 1.0 });
        }
        let done = if end > peak { (step - peak) / (end - peak) } else { 1.0 };
        Ok(anneal(1.0, initial / self.final_div_factor, done))
    }

    fn needs_total(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::moment;
    use super::*;

    // o = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    // s = torch.optim.lr_scheduler.OneCycleLR(o, 1.0, total_steps=12, cycle_momentum=False)
    // [(s.get_last_lr()[0], o.step(), s.step() if i < 11 else None)[0] for i in range(12)]
    #[test]
    fn factors_are_those_of_torch() {
        let golden = [
            0.040000000000000036,
            0.3497896542195831,
            0.8792851591221287,
            0.9944154354509117,
            0.9330129698414117,
            0.811745653949763,
            0.6473789976951033,
            0.46263710266697505,
            0.28306099820869923,
            0.1334775301888306,
            0.03456698742539522,
            4e-06,
        ];
        for (step, want) in golden.into_iter().enumerate() {
            let got = OneCycle::default().factor(moment(step as u64, 12)).unwrap();
            assert!((got - want).abs() < 1e-12, "{step}: {got} {want}");
        }
        assert!((OneCycle::default().factor(moment(40, 12)).unwrap() - golden[11]).abs() < 1e-12);
    }

    #[test]
    fn the_shortest_runs_have_factors() {
        for steps in 0..4 {
            assert!(OneCycle::default().factor(moment(0, steps)).unwrap().is_finite());
        }
    }
}
