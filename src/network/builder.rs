//! Builds a network: what encoders, sharing schemes and heads write instead of forward and backward passes.

use std::ops::Range;
use std::sync::Arc;

use super::nodes::activation::{self, Curve};
use super::nodes::embedding::{Embedding, Feature};
use super::nodes::island::{Island, Module};
use super::nodes::linear::{Linear, Wiring};
use super::nodes::{
    Op, add, calibrate, concat, dot, dropout, funnel, gather, join, mixture, norm, select, selectors, softmax, stitch,
};
use super::{Entry, Init, Network, Output, Param, ParamId, Reach, Role, Source, Start, Value, ValueId, View};
use crate::bail;
use crate::error::Result;

/// Parameters start on a cache line.
const ALIGN: usize = 16;
/// Numbers in the largest model that is built: 32 GiB of `f32`.
const LARGEST: usize = 1 << 33;

/// A network under construction.
#[derive(Debug)]
pub struct Builder {
    net: Network,
    state_entries: Vec<Entry>,
    /// Values repeated for several layers, counted down from the largest id: no memory holds them unless a node needs it.
    repeated: Vec<Repeated>,
    /// Tasks to come, if that was said; else each own group is another task's.
    tasks: Option<usize>,
    /// Whether groups start alike.
    alike: bool,
    /// Numbers in all parameters, counted without overflow.
    wanted: usize,
}

/// Each group of a value several times in turn.
#[derive(Debug)]
struct Repeated {
    source: ValueId,
    copies: usize,
    value: Value,
    /// The value that holds it, once a node has needed one.
    solid: Option<ValueId>,
}

impl Builder {
    /// A network over numeric features and columns of codes of the given numbers of categories.
    pub fn new(numeric: usize, categorical: &[usize]) -> Self {
        let input = Value { groups: 1, width: numeric, reach: Reach::All, learns: false, columns: Vec::new() };
        let net = Network {
            numeric,
            categorical: categorical.to_vec(),
            values: vec![input],
            ops: Vec::new(),
            params: Vec::new(),
            entries: Vec::new(),
            state: Vec::new(),
            outputs: Vec::new(),
            representation: 0,
            views: Vec::new(),
            thaws: 0,
        };
        Self { net, state_entries: Vec::new(), repeated: Vec::new(), tasks: None, alike: false, wanted: 0 }
    }

    /// The same for so many tasks, which may then have several groups each.
    pub fn serving(self, tasks: usize) -> Self {
        Self { tasks: Some(tasks), ..self }
    }

    /// The numeric features.
    pub fn numeric(&self) -> ValueId {
        0
    }

    /// A value's description.
    pub fn value(&self, id: ValueId) -> &Value {
        self.repeated.get(usize::MAX - id).map_or_else(|| &self.net.values[id], |repeated| &repeated.value)
    }

    /// Each group of `x` so many times in turn, for equal layers that read the same: experts ([`Reach::All`]), or one
    /// network a task ([`Reach::Own`]). It takes memory only where something else than a linear layer reads it.
    pub fn each(&mut self, x: ValueId, copies: usize, reach: Reach) -> ValueId {
        let source = self.solid(x);
        let value = self.value(source);
        if copies == 1 && value.reach == reach {
            return source;
        }
        let value = Value { groups: value.groups * copies, reach, columns: Vec::new(), ..value.clone() };
        self.repeated.push(Repeated { source, copies, value, solid: None });
        usize::MAX - (self.repeated.len() - 1)
    }

    /// A value that memory holds.
    fn solid(&mut self, x: ValueId) -> ValueId {
        let at = usize::MAX - x;
        let Some(&Repeated { source, copies, ref value, solid }) = self.repeated.get(at) else { return x };
        if let Some(solid) = solid {
            return solid;
        }
        let (groups, reach) = (value.groups, value.reach);
        let picks: Vec<_> = (0..groups).map(|group| (source, group / copies)).collect();
        let solid = self.gather(&picks, reach);
        self.repeated[at].solid = Some(solid);
        solid
    }

