//! Regularizers: terms of the objective that depend on the parameters alone.

use std::fmt::Debug;
use std::ops::Range;

use serde_json::Value;
use tch::Tensor;

use crate::component::Described;
use crate::error::Result;
use crate::machine::crossing::fetch;
use crate::machine::real::Real;
use crate::machine::storage::Storage;

mod formula;
pub mod places;
pub mod relation;
pub mod rows;
pub mod spectrum;

pub use places::{Piece, Places, Stack};
pub use relation::Relation;

/// A regularizer by loops of our own, for one element type.
pub trait Penalty<T: Real> {
    /// `strength` times the penalty of these places of the flat parameters. With a gradient it is part of a step: adds
    /// to the gradient, and what is learned from the parameters may be refreshed first.
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64;
}

/// A term `beta_k R_k(theta)` of the objective.
pub trait Regularizer: Penalty<f32> + Penalty<f64> + Described + Debug + Send + Sync {
    /// The places it is about, among all of a model's; asked once, before the first step.
    ///
    /// # Errors
    /// Arguments that do not fit this model, or a model without anything it could be about.
    fn choose(&mut self, all: &Places) -> Result<Places>;

    /// `strength` times the penalty of these places of the flat parameters, as tensor algebra that libtorch can
    /// differentiate. What is learned from the parameters is as it was learned last.
    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor;

    /// Whether it learns from the parameters as steps go on.
    fn learns(&self) -> bool {
        false
    }

    /// Learns from the flat parameters before a step by the formula, as [`Penalty::add`] does by itself.
    fn learn(&mut self, places: &Places, parameters: &Tensor) {
        let _ = (places, parameters);
    }

    /// The same for a look between steps, of which it learns nothing.
    fn look(&self, places: &Places, parameters: &Tensor) -> Tensor {
        self.formula(places, parameters)
    }

    /// What is left of its places when these ranges of the flat parameters are frozen: penalties of size forget them, what
    /// compares parameters goes on comparing others with them.
    fn learning(&self, places: &Places, frozen: &[Range<usize>]) -> Places {
        let _ = frozen;
        places.clone()
    }

    /// The relation between tasks `[tasks, tasks]` that it has learned.
    fn relation(&self) -> Option<&[f64]> {
        None
    }

    /// What it has learned so far, in finite numbers.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Continues from a state.
    ///
    /// # Errors
    /// The state is not one of this regularizer.
    fn restore(&mut self, state: &Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

crate::family!(
    Regularizer, "regularizer":
    l1::L1,
    l2::L2,
    elastic_net::ElasticNet,
    group_lasso::GroupLasso,
    trace_norm::TraceNorm,
    tensor_trace_norm::TensorTraceNorm,
    mean_regularized::MeanRegularized,
    pairwise::Pairwise,
    graph_laplacian::GraphLaplacian,
    task_relation::TaskRelation,
    clustered::Clustered,
    orthogonality::Orthogonality,
);

/// A regularizer of one trainer, with what it is about.
#[derive(Debug)]
pub struct Term {
    /// The regularizer.
    pub regularizer: Box<dyn Regularizer>,
    /// Its value in the last step.
    pub value: f64,
    all: Places,
    places: Places,
}

impl Term {
    /// A regularizer for a model with these places.
    ///
    /// # Errors
    /// What [`Regularizer::choose`] refuses.
    pub fn new(mut regularizer: Box<dyn Regularizer>, all: &Places) -> Result<Self> {
        let places = regularizer.choose(all)?;
        Ok(Self { regularizer, value: 0.0, all: places.clone(), places })
    }

    /// Takes notice of what is frozen.
    pub fn freeze(&mut self, frozen: &[Range<usize>]) {
        self.places = self.regularizer.learning(&self.all, frozen);
    }

    /// Its part of a step by loops: adds to the gradient of the first `dense` parameters; gives its value.
    pub fn add(&mut self, parameters: &[f32], gradient: &mut [f32]) -> f64 {
        self.value = self.regularizer.add(&self.places, parameters, Some(gradient));
        self.value
    }

    /// Learns from the first `dense` parameters before a step by the formula.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn learn(&mut self, parameters: &Storage<f32>, dense: usize) -> Result<()> {
        self.regularizer.learn(&self.places, &parameters.range(&(0..dense))?.f_detach()?);
        Ok(())
    }

    /// Its part of a step by the formula, after it has learned: adds to the gradient; gives its value, a tensor without
    /// dimensions.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_there(&self, parameters: &Storage<f32>, dense: usize, gradient: &Storage<f32>) -> Result<Tensor> {
        let leaf = parameters.range(&(0..dense))?.f_detach()?.f_set_requires_grad(true)?;
        let (value, slope) = tch::with_grad(|| {
            // What it is not about keeps its place by a sum of nothing.
            let none = leaf.f_narrow(0, 0, 0)?.f_sum(leaf.kind())?;
            let value = self.regularizer.formula(&self.places, &leaf).f_add(&none)?;
            let slope = Tensor::f_run_backward(&[&value], &[&leaf], false, false)?.remove(0);
            Ok::<_, crate::error::Error>((value, slope))
        })?;
        let _ = gradient.range(&(0..dense))?.f_add_(&slope)?;
        Ok(value.f_detach()?)
    }

    /// Its value at these parameters, of which it learns nothing.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn look(&mut self, parameters: &Storage<f32>, dense: usize) -> Result<f64> {
        match parameters.host() {
            Some(parameters) => Ok(self.regularizer.add(&self.places, &parameters.slice()[..dense], None)),
            None => {
                let flat = parameters.range(&(0..dense))?.f_detach()?;
                Ok(fetch::<f64>(&self.regularizer.look(&self.places, &flat))?[0])
            }
        }
    }
}
