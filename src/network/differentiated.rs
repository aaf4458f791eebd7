//! A kernel for any node, from its formula: forward under libtorch's autograd, backward by it, lane by lane.

use std::borrow::Cow;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::Network;
use super::entrance::{TaskColumns, task_columns};
use super::fed::Fed;
use super::formula::{Computed, Operands};
use super::gradient::Tiled;
use super::node::{Kernel, Node};
use super::owner::Owner;
use super::pass::{Pass, PerPass, Step};
use super::prepare::{InputGradient, ParamGradient, Prepare};
use crate::bail;
use crate::error::Result;
use crate::machine::buffer::Layout;
use crate::machine::draws::Draws;
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::machine::storage::Storage;
use crate::parameters::{Reach, TaskId};

/// A node's kernel by its formula; costs what autograd costs, and everything around it stays static.
pub struct Differentiated<T> {
    node: Arc<dyn Node>,
    index: u64,
    inputs: Vec<Tensor>,
    params: Vec<Tensor>,
    /// Whether a gradient is wanted, of each input and each parameter.
    wanted: Vec<bool>,
    state: Storage<T>,
    frozen: Vec<usize>,
    fed: Fed,
    y: Storage<T>,
    /// Of the last forward, while training.
    terms: Vec<Tensor>,
    graph: Option<Graph>,
    owner: Owner,
    passes: PerPass<Backward<T>>,
}

/// What the last forward leaves for the backward.
struct Graph {
    output: Tensor,
    terms: Vec<Tensor>,
    /// The inputs and parameters whose gradients are wanted.
    leaves: Vec<Tensor>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Storage<T>,
    /// A task's factor where its gradient enters what all tasks reach.
    weights: Tensor,
    /// All tasks, if they reach the output.
    shared: Option<usize>,
    /// What of the output belongs to which task, if it is told apart on its way to an input.
    pieces: Vec<TaskColumns>,
    /// Of those that learn.
    inputs: Vec<Option<InputGradient<T, Storage<T>>>>,
    /// Of those that learn.
    params: Vec<ParamSink<T>>,
}

/// Where a parameter's gradient goes.
enum ParamSink<T> {
    Whole(ParamGradient<T, Storage<T>>),
    /// Into the Gramian alone.
    Gramian(Tiled<Storage<f64>>),
}

/// A part of the output's gradient that goes back by itself.
struct Part {
    seed: Tensor,
    /// A factor on each group's terms.
    terms: Vec<f64>,
    /// The task it is of, or the lane.
    lane: usize,
    task: Option<TaskId>,
}

impl<T: Real> Differentiated<T> {
    /// For a node of a plan.
    ///
    /// # Errors
    /// A sparse table, whose gradient no formula gives; what libtorch refuses.
    pub fn new(at: &Prepare<'_, T>) -> Result<Self> {
        let Network { ops, values, params, .. } = at.net;
        let node = ops[at.node].clone();
        if node.params().into_iter().any(|param| params[param].sparse) {
            bail!("a sparse table has no gradient by its formula: use sparse=False");
        }
        let ids = node.inputs();
        let mut inputs = Vec::with_capacity(ids.len());
        let mut wanted = Vec::with_capacity(ids.len());
        for &id in &ids {
            let Layout { groups, rows, width, .. } = at.values[id].layout();
            inputs.push(at.values[id].shaped(&[groups, rows, width])?);
            wanted.push(values[id].learns);
        }
        let mut own = Vec::new();
        for id in node.params() {
            own.push(at.param_anywhere(id)?.shaped(&params[id].shape)?);
            wanted.push(params[id].learns);
        }
        let y = at.values[node.output()].share();
        let fed = match at.fed.get() {
            Some(fed) => fed.share(),
            None => {
                let new = Fed::new(at.net, at.rows, at.params.values.range(&(0..0))?.device())?;
                at.fed.get_or_init(|| new).share()
            }
        };
        let learning = |count: usize, from: usize| (0..count).filter(|&k| wanted[from + k]).collect::<Vec<_>>();
        let inputs_that_learn = learning(ids.len(), 0);
        let params_that_learn = learning(own.len(), ids.len());
        let shared = values[node.output()].reach == Reach::All;
        let passes = at.each_pass(|pass| {
            let param = |&k: &usize| match at.tiled_anywhere(k, pass)? {
                Some(tiled) => Ok(ParamSink::Gramian(tiled)),
                None => Ok(ParamSink::Whole(at.param_gradient_anywhere(k, pass)?)),
            };
            Ok(Backward {
                dy: at.arriving_anywhere(node.output(), pass),
                weights: fed.weights(),
                shared: shared.then(|| at.net.tasks()),
                pieces: if at.enters_any() { task_columns(at.net, node.output(), 1) } else { Vec::new() },
                inputs: inputs_that_learn.iter().map(|&k| at.leaving_anywhere(k, pass)).collect(),
                params: params_that_learn.iter().map(param).collect::<Result<_>>()?,
            })
        })?;
        Ok(Self {
            index: at.node as u64,
            inputs,
            params: own,
            wanted,
            state: at.whole_state(),
            frozen: at.net.frozen_state(),
            fed,
            terms: Vec::new(),
            graph: None,
            owner: at.net.owner(node.output()),
            passes,
            node,
            y,
        })
    }
}

