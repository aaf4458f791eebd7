//! What an epoch's steps showed of weights and gradients, when asked.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bail;
use crate::error::Result;
use crate::parameters::TaskId;
use crate::weighting::Decision;

/// What an epoch is to show beside losses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observe {
    /// Means of the tasks' weights.
    pub weights: bool,
    /// Lengths of the tasks' gradients and cosines between them, whatever the weighting looks at.
    pub gradients: bool,
}

impl Observe {
    /// Reads a list of `"weights"` and `"gradients"`; null is an empty one.
    ///
    /// # Errors
    /// Something else.
    pub fn read(settings: &Value) -> Result<Self> {
        let mut observe = Self::default();
        let wanted = match settings {
            Value::Null => &[][..],
            Value::Array(all) => all,
            other => bail!("`observe` should be a list; got {other}"),
        };
        for each in wanted {
            match each.as_str() {
                Some("weights") => observe.weights = true,
                Some("gradients") => observe.gradients = true,
                _ => bail!("`observe` should hold \"weights\" or \"gradients\"; got {each}"),
            }
        }
        Ok(observe)
    }
}

/// Sums over the running epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether weights are wanted.
    #[serde(skip)]
    pub weights: bool,
    /// Whether gradients are wanted, whatever the weighting looks at.
    #[serde(skip)]
    pub gradients: bool,
    /// Of each task: sum of its weights, and of how many steps.
    of_tasks: Vec<[f64; 2]>,
    /// Of each task: sum of its gradient's norms, and of how many steps.
    norms: Vec<[f64; 2]>,
    /// Of each pair: sum of cosines, and of how many steps.
    cosines: Vec<[f64; 2]>,
    /// Pairs of gradients that point against each other, and pairs.
    conflicts: [f64; 2],
}

impl Observed {
    /// Of so many tasks, at the begin of an epoch.
    pub fn new(wanted: Observe, tasks: usize) -> Self {
        let mut observed = Self { weights: wanted.weights, gradients: wanted.gradients, ..Self::default() };
        observed.clear(tasks);
        observed
    }

    /// What [`Observed::new`] was told.
    pub fn wanted(&self) -> Observe {
        Observe { weights: self.weights, gradients: self.gradients }
    }

    /// Begins an epoch.
    pub fn clear(&mut self, tasks: usize) {
        let weights = self.weights;
        let gradients = self.gradients;
        *self = Self { weights, gradients, ..Self::default() };
        self.of_tasks.resize(if weights { tasks } else { 0 }, [0.0; 2]);
        self.norms.resize(if gradients { tasks } else { 0 }, [0.0; 2]);
        self.cosines.resize(if gradients { tasks * tasks } else { 0 }, [0.0; 2]);
    }

    /// Takes over the sums of a checkpoint, as far as they are wanted here.
    pub fn restore(&mut self, stored: Self) {
        let lengths = |of: &Self| (of.of_tasks.len(), of.norms.len(), of.cosines.len());
        if lengths(&stored) == lengths(self) {
            *self = Self { weights: self.weights, gradients: self.gradients, ..stored };
        }
    }

    /// Adds one step: what was decided of its rows, and the Gramian of their gradients.
    pub(super) fn add(&mut self, rows: &[TaskId], decision: Decision<'_>, gramian: &[f64]) {
        if self.weights {
            for (row, &task) in rows.iter().enumerate() {
                // A direction says nothing of weights.
                if let Some(weight) = decision.weight(row) {
                    count(&mut self.of_tasks[task], weight);
                }
            }
        }
        if self.gradients {
            self.add_gradients(rows, gramian);
        }
    }

    fn add_gradients(&mut self, present: &[usize], gramian: &[f64]) {
        let rows = present.len();
        let tasks = self.norms.len();
        let norm = |row: usize| gramian[row * (rows + 1)].max(0.0).sqrt();
        for (i, &s) in present.iter().enumerate() {
            count(&mut self.norms[s], norm(i));
            for (j, &t) in present.iter().enumerate().take(i) {
                let product = norm(i) * norm(j);
                if product > 0.0 {
                    let cosine = gramian[i * rows + j] / product;
                    count(&mut self.cosines[s * tasks + t], cosine);
                    count(&mut self.cosines[t * tasks + s], cosine);
                    self.conflicts[0] += f64::from(u8::from(cosine < 0.0));
                    self.conflicts[1] += 1.0;
                }
            }
        }
    }

    /// Means over the epoch: `{"weights", "norms", "cosines", "conflict"}`, with `null` for what was not seen.
    pub fn means(&self) -> Value {
        let mean = |&[sum, count]: &[f64; 2]| (count > 0.0).then(|| sum / count);
        let tasks = self.norms.len();
        let means = |all: &[[f64; 2]]| all.iter().map(mean).collect::<Vec<_>>();
        let cosines: Vec<_> = self.cosines.chunks(tasks.max(1)).map(means).collect();
        json!({"weights": self.weights.then(|| means(&self.of_tasks)), "norms": self.gradients.then(|| means(&self.norms)),
               "cosines": self.gradients.then_some(cosines), "conflict": mean(&self.conflicts)})
    }
}

fn count(sum: &mut [f64; 2], value: f64) {
    *sum = [sum[0] + value, sum[1] + 1.0];
}
