//! What every weighting from gradients can do: where it looks, how often, at what scale.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ActsLike, Claims, Combination, Evidence, Moment, Needs, On, Probed, State, Weighting};
use crate::component::{Component, Described, Info, read};
use crate::error::{Error, Result};
use crate::machine::lent::Lent;
use crate::task::About;
use crate::{bail, value_error};

crate::component! {
    /// Arguments that every weighting from gradients has.
    pub struct Modes = "Weighting" {
        /// `"shared"`: gradients of all parameters that several tasks reach; `"representation"`: gradients of the last
        /// value that all tasks reach, which takes one backward (Sener & Koltun, NeurIPS 2018, call it the upper bound).
        at: At = At::Shared;
        /// Steps for which weights are kept before they are computed again; between them a step costs one backward.
        refresh: usize = 1, in 1.0..;
        /// What gradients are divided by before the method sees them: `"none"`; `"l2"`, their norm; `"loss"`, their task's
        /// loss; `"loss+"`, both. The method then combines those.
        normalize: Normalize = Normalize::None;
        /// `"paper"`: as long as the paper's; `"mean"` or `"sum"`: as the mean or the sum of the tasks' gradients, so that
        /// methods can be compared at one learning rate. A method with a norm of its own gets weights of that sum.
        scale: Scale = Scale::Paper;
        /// `"all"`: one set of weights; `"layer"`: a set of weights for each layer, from the gradients of that layer.
        per: Per = Per::All;
        /// `"float32"`, or `"bfloat16"` for the products of the per-task backward, where the processor has them; the update
        /// itself stays in float32.
        gramian_precision: Precision = Precision::Float32;
    }
    check: Modes::check;
}

/// Where gradients are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// At all shared parameters.
    Shared,
    /// At the last value that all tasks reach.
    Representation,
}

/// What gradients are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// Nothing.
    None,
    /// Their norm.
    L2,
    /// Their task's loss.
    Loss,
    /// Both.
    #[serde(rename = "loss+")]
    Both,
}

/// How long the combined gradient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// As in the paper.
    Paper,
    /// As the mean.
    Mean,
    /// As the sum.
    Sum,
}

/// What one set of weights is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// All shared parameters.
    All,
    /// One layer.
    Layer,
}

/// Numbers of the per-task backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    Float32,
    /// Products in bfloat16.
    Bfloat16,
}

crate::choices!(At: Shared, Representation);
crate::choices!(Normalize: None, L2, Loss, Both);
crate::choices!(Scale: Paper, Mean, Sum);
crate::choices!(Per: All, Layer);
crate::choices!(Precision: Float32, Bfloat16);

impl Modes {
    fn check(&self) -> Result<()> {
        if self.at == At::Representation && self.per == Per::Layer {
            bail!("argument `per`: \"layer\" needs the layers' gradients; at=\"representation\" does not compute them");
        }
        if self.at == At::Representation && self.gramian_precision == Precision::Bfloat16 {
            bail!("argument `gramian_precision`: at=\"representation\" has no per-task products to speed up");
        }
        if self.per == Per::Layer && self.refresh > 1 {
            bail!("argument `refresh` should be 1: weights that differ between layers take each step's gradients");
        }
        if self.per == Per::Layer && self.gramian_precision == Precision::Bfloat16 {
            bail!("argument `gramian_precision`: per=\"layer\" combines the layers' gradients, which must be float32");
        }
        Ok(())
    }

    /// These around those of a weighting inside.
    ///
    /// # Errors
    /// What is said of both: of one and the same thing, two may say different things.
    fn over(&self, inside: &Modes) -> Result<Modes> {
        let default = Modes::default();
        let mut together = self.clone();
        macro_rules! merge {
            ($($mode:ident),+) => {
                $(if self.$mode == default.$mode {
                    together.$mode = inside.$mode;
                } else if inside.$mode != default.$mode {
                    bail!(
                        "argument `{}`: it is given for the weighting inside too; give it once",
                        stringify!($mode)
                    );
                })+
            };
        }
        merge!(at, refresh, normalize, scale, per, gramian_precision);
        if self.normalize != Normalize::None && inside.refresh > 1 {
            bail!(
                "argument `normalize` takes each step's gradients; give it for the weighting inside, whose `refresh` is {}",
                inside.refresh
            );
        }
        Ok(together)
    }

