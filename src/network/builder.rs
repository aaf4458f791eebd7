//! Builds a network: what encoders, sharing schemes and heads write instead of forward and backward passes.

mod attention;
mod chain;
mod codes;
mod groups;
mod limit;
mod list;
mod members;
mod mixing;
mod numbered;
mod numbers;
mod pairs;
mod parameters;
mod positions;
mod recurrent;

use std::ops::Range;
use std::sync::Arc;

use super::axis::Extent;
use super::node::Node;
use super::nodes::activation::{self, Activation};
use super::nodes::linear::{Linear, Wiring};
use super::nodes::{add, concat, dropout, norm, product, select};
use super::{Axis, AxisId, Input, InputId, InputKind, Network, Output, ROWS, Source, Value, ValueId};
use crate::bail;
use crate::error::Result;
use crate::parameters::{Entry, Init, Lots, Reach, Role};
pub use limit::Limit;
pub use members::ScaleStart;
pub use pairs::FormSize;
use parameters::LayerSize;
pub use positions::Pool;

/// The inputs of a table: the value of its numeric features, and its codes.
struct Table {
    value: ValueId,
    codes: InputId,
}

/// What [`Builder::new`] adds first.
const TABLE: Table = Table { value: 0, codes: 1 };

/// Parameters start on a cache line.
const ALIGN: usize = 16;

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
    starting_alike: bool,
    /// Numbers in all parameters and state, counted without overflow.
    wanted: usize,
    /// Where the last parameter ends.
    end: usize,
    limit: Limit,
    /// Where the weights of the last stitch are.
    mix: Option<Source>,
    /// Columns of features that are one number embedded.
    lots: Option<Lots>,
    /// What cannot work, said when the network is finished.
    refused: Option<String>,
}

/// Each group of a value several times in turn.
#[derive(Debug)]
struct Repeated {
    source: ValueId,
    copies: usize,
    value: Value,
    /// The value that holds it, once a node has needed one.
    materialized: Option<ValueId>,
}

impl Builder {
    /// A network without inputs yet.
    pub fn empty() -> Self {
        let net = Network {
            axes: vec![Axis { name: "rows".to_owned(), extent: Extent::Rows }],
            inputs: Vec::new(),
            values: Vec::new(),
            ops: Vec::new(),
            params: Vec::new(),
            entries: Vec::new(),
            state: Vec::new(),
            outputs: Vec::new(),
            judged: Vec::new(),
            shown: Vec::new(),
            representation: 0,
            views: Vec::new(),
            freezes: 0,
        };
        Self {
            net,
            state_entries: Vec::new(),
            repeated: Vec::new(),
            tasks: None,
            starting_alike: false,
            wanted: 0,
            end: 0,
            limit: Limit::default(),
            mix: None,
            lots: None,
            refused: None,
        }
    }

    /// A network over the inputs of a table: `numeric` features, and `categorical` columns of codes of the given numbers of
    /// categories.
    pub fn new(numeric: usize, categorical: &[usize]) -> Self {
        let mut new = Self::empty();
        new.real_input("numeric", ROWS, numeric);
        new.code_input("categorical", ROWS, categorical);
        new
    }

    /// An input of so many real numbers a row of an axis.
    pub fn real_input(&mut self, name: &str, axis: AxisId, width: usize) -> ValueId {
        let value = self.fresh(1, width, Reach::All, false);
        self.net.values[value].axis = axis;
        self.net.inputs.push(Input { name: name.to_owned(), axis, kind: InputKind::Real(value) });
        value
    }

    /// An input of columns of codes, of the given numbers of categories, a row of an axis.
    pub fn code_input(&mut self, name: &str, axis: AxisId, columns: &[usize]) -> InputId {
        self.net.inputs.push(Input { name: name.to_owned(), axis, kind: InputKind::Codes(columns.to_vec()) });
        self.net.inputs.len() - 1
    }

    /// The same within other limits.
    pub fn within(self, limit: Limit) -> Self {
        Self { limit, ..self }
    }

    /// The same for so many tasks, which may then have several groups each.
    pub fn serving(self, tasks: usize) -> Self {
        Self { tasks: Some(tasks), ..self }
    }

