//! Entire-space multi-task model: a funnel of events.

use super::{Context, Sharing, funnel};
use crate::error::Result;
use crate::head::Feature;
use crate::network::Output;
use crate::network::builder::Builder;
use crate::parameters::{Reach, TaskId};
use crate::task::Task;

crate::component! {
    /// Entire-space multi-task model (Ma, Zhao, Huang, Wang, Hu, Zhu & Gai, SIGIR 2018): tasks are the steps of a funnel, in
    /// order (click, conversion, ...), each with labels over the entire space of rows. Each has an encoder on the shared
    /// features and a head that gives the probability of its step *given the one before*; a task's prediction is the
    /// product of these as far as its step, `p(conversion) = p(click) p(conversion | click)`.
    ///
    /// Computed with logits, `logit(sigmoid(a) sigmoid(b)) = a + b - ln(1 + e^a + e^b)`, without loss of digits.
    pub struct Esmm = "ESMM" {}
}

impl Sharing for Esmm {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        funnel("ESMM", parts.tasks)?;
        // Every task's losses reach the steps before its own.
        let x = net.each(parts.x, parts.tasks.len(), Reach::All);
        let value = parts.encoder.build(net, &parts.paths("encoders"), x)?;
        Ok(parts.features(value))
    }

    fn head_reach(&self, task: TaskId, tasks: usize) -> Reach {
        if task + 1 == tasks { Reach::One(task) } else { Reach::All }
    }

    fn outputs(&self, net: &mut Builder, heads: Vec<Output>, tasks: &[Task]) -> Result<Vec<Output>> {
        let mut so_far = heads[0].value;
        let mut outputs = Vec::new();
        for (task, head) in heads.iter().enumerate() {
            let last = task + 1 == tasks.len();
            if task > 0 {
                so_far = net.funnel(so_far, head.value, self.head_reach(task, tasks.len()))?;
            }
            let value = if last { so_far } else { net.select(so_far, 0, 0..1, Reach::One(task)) };
            outputs.push(Output { value, group: 0, columns: 0..1 });
        }
        Ok(outputs)
    }
}