    /// Refuses what a method cannot do.
    fn suit(&self, method: &dyn Weighting) -> Result<()> {
        let sees_gradients = method.claims().needs == Needs::Jacobian || method.claims().parts > 1;
        if sees_gradients && self.refresh > 1 {
            bail!(
                "argument `refresh` should be 1: this method looks at the gradients themselves, and keeps no weights"
            );
        }
        if sees_gradients && self.gramian_precision == Precision::Bfloat16 {
            bail!("argument `gramian_precision` should be \"float32\": this method combines the gradients themselves");
        }
        if sees_gradients && self.per == Per::Layer {
            bail!("argument `per` should be \"all\": this method looks at the gradients themselves");
        }
        if method.claims().keeps_gradients && self.at == At::Representation {
            bail!("argument `at` should be \"shared\": this method averages gradients over steps, whose rows differ");
        }
        if method.claims().parts > 1 && self.at == At::Representation {
            bail!(
                "argument `at` should be \"shared\": this method compares parts of a batch, whose representations differ"
            );
        }
        Ok(())
    }
}

/// A weighting from gradients with its modes.
#[derive(Debug)]
pub struct Guided {
    inner: Box<dyn Weighting>,
    modes: Modes,
    /// Further copies for further layers.
    layers: Vec<Box<dyn Weighting>>,
    tasks: Vec<About>,
    /// Each task's last weights, once it had some: `[sets][tasks]`.
    kept: Vec<Vec<Option<[f64; 2]>>>,
    /// The step they are of.
    refreshed: Option<u64>,
}

/// Builds a gradient weighting from a description that may hold arguments of [`Modes`].
///
/// # Errors
/// What its own arguments or the modes say.
pub fn with_modes(
    class: &str,
    parameters: &Map<String, Value>,
    build: impl Fn(&Map<String, Value>) -> Result<Box<dyn Weighting>>,
) -> Result<Box<dyn Weighting>> {
    let known = Modes::parameters();
    let mut common = parameters.clone();
    common.retain(|name, _| known.iter().any(|parameter| parameter.name == name));
    let mut own = parameters.clone();
    own.retain(|name, _| !common.contains_key(name));
    let named = |error: Error| value_error!("{class}: {}", error.to_string().trim_start_matches("Weighting: "));
    let modes: Modes = read(&common).map_err(named)?;
    let inner = build(&own)?;
    let together = modes.over(&inner.modes()).map_err(named)?;
    together.check().and_then(|()| together.suit(inner.as_ref())).map_err(named)?;
    Ok(Box::new(Guided { inner, modes, layers: Vec::new(), tasks: Vec::new(), kept: Vec::new(), refreshed: None }))
}

/// Adds the modes' parameters to what a gradient weighting says of itself.
pub fn extend(mut info: Info) -> Info {
    info.parameters.extend(Modes::parameters());
    info
}

impl Described for Guided {
    fn describe(&self) -> Value {
        let mut description = self.inner.describe();
        let modes = Component::describe(&self.modes);
        if let (Some(into), Some(modes)) = (description.as_object_mut(), modes.as_object()) {
            into.extend(modes.iter().filter(|(key, _)| *key != "name").map(|(k, v)| (k.clone(), v.clone())));
        }
        description
    }
}

impl Weighting for Guided {
    fn inside(&self) -> Option<&dyn Weighting> {
        Some(&*self.inner)
    }

    fn inside_mut(&mut self) -> Option<&mut dyn Weighting> {
        Some(&mut *self.inner)
    }