    /// The numeric features of a table.
    pub fn numeric(&self) -> ValueId {
        TABLE.value
    }

    /// A value's description.
    pub fn value(&self, id: ValueId) -> &Value {
        self.repeated.get(usize::MAX - id).map_or_else(|| &self.net.values[id], |repeated| &repeated.value)
    }

    /// A linear layer with its activation; one path a group.
    pub fn linear(&mut self, paths: &[String], x: ValueId, width: usize, activation: Option<Activation>) -> ValueId {
        self.linear_from(paths, x, width, activation, None)
    }

    /// The same with weights and biases that start in another way than uniform in plus or minus `1/sqrt(inputs)`.
    pub fn linear_from(
        &mut self,
        paths: &[String],
        x: ValueId,
        width: usize,
        activation: Option<Activation>,
        start: Option<Init>,
    ) -> ValueId {
        let Value { groups, width: inner, reach, .. } = *self.value(x);
        let (input, layers) = match self.repeated.get(usize::MAX - x) {
            Some(repeated) => (repeated.source, repeated.copies),
            None => (x, 1),
        };
        let (weight, bias) = self.affine(paths, groups / layers, layers, LayerSize { width, inner }, start);
        let output = self.fresh(groups, width, reach, true);
        self.push(Linear { input, output, weight, bias: Some(bias), activation, wiring: Wiring::Own(layers) })
    }

    /// The product of a linear layer alone, without bias; one path a group.
    pub fn product(&mut self, paths: &[String], x: ValueId, width: usize) -> ValueId {
        let input = self.materialize(x);
        let Value { groups, width: inner, reach, .. } = *self.value(input);
        let bound = Init::Uniform(1.0 / (inner.max(1) as f64).sqrt());
        let weight = self.grouped(paths, "weight", groups, &[width, inner], Role::Weight, bound);
        let output = self.fresh(groups, width, reach, true);
        self.push(Linear { input, output, weight, bias: None, activation: None, wiring: Wiring::Own(1) })
    }

    /// One linear layer for all groups of `x`.
    pub fn tied(&mut self, path: &str, x: ValueId, width: usize, activation: Option<Activation>) -> ValueId {
        let input = self.materialize(x);
        let Value { groups, width: inner, reach, .. } = *self.value(input);
        let (weight, bias) = self.affine(&[path.to_owned()], 1, 1, LayerSize { width, inner }, None);
        let output = self.fresh(groups, width, reach, true);
        self.push(Linear { input, output, weight, bias: Some(bias), activation, wiring: Wiring::Tied })
    }

    /// One linear layer a group over the same input: towers ([`Reach::Own`]) or experts ([`Reach::All`]).
    pub fn fan_out(
        &mut self,
        paths: &[String],
        x: ValueId,
        width: usize,
        activation: Option<Activation>,
        reach: Reach,
    ) -> ValueId {
        let each = self.each(x, paths.len(), reach);
        self.linear(paths, each, width, activation)
    }

    /// A linear layer from here on for `reach`: one task's, whatever reaches its input.
    pub fn narrow(
        &mut self,
        path: &str,
        x: ValueId,
        width: usize,
        activation: Option<Activation>,
        reach: Reach,
    ) -> ValueId {
        let input = self.materialize(x);
        let (weight, bias) =
            self.affine(&[path.to_owned()], 1, 1, LayerSize { width, inner: self.value(input).width }, None);
        let output = self.fresh(1, width, reach, true);
        self.push(Linear { input, output, weight, bias: Some(bias), activation, wiring: Wiring::Own(1) })
    }

    /// Linear heads over one input, a task each, fused into one product; `[rows, sum of widths]`.
    pub fn heads(&mut self, paths: &[String], x: ValueId, widths: &[usize]) -> ValueId {
        let x = self.materialize(x);
        let inner = self.value(x).width;
        let outer = widths.iter().fold(0, |sum: usize, &w| sum.saturating_add(w));
        let bound = Init::Uniform(1.0 / (inner.max(1) as f64).sqrt());
        let pieces = |name: &str, shape: &dyn Fn(usize) -> Vec<usize>| {
            paths.iter().zip(widths).map(|(path, &w)| (format!("{path}.{name}"), shape(w))).collect::<Vec<_>>()
        };
        let weight =
            self.parameter(pieces("weight", &|w| vec![w, inner]), &[outer, inner], 1, Role::Weight, bound.clone());
        let bias = self.parameter(pieces("bias", &|w| vec![w]), &[outer], 1, Role::Bias, bound);
        let output = self.fresh(1, outer, Reach::Columns, true);
        self.net.values[output].columns = columns(widths);
        self.push(Linear { input: x, output, weight, bias: Some(bias), activation: None, wiring: Wiring::Own(1) })
    }

