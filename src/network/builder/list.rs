//! Positions of a row as one list.

use super::Builder;
use crate::bail;
use crate::error::Result;
use crate::network::Output;
use crate::network::Value;
use crate::network::axis::{Extent, Link};
use crate::network::nodes::list::List;
use crate::parameters::{Reach, TaskId};

impl Builder {
    /// Where the logarithms of the shares stand that a task's outputs, as scores, have in their row: what its loss judges, of
    /// positions that have a label.
    ///
    /// # Errors
    /// Outputs that are not of positions within rows.
    pub fn list(&mut self, path: &str, task: TaskId, scores: &Output) -> Result<Output> {
        let Output { value, group, columns: ref range } = *scores;
        let Value { axis, .. } = *self.value(value);
        if self.net.axes[axis].extent != Extent::Ragged {
            bail!("`{}` make no list: positions within rows do", self.net.axes[axis].name);
        }
        let width = range.len();
        let given = self.code_input(&format!("labels of {path}"), axis, &vec![2; width]);
        self.net.shown.push((task, given));
        let input = self.select(value, group, range.clone(), Reach::One(task));
        let output = self.fresh(1, width, Reach::One(task), true);
        self.net.values[output].axis = axis;
        let value = self.push(List { input, output, given, link: Link::rows(axis) });
        Ok(Output { value, group: 0, columns: 0..width })
    }
}
