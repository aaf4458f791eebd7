//! Progressive layered extraction.

use std::ops::Range;

use super::{Context, Sharing};
use crate::bail;
use crate::error::Result;
use crate::head::Feature;
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::network::nodes::mixture::Experts;
use crate::parameters::Reach;

crate::component! {
    /// Progressive layered extraction (Tang, Liu, Zhao & Gong, RecSys 2020): levels of customized gate control. On each level
    /// but the last a shared gate also mixes all experts, of every task and the shared ones, into what the next level's
    /// shared experts read; a task's experts read what the task's gate mixed.
    ///
    /// The encoder's layers are divided between the levels, so that experts of one level are one or more of its layers. A
    /// module of your own, which is one layer, is each expert of each level, if it gives as many numbers as it takes.
    pub struct Ple = "PLE" {
        /// Experts of all tasks on each level.
        shared_experts: usize = 2, in 1.0..;
        /// Experts of each task on each level.
        task_experts: usize = 2, in 1.0..;
        /// Levels; by default one for each layer of the encoder.
        levels: Option<usize> = None, in 1.0..;
    }
}

/// What the experts of a level read: a group for each task, or one for all; and the shared experts.
#[derive(Clone, Copy)]
struct Level {
    tasks: ValueId,
    shared: ValueId,
}

impl Sharing for Ple {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let stages = parts.encoder.stages();
        let levels = self.levels.unwrap_or(stages.max(1));
        let stacked = levels > stages.max(1) && parts.encoder.stacks();
        if levels > stages.max(1) && !stacked {
            bail!(
                "`sharing`: PLE(levels={levels}) divides the encoder's layers between its levels; it has {stages}, and \
                 only a module of your own that takes rows of numbers and gives as many can be all of each level"
            );
        }
        let mut at = Level { tasks: parts.x, shared: parts.x };
        for level in 0..levels {
            let stages = if stacked { 0..stages } else { level * stages / levels..(level + 1) * stages / levels };
            at = self.level(net, parts, at, level, stages, level + 1 == levels)?;
        }
        Ok(parts.features(at.tasks))
    }
}

impl Ple {
    fn level(
        &self,
        net: &mut Builder,
        parts: &Context<'_>,
        at: Level,
        level: usize,
        stages: Range<usize>,
        last: bool,
    ) -> Result<Level> {
        let tasks = parts.tasks.len();
        let k = self.task_experts;
        let s = self.shared_experts;
        let prefix = |name: &str| format!("levels.{level}.{name}");
        let reach = if last { Reach::Own } else { Reach::All };
        let experts = |net: &mut Builder, paths: &[String], x: ValueId| {
            stages.clone().try_fold(x, |x, stage| parts.encoder.stage(net, stage, paths, x))
        };
        // The first level's experts all read the features; later ones what their task's gate mixed.
        let paths_of_tasks = parts.numbered(net, &prefix("task_experts"), k)?;
        let paths_of_all = net.numbered(&prefix("shared_experts"), s)?;
        let groups = net.value(at.tasks).groups;
        let each = net.each(at.tasks, tasks * k / groups, reach);
        let own = experts(net, &paths_of_tasks, each)?;
        let each = net.each(at.shared, s, Reach::All);
        let shared = experts(net, &paths_of_all, each)?;

        let seen = if level == 0 { parts.encoder.pooled(net, at.tasks)? } else { at.tasks };
        let each = net.each(seen, tasks / groups, reach);
        let gates = net.linear(&parts.paths(&prefix("gates")), each, k + s, None);
        let gates = net.softmax(gates);
        let names = [net.numbered("task_experts", k)?, net.numbered("shared_experts", s)?].concat();
        net.show_gates(prefix("gates"), gates, [parts.names(), names], k);
        let sources = [Experts { value: own, common: false }, Experts { value: shared, common: true }];
        let of_tasks = net.mixture(gates, &sources, reach)?;
        if last {
            return Ok(Level { tasks: of_tasks, shared });
        }
        let seen = if level == 0 { seen } else { at.shared };
        let gate = net.linear(&[prefix("shared_gate")], seen, tasks * k + s, None);
        let gate = net.softmax(gate);
        let names = [parts.numbered(net, "task_experts", k)?, net.numbered("shared_experts", s)?].concat();
        net.show_gates(prefix("shared_gate"), gate, [vec!["shared".to_owned()], names], 0);
        let sources = [Experts { value: own, common: true }, Experts { value: shared, common: true }];
        Ok(Level { tasks: of_tasks, shared: net.mixture(gate, &sources, Reach::All)? })
    }
}
