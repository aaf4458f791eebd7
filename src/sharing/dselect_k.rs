//! DSelect-k: sparse gates that can be differentiated.

use super::{Context, Sharing};
use crate::bail;
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::mixture::Experts;
use crate::parameters::{Init, Reach};

crate::component! {
    /// DSelect-k (Hazimeh, Zhao, Chowdhery, Sathiamoorthy, Chen, Mazumder, Hong & Chi, NeurIPS 2021): a mixture of experts in
    /// which each task's gate selects at most `k`: `sum_s softmax(a)_s r(z_s)`, where `r` turns bits `S(z)`, smooth steps
    /// between 0 and 1, into a weight for each expert's binary number.
    ///
    /// Gates depend on the features. An entropy term in the objective, `entropy * mean over rows of sum_s H(r(z_s))`, drives
    /// selectors to single experts; `history` has it as `term/entropy`.
    /// Where `experts` is no power of 2, another term, `mean over rows of sum_s (1 / t_s - 1)` with `t_s` the sum of `r(z_s)`,
    /// keeps selectors from numbers of no expert, as in the authors' code: `term/spare_codes`.
    pub struct DselectK = "DSelectK" {
        /// How many experts.
        experts: usize = 8, in 2.0..;
        /// Most experts that a task selects.
        k: usize = 2, in 1.0..;
        /// Width of the smooth step: bits beyond plus or minus half of it are exactly 0 or 1.
        gamma: f64 = 1.0, in 1e-6..;
        /// Strength of the entropy term.
        entropy: f64 = 1e-3, in 0.0..;
    }
    check: few;
}

fn few(gate: &DselectK) -> Result<()> {
    if gate.k > gate.experts {
        bail!("DSelectK: argument `k` should be at most `experts`, {}; got {}", gate.experts, gate.k);
    }
    Ok(())
}

impl Sharing for DselectK {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let DselectK { experts, k, gamma, entropy } = *self;
        let names = net.numbered("experts", experts)?;
        let each = net.each(parts.x, experts, Reach::All);
        let value = parts.encoder.build(net, &names, each)?;
        let seen = parts.encoder.pooled(net, parts.x)?;
        let seen = net.each(seen, parts.tasks.len(), Reach::Own);
        let bits = experts.next_power_of_two().trailing_zeros() as usize;
        let paths = |name: &str| parts.paths("gates").iter().map(|path| format!("{path}.{name}")).collect::<Vec<_>>();
        // Small bits at the start, as the authors have them: selectors that saturate do not learn.
        let z = net.linear_from(&paths("bits"), seen, k * bits, None, Some(Init::Uniform(gamma / 100.0)));
        let a = net.linear(&paths("mix"), seen, k, None);
        let gates = net.selectors(z, a, k, experts, gamma, entropy)?;
        net.show_gates("gates".to_owned(), gates, [parts.names(), names], 0);
        let mixed = net.mixture(gates, &[Experts { value, common: true }], Reach::Own)?;
        Ok(parts.features(mixed))
    }
}
