//! A constant learning rate.

use super::{Moment, Schedule};
use crate::error::Result;

crate::component! {
    /// The learning rate as given, at every step.
    pub struct Constant = "Constant" {}
}

impl Schedule for Constant {
    fn factor(&self, _at: Moment) -> Result<f64> {
        Ok(1.0)
    }
}
