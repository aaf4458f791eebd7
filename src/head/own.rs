//! Heads that single tasks have for themselves.

use std::collections::BTreeMap;

use serde_json::Value;

use super::biaffine::Biaffine;
use super::{Head, Target};
use crate::bail;
use crate::component::Described;
use crate::error::Result;
use crate::network::Output;
use crate::network::builder::Builder;
use crate::parameters::path::part;

/// One head for all tasks, but for those that have another.
#[derive(Debug)]
pub struct Heads {
    usual: Box<dyn Head>,
    /// By task.
    own: BTreeMap<String, Box<dyn Head>>,
}

impl Heads {
    /// Of a head for all tasks but those named.
    pub fn new(usual: Box<dyn Head>, own: BTreeMap<String, Box<dyn Head>>) -> Self {
        Self { usual, own }
    }

    /// Those of single tasks, if there are some.
    pub fn describe_own(&self) -> Option<Value> {
        let described = self.own.iter().map(|(task, head)| (task.clone(), head.describe()));
        (!self.own.is_empty()).then(|| Value::Object(described.collect()))
    }
}

impl Described for Heads {
    fn describe(&self) -> Value {
        self.usual.describe()
    }
}

impl Head for Heads {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<Vec<Output>> {
        let own =
            |target: &Target| self.own.iter().find(|(task, _)| path(task) == target.path).map(|(_, head)| &**head);
        // Those of one kind side by side, then the others one by one.
        let usual: Vec<_> = if self.own.is_empty() && !self.usual.pairs() {
            targets.iter().filter(|target| target.pairing.is_none()).cloned().collect()
        } else {
            Vec::new()
        };
        let mut together = if usual.is_empty() { Vec::new() } else { self.usual.build(net, &usual)? }.into_iter();
        let mut outputs = Vec::with_capacity(targets.len());
        for target in targets {
            let head = own(target).or((target.pairing.is_none() || self.usual.pairs()).then_some(&*self.usual));
            if target.pairing.is_some() && head.is_some_and(|head| !head.pairs()) {
                bail!("`{}`: pairs of positions are scored by the head Biaffine", target.path);
            }
            let is_usual = target.pairing.is_none() && !usual.is_empty();
            outputs.extend(match (is_usual, head) {
                (true, _) => together.next(),
                (false, Some(head)) => head.build(net, std::slice::from_ref(target))?.pop(),
                (false, None) => Biaffine::default().build(net, std::slice::from_ref(target))?.pop(),
            });
        }
        Ok(outputs)
    }
}

/// Where a task's head stands.
pub fn path(task: &str) -> String {
    format!("heads.{}", part(task))
}
