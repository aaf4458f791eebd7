//! Adaptive information transfer along a funnel.

use super::{Context, Sharing, funnel};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Activation;
use crate::network::nodes::mixture::Experts;
use crate::network::{Output, ValueId};
use crate::parameters::Reach;
use crate::parameters::path::part;
use crate::task::Task;

crate::component! {
    /// Adaptive information transfer multi-task (Xi, Chen, Yan, Zhang, Zhu, Zhuang & Chen, KDD 2021): tasks are the steps of a
    /// funnel, in order. Each has an encoder `q_t`; what step `t - 1` knows is transferred, `p = g(z_{t-1})`, and attention
    /// chooses between both: `z_t = sum_u w_u h3(u)` over `u` in `{p, q_t}`, `w = softmax(<h1(u), h2(u)> / sqrt(width))`.
    ///
    /// A term in the objective, `calibration * mean of max(p_t - p_{t-1}, 0)`, keeps a step from being likelier than the one
    /// before; `history` has it as `term/calibration`.
    pub struct Aitm = "AITM" {
        /// Strength of the calibration term.
        calibration: f64 = 0.6, in 0.0..;
    }
}

impl Sharing for Aitm {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        funnel("AITM", parts.tasks)?;
        let tasks = parts.tasks.len();
        // Every task's losses reach the steps before its own.
        let x = net.each(parts.x, tasks, Reach::All);
        let q = parts.encoder.build(net, &parts.paths("encoders"), x)?;
        let mut features = vec![Feature { value: q, group: 0 }];
        for (task, name) in parts.names().iter().enumerate().skip(1) {
            let reach = if task + 1 == tasks { Reach::One(task) } else { Reach::All };
            let z = transfer(net, name, features[task - 1], Feature { value: q, group: task }, reach)?;
            features.push(Feature { value: z, group: 0 });
        }
        Ok(features)
    }

    fn outputs(&self, net: &mut Builder, heads: Vec<Output>, _: &[Task]) -> Result<Vec<Output>> {
        let logit = |net: &mut Builder, task: usize| {
            let Output { value, group, ref columns } = heads[task];
            net.select(value, group, columns.clone(), Reach::One(task))
        };
        let mut outputs = Vec::new();
        let mut before = logit(net, 0);
        for task in 0..heads.len() {
            if task > 0 {
                let own = logit(net, task);
                before = net.calibrate(before, own, self.calibration, Reach::One(task))?;
            }
            outputs.push(Output { value: before, group: 0, columns: 0..1 });
        }
        Ok(outputs)
    }
}

/// What a step knows, from the one before and its own encoder.
fn transfer(net: &mut Builder, task: &str, before: Feature, own: Feature, reach: Reach) -> Result<ValueId> {
    let width = net.value(own.value).width;
    let path = part(task);
    let known = net.group_of(before.value, before.group, Reach::All);
    let p = net.narrow(&format!("transfer.{path}"), known, width, Some(Activation::Relu), reach);
    let u = net.gather(&[(p, 0), (own.value, own.group)], reach);
    let h = |net: &mut Builder, name: &str| net.tied(&format!("attention.{path}.{name}"), u, width, None);
    let query = h(net, "query");
    let key = h(net, "key");
    let value = h(net, "value");
    let scores = net.dot(query, key, 1.0 / (width as f64).sqrt())?;
    let scores = net.join(scores);
    let weights = net.softmax(scores);
    let sources = ["transferred".to_owned(), "own".to_owned()].to_vec();
    net.show_gates(format!("attention.{task}"), weights, [vec![task.to_owned()], sources], 0);
    net.mixture(weights, &[Experts { value, common: true }], reach)
}
