//! Sharing schemes: which parameters serve which task.

pub mod hard;

use std::fmt::Debug;

use crate::encoder::Encoder;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::registry::Described;

/// Wires encoders so that every head gets its features; never writes a backward.
pub trait Sharing: Debug + Send + Sync + Described {
    /// The features of each task's head, from the model's features `x`.
    ///
    /// # Errors
    /// Sizes that cannot work.
    fn build(&self, net: &mut Builder, x: ValueId, encoder: &dyn Encoder, tasks: usize) -> Result<Vec<ValueId>>;
}

crate::family!(Sharing, "sharing": hard::Hard);
