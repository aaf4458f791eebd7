//! Encoders: from features to a representation.

use std::fmt::Debug;

use crate::component::Described;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::{Builder, Pool};

/// Builds the layers that turn features into a representation; never writes a backward.
pub trait Encoder: Debug + Send + Sync + Described {
    /// Stages after which features may be mixed, branch or be shared in another way.
    fn stages(&self) -> usize {
        1
    }

    /// Whether all of it may stand upon itself, each time with parameters of its own.
    fn stacks(&self) -> bool {
        false
    }

    /// Adds one stage over `x`; `paths` has one path a group of `x`.
    ///
    /// # Errors
    /// Sizes that cannot work.
    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId>;

    /// Adds all stages.
    ///
    /// # Errors
    /// Sizes that cannot work.
    fn build(&self, net: &mut Builder, paths: &[String], x: ValueId) -> Result<ValueId> {
        (0..self.stages()).try_fold(x, |x, stage| self.stage(net, stage, paths, x))
    }

    /// What a task of rows sees of positions.
    fn pool(&self) -> Pool {
        Pool::Mean
    }

    /// What gates look at instead of the encoder's input `x`: a summary of it, where it is an image or a sound.
    ///
    /// # Errors
    /// Sizes that cannot work.
    fn pooled(&self, net: &mut Builder, x: ValueId) -> Result<ValueId> {
        let _ = net;
        Ok(x)
    }
}

crate::family!(
    Encoder, "encoder":
    mlp::Mlp,
    window::Window,
    convolution1d::Convolution1d,
    tab_m::TabM,
    residual::Residual,
    cross::Cross,
    recurrent::Recurrent,
    transformer::Transformer,
);
