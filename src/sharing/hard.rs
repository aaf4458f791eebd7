//! Hard sharing: one encoder for all tasks.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;

crate::component! {
    /// Hard parameter sharing (Caruana, ICML 1993; Machine Learning 28, 1997): one encoder, one head per task
    /// (`head=pt.head.Tower(...)` for small networks of their own).
    pub struct Hard = "Hard" {}
}

impl Sharing for Hard {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let value = parts.encoder.build(net, &["encoder".to_owned()], parts.x)?;
        Ok(vec![Feature { value, group: 0 }; parts.tasks.len()])
    }
}