    fn claims(&self) -> Claims {
        let inner = self.inner.claims();
        let acts_like = match self.modes.scale {
            Scale::Paper => inner.acts_like,
            Scale::Mean => ActsLike::Mean,
            Scale::Sum => ActsLike::Sum,
        };
        let changes = self.modes.scale != Scale::Paper || self.modes.normalize != Normalize::None;
        Claims { acts_like, looks: inner.looks || changes, ..inner }
    }

    fn modes(&self) -> Modes {
        self.modes.over(&self.inner.modes()).expect("they were compared when this was built")
    }

    fn due(&self, moment: Moment) -> bool {
        self.expired(moment) && self.inner.due(moment)
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.tasks = tasks.to_vec();
        let layers = self.layers.iter_mut();
        std::iter::once(&mut self.inner).chain(layers).try_for_each(|method| method.prepare(tasks))
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        if !self.expired(evidence.moment()) {
            return self.recall(evidence.tasks(), into);
        }
        let by_layer = self.modes.per == Per::Layer;
        let sets = if by_layer { evidence.layers() } else { 1 };
        self.grow(sets)?;
        into.layers.clear();
        // A weighting inside may use the room of layers, too.
        let mut layers = if by_layer { std::mem::take(&mut into.layers) } else { Vec::new() };
        for set in 0..sets {
            let method = if set == 0 { &mut self.inner } else { &mut self.layers[set - 1] };
            let layer = by_layer.then_some(set);
            if self.modes.normalize == Normalize::None && layer.is_none() {
                method.weigh(evidence, into)?;
            } else {
                let mut scaled = Scaled::new(evidence, self.modes.normalize, layer)?;
                method.weigh(&mut scaled, into)?;
                let rows = scaled.factors.len().max(1);
                for set in into.weights.chunks_exact_mut(rows).chain(into.layers.chunks_exact_mut(rows)) {
                    set.iter_mut().zip(&scaled.factors).for_each(|(weight, factor)| *weight *= factor);
                }
            }
            rescale(self.modes.scale, method.claims().acts_like, into);
            self.keep(set, evidence.tasks(), into);
            if layer.is_some() {
                layers.extend_from_slice(&into.weights);
            }
            if set + 1 < sets {
                into.weights.fill(1.0);
            }
        }
        if by_layer {
            into.layers = layers;
        }
        if self.modes.refresh > 1 && !evidence.tasks().is_empty() {
            self.refreshed = Some(evidence.moment().step);
        }
        Ok(())
    }

    fn state(&self) -> State {
        let State { value, arrays } = self.inner.state();
        let layers: Vec<_> = self.layers.iter().map(|method| method.state().value).collect();
        let value = json!({"method": value, "layers": layers, "kept": self.kept, "refreshed": self.refreshed});
        State { value, arrays }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        if state.value.is_null() {
            self.reset();
            return self.inner.restore(state);
        }
        let wrong = |error| value_error!("weighting: not a state of this weighting: {error}");
        let kept: Vec<Vec<Option<[f64; 2]>>> = Deserialize::deserialize(&state.value["kept"]).map_err(wrong)?;
        let refreshed: Option<u64> = Deserialize::deserialize(&state.value["refreshed"]).map_err(wrong)?;
        let layers = state.value["layers"].as_array().map_or(&[][..], Vec::as_slice);
        let fits = |set: &Vec<_>| self.tasks.is_empty() || set.len() == self.tasks.len();
        if !kept.iter().all(fits) || ![0, layers.len() + 1].contains(&kept.len()) {
            bail!("weighting: not a state of this weighting: it is of another number of tasks or layers");
        }
        self.inner.restore(&State { value: state.value["method"].clone(), arrays: state.arrays.clone() })?;
        self.grow(layers.len() + 1)?;
        for (method, value) in self.layers.iter_mut().zip(layers) {
            method.restore(&State { value: value.clone(), arrays: Vec::new() })?;
        }
        self.kept = kept;
        self.refreshed = refreshed;
        Ok(())
    }

