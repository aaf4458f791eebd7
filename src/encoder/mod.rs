//! Encoders: from features to a representation.

pub mod mlp;

use std::fmt::Debug;

use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::registry::Described;

/// Builds the layers that turn features into a representation; never writes a backward.
pub trait Encoder: Debug + Send + Sync + Described {
    /// Adds the layers over `x`; `paths` has one path a group of `x`.
    ///
    /// # Errors
    /// Sizes that cannot work.
    fn build(&self, net: &mut Builder, paths: &[String], x: ValueId) -> Result<ValueId>;
}

crate::family!(Encoder, "encoder": mlp::Mlp);
