//! Cross-stitch networks.

use super::{Context, Sharing, near_identity};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::stitch::{MixRule, Mixing};
use crate::parameters::Reach;

crate::component! {
    /// Cross-stitch networks (Misra, Shrivastava, Gupta & Hebert, CVPR 2016): an encoder a task, and after each of its layers
    /// a learned mix of the tasks' features, `x_t <- sum_s a[t, s] x_s`.
    ///
    /// The mixes start near the identity, with rows that sum to 1, so that features keep their scale.
    pub struct CrossStitch = "CrossStitch" {
        /// A task's weight on its own features at the start; the others share the rest.
        start: f64 = 0.9, in 0.0..=1.0;
    }
}

impl Sharing for CrossStitch {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let tasks = parts.tasks.len();
        let stages = parts.stages();
        let start = near_identity(tasks, self.start);
        let mut x = net.each(parts.x, tasks, Reach::All);
        let mut after = vec![x];
        for stage in 0..stages {
            x = parts.encoder.stage(net, stage, &parts.paths("encoders"), x)?;
            let reach = if stage + 1 == stages { Reach::Own } else { Reach::All };
            let mix = Mixing { inputs: &[x], across: true, parts: 1, start: &start, rule: MixRule::Plain };
            let name = format!("stitches.{stage}");
            x = net.stitch(&parts.paths(&name), mix, reach)?;
            net.show_stitch(name, parts.names(), parts.names());
            after.push(x);
        }
        Ok(parts.features_after(&after))
    }

    fn taps(&self) -> bool {
        true
    }
}
