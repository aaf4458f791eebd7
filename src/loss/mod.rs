//! Losses: value and gradient at the raw outputs in one pass, with row weights and missing labels.

use std::fmt::Debug;

use tch::Tensor;

use crate::component::Described;
use crate::error::Result;
use crate::label::{Counts, Labels, Targets};
use crate::machine::real::Real;

mod cells;
mod formula;
mod link;
mod softmax;
mod transpose;

/// One task's part of a batch.
#[derive(Debug)]
pub struct Batch<'a, T> {
    /// Rows.
    pub rows: usize,
    /// Raw outputs a row: [`Loss::width`].
    pub width: usize,
    /// Raw outputs; row `r` starts at `r * stride`.
    pub outputs: &'a [T],
    /// Where the gradient goes, laid out as `outputs`; rows without a label get zeros.
    pub gradient: Option<&'a mut [T]>,
    /// Distance between rows of `outputs` and `gradient`.
    pub stride: usize,
    /// The labels.
    pub targets: Targets<'a, T>,
    /// Row weights `[rows]`; none means ones.
    pub weights: Option<&'a [T]>,
    /// Factor on the gradient: the task's lambda over the total label weight of the whole (accumulated) batch.
    pub scale: T,
}

impl<T> Batch<'_, T> {
    /// Refuses buffers that are too short; behind this door the kernels index without checks.
    fn assert_fits(&self, columns: usize) {
        let last = if self.rows == 0 { 0 } else { (self.rows - 1) * self.stride + self.width };
        assert!(self.stride >= self.width && self.outputs.len() >= last, "outputs are shorter than the batch");
        assert!(self.gradient.as_ref().is_none_or(|g| g.len() >= last), "the gradient is shorter than the batch");
        assert!(self.weights.is_none_or(|w| w.len() >= self.rows), "weights are shorter than the batch");
        let labels = match self.targets {
            Targets::Classes(classes) => classes.len(),
            Targets::Values(values) => values.len(),
        };
        assert!(labels >= self.rows * columns, "targets are shorter than the batch");
    }
}

pub use formula::{Sums, TensorBatch};
pub use link::Link;

/// A loss by loops of our own, for one element type.
pub trait Loops<T: Real> {
    /// Total weight of the labelled rows (or cells): the denominator of the mean.
    fn weight(&self, targets: Targets<'_, T>, weights: Option<&[T]>) -> f64;
    /// Sum over labelled rows (or cells) of weight times loss; fills `scale` times its gradient.
    fn evaluate(&self, batch: Batch<'_, T>) -> f64;
}

/// A loss that is code of the caller's own.
pub trait ForeignLoss {
    /// The sum over labelled rows (or cells) of weight times loss; fills the gradient, if one is wanted.
    ///
    /// # Errors
    /// What that code raises.
    fn sum(&self, batch: &TensorBatch<'_>, gradient: Option<ScaledGradient<'_>>) -> Result<f64>;
}

/// Where a gradient at raw outputs goes, times a factor; rows without a label get zeros.
#[derive(Debug)]
pub struct ScaledGradient<'a> {
    /// Laid out as the raw outputs.
    pub into: &'a Tensor,
    /// The factor.
    pub scale: f64,
}

/// How labels of a row's positions are judged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// Each beside its neighbours: what is judged takes the labels before a position as given.
    Chain,
    /// As a list: what is judged are the logarithms of shares, and labels are shares of their sum.
    List,
    /// Each says to which position of the row it is attached: pairs of positions are judged.
    Tree,
}

/// A loss: what its labels look like, how raw outputs become predictions, its formula, and loops that compute it.
///
/// A task is described by `classes` (the number of classes, if its labels are classes) and `outputs` (labels a row).
pub trait Loss: Loops<f32> + Loops<f64> + Described + Debug + Send + Sync {
    /// What the task's labels must look like.
    ///
    /// # Errors
    /// A task that this loss cannot serve, or an argument of the loss that does not fit the task.
    fn labels(&self, classes: Option<usize>, outputs: usize) -> Result<Labels>;

    /// The loss as tensor algebra that libtorch can differentiate: of each row, or of each cell where labels are numbers.
    ///
    /// `raw` is `[rows, width]`, `labels` are `[rows]` classes of `i64`, or numbers `[rows, outputs]`; none is missing. Row
    /// weights come later.
    fn formula(&self, raw: &Tensor, labels: &Tensor) -> Tensor;

    /// What each label counts in the denominator of the mean, beside the row's weight; none for ones.
    fn label_weights(&self, raw: &Tensor, labels: &Tensor) -> Option<Tensor> {
        let _ = (raw, labels);
        None
    }

    /// The sum over labelled rows (or cells) of weight times loss, by the formula, and the sum of these weights.
    fn sums(&self, batch: &TensorBatch<'_>) -> Sums {
        formula::sums(self, batch)
    }

    /// Raw outputs a row.
    fn width(&self, classes: Option<usize>, outputs: usize) -> usize {
        classes.unwrap_or(outputs)
    }

    /// Predicted numbers a row.
    fn predicted_width(&self, classes: Option<usize>, outputs: usize) -> usize {
        self.width(classes, outputs)
    }

    /// How raw outputs `[rows, width]` become predictions `[rows, predicted_width]`.
    fn link(&self, labels: Labels) -> Link {
        let _ = labels;
        Link::Identity
    }

    /// How labels of a row's positions are judged together, if they are.
    fn together(&self) -> Option<Together> {
        None
    }

    /// The code of the caller's own that is asked instead of formula and loops, which a description cannot bring back.
    fn foreign(&self) -> Option<&dyn ForeignLoss> {
        None
    }

    /// Replaces what is `"balanced"` by numbers, which [`Described::describe`] then shows; counts only if it must.
    /// Until then `"balanced"` means ones.
    ///
    /// # Errors
    /// What counting returns.
    fn balance(&mut self, counts: &mut dyn FnMut() -> Result<Counts>) -> Result<()> {
        let _ = counts;
        Ok(())
    }
}

crate::family!(
    Loss, "loss":
    cross_entropy::CrossEntropy,
    binary_cross_entropy::BinaryCrossEntropy,
    focal::Focal,
    crf::Crf,
    ordinal::Ordinal,
    tree::Tree,
    mean_squared::MeanSquared,
    mean_absolute::MeanAbsolute,
    huber::Huber,
    quantile::Quantile,
    poisson::Poisson,
    gaussian_nll::GaussianNll,
    ranking::Ranking,
);

/// The labels of a loss of class indices.
fn class_labels(class: &str, classes: Option<usize>, outputs: usize) -> Result<Labels> {
    match classes {
        Some(k) if k >= 2 && outputs == 1 => Ok(Labels::Classes(k)),
        Some(k) if k >= 2 => crate::bail!("{class}: a task with classes has one output; got outputs={outputs}"),
        Some(k) => crate::bail!("{class}: `classes` should be at least 2; got {k}"),
        None => crate::bail!("{class}: the task needs `classes`, the number of classes; got none"),
    }
}

/// How many numbers a row the labels of a loss of numbers are.
fn columns(class: &str, classes: Option<usize>, outputs: usize) -> Result<usize> {
    if let Some(k) = classes {
        crate::bail!("{class}: the task's labels are numbers, not classes; got classes={k}: leave it out");
    }
    if outputs == 0 {
        crate::bail!("{class}: `outputs` should be at least 1; got 0");
    }
    Ok(outputs)
}
