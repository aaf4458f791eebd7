//! What a weighting asks of every step of one model, found out before the first.

use std::collections::HashMap;

use crate::bail;
use crate::error::Result;
use crate::machine::half;
use crate::model::Model;
use crate::network::Network;
use crate::network::pass::{BUDGET, Purpose, Store};
use crate::parameters::{ParamId, Reach, TaskId};
use crate::weighting::evidence::{HALF, SINGLE};
use crate::weighting::modes::{At, Per, Precision};
use crate::weighting::{Needs, Weighting};

/// A shared parameter's place in a row of the Jacobian and in the flat buffers.
#[derive(Debug, Clone)]
pub struct SharedParameter {
    /// The parameter.
    pub param: ParamId,
    /// Its range in the flat buffers.
    pub flat: std::ops::Range<usize>,
    /// Where it begins in a row of the Jacobian.
    pub start: usize,
    /// The layer it belongs to.
    pub layer: usize,
    /// Equal parts of it, one a task, where the tasks have one each.
    pub parts: Option<usize>,
}

impl SharedParameter {
    /// The part of it, within itself, that is one task's, where the tasks have one each.
    pub fn own(&self, task: TaskId) -> Option<std::ops::Range<usize>> {
        let size = self.flat.len() / self.parts?;
        Some(task * size..(task + 1) * size)
    }

    /// Its place in a row of the Jacobian.
    pub fn row(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.flat.len()
    }
}

/// How steps are made.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// What the weighting looks at.
    pub needs: Needs,
    /// Where.
    pub at: At,
    /// How far off cosines between gradients may be.
    pub rounding: f64,
    /// Whether it has weights a layer.
    pub per_layer: bool,
    /// Parts of a batch that it compares.
    pub parts: usize,
    /// Whether the whole Jacobian is put together in one piece.
    pub gathers: bool,
    /// What workspaces of its steps are for.
    pub purpose: Purpose,
    /// The shared parameters in order.
    pub shared: Vec<SharedParameter>,
    /// Numbers in a row of the Jacobian.
    pub width: usize,
    /// Layers among the shared parameters.
    pub layers: usize,
}

impl Requirements {
    /// Looks at weighting and model; `observes` says that gradients are wanted whatever the weighting needs.
    ///
    /// # Errors
    /// Combinations that cannot work, in words.
    pub fn new(weighting: &dyn Weighting, model: &Model, accumulate: usize, observes: bool) -> Result<Self> {
        let (modes, net, needs) = (weighting.modes(), &model.net, weighting.needs());
        let by_gradients = needs > Needs::Losses;
        let (shared, layers) = shared(net);
        if by_gradients && shared.is_empty() && net.params.iter().any(|param| !param.learns) {
            bail!(
                "`weighting`: {} compares gradients of shared parameters; all of this model's are frozen: unfreeze some, or \
                 use a weighting from losses",
                name(weighting)
            );
        }
        if by_gradients && shared.is_empty() {
            bail!("`weighting`: {} compares gradients of shared parameters; this model has none", name(weighting));
        }
        if modes.at == At::Representation && !net.meets_at_representation() {
            bail!(
                "`weighting`: at=\"representation\" needs one value through which all tasks' gradients enter shared \
                 parameters; in this model they enter at several, or nothing before it learns"
            );
        }
        let halves = modes.gramian_precision == Precision::Bfloat16;
        if halves && accumulate > 1 {
            bail!(
                "`weighting`: gramian_precision=\"bfloat16\" does not keep gradients, which `accumulate` of {accumulate} \
                 has to add up; use \"float32\""
            );
        }
        let per_layer = modes.per == Per::Layer;
        let gathers = needs == Needs::Jacobian || accumulate > 1;
        let store = match () {
            () if gathers || per_layer => Store::Whole,
            () if halves && half::supported() => Store::Halves,
            () => Store::Within(BUDGET),
        };
        let purpose = match modes.at {
            _ if !by_gradients && !observes => Purpose::Train,
            At::Shared => Purpose::PerTask(store),
            At::Representation => {
                Purpose::Representation { lanes: needs == Needs::Jacobian || net.linear_heads().is_none() }
            }
        };
        let rounding = if matches!(purpose, Purpose::PerTask(Store::Halves)) { HALF } else { SINGLE };
        let width = shared.last().map_or(0, |piece| piece.row().end);
        let (at, parts) = (modes.at, weighting.parts());
        Ok(Self { needs, at, rounding, per_layer, parts, gathers, purpose, shared, width, layers })
    }
}

fn name(weighting: &dyn Weighting) -> String {
    weighting.describe()["name"].as_str().unwrap_or_default().to_owned()
}

/// The shared parameters, layer by layer: a layer is what its parameters' paths have in common.
fn shared(net: &Network) -> (Vec<SharedParameter>, usize) {
    let mut layers: HashMap<&str, usize> = HashMap::new();
    let mut parents = vec![""; net.params.len()];
    for entry in net.entries.iter().rev() {
        entry.param.into_iter().for_each(|param| parents[param] = entry.name.parent());
    }
    let mut start = 0;
    let piece = |param: ParamId| {
        let path = parents[param];
        let next = layers.len();
        let layer = *layers.entry(path).or_insert(next);
        let flat = net.params[param].range.clone();
        let begin = start;
        start += flat.len();
        let parts = (net.params[param].reach == Reach::Own).then_some(net.tasks());
        SharedParameter { param, flat, start: begin, layer, parts }
    };
    let pieces = net.shared().into_iter().map(piece).collect();
    (pieces, layers.len())
}
