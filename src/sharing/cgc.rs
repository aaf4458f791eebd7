//! Customized gate control.

use super::{Parts, Sharing, numbered};
use crate::error::Result;
use crate::head::Feature;
use crate::network::Reach;
use crate::network::builder::Builder;
use crate::network::nodes::mixture::Experts;

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
    fn build(&self, net: &mut Builder, parts: &Parts<'_>) -> Result<Vec<Feature>> {
        let (tasks, encoder) = (parts.tasks.len(), parts.encoder);
        let each = net.each(parts.x, tasks * self.task_experts, Reach::Own);
        let own = encoder.build(net, &parts.numbered("task_experts", self.task_experts), each)?;
        let each = net.each(parts.x, self.shared_experts, Reach::All);
        let shared = encoder.build(net, &numbered("shared_experts", self.shared_experts), each)?;
        let seen = encoder.pooled(net, parts.x)?;
        let seen = net.each(seen, tasks, Reach::Own);
        let gates = net.linear(&parts.paths("gates"), seen, self.task_experts + self.shared_experts, None);
        let gates = net.softmax(gates);
        let names =
            [numbered("task_experts", self.task_experts), numbered("shared_experts", self.shared_experts)].concat();
        net.show_gates("gates".to_owned(), gates, [parts.names(), names], self.task_experts);
        let experts = [Experts { value: own, common: false }, Experts { value: shared, common: true }];
        let mixed = net.mixture(gates, &experts, Reach::Own)?;
        Ok(parts.features(mixed))
    }
}