    /// An activation on its own.
    pub fn activation(&mut self, x: ValueId, activation: Activation) -> ValueId {
        let x = self.materialize(x);
        let output = self.like(x);
        self.push(activation::Activate { input: x, output, activation })
    }

    /// Dropout (Srivastava et al., JMLR 2014): zeroes each number with probability `rate` while training.
    pub fn dropout(&mut self, x: ValueId, rate: f64) -> ValueId {
        if rate == 0.0 {
            return x;
        }
        let x = self.materialize(x);
        let output = self.like(x);
        self.push(dropout::Dropout { input: x, output, rate })
    }

    /// Layer normalisation (Ba, Kiros & Hinton, 2016) over each row; one path a group.
    pub fn layer_norm(&mut self, paths: &[String], x: ValueId) -> ValueId {
        let x = self.materialize(x);
        let (scale, shift) = self.norm_parameters(paths, x);
        let output = self.like(x);
        self.net.values[output].learns = true;
        self.push(norm::LayerNorm { input: x, output, scale, shift, eps: 1e-5 })
    }

    /// Batch normalisation (Ioffe & Szegedy, ICML 2015) over each column; one path a group.
    pub fn batch_norm(&mut self, paths: &[String], x: ValueId) -> ValueId {
        let x = self.materialize(x);
        let (scale, shift) = self.norm_parameters(paths, x);
        let Value { groups, width, .. } = *self.value(x);
        let mean = self.state(paths, "running_mean", groups, width, 0.0);
        let variance = self.state(paths, "running_var", groups, width, 1.0);
        let output = self.like(x);
        self.net.values[output].learns = true;
        let node = norm::BatchNorm { input: x, output, scale, shift, mean, variance, eps: 1e-5, momentum: 0.1 };
        self.push(node)
    }