    /// Numeric features followed by one embedding a categorical feature; together they read all columns of codes in turn.
    ///
    /// Tables start with variance `1/width`: normal, sparse ones uniform, which is many times faster to draw.
    pub fn features(&mut self, features: &[Feature]) -> ValueId {
        if features.is_empty() {
            return self.numeric();
        }
        let (mut first, mut tables) = (0, Vec::with_capacity(features.len()));
        for (j, feature) in features.iter().enumerate() {
            let shape = [self.net.categorical[first], feature.width];
            let deviation = 1.0 / (feature.width as f64).sqrt();
            let init = if feature.sparse { Init::Coarse(3f64.sqrt() * deviation) } else { Init::Normal(deviation) };
            let pieces = vec![(format!("embedding.{j}.weight"), shape.to_vec())];
            let table = self.parameter(pieces, &shape, 1, Role::Embedding, init);
            self.net.params[table].sparse = feature.sparse;
            tables.push(table);
            first += feature.columns();
        }
        let width = features.iter().fold(self.net.numeric, |sum, feature| sum.saturating_add(feature.width));
        let output = self.fresh(1, width, Reach::All, true);
        self.push(Op::Embedding(Embedding { numeric: 0, tables, features: features.to_vec(), output }))
    }

    /// A linear layer with its activation; one path a group.
    pub fn linear(&mut self, paths: &[String], x: ValueId, width: usize, curve: Option<Curve>) -> ValueId {
        self.linear_from(paths, x, width, curve, None)
    }

    /// The same with weights and biases that start in another way than uniform in plus or minus `1/sqrt(inputs)`.
    pub fn linear_from(
        &mut self,
        paths: &[String],
        x: ValueId,
        width: usize,
        curve: Option<Curve>,
        start: Option<Init>,
    ) -> ValueId {
        let Value { groups, width: inner, reach, .. } = *self.value(x);
        let (input, layers) = match self.repeated.get(usize::MAX - x) {
            Some(repeated) => (repeated.source, repeated.copies),
            None => (x, 1),
        };
        let (weight, bias) = self.affine(paths, groups / layers, layers, [width, inner], start);
        let output = self.fresh(groups, width, reach, true);
        self.push(Op::Linear(Linear { input, output, weight, bias, curve, wiring: Wiring::Own(layers) }))
    }

    /// One linear layer for all groups of `x`.
    pub fn tied(&mut self, path: &str, x: ValueId, width: usize, curve: Option<Curve>) -> ValueId {
        let input = self.solid(x);
        let Value { groups, width: inner, reach, .. } = *self.value(input);
        let (weight, bias) = self.affine(&[path.to_owned()], 1, 1, [width, inner], None);
        let output = self.fresh(groups, width, reach, true);
        self.push(Op::Linear(Linear { input, output, weight, bias, curve, wiring: Wiring::Tied }))
    }

    /// One linear layer a group over the same input: towers ([`Reach::Own`]) or experts ([`Reach::All`]).
    pub fn fan_out(
        &mut self,
        paths: &[String],
        x: ValueId,
        width: usize,
        curve: Option<Curve>,
        reach: Reach,
    ) -> ValueId {
        let each = self.each(x, paths.len(), reach);
        self.linear(paths, each, width, curve)
    }

    /// A linear layer from here on for `reach`: one task's, whatever reaches its input.
    pub fn narrow(&mut self, path: &str, x: ValueId, width: usize, curve: Option<Curve>, reach: Reach) -> ValueId {
        let input = self.solid(x);
        let (weight, bias) = self.affine(&[path.to_owned()], 1, 1, [width, self.value(input).width], None);
        let output = self.fresh(1, width, reach, true);
        self.push(Op::Linear(Linear { input, output, weight, bias, curve, wiring: Wiring::Own(1) }))
    }

