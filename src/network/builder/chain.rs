//! Labels of positions as a chain.

use super::{Builder, columns};
use crate::bail;
use crate::error::Result;
use crate::network::axis::{Extent, Link};
use crate::network::nodes::chain::Chain;
use crate::network::{InputId, Output, Value, ValueId};
use crate::parameters::{Init, Reach, Role, TaskId};

impl Builder {
    /// A task's outputs as scores of labels along each row: where the logarithms of marginals stand, which are predicted, and
    /// those that its loss judges, which take the labels before a position as given. Scores of moves between labels start at 0.
    ///
    /// # Errors
    /// Outputs that are not of positions within rows; labels so many that their moves are beyond the limit.
    pub fn chain(&mut self, path: &str, task: TaskId, scores: &Output) -> Result<[Output; 2]> {
        let Output { value, group, columns: ref range } = *scores;
        let Value { axis, .. } = *self.value(value);
        if self.net.axes[axis].extent != Extent::Ragged {
            bail!("labels of `{}` make no chain: positions within rows do", self.net.axes[axis].name);
        }
        let labels = range.len();
        let rows = labels.saturating_add(2);
        self.afford(&[rows, labels])?;
        let pieces = [("moves", vec![labels, labels]), ("start", vec![labels]), ("end", vec![labels])];
        let pieces = pieces.map(|(name, shape)| (format!("{path}.chain.{name}"), shape)).to_vec();
        let moves = self.parameter(pieces, &[rows, labels], 1, Role::Bias, Init::Constant(0.0));
        let known = self.code_input(&format!("labels of {path}"), axis, &[labels]);
        self.net.shown.push((task, known));
        let input = self.select(value, group, range.clone(), Reach::One(task));
        let link = Link::rows(axis);
        let mut judged = |given: Option<InputId>| {
            let output: ValueId = self.fresh(1, labels, Reach::One(task), true);
            self.net.values[output].axis = axis;
            let value = self.push(Chain { input, output, moves, given, link });
            Output { value, group: 0, columns: columns(&[labels]).remove(0) }
        };
        // In this order: the last of the two that read it is the first to write its gradient, and the only one.
        Ok([judged(None), judged(Some(known))])
    }

    /// Marks where what a task's loss judges stands, if it isn't what is predicted.
    pub fn judged(&mut self, task: TaskId, output: Output) {
        self.net.judged[task] = output;
    }
}
