//! A kernel for any node without loops: from its formula, under libtorch's autograd, or from code of the caller's own. It goes
//! back lane by lane.

use tch::{Kind, Tensor};

use super::Network;
use super::axis::{Link, ROWS};
use super::entrance::{TaskColumns, task_columns};
use super::fed::{Fed, FedTensors};
use super::gradient::Tiled;
use super::node::{ForeignCode, Kernel, Terms};
use super::owner::Owner;
use super::pass::{Pass, PerPass, Step};
use super::prepare::{InputGradient, ParamGradient, Prepare};
use super::recorded::{Given, Recorded};
use crate::bail;
use crate::error::Result;
use crate::machine::buffer::{Layout, as_i64};
use crate::machine::crossing::{constant, waiting};
use crate::machine::foreign::{Received, Tensors, Tied};
use crate::machine::product::Mode;
use crate::machine::random::Stream;
use crate::machine::real::Real;
use crate::machine::storage::Storage;
use crate::parameters::{Reach, TaskId};

/// Stream of what code of the caller's own draws within a seed.
const FOREIGN: u64 = 10;

/// A node's kernel by its function; costs what autograd costs, and everything around it stays static.
pub struct Differentiated<T> {
    index: u64,
    function: Function<T>,
    /// Whether a gradient is wanted of anything.
    learns: bool,
    owner: Owner,
    passes: PerPass<Backward<T>>,
}

/// What computes a node, and gives the gradients of all inputs and parameters that learn along one of the output.
enum Function<T> {
    Formula(Box<Recorded<T>>),
    Foreign(Box<dyn Tied>),
}

/// The views of one pass.
struct Backward<T> {
    dy: Storage<T>,
    /// A task's factor where its gradient enters what all tasks reach.
    weights: Tensor,
    /// What of the output belongs to which task, if it is told apart on its way to an input.
    pieces: Vec<TaskColumns>,
    /// A factor on terms in this pass, where the output is not told apart.
    part: Tensor,
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
    /// A factor on each group's terms, or one for all.
    terms: Tensor,
    /// The task it is of, or the lane.
    lane: usize,
    task: Option<TaskId>,
}

impl<T: Real> Differentiated<T> {
    /// For a node of a plan.
    ///
    /// # Errors
    /// A sparse table, whose gradient no formula gives; what libtorch refuses; what code of the caller's own raises.
    pub fn new(at: &Prepare<'_, T>) -> Result<Self> {
        let Network { ops, values, params, .. } = at.net;
        let node = &ops[at.node];
        if node.params().into_iter().any(|param| params[param].sparse) {
            bail!("a sparse table has no gradient by its formula: use sparse=False");
        }
        let ids = node.inputs();
        let mut given = Given {
            inputs: Vec::with_capacity(ids.len()),
            params: Vec::new(),
            codes: Vec::new(),
            places: node.along().into_iter().map(|link| at.place_tensors(link)).collect::<Result<_>>()?,
            within: match values[node.output()].axis {
                ROWS => None,
                axis => Some(at.place_tensors(Link::rows(axis))?),
            },
            wanted: Vec::new(),
            state: at.whole_state(),
            fed: Self::fed(at)?,
            y: at.value_anywhere(node.output()),
        };
        for &id in &ids {
            let value = at.value_anywhere(id);
            let Layout { groups, rows, width, .. } = value.layout();
            given.inputs.push(value.shaped(&[groups, rows, width])?);
            given.wanted.push(values[id].learns);
        }
        for input in node.codes() {
            let codes = at.codes_anywhere(input);
            let Layout { rows, width, .. } = codes.layout();
            given.codes.push(codes.shaped(&[rows, width])?);
        }
        for id in node.params() {
            given.params.push(at.param_anywhere(id)?.shaped(&params[id].shape)?);
            given.wanted.push(params[id].learns);
        }
        let learning = |count: usize, from: usize| (0..count).filter(|&k| given.wanted[from + k]).collect::<Vec<_>>();
        let inputs_that_learn = learning(ids.len(), 0);
        let params_that_learn = learning(given.params.len(), ids.len());
        let shared = values[node.output()].reach == Reach::All;
        let passes = at.each_pass(|pass| {
            let param = |&k: &usize| match at.tiled_anywhere(k, pass)? {
                Some(tiled) => Ok(ParamSink::Gramian(tiled)),
                None => Ok(ParamSink::Whole(at.param_gradient_anywhere(k, pass)?)),
            };
            Ok(Backward {
                dy: at.arriving_anywhere(node.output(), pass),
                weights: given.fed.weights.shallow_clone(),
                part: match shared {
                    true => given.fed.part(at.net.tasks(), pass)?,
                    false => constant(&[1.0], Kind::Double, given.fed.part.device())?,
                },
                pieces: if at.enters_any() { task_columns(at.net, node.output(), 1) } else { Vec::new() },
                inputs: inputs_that_learn.iter().map(|&k| at.leaving_anywhere(k, pass)).collect(),
                params: params_that_learn.iter().map(param).collect::<Result<_>>()?,
            })
        })?;
        if passes.0.iter().all(Option::is_none) {
            given.wanted.fill(false);
        }
        Ok(Self {
            index: at.node as u64,
            learns: given.wanted.contains(&true),
            function: match node.foreign() {
                Some(code) => Function::Foreign(tied(at, &code, given)?),
                None => Function::Formula(Box::new(Recorded::new(at.net, at.node, given))),
            },
            owner: at.net.owner(node.output()),
            passes,
        })
    }