    /// Linear heads over one input, a task each, fused into one product; `[rows, sum of widths]`.
    pub fn heads(&mut self, paths: &[String], x: ValueId, widths: &[usize]) -> ValueId {
        let x = self.solid(x);
        let (inner, outer) = (self.value(x).width, widths.iter().fold(0, |sum: usize, &w| sum.saturating_add(w)));
        let bound = Init::Uniform(1.0 / (inner.max(1) as f64).sqrt());
        let pieces = |name: &str, shape: &dyn Fn(usize) -> Vec<usize>| {
            paths.iter().zip(widths).map(|(path, &w)| (format!("{path}.{name}"), shape(w))).collect::<Vec<_>>()
        };
        let weight =
            self.parameter(pieces("weight", &|w| vec![w, inner]), &[outer, inner], 1, Role::Weight, bound.clone());
        let bias = self.parameter(pieces("bias", &|w| vec![w]), &[outer], 1, Role::Bias, bound);
        let output = self.fresh(1, outer, Reach::Columns, true);
        self.net.values[output].columns = columns(widths);
        self.push(Op::Linear(Linear { input: x, output, weight, bias, curve: None, wiring: Wiring::Own(1) }))
    }

    /// An activation on its own.
    pub fn activation(&mut self, x: ValueId, curve: Curve) -> ValueId {
        let x = self.solid(x);
        let output = self.like(x);
        self.push(Op::Activation(activation::Activation { input: x, output, curve }))
    }

    /// Softmax over the width of each row.
    pub fn softmax(&mut self, x: ValueId) -> ValueId {
        let x = self.solid(x);
        let output = self.like(x);
        self.push(Op::Softmax(softmax::Softmax { input: x, output }))
    }

    /// `scale * <a, b>`, row by row: two values of one shape to a width of 1.
    ///
    /// # Errors
    /// Values of different shapes, or of reaches that cannot be joined.
    pub fn dot(&mut self, a: ValueId, b: ValueId, scale: f64) -> Result<ValueId> {
        let inputs = [self.solid(a), self.solid(b)];
        let (groups, reach) = self.meet(&inputs)?;
        let [width, other] = inputs.map(|x| self.value(x).width);
        if width != other {
            bail!("only values of one width have products; got {width} and {other}");
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, 1, reach, learns);
        Ok(self.push(Op::Dot(dot::Dot { inputs, output, scale })))
    }

    /// The gate of DSelect-k: `k` selectors of one of `experts` each, from bits `z` and weights `w`; see
    /// [`selectors::Selectors`].
    ///
    /// # Errors
    /// Values of different groups or reaches, or of widths that do not fit.
    pub fn selectors(
        &mut self,
        z: ValueId,
        w: ValueId,
        k: usize,
        experts: usize,
        gamma: f64,
        entropy: f64,
    ) -> Result<ValueId> {
        let (z, w) = (self.solid(z), self.solid(w));
        let gate = selectors::Gate { selectors: k, experts, gamma, entropy };
        let (of_z, of_w) = (self.value(z), self.value(w));
        if k == 0 || experts < 2 || [of_z.width, of_w.width] != [k * gate.bits(), k] {
            bail!(
                "{k} selectors of {experts} experts, at least 1 of at least 2, need bits of width {} and weights of width \
                 {k}; got {} and {}",
                k * gate.bits(),
                of_z.width,
                of_w.width
            );
        }
        if (of_z.groups, of_z.reach) != (of_w.groups, of_w.reach) {
            bail!("bits and weights of selectors should have the same groups and reach; got {of_z:?} and {of_w:?}");
        }
        let (groups, reach, learns) = (of_z.groups, of_z.reach, of_z.learns || of_w.learns);
        let output = self.fresh(groups, experts, reach, learns);
        Ok(self.push(Op::Selectors(selectors::Selectors { bits: z, mix: w, output, gate })))
    }

