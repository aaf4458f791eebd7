//! Soft sharing: a network a task, tied by regularizers.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::parameters::Reach;

crate::component! {
    /// Soft parameter sharing (Duong et al., ACL 2015; Yang & Hospedales, ICLR workshop 2017): each task has an encoder of its
    /// own, and a regularizer ties their parameters: `pt.regularizer.TaskRelation` learns which tasks are alike,
    /// `pt.regularizer.Pairwise` pulls all together, none at all gives single-task networks side by side.
    ///
    /// The encoders start from the same weights, so that distances between them mean something from the first step on.
    pub struct Soft = "Soft" {}
}

impl Sharing for Soft {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let x = net.each(parts.x, parts.tasks.len(), Reach::Own);
        let value = net.starting_alike(|net| parts.encoder.build(net, &parts.paths("encoders"), x))?;
        Ok(parts.features(value))
    }
}