    /// What all kernels of the plan read.
    fn fed(at: &Prepare<'_, T>) -> Result<FedTensors> {
        if let Some(fed) = at.fed.get() {
            return fed.tensors();
        }
        let new = Fed::new(at.net.tasks(), at.params.values.range(&(0..0))?.device())?;
        at.fed.get_or_init(|| new).tensors()
    }
}

/// Code of the caller's own at work on a node's tensors.
fn tied<T: Real>(at: &Prepare<'_, T>, code: &ForeignCode<'_>, given: Given<T>) -> Result<Box<dyn Tied>> {
    let Given { inputs, params, wanted, state, y, .. } = given;
    let Layout { rows, width, .. } = y.layout();
    let still = at.net.frozen_state();
    let axis = at.net.values[at.net.ops[at.node].output()].axis;
    let ids = at.net.ops[at.node].inputs();
    let mut buffers = Vec::with_capacity(code.buffers.len());
    for piece in code.buffers {
        let size: usize = piece.shape.iter().product();
        buffers.push(state.range(&(piece.start..piece.start + size))?.f_view(as_i64(&piece.shape).as_slice())?);
    }
    code.function.tie(Tensors {
        path: code.path.to_owned(),
        alone: ids.iter().all(|id| at.net.ops.iter().filter(|op| op.inputs().contains(id)).count() == 1),
        lengths: if axis == ROWS { None } else { Some(at.place_tensors(Link::rows(axis))?.lengths()) },
        inputs: inputs.iter().map(|x| x.f_squeeze_dim(0)).collect::<Result<_, _>>()?,
        output: y.shaped(&[rows, width])?,
        parameters: params,
        wanted,
        buffers,
        frozen: code.buffers.iter().map(|piece| still.contains(&piece.start)).collect(),
    })
}

impl<T: Real> Kernel for Differentiated<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        match &mut self.function {
            Function::Formula(formula) => formula.forward(step),
            Function::Foreign(code) => {
                let seed = Stream::new(step.seed, &[FOREIGN, step.number, self.index]).key();
                waiting(|| code.forward(step.training, seed))
            }
        }
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        if !self.learns {
            return Ok(());
        }
        let back = self.passes.of(pass);
        let parts = back.parts(self.owner)?;
        let mut tiled: Vec<Vec<Received>> = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let gradients = match &mut self.function {
                Function::Formula(formula) => formula.along(&part.seed, &part.terms, step.training)?,
                Function::Foreign(code) => {
                    let last = pass == Pass::Summed && index + 1 == parts.len();
                    waiting(|| code.backward(&part.seed.f_squeeze_dim(0)?, last))?
                }
            };
            back.store(step, index, part, &gradients)?;
            tiled.resize_with(gradients.len(), Vec::new);
            let kept = gradients.into_iter().enumerate().filter(|(k, _)| back.tiled(*k).is_some());
            kept.for_each(|(k, gradient)| tiled[k].push(gradient));
        }
        let products = tiled.iter().enumerate().filter_map(|(k, of_parts)| Some((back.tiled(k)?, of_parts)));
        products.into_iter().try_for_each(|(tiled, of_parts)| Backward::<T>::add_products(tiled, of_parts))
    }

    fn terms(&self) -> Terms<'_> {
        match &self.function {
            Function::Formula(formula) => Terms::Tensors(formula.terms()),
            Function::Foreign(_) => Terms::Numbers(&[]),
        }
    }
}

