//! Hard sharing: one encoder for all tasks.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::parameters::Reach;

crate::component! {
    /// Hard parameter sharing (Caruana, ICML 1993; Machine Learning 28, 1997): one encoder, one head per task
    /// (`head=pt.head.Tower(...)` for small networks of their own).
    pub struct Hard = "Hard" {}
}

impl Sharing for Hard {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let path = ["encoder".to_owned()];
        let tasks = 0..parts.tasks.len();
        if parts.tasks.iter().all(|task| task.at.is_none()) {
            let value = parts.encoder.build(net, &path, parts.x)?;
            return Ok(vec![Feature { value, group: 0 }; tasks.len()]);
        }
        let mut after = vec![parts.x];
        for stage in 0..parts.stages() {
            let mut x = after[stage];
            let readers: Vec<_> = tasks.clone().filter(|&task| parts.reads(task) > stage).collect();
            if let ([task], 2..) = (readers.as_slice(), tasks.len()) {
                x = net.each(x, 1, Reach::One(*task));
            }
            after.push(parts.encoder.stage(net, stage, &path, x)?);
        }
        Ok(tasks.map(|task| Feature { value: after[parts.reads(task)], group: 0 }).collect())
    }

    fn taps(&self) -> bool {
        true
    }
}
