//! One-gate mixture of experts.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::mixture::Experts;
use crate::parameters::Reach;

crate::component! {
    /// One-gate mixture of experts (Ma et al., KDD 2018, section 4.1, after Jacobs et al., Neural Computation 1991):
    /// `f(x) = sum_e softmax(W x + b)_e f_e(x)` for all tasks alike.
    pub struct Omoe = "OMoE" {
        /// How many experts.
        experts: usize = 8, in 1.0..;
    }
}

impl Sharing for Omoe {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let experts = net.numbered("experts", self.experts)?;
        let each = net.each(parts.x, self.experts, Reach::All);
        let value = parts.encoder.build(net, &experts, each)?;
        let seen = parts.encoder.pooled(net, parts.x)?;
        let gates = net.linear(&["gate".to_owned()], seen, self.experts, None);
        let gates = net.softmax(gates);
        net.show_gates("gates".to_owned(), gates, [vec!["all tasks".to_owned()], experts], 0);
        let value = net.mixture(gates, &[Experts { value, common: true }], Reach::All)?;
        Ok(vec![Feature { value, group: 0 }; parts.tasks.len()])
    }
}
