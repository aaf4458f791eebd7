//! Equal networks side by side: values repeated, picked, joined, and islands for each group.

use std::sync::Arc;

use super::{Builder, Repeated};
use crate::bail;
use crate::error::Result;
use crate::network::nodes::island::{Island, Module};
use crate::network::nodes::{gather, join};
use crate::network::owner::Owner;
use crate::network::{Value, ValueId};
use crate::parameters::path::shown;
use crate::parameters::{Reach, Role};

impl Builder {
    /// Each group of `x` so many times in turn, for equal layers that read the same: experts ([`Reach::All`]), or one
    /// network a task ([`Reach::Own`]). It takes memory only where something else than a linear layer reads it.
    pub fn each(&mut self, x: ValueId, copies: usize, reach: Reach) -> ValueId {
        let source = self.materialize(x);
        let value = self.value(source);
        if copies == 1 && value.reach == reach {
            return source;
        }
        let value = Value { groups: value.groups.saturating_mul(copies), reach, columns: Vec::new(), ..value.clone() };
        self.repeated.push(Repeated { source, copies, value, materialized: None });
        usize::MAX - (self.repeated.len() - 1)
    }

    /// What a value repeats, how many times, and for whom, if it does.
    pub(super) fn repetition(&self, x: ValueId) -> Option<(ValueId, usize, Reach)> {
        let Repeated { source, copies, value, .. } = self.repeated.get(usize::MAX - x)?;
        Some((*source, *copies, value.reach))
    }

    /// A value that memory holds.
    pub(super) fn materialize(&mut self, x: ValueId) -> ValueId {
        let at = usize::MAX - x;
        let Some(&Repeated { source, copies, ref value, materialized }) = self.repeated.get(at) else { return x };
        if let Some(materialized) = materialized {
            return materialized;
        }
        let groups = value.groups;
        let reach = value.reach;
        let picks: Vec<_> = (0..groups).map(|group| (source, group / copies)).collect();
        let materialized = self.gather(&picks, reach);
        self.repeated[at].materialized = Some(materialized);
        materialized
    }

    pub(super) fn all_materialized(&mut self, inputs: &[ValueId]) -> Vec<ValueId> {
        inputs.iter().map(|&x| self.materialize(x)).collect()
    }

    /// A new value of picked groups `(value, group)`, all of one width.
    pub fn gather(&mut self, picks: &[(ValueId, usize)], reach: Reach) -> ValueId {
        let picks: Vec<_> = picks.iter().map(|&(x, group)| (self.materialize(x), group)).collect();
        let learns = picks.iter().any(|&(x, _)| self.value(x).learns);
        let output = self.fresh(picks.len(), self.value(picks[0].0).width, reach, learns);
        self.push(gather::Gather::new(&picks, output))
    }

    /// The groups of a value side by side: `[groups, rows, width]` to `[rows, groups * width]`.
    pub fn join(&mut self, x: ValueId) -> ValueId {
        let input = self.materialize(x);
        let Value { groups, width, reach, learns, .. } = *self.value(input);
        if groups == 1 {
            return input;
        }
        let output = self.fresh(1, groups.saturating_mul(width), reach, learns);
        self.push(join::Join { input, output })
    }

    /// One group of a value, without a copy where it is the only one or repeated.
    pub fn group_of(&mut self, x: ValueId, group: usize, reach: Reach) -> ValueId {
        let (source, group) = match self.repeated.get(usize::MAX - x) {
            Some(repeated) => (repeated.source, group / repeated.copies),
            None => (x, group),
        };
        let value = self.value(source);
        if value.groups == 1 {
            return source;
        }
        let columns = 0..value.width;
        self.select(source, group, columns, reach)
    }

    /// What runs under autograd: `module` over the inputs and parameters of its own; one path a group, each of which is an
    /// island by itself.
    ///
    /// # Errors
    /// Inputs of different groups, or of reaches that cannot be joined.
    pub fn island(&mut self, paths: &[String], inputs: &[ValueId], module: &Arc<dyn Module>) -> Result<ValueId> {
        let (groups, reach) = self.meet(inputs)?;
        if groups == 1 && reach != Reach::Own {
            let inputs = self.all_materialized(inputs);
            return Ok(self.lone_island(&paths[0], inputs, reach, module));
        }
        let mut picks = Vec::new();
        for (group, path) in paths.iter().enumerate() {
            let owner = Owner::new(reach, groups, self.tasks.unwrap_or(groups));
            let side_by_side = reach == Reach::Own;
            let reach = if reach == Reach::Own { Reach::One(owner.task(group)) } else { reach };
            let mut own = Vec::new();
            for &x in inputs {
                own.push(self.group_of(x, group, reach));
            }
            let first = self.net.params.len();
            picks.push((self.lone_island(path, own, reach, module), 0));
            let count = self.net.params.len() - first;
            for id in first..first + count {
                self.net.params[id].side_by_side = side_by_side;
                if self.starting_alike {
                    self.net.params[id].start.stream = id - group * count;
                }
            }
        }
        Ok(self.gather(&picks, reach))
    }

    /// An island over one group, from here on for `reach`: one task's, whatever reaches its input.
    pub fn narrow_island(&mut self, path: &str, x: ValueId, reach: Reach, module: &Arc<dyn Module>) -> ValueId {
        let input = self.materialize(x);
        self.lone_island(path, vec![input], reach, module)
    }

    pub(super) fn lone_island(
        &mut self,
        path: &str,
        inputs: Vec<ValueId>,
        reach: Reach,
        module: &Arc<dyn Module>,
    ) -> ValueId {
        let params = module
            .parameters()
            .into_iter()
            .map(|(name, shape, init)| {
                let role = if shape.len() > 1 { Role::Weight } else { Role::Bias };
                self.parameter(vec![(format!("{path}.{name}"), shape.clone())], &shape, 1, role, init)
            })
            .collect();
        let mut buffers = Vec::new();
        for (name, shape, start) in module.buffers() {
            buffers.push(self.piece_of_state(&format!("{path}.{name}"), shape, &start));
        }
        let output = self.fresh(1, module.width(), reach, true);
        self.push(Island { path: shown(path), inputs, output, params, buffers, module: module.clone() })
    }

    /// Everything that `build` adds starts from the same numbers in each group.
    pub fn starting_alike<V>(&mut self, build: impl FnOnce(&mut Self) -> V) -> V {
        let before = std::mem::replace(&mut self.starting_alike, true);
        let built = build(self);
        self.starting_alike = before;
        built
    }

    /// Values meet in one node: all must have the same groups, and the narrower reach wins.
    pub(super) fn meet(&self, inputs: &[ValueId]) -> Result<(usize, Reach)> {
        let values: Vec<_> = inputs.iter().map(|&x| self.value(x)).collect();
        let Some(first) = values.first() else { bail!("a node needs an input") };
        let narrow = values.iter().map(|v| v.reach).find(|&r| r != Reach::All).unwrap_or(Reach::All);
        let fits = |v: &&Value| v.groups == first.groups && (v.reach == narrow || v.reach == Reach::All);
        if !values.iter().all(fits) || (narrow == Reach::Columns && values.len() > 1) {
            bail!("these values cannot meet in one node: {values:?}");
        }
        Ok((first.groups, narrow))
    }
}
