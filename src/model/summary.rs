//! What a model is made of: its layers, what they are for, and how many parameters that takes.

use serde_json::{Value, json};

use crate::network::node::Node;
use crate::network::{Network, ValueId};
use crate::parameters::{Entry, Reach};
use crate::task::Task;

/// `{"layers", "shared", "tasks", "frozen", "single_task"}`; the last as given.
pub(crate) fn summary(net: &Network, tasks: &[Task], single_task: usize) -> Value {
    let learned = || net.entries.iter().filter(|entry| entry.param.is_some());
    let of = |task: Option<usize>| -> usize {
        let blocks = net.blocks();
        let own = learned().zip(&blocks).filter(|(_, block)| block.task == task);
        own.map(|(entry, _)| entry.range.len()).sum()
    };
    let frozen: usize = learned().filter(|entry| entry.frozen).map(|entry| entry.range.len()).sum();
    let each: Vec<_> = tasks.iter().enumerate().map(|(j, task)| json!([task.name, of(Some(j))])).collect();
    let layers: Vec<_> = net.ops.iter().map(|op| layer(net, tasks, op.as_ref())).collect();
    json!({"layers": layers, "shared": of(None), "tasks": each, "frozen": frozen, "single_task": single_task})
}

/// One node.
fn layer(net: &Network, tasks: &[Task], op: &dyn Node) -> Value {
    let value = &net.values[op.output()];
    let params = op.params();
    let own: Vec<_> = net.entries.iter().filter(|e| e.param.is_some_and(|p| params.contains(&p))).collect();
    let size = |wanted: &dyn Fn(&Entry) -> bool| -> usize {
        own.iter().filter(|entry| wanted(entry)).map(|entry| entry.range.len()).sum()
    };
    let tasks = match value.reach {
        Reach::All => readers(net, tasks, op.output()).unwrap_or_else(|| "all".to_owned()),
        Reach::One(task) => tasks[task].name.clone(),
        Reach::Own | Reach::Columns => "each its own".to_owned(),
    };
    let rows = format!("rows x {}", value.width);
    let shape = if value.groups == 1 { rows } else { format!("{} x {rows}", value.groups) };
    json!({"path": pattern(&own), "kind": op.name(), "shape": shape, "tasks": tasks,
           "parameters": size(&|_| true), "frozen": size(&|entry| entry.frozen)})
}

/// The tasks whose outputs follow from a value; none if they are all.
fn readers(net: &Network, tasks: &[Task], value: ValueId) -> Option<String> {
    let mut behind = vec![false; net.values.len()];
    behind[value] = true;
    for op in &net.ops {
        behind[op.output()] |= op.inputs().into_iter().any(|x| behind[x]);
    }
    let reading: Vec<_> = tasks.iter().zip(&net.judged).filter(|(_, judged)| behind[judged.value]).collect();
    let names: Vec<_> = reading.iter().map(|(task, _)| task.name.as_str()).collect();
    (names.len() < tasks.len()).then(|| names.join(", "))
}

/// What the paths of a layer's parameters have in common: `experts.*.0`.
fn pattern(entries: &[&Entry]) -> String {
    let mut paths = entries.iter().map(|entry| {
        let parts: Vec<_> = entry.name.parts().collect();
        parts[..parts.len().saturating_sub(1).max(1)].to_vec()
    });
    let mut common: Vec<&str> = paths.next().unwrap_or_default();
    for path in paths {
        for (i, segment) in path.into_iter().enumerate().take(common.len()) {
            if common[i] != segment {
                common[i] = "*";
            }
        }
    }
    common.join(".")
}