    /// Values of the same groups side by side.
    ///
    /// # Errors
    /// Values of different groups, or of reaches that cannot be joined.
    pub fn concat(&mut self, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs = &self.all_materialized(inputs);
        let (groups, reach) = self.meet(inputs)?;
        let width = inputs.iter().fold(0, |sum: usize, &x| sum.saturating_add(self.value(x).width));
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, width, reach, learns);
        Ok(self.push(concat::Concat { inputs: inputs.to_vec(), output }))
    }

    /// The sum of values of one shape: a residual connection.
    ///
    /// # Errors
    /// Values of different shapes, or of reaches that cannot be joined.
    pub fn add(&mut self, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs = &self.all_materialized(inputs);
        let (groups, reach) = self.meet(inputs)?;
        let width = self.value(inputs[0]).width;
        if inputs.iter().any(|&x| self.value(x).width != width) {
            bail!("only values of one width can be added");
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, width, reach, learns);
        Ok(self.push(add::Add { inputs: inputs.to_vec(), output }))
    }

    /// `a * b`, number by number, of values of one shape; with a third one `a * b + c`.
    ///
    /// # Errors
    /// Values of different shapes, or of reaches that cannot be joined.
    pub fn multiply(&mut self, a: ValueId, b: ValueId, c: Option<ValueId>) -> Result<ValueId> {
        let inputs: Vec<_> = [Some(a), Some(b), c].into_iter().flatten().collect();
        let inputs = self.all_materialized(&inputs);
        let (groups, reach) = self.meet(&inputs)?;
        let width = self.value(inputs[0]).width;
        if let Some(&other) = inputs.iter().find(|&&x| self.value(x).width != width) {
            bail!("only values of one width can be multiplied; got {width} and {}", self.value(other).width);
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, width, reach, learns);
        Ok(self.push(product::Product { inputs, output }))
    }

    /// Some columns of one group, from here on for `reach`.
    pub fn select(&mut self, x: ValueId, group: usize, columns: Range<usize>, reach: Reach) -> ValueId {
        let x = self.materialize(x);
        let output = self.fresh(1, columns.len(), reach, self.value(x).learns);
        self.push(select::Select { input: x, output, group, columns })
    }

    /// Marks where a task's raw outputs stand; tasks in order.
    pub fn output(&mut self, value: ValueId, group: usize, columns: Range<usize>) {
        let output = Output { value, group, columns };
        self.net.outputs.push(output.clone());
        self.net.judged.push(output);
    }

    /// The finished network.
    ///
    /// # Errors
    /// A task whose outputs other tasks reach: its gradient could not be told from theirs. More parameters than fit. Two
    /// of one name.
    pub fn finish(mut self) -> Result<Network> {
        self.check()?;
        if let Some(what) = self.refused {
            bail!("{what}");
        }
        let tasks = self.net.outputs.len();
        if let Some(task) = self.net.outputs.iter().position(|o| tasks > 1 && self.value(o.value).reach == Reach::All) {
            bail!("task {task} needs outputs of its own");
        }
        let mut consumed = vec![false; self.net.values.len()];
        self.net.ops.iter().flat_map(|op| op.inputs()).for_each(|id| consumed[id] = true);
        let shared = |id: &ValueId| self.net.values[*id].reach == Reach::All && consumed[*id];
        self.net.representation = (0..self.net.values.len()).rev().find(shared).unwrap_or(0);
        self.place_tables();
        self.set_last_layers_apart();
        self.net.entries.extend(self.state_entries);
        let mut names: Vec<_> = self.net.entries.iter().map(|entry| &*entry.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two parameters would be called `{}`: give the tasks other names", twice[0]);
        }
        self.net.settle();
        Ok(self.net)
    }

    /// Weights that raw outputs come from are no hidden layer's.
    fn set_last_layers_apart(&mut self) {
        let mut before: Vec<_> = self.net.outputs.iter().map(|output| output.value).collect();
        let mut seen = vec![false; self.net.values.len()];
        while let Some(value) = before.pop() {
            if std::mem::replace(&mut seen[value], true) {
                continue;
            }
            let Some(op) = self.net.ops.iter().find(|op| op.output() == value) else { continue };
            let mut weights = op.params();
            weights.retain(|&param| self.net.params[param].matrix.is_some());
            if weights.is_empty() {
                before.extend(op.inputs());
            }
            weights.into_iter().for_each(|param| self.net.params[param].matrix = None);
        }
    }

    /// Adds a node; what it fills is on the axis of what it reads, unless it moves along one.
    fn push(&mut self, op: impl Node + 'static) -> ValueId {
        let output = op.output();
        if op.along().is_empty() {
            let inputs = op.inputs();
            let axis = self.net.values[inputs[0]].axis;
            self.net.values[output].axis = axis;
            let elsewhere = inputs.iter().find(|&&x| self.net.values[x].axis != axis).map(|&x| self.net.values[x].axis);
            let elsewhere =
                elsewhere.or(op.codes().into_iter().map(|input| self.net.inputs[input].axis).find(|&a| a != axis));
            let named = |axis: AxisId| &self.net.axes[axis].name;
            if let Some(other) = elsewhere {
                let what = format!(
                    "{} of `{}` and `{}` at once: spread or pool one of them",
                    op.name(),
                    named(axis),
                    named(other)
                );
                self.refused.get_or_insert(what);
            }
        }
        let reach = self.net.values[output].reach;
        for param in op.params() {
            self.net.params[param].reach = reach;
        }
        self.net.ops.push(Arc::new(op));
        output
    }

    fn fresh(&mut self, groups: usize, width: usize, reach: Reach, learns: bool) -> ValueId {
        self.net.values.push(Value { axis: ROWS, groups, width, reach, learns, columns: Vec::new() });
        self.net.values.len() - 1
    }

    fn like(&mut self, x: ValueId) -> ValueId {
        self.net.values.push(self.net.values[x].clone());
        self.net.values.len() - 1
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
