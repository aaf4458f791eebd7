//! Heads: from a task's features to its raw outputs.

pub mod linear;
pub mod tower;

use std::fmt::Debug;

use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::registry::Described;

/// What a head has to fill.
#[derive(Debug, Clone)]
pub struct Target {
    /// Path of the head: `heads.income`.
    pub path: String,
    /// The task's features.
    pub features: ValueId,
    /// Raw outputs.
    pub width: usize,
}

/// Builds the heads of all tasks and marks their outputs.
pub trait Head: Debug + Send + Sync + Described {
    /// Adds one head a target, in order.
    ///
    /// # Errors
    /// Sizes that cannot work.
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<()>;
}

crate::family!(Head, "head": linear::Linear, tower::Tower);

/// The one value that all targets read, if it is one.
fn common(targets: &[Target]) -> Option<ValueId> {
    let first = targets.first()?.features;
    targets.iter().all(|target| target.features == first).then_some(first)
}