    fn reset(&mut self) {
        self.inner.reset();
        self.layers.clear();
        self.kept.clear();
        self.refreshed = None;
    }
}

impl Guided {
    /// Whether what was kept is too old, or nothing is.
    fn expired(&self, moment: Moment) -> bool {
        let age = self.refreshed.map_or(u64::MAX, |step| moment.step.saturating_sub(step));
        self.modes.refresh == 1 || age >= self.modes.refresh as u64
    }

    /// Copies of the method, so that there is one a set of weights.
    fn grow(&mut self, sets: usize) -> Result<()> {
        while self.layers.len() + 1 < sets {
            let mut method = super::methods::build(&self.inner.describe())?;
            method.prepare(&self.tasks)?;
            self.layers.push(method);
        }
        Ok(())
    }

    /// Remembers the weights for the steps before the next refresh.
    fn keep(&mut self, set: usize, tasks: &[usize], into: &Combination) {
        if self.modes.refresh == 1 {
            return;
        }
        self.kept.resize(self.kept.len().max(set + 1), Vec::new());
        let kept = &mut self.kept[set];
        kept.resize(self.tasks.len().max(tasks.last().map_or(0, |t| t + 1)), None);
        for (row, &task) in tasks.iter().enumerate() {
            kept[task] = Some([into.weights[row], into.own[row]]);
        }
    }

    /// The weights of the last refresh; the mean of the others for a task that had no label then.
    fn recall(&self, tasks: &[usize], into: &mut Combination) -> Result<()> {
        into.layers.clear();
        for kept in &self.kept {
            for (row, &task) in tasks.iter().enumerate() {
                let known = kept.get(task).copied().flatten();
                let [weight, own] = known.unwrap_or_else(|| mean(kept));
                into.weights[row] = weight;
                into.own[row] = own;
            }
            if self.modes.per == Per::Layer {
                into.layers.extend_from_slice(&into.weights);
            }
        }
        Ok(())
    }
}

/// The mean of what was kept.
fn mean(kept: &[Option<[f64; 2]>]) -> [f64; 2] {
    let count = kept.iter().flatten().count().max(1) as f64;
    [0, 1].map(|k| kept.iter().flatten().map(|pair| pair[k]).sum::<f64>() / count)
}

/// Brings a combination to the scale that was asked for.
fn rescale(scale: Scale, acts_like: ActsLike, into: &mut Combination) {
    let rows = into.weights.len();
    let Combination { weights, direction, layers, .. } = into;
    let directed = !direction.is_empty();
    let along = rescaling(scale, acts_like, directed, weights);
    if directed && along != 1.0 {
        direction.iter_mut().for_each(|x| *x *= along as f32);
    }
    for set in std::iter::once(&mut weights[..]).chain(layers.chunks_exact_mut(rows.max(1))) {
        let factor = rescaling(scale, acts_like, directed, set);
        set.iter_mut().for_each(|weight| *weight *= factor);
    }
}

/// What weights are multiplied by for the scale that was asked for.
fn rescaling(scale: Scale, acts_like: ActsLike, directed: bool, weights: &[f64]) -> f64 {
    let rows = weights.len() as f64;
    let sum = weights.iter().sum::<f64>();
    match (scale, acts_like) {
        (Scale::Paper, _) | (Scale::Mean, ActsLike::Mean) | (Scale::Sum, ActsLike::Sum) => 1.0,
        (Scale::Mean, ActsLike::Sum) => 1.0 / rows,
        (Scale::Sum, ActsLike::Mean) => rows,
        // A method whose weights cancel has no scale to compare.
        (_, ActsLike::Own) if directed || sum <= 0.0 => 1.0,
        (Scale::Mean, ActsLike::Own) => 1.0 / sum,
        (Scale::Sum, ActsLike::Own) => rows / sum,
    }
}

