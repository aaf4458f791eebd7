//! Heads that single tasks have for themselves.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Head, Target};
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
        if self.own.is_empty() {
            return self.usual.build(net, targets);
        }
        let mut outputs = Vec::with_capacity(targets.len());
        for target in targets {
            let own = self.own.iter().find(|(task, _)| path(task) == target.path);
            let head = own.map_or(&self.usual, |(_, head)| head);
            outputs.extend(head.build(net, std::slice::from_ref(target))?);
        }
        Ok(outputs)
    }
}

/// Where a task's head stands.
pub fn path(task: &str) -> String {
    format!("heads.{}", part(task))
}
