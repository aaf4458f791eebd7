//! Learning to branch.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::stitch::{MixRule, Mixing};
use crate::parameters::Reach;

crate::component! {
    /// Learning to branch (Guo, Lee & Ulbricht, ICML 2020): layers of blocks, of which each block, and each task in the end,
    /// chooses its parent in the layer before: while training a sample of `softmax((w + Gumbel noise) / temperature)`, the
    /// likeliest in evaluation.
    ///
    /// The blocks of the first layer all read the features. The temperature falls by a factor a batch; the paper does not say
    /// how fast.
    pub struct Ltb = "LTB" {
        /// Blocks in each layer of the encoder; by default as many as tasks.
        branches: Option<usize> = None, in 1.0..;
        /// The temperature of the first batch.
        temperature: f64 = 5.0, in 1e-3..;
        /// Its factor a batch.
        decay: f64 = 0.999, in 1e-6..=1.0;
        /// Where it stops falling.
        lowest: f64 = 0.2, in 1e-3..;
    }
}

impl Sharing for Ltb {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let branches = self.branches.unwrap_or(parts.tasks.len());
        let Ltb { temperature, decay, lowest, .. } = *self;
        let rule = MixRule::Sampled { temperature, decay, lowest };
        let blocks = net.numbered("blocks", branches)?;
        let mut x = net.each(parts.x, branches, Reach::All);
        for stage in 0..parts.encoder.stages() {
            if stage > 0 {
                let mix = Mixing { inputs: &[x], across: true, parts: 1, start: &|_, _| 0.0, rule };
                let name = format!("branching.{stage}");
                let paths = net.numbered(&name, branches)?;
                x = net.stitch(&paths, mix, Reach::All)?;
                net.show_stitch(name, blocks.clone(), blocks.clone());
            }
            x = parts.encoder.stage(net, stage, &blocks, x)?;
        }
        let mix = Mixing { inputs: &[x], across: true, parts: 1, start: &|_, _| 0.0, rule };
        let value = net.stitch(&parts.paths("branching"), mix, Reach::Own)?;
        net.show_stitch("branching".to_owned(), parts.names(), blocks);
        Ok(parts.features(value))
    }
}
