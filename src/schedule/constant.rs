//! A constant learning rate.

use super::{Position, Schedule};
use crate::error::Result;

crate::component! {
    /// The learning rate as given, at every step.
    pub struct Constant = "Constant" {}
}

impl Schedule for Constant {
    fn factor(&self, _at: Position) -> Result<f64> {
        Ok(1.0)
    }
}
