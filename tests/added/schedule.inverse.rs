//! A learning rate that falls with the steps.

use super::{Position, Schedule};
use crate::error::Result;

crate::component! {
    /// Divides the learning rate by `1 + step / half`: half of it after `half` steps (Robbins & Monro, 1951).
    pub struct Inverse = "Inverse" {
        /// Steps after which half is left.
        half: f64 = 10.0, in 1.0..;
    }
}

impl Schedule for Inverse {
    fn factor(&self, at: Position) -> Result<f64> {
        Ok(1.0 / (1.0 + at.step as f64 / self.half))
    }
}
