//! Customized gate control.

use super::{Context, Sharing};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::mixture::Experts;
use crate::parameters::Reach;

crate::component! {
    /// Customized gate control (Tang, Liu, Zhao & Gong, RecSys 2020): experts that all tasks share beside experts of each task;
    /// a task's gate, `softmax(W_t x + b_t)`, weighs its own (first) and the shared ones. One level of `pt.sharing.PLE`.
    pub struct Cgc = "CGC" {
        /// Experts of all tasks.
        shared_experts: usize = 2, in 1.0..;
        /// Experts of each task.
        task_experts: usize = 2, in 1.0..;
    }
}

impl Sharing for Cgc {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let tasks = parts.tasks.len();
        let encoder = parts.encoder;
        let of_tasks = parts.numbered(net, "task_experts", self.task_experts)?;
        let of_all = net.numbered("shared_experts", self.shared_experts)?;
        let each = net.each(parts.x, of_tasks.len(), Reach::Own);
        let own = encoder.build(net, &of_tasks, each)?;
        let each = net.each(parts.x, of_all.len(), Reach::All);
        let shared = encoder.build(net, &of_all, each)?;
        let seen = encoder.pooled(net, parts.x)?;
        let seen = net.each(seen, tasks, Reach::Own);
        let gates = net.linear(&parts.paths("gates"), seen, self.task_experts + self.shared_experts, None);
        let gates = net.softmax(gates);
        let names = [net.numbered("task_experts", self.task_experts)?, of_all].concat();
        net.show_gates("gates".to_owned(), gates, [parts.names(), names], self.task_experts);
        let experts = [Experts { value: own, common: false }, Experts { value: shared, common: true }];
        let mixed = net.mixture(gates, &experts, Reach::Own)?;
        Ok(parts.features(mixed))
    }
}
