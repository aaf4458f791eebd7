//! One linear layer a task.

use super::{Head, Target, common, side_by_side};
use crate::error::Result;
use crate::network::Output;
use crate::network::builder::Builder;

crate::component! {
    /// One linear layer per task; heads that read the same features are one matrix product, others of one shape a batched one.
    /// Over members of an ensemble (`pt.encoder.TabM`) each member has one of its own.
    pub struct Linear = "Linear" {}
}

impl Head for Linear {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<Vec<Output>> {
        let paths: Vec<_> = targets.iter().map(|target| target.path.clone()).collect();
        if targets.iter().any(|target| net.members_of(target.features.value).is_some()) {
            return targets.iter().map(|target| apart(net, target)).collect();
        }
        if let Some(features) = common(net, targets) {
            let widths: Vec<_> = targets.iter().map(|target| target.width).collect();
            let value = net.heads(&paths, features, &widths);
            let columns = net.value(value).columns.clone();
            return Ok(columns.into_iter().map(|columns| Output { value, group: 0, columns }).collect());
        }
        let width = targets[0].width;
        let equal = targets.iter().all(|target| target.width == width);
        if let Some(features) = side_by_side(net, targets).filter(|_| equal) {
            let value = net.linear(&paths, features, width, None);
            return Ok((0..targets.len()).map(|group| Output { value, group, columns: 0..width }).collect());
        }
        targets.iter().map(|target| apart(net, target)).collect()
    }
}

fn apart(net: &mut Builder, target: &Target) -> Result<Output> {
    let features = target.features.alone(net, target.reach);
    let value = net.last(&target.path, features, target.width, target.reach)?;
    Ok(Output { value, group: 0, columns: 0..target.width })
}