/// What brings a size to 1. A gradient of zeros stays one, and a loss of zero has no gradient to speak of.
fn inverse(size: f64) -> f64 {
    if size == 0.0 { 1.0 } else { 1.0 / size.abs() }
}

/// Evidence in which each gradient is multiplied by a factor, or of one layer.
struct Scaled<'a> {
    evidence: &'a mut dyn Evidence,
    factors: Lent<f64>,
    /// The layer, if it is of one.
    layer: Option<usize>,
    gramian: Lent<f64>,
    of_layer: Lent<f64>,
    jacobian: Lent<f32>,
}

impl<'a> Scaled<'a> {
    fn new(evidence: &'a mut dyn Evidence, normalize: Normalize, layer: Option<usize>) -> Result<Self> {
        let rows = evidence.tasks().len();
        let losses = match normalize {
            Normalize::Loss | Normalize::Both => Lent::from(evidence.losses()),
            Normalize::None | Normalize::L2 => Lent::default(),
        };
        let mut gramian = match layer {
            Some(layer) => Lent::from(evidence.layer(layer)?),
            None => Lent::from(evidence.gramian()?),
        };
        let mut factors = Lent::with_capacity(rows);
        for row in 0..rows {
            let norm = gramian[row * (rows + 1)].sqrt();
            factors.push(match normalize {
                Normalize::None => 1.0,
                Normalize::L2 => inverse(norm),
                Normalize::Loss => inverse(losses[row]),
                Normalize::Both => inverse(losses[row]) * inverse(norm),
            });
        }
        scale_products(&mut gramian, &factors);
        Ok(Self { evidence, factors, layer, gramian, of_layer: Lent::default(), jacobian: Lent::default() })
    }
}

impl Evidence for Scaled<'_> {
    fn tasks(&self) -> &[usize] {
        self.evidence.tasks()
    }

    fn losses(&self) -> &[f64] {
        self.evidence.losses()
    }

    fn moment(&self) -> Moment {
        self.evidence.moment()
    }

    fn rounding(&self) -> f64 {
        self.evidence.rounding()
    }

    fn gramian(&mut self) -> Result<&[f64]> {
        Ok(&self.gramian)
    }

    fn layers(&self) -> usize {
        if self.layer.is_some() { 1 } else { self.evidence.layers() }
    }

    fn layer(&mut self, index: usize) -> Result<&[f64]> {
        if self.layer.is_some() {
            return Ok(&self.gramian);
        }
        let layer = self.evidence.layer(index)?;
        self.of_layer.emptied(layer.len()).extend_from_slice(layer);
        scale_products(&mut self.of_layer, &self.factors);
        Ok(&self.of_layer)
    }

    fn jacobian(&mut self) -> Result<&[f32]> {
        scale_rows(self.evidence.jacobian()?, &self.factors, &mut self.jacobian);
        Ok(&self.jacobian)
    }

    fn part(&mut self, index: usize) -> Result<&[f32]> {
        scale_rows(self.evidence.part(index)?, &self.factors, &mut self.jacobian);
        Ok(&self.jacobian)
    }

    fn probe(&mut self, shift: &[f32], on: On) -> Result<Probed> {
        self.evidence.probe(shift, on)
    }
}

fn scale_products(gramian: &mut [f64], factors: &[f64]) {
    for (i, x) in gramian.iter_mut().enumerate() {
        *x *= factors[i / factors.len()] * factors[i % factors.len()];
    }
}

fn scale_rows(jacobian: &[f32], factors: &[f64], into: &mut Lent<f32>) {
    into.emptied(jacobian.len()).extend_from_slice(jacobian);
    let width = jacobian.len() / factors.len().max(1);
    for (row, &factor) in into.chunks_exact_mut(width.max(1)).zip(factors) {
        row.iter_mut().for_each(|x| *x *= factor as f32);
    }
}