    /// The logit of both of two events, from logits `a` and, given the first, `b`; from here on for `reach`.
    ///
    /// # Errors
    /// Values of different groups or another width than 1, or that neither all tasks reach nor `reach` does.
    pub fn funnel(&mut self, a: ValueId, b: ValueId, reach: Reach) -> Result<ValueId> {
        let inputs = [self.solid(a), self.solid(b)];
        let groups = self.logits(inputs, reach)?;
        if let Some(&x) = inputs.iter().find(|&&x| ![Reach::All, reach].contains(&self.value(x).reach)) {
            bail!("a value that {:?} reaches cannot go on for {reach:?}", self.value(x).reach);
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, 1, reach, learns);
        Ok(self.push(Op::Funnel(funnel::Funnel { inputs, output })))
    }

    /// The logit `b`, from here on for `reach`, and a term of the objective that keeps it from being likelier than `a`; see
    /// [`calibrate::Calibrate`].
    ///
    /// # Errors
    /// Values of different groups or another width than 1; a `b` that neither all tasks reach nor `reach` does.
    pub fn calibrate(&mut self, a: ValueId, b: ValueId, strength: f64, reach: Reach) -> Result<ValueId> {
        let inputs = [self.solid(b), self.solid(a)];
        let groups = self.logits(inputs, reach)?;
        if ![Reach::All, reach].contains(&self.value(inputs[0]).reach) {
            bail!("a value that {:?} reaches cannot go on for {reach:?}", self.value(inputs[0]).reach);
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, 1, reach, learns);
        Ok(self.push(Op::Calibrate(calibrate::Calibrate { inputs, output, strength })))
    }

    /// The groups of two logits for `reach`.
    fn logits(&self, inputs: [ValueId; 2], reach: Reach) -> Result<usize> {
        let [first, second] = inputs.map(|x| self.value(x));
        let fits = first.groups == second.groups && [first.width, second.width] == [1, 1];
        let columns = [first.reach, second.reach, reach].contains(&Reach::Columns);
        match fits && !columns {
            true => Ok(first.groups),
            false => bail!(
                "logits should have the same groups, a width of 1 and tasks by groups; got {first:?} and {second:?}"
            ),
        }
    }

    /// Dropout (Srivastava et al., JMLR 2014): zeroes each number with probability `rate` while training.
    pub fn dropout(&mut self, x: ValueId, rate: f64) -> ValueId {
        if rate == 0.0 {
            return x;
        }
        let x = self.solid(x);
        let output = self.like(x);
        self.push(Op::Dropout(dropout::Dropout { input: x, output, rate }))
    }

    /// Layer normalisation (Ba, Kiros & Hinton, 2016) over each row; one path a group.
    pub fn layer_norm(&mut self, paths: &[String], x: ValueId) -> ValueId {
        let x = self.solid(x);
        let (scale, shift) = self.norm_parameters(paths, x);
        let output = self.like(x);
        self.net.values[output].learns = true;
        self.push(Op::LayerNorm(norm::LayerNorm { input: x, output, scale, shift, eps: 1e-5 }))
    }

    /// Batch normalisation (Ioffe & Szegedy, ICML 2015) over each column; one path a group.
    pub fn batch_norm(&mut self, paths: &[String], x: ValueId) -> ValueId {
        let x = self.solid(x);
        let (scale, shift) = self.norm_parameters(paths, x);
        let Value { groups, width, .. } = *self.value(x);
        let mean = self.state(paths, "running_mean", groups, width, 0.0);
        let variance = self.state(paths, "running_var", groups, width, 1.0);
        let output = self.like(x);
        self.net.values[output].learns = true;
        let node = norm::BatchNorm { input: x, output, scale, shift, mean, variance, eps: 1e-5, momentum: 0.1 };
        self.push(Op::BatchNorm(node))
    }