impl<T: Real> Kernel for Differentiated<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let mut leaves = Vec::with_capacity(self.wanted.len());
        for (tensor, &wanted) in self.inputs.iter().chain(&self.params).zip(&self.wanted) {
            // Not `detach`: looks beside a step move parameters and bring them back, which autograd would take amiss.
            leaves.push(tensor.f_data()?.f_set_requires_grad(wanted)?);
        }
        let (inputs, params) = leaves.split_at(self.inputs.len());
        let Layout { groups, rows, width, .. } = self.y.layout();
        let state = self.state.shaped(&[self.state.layout().len()])?.f_detach()?;
        let given = Operands {
            inputs,
            params,
            codes: self.fed.codes(),
            state: &state,
            frozen: &self.frozen,
            draws: Draws { seed: step.seed, number: self.fed.number(), node: self.index },
            training: step.training,
            share: step.share,
        };
        // Batch statistics and masks come from this one forward, so all lanes share them.
        let Computed { output, terms, state } = tch::with_grad(|| self.node.formula(&given))?;
        self.y.shaped(&[groups, rows, width])?.f_copy_(&output.f_detach()?)?;
        for (start, new) in state {
            let len = new.numel();
            self.state.view(&[len], &[1], start)?.f_copy_(&new)?;
        }
        self.terms.clear();
        for term in terms.iter().filter(|_| step.training) {
            self.terms.push(term.f_detach()?.f_sum(Kind::Double)?);
        }
        leaves.retain(Tensor::requires_grad);
        self.graph = Some(Graph { output, terms, leaves });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Some(graph) = &self.graph else { bail!("a backward needs a forward before it") };
        let back = self.passes.of(pass);
        if graph.leaves.is_empty() {
            return Ok(());
        }
        let parts = back.parts(step, pass, self.owner)?;
        let mut gradients = Vec::with_capacity(parts.len());
        for part in &parts {
            gradients.push(graph.along(part, step.training)?);
        }
        back.store(step, &parts, &gradients)
    }

    fn terms(&self) -> Result<Cow<'_, [f64]>> {
        let each = self.terms.iter().map(|term| Ok(term.f_double_value(&[])?));
        Ok(Cow::Owned(each.collect::<Result<_>>()?))
    }
}

impl Graph {
    /// The gradients of all leaves along a part of the output's gradient.
    fn along(&self, part: &Part, training: bool) -> Result<Vec<Tensor>> {
        tch::with_grad(|| {
            let mut along = self.output.f_mul(&part.seed)?.f_sum(self.output.kind())?;
            for term in self.terms.iter().filter(|_| training) {
                let factors = Tensor::from_slice(&part.terms).f_to_kind(term.kind())?.f_to_device(term.device())?;
                along = along.f_add(&term.f_mul(&factors)?.f_sum(term.kind())?)?;
            }
            // What takes no part keeps its place in the graph by a zero.
            for leaf in &self.leaves {
                along = along.f_add(&leaf.f_narrow(0, 0, 0)?.f_sum(leaf.kind())?)?;
            }
            Ok(Tensor::f_run_backward(&[along], &self.leaves, true, false)?)
        })
    }
}

