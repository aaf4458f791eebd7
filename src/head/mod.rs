//! Heads: from a task's features to its raw outputs.

pub mod own;

use std::fmt::Debug;

use crate::component::Described;
use crate::error::Result;
use crate::label::Pairing;
use crate::network::builder::Builder;
use crate::network::{Output, Value, ValueId};
use crate::parameters::Reach;

/// A task's features: one group of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// The value.
    pub value: ValueId,
    /// The group.
    pub group: usize,
}

impl Feature {
    /// The group by itself; where groups are tasks' own, from here on for `reach`.
    pub fn alone(self, net: &mut Builder, reach: Reach) -> ValueId {
        let reach = if net.value(self.value).reach == Reach::Own { reach } else { net.value(self.value).reach };
        net.group_of(self.value, self.group, reach)
    }
}

/// What a head has to fill.
#[derive(Debug, Clone)]
pub struct Target {
    /// Path of the head: `heads.income`.
    pub path: String,
    /// The task's features.
    pub features: Feature,
    /// Raw outputs.
    pub width: usize,
    /// Which tasks' gradients arrive at the head.
    pub reach: Reach,
    /// For a task of pairs of positions, how they are paired.
    pub pairing: Option<Pairing>,
}

/// Builds the heads of all tasks.
pub trait Head: Debug + Send + Sync + Described {
    /// Adds one head a target, in order, and says where their outputs stand.
    ///
    /// # Errors
    /// Sizes that cannot work.
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<Vec<Output>>;

    /// Whether it is for tasks of pairs of positions.
    fn pairs(&self) -> bool {
        false
    }
}

crate::family!(
    Head, "head":
    linear::Linear,
    tower::Tower,
    biaffine::Biaffine,
);

/// The one value that the heads of all tasks read, if it is one.
fn common(net: &Builder, targets: &[Target]) -> Option<ValueId> {
    let Feature { value, .. } = targets.first()?.features;
    // Columns are told apart by the order of tasks.
    let mut each = targets.iter().enumerate();
    let same = each.all(|(task, target)| target.features.value == value && target.reach == Reach::One(task));
    (same && net.value(value).groups == 1).then_some(value)
}

/// All tasks' features as the groups of one value, a task each, where they are of one axis and width.
fn side_by_side(net: &mut Builder, targets: &[Target]) -> Option<ValueId> {
    let Value { axis, width, .. } = *net.value(targets.first()?.features.value);
    let alike = targets.iter().all(|target| {
        let features = net.value(target.features.value);
        matches!(target.reach, Reach::One(_)) && (features.axis, features.width) == (axis, width)
    });
    if targets.len() < 2 || !alike {
        return None;
    }
    if let Some(value) = common(net, targets) {
        return Some(net.each(value, targets.len(), Reach::Own));
    }
    let Feature { value, .. } = targets[0].features;
    let grouped = (net.value(value).groups, net.value(value).reach) == (targets.len(), Reach::Own);
    if grouped && targets.iter().enumerate().all(|(group, target)| target.features == (Feature { value, group })) {
        return Some(value);
    }
    let picks: Vec<_> = targets.iter().map(|target| (target.features.value, target.features.group)).collect();
    Some(net.gather(&picks, Reach::Own))
}
