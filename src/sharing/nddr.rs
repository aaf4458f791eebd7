//! Neural discriminative dimensionality reduction.

use super::{Context, Sharing, near_identity};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Activation;
use crate::parameters::{Init, Reach};

crate::component! {
    /// NDDR (Gao, Ma, Zhao, Liu & Yuille, CVPR 2019): an encoder a task; after each layer the features of all tasks side by
    /// side are brought back to a task's width by a linear map of its own (a 1x1 convolution in the paper), batch norm and an
    /// activation.
    ///
    /// The maps start near the identity on the task's own features.
    pub struct Nddr = "NDDR" {
        /// A task's weight on its own features at the start; the others share the rest.
        start: f64 = 0.9, in 0.0..=1.0;
        /// Whether batch normalisation follows each fusion.
        norm: bool = true;
        /// What follows that; None for nothing.
        activation: Option<Activation> = Some(Activation::Relu);
    }
}

impl Sharing for Nddr {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let tasks = parts.tasks.len();
        let stages = parts.stages();
        let mut x = net.each(parts.x, tasks, Reach::All);
        let mut after = vec![x];
        for stage in 0..stages {
            x = parts.encoder.stage(net, stage, &parts.paths("encoders"), x)?;
            let reach = if stage + 1 == stages { Reach::Own } else { Reach::All };
            let width = net.value(x).width;
            let all = net.join(x);
            let each = net.each(all, tasks, reach);
            let fusions = parts.paths(&format!("fusions.{stage}"));
            net.afford(&[tasks, width, tasks, width])?;
            let start = Some(Init::Given(self.starts(tasks, width)));
            x = net.linear_from(&fusions, each, width, self.activation.filter(|_| !self.norm), start);
            if self.norm {
                let norms: Vec<_> = fusions.iter().map(|path| format!("{path}.norm")).collect();
                x = net.batch_norm(&norms, x);
                x = self.activation.map_or(x, |activation| net.activation(x, activation));
            }
            after.push(x);
        }
        Ok(parts.features_after(&after))
    }

    fn taps(&self) -> bool {
        true
    }
}

impl Nddr {
    /// `[tasks, width, tasks * width]`: diagonal blocks.
    fn starts(&self, tasks: usize, width: usize) -> Vec<f64> {
        let weight = near_identity(tasks, self.start);
        let mut all = vec![0.0; tasks * width * tasks * width];
        for to in 0..tasks {
            for from in 0..tasks {
                for column in 0..width {
                    all[((to * width + column) * tasks + from) * width + column] = weight(to, from);
                }
            }
        }
        all
    }
}