impl<T: Real> Backward<T> {
    /// The output's gradient in the parts that go back by themselves: lane by lane, or, where it enters what all tasks
    /// reach, task by task.
    fn parts(&self, owner: Owner) -> Result<Vec<Part>> {
        let Layout { groups, rows, lanes, width } = self.dy.layout();
        let lane = |lane: usize| {
            let strides = [rows * lanes * width, lanes * width, 1];
            self.dy.view(&[groups, rows, width], &strides, lane * width)
        };
        if self.pieces.is_empty() {
            let part = |at| Ok(Part { seed: lane(at)?, terms: self.part.shallow_clone(), lane: at, task: None });
            return (0..lanes).map(part).collect();
        }
        let whole = lane(0)?;
        let mut parts: Vec<Part> = Vec::new();
        for piece in &self.pieces {
            let known = parts.iter().position(|part| part.task == Some(piece.task));
            let at = known.unwrap_or(parts.len());
            if known.is_none() {
                let mine = |group: usize| f64::from(u8::from(owner.task(group) == piece.task));
                let terms = constant(&(0..groups).map(mine).collect::<Vec<_>>(), T::KIND, whole.device())?;
                parts.push(Part { seed: whole.f_zeros_like()?, terms, lane: piece.task, task: Some(piece.task) });
            }
            let columns = (piece.columns.start as i64, piece.columns.len() as i64);
            let own = |x: &Tensor| x.f_select(0, piece.group as i64)?.f_narrow(1, columns.0, columns.1);
            own(&parts[at].seed)?.f_copy_(&own(&whole)?)?;
        }
        Ok(parts)
    }

    /// Puts the gradients along one part, the `index`-th of the pass, where they belong.
    fn store(&self, step: &Step<'_>, index: usize, part: &Part, gradients: &[Received]) -> Result<()> {
        let (of_inputs, of_params) = gradients.split_at(self.inputs.len());
        for (dx, gradient) in self.inputs.iter().zip(of_inputs) {
            if let Some(dx) = dx {
                self.store_input(step, dx, index, part, gradient)?;
            }
        }
        for (param, gradient) in self.params.iter().zip(of_params) {
            if let ParamSink::Whole(slab) = param {
                // A slab has a lane each, the flat gradient the sum.
                let Layout { groups, lanes, width, .. } = slab.buffer.layout();
                let (lane, mode) = place(lanes, index, part, slab.mode(step));
                put(slab.buffer.view(&[groups, width], &[lanes * width, 1], lane * width)?, gradient, mode)?;
            }
        }
        Ok(())
    }

    fn store_input(
        &self,
        step: &Step<'_>,
        dx: &InputGradient<T, Storage<T>>,
        index: usize,
        part: &Part,
        gradient: &Tensor,
    ) -> Result<()> {
        let Layout { groups, rows, lanes, width } = dx.buffer.layout();
        let (lane, mode) = place(lanes, index, part, dx.mode);
        let strides = [rows * lanes * width, lanes * width, 1];
        let to = dx.buffer.view(&[groups, rows, width], &strides, lane * width)?;
        match part.task.filter(|_| dx.is_weighed(step)) {
            Some(task) => {
                let weight = self.weights.f_select(0, task as i64)?.f_to_kind(T::KIND)?;
                put(to, &gradient.f_mul(&weight)?, mode)
            }
            None => put(to, gradient, mode),
        }
    }

    /// Whether the `k`-th of the gradients goes into the Gramian alone, which takes those of all parts together.
    fn tiled(&self, k: usize) -> Option<&Tiled<Storage<f64>>> {
        match self.params.get(k.checked_sub(self.inputs.len())?)? {
            ParamSink::Gramian(tiled) => Some(tiled),
            ParamSink::Whole(_) => None,
        }
    }

    /// Adds the products of a parameter's gradients along all parts.
    fn add_products(tiled: &Tiled<Storage<f64>>, of_parts: &[Received]) -> Result<()> {
        let rows = of_parts.iter().map(|row| row.f_reshape([-1])).collect::<Result<Vec<_>, _>>()?;
        let rows = Tensor::f_stack(&rows, 0)?.f_to_kind(Kind::Double)?;
        let Layout { lanes, width, .. } = tiled.gramian.layout();
        let _ = tiled.gramian.shaped(&[lanes, width])?.f_add_(&rows.f_matmul(&rows.f_tr()?)?)?;
        Ok(())
    }
}

/// The lane in which a part's gradient goes, and whether it replaces or adds: parts have lanes of their own, or share the only
/// one.
fn place(lanes: usize, index: usize, part: &Part, mode: Mode) -> (usize, Mode) {
    match (lanes, index) {
        (1, 0) => (0, mode),
        (1, _) => (0, Mode::Add),
        _ => (part.lane, mode),
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
