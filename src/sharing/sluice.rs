//! Sluice networks.

use super::{Context, Sharing, near_identity};
use crate::bail;
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::stitch::{MixRule, Mixing};
use crate::parameters::Reach;
use crate::task::Task;

crate::component! {
    /// Sluice networks (Ruder, Bingel, Augenstein & Sogaard, AAAI 2019): an encoder a task; each layer's features are split
    /// into subspaces, all of which are mixed across tasks (`a`), and what a head reads is a learned mix of its task's
    /// layers (`b`); a task with `at` reads that layer alone.
    ///
    /// The paper keeps subspaces apart with `sum ||G_1^T G_2||^2`: that is `pt.regularizer.Orthogonality`. Layers must have
    /// one width to be mixed. Mixes start near the identity, those of layers near the last one.
    pub struct Sluice = "Sluice" {
        /// Subspaces of each layer; they divide its width.
        subspaces: usize = 2, in 1.0..;
        /// The weight on a task's own subspace, and on the last layer, at the start; the others share the rest.
        start: f64 = 0.9, in 0.0..=1.0;
    }
}

impl Sharing for Sluice {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let tasks = parts.tasks.len();
        let stages = parts.stages();
        let subspaces = self.subspaces;
        let names = net.numbered_each(&parts.names(), subspaces)?;
        let start = near_identity(names.len(), self.start);
        let mut x = net.each(parts.x, tasks, Reach::All);
        let mut layers = Vec::new();
        for stage in 0..stages {
            x = parts.encoder.stage(net, stage, &parts.paths("encoders"), x)?;
            let reach = if stage + 1 == stages { Reach::Own } else { Reach::All };
            let mix = Mixing { inputs: &[x], across: true, parts: subspaces, start: &start, rule: MixRule::Plain };
            let name = format!("stitches.{stage}");
            x = net.stitch(&parts.paths(&name), mix, reach)?;
            net.show_stitch(name, names.clone(), names.clone());
            layers.push(x);
        }
        if stages < 2 || parts.tasks.iter().all(|task| task.at.is_some()) {
            layers.insert(0, x);
            return Ok(parts.features_after(&layers));
        }
        let widths: Vec<_> = layers.iter().map(|&x| net.value(x).width).collect();
        if widths.iter().any(|width| *width != widths[0]) {
            bail!("`sharing`: Sluice mixes the layers of the encoder, which then need one width; they have {widths:?}");
        }
        let last = near_identity(stages, self.start);
        let mix = Mixing {
            inputs: &layers,
            across: false,
            parts: 1,
            start: &|_, j| last(stages - 1, j),
            rule: MixRule::Plain,
        };
        let value = net.stitch(&parts.paths("layers"), mix, Reach::Own)?;
        net.show_stitch(
            "layers".to_owned(),
            parts.names(),
            (0..stages).map(|stage| format!("layer {stage}")).collect(),
        );
        let feature = |(group, task): (usize, &Task)| Feature { value: task.at.map_or(value, |at| layers[at]), group };
        Ok(parts.tasks.iter().enumerate().map(feature).collect())
    }

    fn taps(&self) -> bool {
        true
    }
}
