//! Where gradients pass from values of single tasks to one that all tasks reach.

use std::ops::Range;

use super::pass::Step;
use super::{Network, Value, ValueId};
use crate::machine::buffer::Layout;
use crate::machine::real::Real;
use crate::parameters::{Reach, TaskId};

/// The columns of one task in a group of a gradient of one lane.
#[derive(Debug, Clone)]
pub struct TaskColumns {
    /// The task.
    pub task: TaskId,
    /// The group.
    pub group: usize,
    /// The columns.
    pub columns: Range<usize>,
}

/// What belongs to which task in a value that not all tasks reach, `layers` neighbouring groups of it seen as one.
pub fn task_columns(net: &Network, value: ValueId, layers: usize) -> Vec<TaskColumns> {
    let Value { groups, width, reach, ref columns, .. } = net.values[value];
    match reach {
        Reach::All => Vec::new(),
        Reach::One(task) => {
            (0..groups / layers).map(|group| TaskColumns { task, group, columns: 0..layers * width }).collect()
        }
        Reach::Columns => {
            let pieces = columns.iter().cloned().enumerate();
            pieces.map(|(task, columns)| TaskColumns { task, group: 0, columns }).collect()
        }
        Reach::Own => {
            let mut pieces: Vec<TaskColumns> = Vec::new();
            for own in 0..groups {
                let task = net.owner(value).task(own);
                let group = own / layers;
                let start = own % layers * width;
                match pieces.last_mut().filter(|last| (last.task, last.group) == (task, group)) {
                    Some(last) => last.columns.end += width,
                    None => pieces.push(TaskColumns { task, group, columns: start..start + width }),
                }
            }
            pieces
        }
    }
}

/// Where gradients pass from values of single tasks to one that all tasks reach.
#[derive(Debug, Clone)]
pub struct Entrance {
    pieces: Vec<TaskColumns>,
}

impl Entrance {
    /// Of what belongs to which task.
    pub fn new(pieces: Vec<TaskColumns>) -> Self {
        Self { pieces }
    }

    /// Multiplies each task's part of a gradient of one lane by its weight.
    pub fn weigh<T: Real>(&self, step: &Step<'_>, layout: Layout, dy: &mut [T]) {
        let Layout { rows, width, .. } = layout;
        if step.weights.is_empty() {
            return;
        }
        for TaskColumns { task, group, columns } in &self.pieces {
            let weight = step.weight(*task);
            let group = &mut dy[group * rows * width..][..rows * width];
            if *columns == (0..width) {
                group.iter_mut().for_each(|x| *x = *x * weight);
                continue;
            }
            for row in group.chunks_exact_mut(width) {
                row[columns.clone()].iter_mut().for_each(|x| *x = *x * weight);
            }
        }
    }
}
