//! Two encoders side by side.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;

crate::component! {
    /// All tasks share the sum of two encoders.
    pub struct Doubled = "Doubled" {}
}

impl Sharing for Doubled {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let one = parts.encoder.build(net, &["encoder.one".to_owned()], parts.x)?;
        let two = parts.encoder.build(net, &["encoder.two".to_owned()], parts.x)?;
        let value = net.add(&[one, two])?;
        Ok(vec![Feature { value, group: 0 }; parts.tasks.len()])
    }
}
