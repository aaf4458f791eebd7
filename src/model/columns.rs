//! The columns of a Jacobian: which parameters stand where in a task's row, and how the tasks' gradients get there.

use std::collections::HashMap;
use std::ops::Range;

use super::workspace::Workspace;
use crate::error::Result;
use crate::machine::storage::Storage;
use crate::network::Network;
use crate::parameters::{ParamId, Reach, TaskId};

/// The columns of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamColumns {
    /// The parameter.
    pub param: ParamId,
    /// Its range in the flat buffers.
    pub flat: Range<usize>,
    /// Its range in a row.
    pub at: Range<usize>,
    /// The layer it belongs to.
    pub layer: usize,
}

/// Columns that one task's gradient alone reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// Their range in the flat buffers.
    pub flat: Range<usize>,
    /// Their range in a row.
    pub at: Range<usize>,
    /// The layer they belong to.
    pub layer: usize,
}

/// The columns of a Jacobian `[tasks, width]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Parameter by parameter.
    pub params: Vec<ParamColumns>,
    /// What one task's gradient alone reaches, of each task; of shared parameters these are all, or there are none.
    pub own: Vec<Vec<Own>>,
    /// Numbers in a row.
    pub width: usize,
    /// Layers of the parameters.
    pub layers: usize,
}

impl Columns {
    /// Of the shared parameters, or, where the tasks share none, of their own encoders. A layer is what its parameters'
    /// paths have in common.
    pub fn of_shared(net: &Network) -> Self {
        let mut parents = vec![""; net.params.len()];
        for entry in net.entries.iter().rev() {
            entry.param.into_iter().for_each(|param| parents[param] = entry.name.parent());
        }
        let mut layers: HashMap<&str, usize> = HashMap::new();
        let mut all = Self { own: vec![Vec::new(); net.tasks()], ..Self::default() };
        for param in net.shared() {
            let next = layers.len();
            let layer = *layers.entry(parents[param]).or_insert(next);
            let flat = net.params[param].range.clone();
            let at = all.width..all.width + flat.len();
            all.width = at.end;
            match net.params[param].reach {
                Reach::Own => {
                    let size = flat.len() / net.tasks();
                    for (task, own) in all.own.iter_mut().enumerate() {
                        let part = |range: &Range<usize>| range.start + task * size..range.start + (task + 1) * size;
                        own.push(Own { flat: part(&flat), at: part(&at), layer });
                    }
                }
                Reach::One(task) => all.own[task].push(Own { flat: flat.clone(), at: at.clone(), layer }),
                Reach::All | Reach::Columns => (),
            }
            all.params.push(ParamColumns { param, flat, at, layer });
        }
        all.layers = layers.len();
        all
    }

    /// Of all parameters that learn, each where it stands in the flat buffers; sparse tables have none.
    pub fn of_all(net: &Network) -> Self {
        let mut all = Self { width: net.dense(), own: vec![Vec::new(); net.tasks()], ..Self::of_shared(net) };
        for column in &mut all.params {
            column.at = column.flat.clone();
        }
        for block in net.learning() {
            if let Some(task) = block.task {
                all.own[task].push(Own { flat: block.range.clone(), at: block.range, layer: 0 });
            }
        }
        all
    }

    /// Whether all columns are some task's alone.
    pub fn separate(&self) -> bool {
        self.own.iter().any(|own| !own.is_empty())
    }

    /// Adds what the last backward, a lane a task, left of these tasks' gradients to their rows `[tasks, width]`; where
    /// one task's gradient alone reaches, it is in the flat gradient: see [`Columns::copy_own`].
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add(&self, work: &Workspace, tasks: impl Iterator<Item = TaskId>, rows: &mut [f32]) -> Result<()> {
        for (task, row) in tasks.zip(rows.chunks_exact_mut(self.width.max(1))) {
            for column in &self.params {
                work.add_row(column.param, task, &mut row[column.at.clone()])?;
            }
        }
        Ok(())
    }

    /// Copies what these tasks' gradients alone reach from the flat gradient, once it is complete.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn copy_own(
        &self,
        gradient: &Storage<f32>,
        tasks: impl Iterator<Item = TaskId>,
        rows: &mut [f32],
    ) -> Result<()> {
        for (task, row) in tasks.zip(rows.chunks_exact_mut(self.width.max(1))) {
            for own in &self.own[task] {
                row[own.at.clone()].copy_from_slice(&gradient.numbers(own.flat.clone())?);
            }
        }
        Ok(())
    }

    /// The sum of squares of what one task's gradient alone reaches, of all layers or of one.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn own_squares(&self, gradient: &Storage<f32>, task: TaskId, layer: Option<usize>) -> Result<f64> {
        let mut sum = 0.0;
        for own in self.own[task].iter().filter(|own| layer.is_none_or(|layer| own.layer == layer)) {
            sum = gradient.add_squares(own.flat.clone(), sum)?;
        }
        Ok(sum)
    }
}
