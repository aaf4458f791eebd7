//! Multi-gate mixture of experts.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::mixture::Experts;
use crate::parameters::Reach;

crate::component! {
    /// Multi-gate mixture of experts (Ma, Zhao, Yi, Chen, Hong & Chi, KDD 2018): `f_t(x) = sum_e softmax(W_t x + b_t)_e f_e(x)`,
    /// where the experts `f_e` are encoders that all tasks share and each task has a gate of its own.
    ///
    /// Gates look at what the encoder pools from its input, where that is an image or a sound. The paper's gates have no bias.
    pub struct Mmoe = "MMoE" {
        /// How many experts.
        experts: usize = 8, in 1.0..;
    }
}

impl Sharing for Mmoe {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let experts = net.numbered("experts", self.experts)?;
        let each = net.each(parts.x, self.experts, Reach::All);
        let value = parts.encoder.build(net, &experts, each)?;
        let seen = parts.encoder.pooled(net, parts.x)?;
        let seen = net.each(seen, parts.tasks.len(), Reach::Own);
        let gates = net.linear(&parts.paths("gates"), seen, self.experts, None);
        let gates = net.softmax(gates);
        net.show_gates("gates".to_owned(), gates, [parts.names(), experts], 0);
        let mixed = net.mixture(gates, &[Experts { value, common: true }], Reach::Own)?;
        Ok(parts.features(mixed))
    }
}