impl<T: Real> Backward<T> {
    /// The output's gradient in the parts that go back by themselves: lane by lane, or, where it enters what all tasks
    /// reach, task by task.
    fn parts(&self, step: &Step<'_>, pass: Pass, owner: Owner) -> Result<Vec<Part>> {
        let Layout { groups, rows, lanes, width } = self.dy.layout();
        let lane = |lane: usize| {
            let strides = [rows * lanes * width, lanes * width, 1];
            self.dy.view(&[groups, rows, width], &strides, lane * width)
        };
        if self.pieces.is_empty() {
            let factor = self.shared.map_or(1.0, |tasks| step.part(tasks, pass));
            let part = |at| Ok(Part { seed: lane(at)?, terms: vec![factor; groups], lane: at, task: None });
            return (0..lanes).map(part).collect();
        }
        let whole = lane(0)?;
        let mut parts: Vec<Part> = Vec::new();
        for piece in &self.pieces {
            let known = parts.iter().position(|part| part.task == Some(piece.task));
            let at = known.unwrap_or(parts.len());
            if known.is_none() {
                let mine = |group: usize| f64::from(u8::from(owner.task(group) == piece.task));
                let terms = (0..groups).map(mine).collect();
                parts.push(Part { seed: whole.f_zeros_like()?, terms, lane: piece.task, task: Some(piece.task) });
            }
            let columns = (piece.columns.start as i64, piece.columns.len() as i64);
            let own = |x: &Tensor| x.f_select(0, piece.group as i64)?.f_narrow(1, columns.0, columns.1);
            own(&parts[at].seed)?.f_copy_(&own(&whole)?)?;
        }
        Ok(parts)
    }

    fn store(&self, step: &Step<'_>, parts: &[Part], gradients: &[Vec<Tensor>]) -> Result<()> {
        for (k, dx) in self.inputs.iter().enumerate() {
            if let Some(dx) = dx {
                self.store_input(step, dx, parts, gradients.iter().map(|of_part| &of_part[k]))?;
            }
        }
        for (k, param) in self.params.iter().enumerate() {
            let k = self.inputs.len() + k;
            let of_parts: Vec<_> = gradients.iter().map(|of_part| &of_part[k]).collect();
            match param {
                ParamSink::Whole(slab) => {
                    // A slab has a lane each, the flat gradient the sum.
                    let Layout { groups, lanes, width, .. } = slab.buffer.layout();
                    let mut written = vec![false; lanes];
                    for (part, gradient) in parts.iter().zip(of_parts) {
                        let lane = if lanes == 1 { 0 } else { part.lane };
                        let to = slab.buffer.view(&[groups, width], &[lanes * width, 1], lane * width)?;
                        let first = !std::mem::replace(&mut written[lane], true);
                        put(to, gradient, if first { slab.mode(step) } else { Mode::Add })?;
                    }
                }
                ParamSink::Gramian(tiled) => {
                    let rows: Vec<_> = of_parts.iter().map(|row| row.reshape([-1])).collect();
                    let rows = Tensor::f_stack(&rows, 0)?.f_to_kind(Kind::Double)?;
                    let Layout { lanes, width, .. } = tiled.gramian.layout();
                    let _ = tiled.gramian.shaped(&[lanes, width])?.f_add_(&rows.f_matmul(&rows.f_tr()?)?)?;
                }
            }
        }
        Ok(())
    }

    fn store_input<'a>(
        &self,
        step: &Step<'_>,
        dx: &InputGradient<T, Storage<T>>,
        parts: &[Part],
        gradients: impl Iterator<Item = &'a Tensor>,
    ) -> Result<()> {
        let Layout { groups, rows, lanes, width } = dx.buffer.layout();
        let mut written = vec![false; lanes];
        for (part, gradient) in parts.iter().zip(gradients) {
            let lane = if lanes == 1 { 0 } else { part.lane };
            let strides = [rows * lanes * width, lanes * width, 1];
            let to = dx.buffer.view(&[groups, rows, width], &strides, lane * width)?;
            let first = !std::mem::replace(&mut written[lane], true);
            let mode = if first { dx.mode } else { Mode::Add };
            match part.task.filter(|_| dx.is_weighed(step)) {
                Some(task) => {
                    let weight = self.weights.f_select(0, task as i64)?.f_to_kind(T::KIND)?;
                    put(to, &gradient.f_mul(&weight)?, mode)?;
                }
                None => put(to, gradient, mode)?,
            }
        }
        Ok(())
    }
}

fn put(mut to: Tensor, gradient: &Tensor, mode: Mode) -> Result<()> {
    let gradient = gradient.f_reshape(to.size())?;
    match mode {
        Mode::Write => to.f_copy_(&gradient)?,
        Mode::Add => drop(to.f_add_(&gradient)?),
    }
    Ok(())
}
