//! One linear layer a task.

use super::{Head, Target, common};
use crate::error::Result;
use crate::network::builder::Builder;

crate::component! {
    /// One linear layer per task; heads that read the same features are one matrix product.
    pub struct Linear = "Linear" {}
}

impl Head for Linear {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<()> {
        let Some(features) = common(targets) else {
            for (task, target) in targets.iter().enumerate() {
                let value = net.task_linear(&target.path, target.features, target.width, None, task);
                net.output(value, 0, 0..target.width);
            }
            return Ok(());
        };
        let paths: Vec<_> = targets.iter().map(|target| target.path.clone()).collect();
        let widths: Vec<_> = targets.iter().map(|target| target.width).collect();
        let value = net.heads(&paths, features, &widths);
        let mut start = 0;
        for width in widths {
            net.output(value, 0, start..start + width);
            start += width;
        }
        Ok(())
    }
}
