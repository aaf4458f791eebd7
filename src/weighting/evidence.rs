//! What a weighting is shown of a batch, and the same written down by hand.

use crate::error::Result;
use crate::machine::random::Stream;
use crate::{bail, value_error};

/// Stream of weightings within a seed.
const WEIGHTING: u64 = 7;

/// Rounding of cosines from products in single precision.
pub const SINGLE: f64 = f32::EPSILON as f64;

/// Rounding of cosines from products of numbers in bfloat16.
pub const HALF: f64 = 1.0 / 256.0;

/// When a step happens, for what depends on time or chance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moment {
    /// Seed of the run.
    pub seed: u64,
    /// Steps so far.
    pub step: u64,
    /// Complete epochs so far.
    pub epoch: u64,
    /// The learning rate of this step.
    pub lr: f64,
}

impl Moment {
    /// This step's random numbers; `what` tells several uses in one step apart.
    pub fn random(self, what: u64) -> Stream {
        Stream::new(self.seed, &[WEIGHTING, self.step, what])
    }
}

/// Which rows a probe looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The batch of this step.
    Batch,
    /// A batch of the validation data.
    Validation,
}

/// Losses and gradients elsewhere in parameter space.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probed {
    /// Each task's loss times its lambda, `[all tasks]`; NaN without a label.
    pub losses: Vec<f64>,
    /// Their gradients at all parameters, shared and own, `[all tasks, parameters]`; zeros without a label.
    pub jacobian: Vec<f32>,
}

/// What is known of the tasks that have labels in this batch. A task without labels has no row anywhere.
///
/// Losses and gradients are those of `lambda_j L_j`, where `L_j` is the mean over the task's labelled rows.
pub trait Evidence {
    /// Indices of the tasks that have labels, ascending: one a row.
    fn tasks(&self) -> &[usize];

    /// Their losses `[rows]`.
    fn losses(&self) -> &[f64];

    /// When this is.
    fn moment(&self) -> Moment;

    /// Products of their gradients at the shared parameters, `[rows, rows]`.
    ///
    /// # Errors
    /// libtorch, or a weighting that did not ask for it in [`Claims::needs`](super::Claims::needs).
    fn gramian(&mut self) -> Result<&[f64]>;

    /// How far off a cosine between two of these gradients may be, by the rounding of [`Evidence::gramian`].
    fn rounding(&self) -> f64 {
        SINGLE
    }

    /// Layers with shared parameters, for weights that differ between them.
    fn layers(&self) -> usize {
        1
    }

    /// As [`Evidence::gramian`], of the parameters of one layer.
    ///
    /// # Errors
    /// As for [`Evidence::gramian`].
    fn layer(&mut self, index: usize) -> Result<&[f64]> {
        let _ = index;
        self.gramian()
    }

    /// Their gradients at the shared parameters, `[rows, parameters]`.
    ///
    /// # Errors
    /// As for [`Evidence::gramian`].
    fn jacobian(&mut self) -> Result<&[f32]>;

    /// As [`Evidence::jacobian`], on one of the [`Claims::parts`](super::Claims::parts) disjoint parts of the
    /// batch. A task that has labels only in other parts has a row of zeros.
    ///
    /// # Errors
    /// As for [`Evidence::gramian`].
    fn part(&mut self, index: usize) -> Result<&[f32]> {
        let _ = index;
        Err(value_error!("there are no parts of the batch here"))
    }

    /// Losses and gradients with `shift` added to all parameters but sparse tables (empty for none), for weightings that
    /// [validate](super::Claims::validates). The parameters come back as they were.
    ///
    /// # Errors
    /// As for [`Evidence::gramian`].
    fn probe(&mut self, shift: &[f32], on: On) -> Result<Probed> {
        let _ = (shift, on);
        Err(value_error!("there is no validation data here"))
    }
}

/// Evidence written down: losses, and a Gramian or a Jacobian or neither.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Indices of the tasks that have labels.
    pub tasks: Vec<usize>,
    /// Their losses.
    pub losses: Vec<f64>,
    /// `[rows, rows]`, if there is one.
    pub gramian: Option<Vec<f64>>,
    /// `[rows, parameters]`, if there is one.
    pub jacobian: Option<Vec<f32>>,
    /// How far off its cosines may be; `None` for double precision.
    pub rounding: Option<f64>,
    /// Jacobians of parts of the batch.
    pub parts: Vec<Vec<f32>>,
    /// When this is.
    pub moment: Moment,
}

impl Given {
    /// Losses of tasks 0, 1, 2 ...
    pub fn losses(losses: &[f64]) -> Self {
        Self { tasks: (0..losses.len()).collect(), losses: losses.to_vec(), ..Self::default() }
    }

    /// A Gramian of tasks 0, 1, 2 ... with losses of 1.
    pub fn gramian(gramian: &[f64]) -> Self {
        let rows = (gramian.len() as f64).sqrt().round() as usize;
        Self { gramian: Some(gramian.to_vec()), ..Self::losses(&vec![1.0; rows]) }
    }

    /// A Jacobian `[rows, parameters]` of tasks 0, 1, 2 ... with losses of 1, and its Gramian.
    pub fn jacobian(rows: usize, jacobian: &[f64]) -> Self {
        let width = jacobian.len() / rows.max(1);
        let mut gramian = vec![0.0; rows * rows];
        for (i, a) in jacobian.chunks_exact(width.max(1)).enumerate() {
            for (j, b) in jacobian.chunks_exact(width.max(1)).enumerate() {
                gramian[i * rows + j] = a.iter().zip(b).map(|(a, b)| a * b).sum();
            }
        }
        let narrow = jacobian.iter().map(|&x| x as f32).collect();
        Self { gramian: Some(gramian), jacobian: Some(narrow), ..Self::losses(&vec![1.0; rows]) }
    }
}

impl Evidence for Given {
    fn tasks(&self) -> &[usize] {
        &self.tasks
    }

    fn losses(&self) -> &[f64] {
        &self.losses
    }

    fn moment(&self) -> Moment {
        self.moment
    }

    fn gramian(&mut self) -> Result<&[f64]> {
        self.gramian.as_deref().ok_or_else(|| value_error!("there is no Gramian: only losses were given"))
    }

    fn rounding(&self) -> f64 {
        self.rounding.unwrap_or(f64::EPSILON)
    }

    fn jacobian(&mut self) -> Result<&[f32]> {
        self.jacobian.as_deref().ok_or_else(|| value_error!("there is no Jacobian: give the gradients themselves"))
    }

    fn part(&mut self, index: usize) -> Result<&[f32]> {
        match self.parts.get(index) {
            Some(part) => Ok(part),
            None => bail!("there are {} parts of the batch here; part {index} was asked for", self.parts.len()),
        }
    }
}
