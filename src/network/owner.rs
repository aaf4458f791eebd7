//! Which task a group belongs to.

use crate::parameters::{Reach, TaskId};

/// Which task a group belongs to, of a value or parameter that not all tasks reach.
#[derive(Debug, Clone, Copy)]
pub enum Owner {
    /// One task for all groups.
    One(TaskId),
    /// So many groups each, in turn.
    Own(usize),
}

impl Owner {
    /// Of so many groups.
    pub fn new(reach: Reach, groups: usize, tasks: usize) -> Self {
        match reach {
            Reach::One(task) => Self::One(task),
            _ => Self::Own((groups / tasks).max(1)),
        }
    }

    /// The task of a group.
    pub fn task(self, group: usize) -> TaskId {
        match self {
            Self::One(task) => task,
            Self::Own(share) => group / share,
        }
    }
}