    /// Values of the same groups side by side.
    ///
    /// # Errors
    /// Values of different groups, or of reaches that cannot be joined.
    pub fn concat(&mut self, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs = &self.all_solid(inputs);
        let (groups, reach) = self.meet(inputs)?;
        let width = inputs.iter().map(|&x| self.value(x).width).sum();
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, width, reach, learns);
        Ok(self.push(Op::Concat(concat::Concat { inputs: inputs.to_vec(), output })))
    }

    /// The sum of values of one shape: a residual connection.
    ///
    /// # Errors
    /// Values of different shapes, or of reaches that cannot be joined.
    pub fn add(&mut self, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs = &self.all_solid(inputs);
        let (groups, reach) = self.meet(inputs)?;
        let width = self.value(inputs[0]).width;
        if inputs.iter().any(|&x| self.value(x).width != width) {
            bail!("only values of one width can be added");
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, width, reach, learns);
        Ok(self.push(Op::Add(add::Add { inputs: inputs.to_vec(), output })))
    }

    /// Some columns of one group, from here on for `reach`.
    pub fn select(&mut self, x: ValueId, group: usize, columns: Range<usize>, reach: Reach) -> ValueId {
        let x = self.solid(x);
        let output = self.fresh(1, columns.len(), reach, self.value(x).learns);
        self.push(Op::Select(select::Select { input: x, output, group, columns }))
    }

    /// A new value of picked groups `(value, group)`, all of one width.
    pub fn gather(&mut self, picks: &[(ValueId, usize)], reach: Reach) -> ValueId {
        let picks: Vec<_> = picks.iter().map(|&(x, group)| (self.solid(x), group)).collect();
        let learns = picks.iter().any(|&(x, _)| self.value(x).learns);
        let output = self.fresh(picks.len(), self.value(picks[0].0).width, reach, learns);
        self.push(Op::Gather(gather::Gather::new(&picks, output)))
    }

    /// The groups of a value side by side: `[groups, rows, width]` to `[rows, groups * width]`.
    pub fn join(&mut self, x: ValueId) -> ValueId {
        let input = self.solid(x);
        let Value { groups, width, reach, learns, .. } = *self.value(input);
        if groups == 1 {
            return input;
        }
        let output = self.fresh(1, groups * width, reach, learns);
        self.push(Op::Join(join::Join { input, output }))
    }

    /// Sums of experts weighed by gates `[groups, rows, experts]`, row by row: one for each group of the gates.
    ///
    /// # Errors
    /// Gates and experts that do not correspond.
    pub fn mixture(&mut self, gates: ValueId, experts: &[mixture::Experts], reach: Reach) -> Result<ValueId> {
        let gates = self.solid(gates);
        let experts: Vec<_> = experts.iter().map(|e| mixture::Experts { value: self.solid(e.value), ..*e }).collect();
        let (groups, columns) = (self.value(gates).groups, self.value(gates).width);
        let Some(first) = experts.first() else { bail!("a mixture needs an expert") };
        let width = self.value(first.value).width;
        let mut count = 0;
        for e in &experts {
            let Value { groups: own, width: given, .. } = *self.value(e.value);
            let fits = given == width && (e.common || own % groups == 0);
            if !fits {
                bail!("experts {:?} do not fit {groups} groups of gates", self.value(e.value));
            }
            count += if e.common { own } else { own / groups };
        }
        if count != columns {
            bail!("{columns} gates do not fit {count} experts");
        }
        let output = self.fresh(groups, width, reach, true);
        Ok(self.push(Op::Mixture(mixture::Mixture { gates, experts, output })))
    }

    /// A learned mix of the groups of `x`, or of the same group of several values: see [`stitch::Stitch`].
    ///
    /// # Errors
    /// Values of different shapes, or parts that do not divide their width.
    pub fn stitch(&mut self, paths: &[String], stitch: stitch::Mix<'_>, reach: Reach) -> Result<ValueId> {
        let inputs = self.all_solid(stitch.inputs);
        let Value { groups, width, .. } = *self.value(inputs[0]);
        let one_shape = inputs.iter().all(|&x| (self.value(x).groups, self.value(x).width) == (groups, width));
        if !one_shape || (stitch.across && inputs.len() > 1) {
            bail!("only values of one shape can be mixed");
        }
        if stitch.parts == 0 || width % stitch.parts != 0 {
            bail!("a width of {width} cannot be split into {} equal parts", stitch.parts);
        }
        let (parts, outputs) = (stitch.parts, paths.len());
        let sources = if stitch.across { groups * parts } else { inputs.len() };
        let start = (0..outputs * parts).flat_map(|to| (0..sources).map(move |from| (stitch.start)(to, from)));
        let start = Init::Given(start.collect());
        let shape: &[usize] = if parts == 1 { &[sources] } else { &[parts, sources] };
        let weight = self.grouped(paths, "weight", outputs, shape, Role::Norm, start);
        let output = self.fresh(outputs, width, reach, true);
        let (across, rule) = (stitch.across, stitch.rule);
        Ok(self.push(Op::Stitch(stitch::Stitch { inputs, weight, output, parts, across, rule })))
    }

    /// What runs under autograd: `module` over the inputs and parameters of its own; one path a group, each of which is an
    /// island by itself.
    ///
    /// # Errors
    /// Inputs of different groups, or of reaches that cannot be joined.
    pub fn island(&mut self, paths: &[String], inputs: &[ValueId], module: &Arc<dyn Module>) -> Result<ValueId> {
        let (groups, reach) = self.meet(inputs)?;
        if groups == 1 && reach != Reach::Own {
            let inputs = self.all_solid(inputs);
            return Ok(self.lone_island(&paths[0], inputs, reach, module));
        }
        let mut picks = Vec::new();
        for (group, path) in paths.iter().enumerate() {
            let task = group * self.tasks.unwrap_or(groups) / groups;
            let reach = if reach == Reach::Own { Reach::One(task) } else { reach };
            let mut own = Vec::new();
            for &x in inputs {
                own.push(self.group_of(x, group, reach));
            }
            let first = self.net.params.len();
            picks.push((self.lone_island(path, own, reach, module), 0));
            if self.alike {
                let count = self.net.params.len() - first;
                let of = |id: usize| id - group * count;
                (first..first + count).for_each(|id| self.net.params[id].start.stream = of(id));
            }
        }
        Ok(self.gather(&picks, reach))
    }

    /// One group of a value, without a copy where it is the only one or repeated.
    pub fn group_of(&mut self, x: ValueId, group: usize, reach: Reach) -> ValueId {
        let (source, group) = match self.repeated.get(usize::MAX - x) {
            Some(repeated) => (repeated.source, group / repeated.copies),
            None => (x, group),
        };
        let value = self.value(source);
        if value.groups == 1 {
            return source;
        }
        let columns = 0..value.width;
        self.select(source, group, columns, reach)
    }

    fn lone_island(&mut self, path: &str, inputs: Vec<ValueId>, reach: Reach, module: &Arc<dyn Module>) -> ValueId {
        let params = module
            .parameters()
            .into_iter()
            .map(|(name, shape, init)| {
                let role = if shape.len() > 1 { Role::Weight } else { Role::Bias };
                self.parameter(vec![(format!("{path}.{name}"), shape.clone())], &shape, 1, role, init)
            })
            .collect();
        let output = self.fresh(1, module.width(), reach, true);
        self.push(Op::Island(Island { inputs, output, params, module: module.clone() }))
    }

    /// Everything that `build` adds starts from the same numbers in each group.
    pub fn alike<V>(&mut self, build: impl FnOnce(&mut Self) -> V) -> V {
        let before = std::mem::replace(&mut self.alike, true);
        let built = build(self);
        self.alike = before;
        built
    }

    /// Lets users see a value of gates, `[groups, rows, columns]`, of which the first `own` columns are each group's own.
    pub fn show_gates(&mut self, name: String, value: ValueId, [rows, columns]: [Vec<String>; 2], own: usize) {
        self.net.views.push(View { name, source: Source::Value(value), rows, columns, own });
    }

    /// Lets users see the weights of the stitch that was added last.
    pub fn show_stitch(&mut self, name: String, rows: Vec<String>, columns: Vec<String>) {
        if let Some(Op::Stitch(stitch)) = self.net.ops.last() {
            let source = match stitch.rule {
                stitch::Rule::Plain => Source::Mix(stitch.weight),
                stitch::Rule::Sampled { .. } => Source::Choice(stitch.weight),
            };
            self.net.views.push(View { name, source, rows, columns, own: 0 });
        }
    }

    /// Marks where a task's raw outputs stand; tasks in order.
    pub fn output(&mut self, value: ValueId, group: usize, columns: Range<usize>) {
        self.net.outputs.push(Output { value, group, columns });
    }

    /// The finished network.
    ///
    /// # Errors
    /// A task whose outputs other tasks reach: its gradient could not be told from theirs. More parameters than fit. Two
    /// of one name.
    pub fn finish(mut self) -> Result<Network> {
        if self.wanted > LARGEST {
            bail!("the model would have more than {LARGEST} parameters: make its layers, inputs or categories smaller");
        }
        let tasks = self.net.outputs.len();
        if let Some(task) = self.net.outputs.iter().position(|o| tasks > 1 && self.value(o.value).reach == Reach::All) {
            bail!("task {task} needs outputs of its own");
        }
        let consumed = |id| self.net.ops.iter().any(|op| op.inputs().contains(&id));
        let shared = |id: &ValueId| self.net.values[*id].reach == Reach::All && consumed(*id);
        self.net.representation = (0..self.net.values.len()).rev().find(shared).unwrap_or(0);
        self.place_tables();
        self.net.entries.extend(self.state_entries);
        let mut names: Vec<_> = self.net.entries.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two parameters would be called `{}`: give the tasks other names", twice[0]);
        }
        self.net.settle();
        Ok(self.net)
    }

    /// Moves sparse tables behind all other parameters.
    fn place_tables(&mut self) {
        let mut end = 0_usize;
        for sparse in [false, true] {
            for (id, param) in self.net.params.iter_mut().enumerate().filter(|(_, param)| param.sparse == sparse) {
                let (from, to) = (param.range.start, end.next_multiple_of(ALIGN));
                for entry in self.net.entries.iter_mut().filter(|entry| entry.param == Some(id)) {
                    entry.range = entry.range.start - from + to..entry.range.end - from + to;
                }
                end = to + param.range.len();
                param.range = to..end;
            }
        }
    }

    fn push(&mut self, op: Op) -> ValueId {
        let output = op.output();
        let reach = self.net.values[output].reach;
        for param in op.params() {
            self.net.params[param].reach = reach;
        }
        self.net.ops.push(op);
        output
    }

    fn fresh(&mut self, groups: usize, width: usize, reach: Reach, learns: bool) -> ValueId {
        self.net.values.push(Value { groups, width, reach, learns, columns: Vec::new() });
        self.net.values.len() - 1
    }

    fn like(&mut self, x: ValueId) -> ValueId {
        self.net.values.push(self.net.values[x].clone());
        self.net.values.len() - 1
    }

    fn all_solid(&mut self, inputs: &[ValueId]) -> Vec<ValueId> {
        inputs.iter().map(|&x| self.solid(x)).collect()
    }

    /// Values meet in one node: all must have the same groups, and the narrower reach wins.
    fn meet(&self, inputs: &[ValueId]) -> Result<(usize, Reach)> {
        let values: Vec<_> = inputs.iter().map(|&x| self.value(x)).collect();
        let Some(first) = values.first() else { bail!("a node needs an input") };
        let narrow = values.iter().map(|v| v.reach).find(|&r| r != Reach::All).unwrap_or(Reach::All);
        let fits = |v: &&Value| v.groups == first.groups && (v.reach == narrow || v.reach == Reach::All);
        if !values.iter().all(fits) || (narrow == Reach::Columns && values.len() > 1) {
            bail!("these values cannot meet in one node: {values:?}");
        }
        Ok((first.groups, narrow))
    }

    /// Weight and bias of linear layers `[width, inner]`, one a path; `layers` of them read one of so many groups.
    fn affine(
        &mut self,
        paths: &[String],
        groups: usize,
        layers: usize,
        [width, inner]: [usize; 2],
        start: Option<Init>,
    ) -> (ParamId, ParamId) {
        let uniform = Init::Uniform(1.0 / (inner.max(1) as f64).sqrt());
        let (of_weight, of_bias) = match start {
            Some(start) => (start, Init::Constant(0.0)),
            None => (uniform.clone(), uniform),
        };
        let mut parameter = |name: &str, shape: &[usize], role, init| {
            let pieces = paths.iter().map(|path| (format!("{path}.{name}"), shape.to_vec())).collect();
            let whole: Vec<_> = [groups, layers * width].into_iter().chain(shape[1..].iter().copied()).collect();
            self.parameter(pieces, &whole, groups, role, init)
        };
        (
            parameter("weight", &[width, inner], Role::Weight, of_weight),
            parameter("bias", &[width], Role::Bias, of_bias),
        )
    }

    fn norm_parameters(&mut self, paths: &[String], x: ValueId) -> (ParamId, ParamId) {
        let Value { groups, width, .. } = *self.value(x);
        let scale = self.grouped(paths, "weight", groups, &[width], Role::Norm, Init::Constant(1.0));
        let shift = self.grouped(paths, "bias", groups, &[width], Role::Norm, Init::Constant(0.0));
        (scale, shift)
    }

    fn grouped(
        &mut self,
        paths: &[String],
        name: &str,
        groups: usize,
        shape: &[usize],
        role: Role,
        init: Init,
    ) -> ParamId {
        let pieces = paths.iter().map(|path| (format!("{path}.{name}"), shape.to_vec())).collect();
        let whole: Vec<_> = std::iter::once(groups).filter(|&g| g > 1).chain(shape.iter().copied()).collect();
        self.parameter(pieces, &whole, groups, role, init)
    }

    fn parameter(
        &mut self,
        pieces: Vec<(String, Vec<usize>)>,
        shape: &[usize],
        groups: usize,
        role: Role,
        init: Init,
    ) -> ParamId {
        let id = self.net.params.len();
        let size = shape.iter().fold(1, |product: usize, &n| product.saturating_mul(n));
        self.wanted = self.wanted.saturating_add(size);
        let begin = self.net.size().next_multiple_of(ALIGN);
        let mut at = begin;
        let copies = if self.alike { pieces.len() } else { 1 };
        for (name, shape) in pieces {
            // A model that is too large is refused in the end: until then its sizes must not overflow.
            let size = if self.wanted > LARGEST { 0 } else { shape.iter().product::<usize>() };
            let range = at..at + size;
            at = range.end;
            self.net.entries.push(Entry { name, shape, range, param: Some(id), frozen: false });
        }
        // Reach is set when the node that uses the parameter is pushed.
        let start = Start { stream: id, copies };
        let (shape, range, reach) = (shape.to_vec(), begin..at, Reach::All);
        let param = Param { shape, groups, range, role, init, start, reach, learns: true, sparse: false };
        self.net.params.push(param);
        id
    }

    fn state(&mut self, paths: &[String], name: &str, groups: usize, width: usize, start: f64) -> usize {
        let offset = self.net.state.len();
        if self.wanted > LARGEST {
            return offset;
        }
        for (g, path) in paths.iter().enumerate().take(groups) {
            let range = offset + g * width..offset + (g + 1) * width;
            let name = format!("{path}.{name}");
            self.state_entries.push(Entry { name, shape: vec![width], range, param: None, frozen: false });
        }
        self.net.state.resize(offset + groups * width, start);
        offset
    }
}

/// Consecutive column ranges of the given widths.
fn columns(widths: &[usize]) -> Vec<Range<usize>> {
    let mut end = 0;
    widths
        .iter()
        .map(|w| {
            end += w;
            end - w..end
        })
        .collect()
}
