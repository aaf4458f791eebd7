//! One linear layer.

use super::Encoder;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;

crate::component! {
    /// One linear layer and nothing after it: a learned low rank of all tasks' linear models.
    pub struct Projection = "Projection" {
        /// Numbers of the representation.
        width: usize = 16, in 1.0..;
    }
}

impl Encoder for Projection {
    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        let layer: Vec<_> = paths.iter().map(|path| format!("{path}.{stage}")).collect();
        Ok(net.linear(&layer, x, self.width, None))
    }
}
