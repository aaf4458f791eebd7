//! A plan: every buffer and view of a network for one number of rows, and the passes over them.

use std::cell::OnceCell;
use std::ops::Range;

use tch::Tensor;

use super::axis::Extents;
use super::differentiated::Differentiated;
use super::fed::Fed;
use super::gradient::{Contributions, Slabs, lanes};
use super::node::{Kernel, Number, Terms};
use super::pass::{Pass, Purpose, Step};
use super::positions::Positions;
use super::prepare::Prepare;
use super::representation::HeadProducts;
use super::{AxisId, Input, InputId, InputKind, Network, ValueId};
use crate::bail;
use crate::error::Result;
use crate::machine::buffer::Layout;
use crate::machine::crossing::{fetch, launching, send};
use crate::machine::gram::{self, add_products};
use crate::machine::real::Real;
use crate::machine::storage::{Backend, Storage};
use crate::parameters::flat::Params;
use crate::parameters::{Reach, TaskId};

/// Where one task's outputs, or their gradients, stand: row `r` starts at `start + r * stride`.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// First element.
    pub start: usize,
    /// Rows of its axis.
    pub rows: usize,
    /// Distance between rows.
    pub stride: usize,
    /// Numbers a row.
    pub width: usize,
}

/// A network's buffers and kernels for one number of rows.
pub struct Plan<T> {
    /// Rows of the batch, and room for positions.
    pub extents: Extents,
    values: Vec<Storage<T>>,
    inputs: Vec<Input>,
    /// Of inputs of codes.
    codes: Vec<Option<Storage<i32>>>,
    positions: Positions,
    gradients: [Vec<Option<Storage<T>>>; 2],
    /// What kernels by formulas read, if there are any.
    fed: Option<Fed>,
    clear: [Vec<ValueId>; 2],
    kernels: Vec<Box<dyn Kernel>>,
    /// For each term of each node, which of the network's it is.
    terms: Vec<Vec<usize>>,
    /// Whether a backward comes through each node.
    learns: Vec<bool>,
    /// The flat gradient of frozen pieces of parameters that learn elsewhere, which stays zero.
    frozen: Vec<Storage<T>>,
    slabs: Option<Slabs<T>>,
    heads: Option<HeadProducts<T>>,
    representation: ValueId,
    outputs: Vec<super::Output>,
    judged: Vec<super::Output>,
}

impl<T> std::fmt::Debug for Plan<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("extents", &self.extents)
            .field("nodes", &self.kernels.len())
            .finish_non_exhaustive()
    }
}

impl<T: Number> Plan<T> {
    /// Allocates everything where the parameters are; these, their gradients and the state are those of `params`, which the
    /// plan reads and writes where they are. In the host's memory nodes work by loops, where they have some; elsewhere by
    /// formulas alone.
    ///
    /// # Errors
    /// What libtorch refuses; a node that has no formula for what it is.
    ///
    /// # Safety
    /// As long as the plan lives, no method of it may run while anybody else has a slice of `params`, or while another
    /// plan over `params` runs, but that plans which only run forward, to evaluate, may do so side by side.
    pub unsafe fn new(
        net: &Network,
        params: &Params<T>,
        extents: impl Into<Extents>,
        purpose: Purpose,
    ) -> Result<Self> {
        let backend = params.backend();
        let extents = extents.into();
        if extents.each().len() != net.axes.len() {
            bail!("a plan needs the extents of {} axes; got {extents:?}", net.axes.len());
        }
        let positions = Positions::new(net, &extents, backend)?;
        let values =
            net.values.iter().map(|v| Storage::zeros(layout(v.groups, extents.each()[v.axis], 1, v.width), backend));
        let values = values.collect::<Result<Vec<_>>>()?;
        let codes = net.inputs.iter().map(|input| match &input.kind {
            InputKind::Real(_) => Ok(None),
            InputKind::Codes(columns) => {
                Storage::zeros(layout(1, extents.each()[input.axis], 1, columns.len()), backend).map(Some)
            }
        });
        let codes = codes.collect::<Result<Vec<_>>>()?;
        let summed = gradients(net, &extents, purpose, Pass::Summed, backend, None)?;
        let per_task = gradients(net, &extents, purpose, Pass::PerTask, backend, Some(&summed))?;
        let gradients = [summed, per_task];
        let contributions =
            [Pass::Summed, Pass::PerTask].map(|p| purpose.passes().contains(&p).then(|| Contributions::new(net, p)));
        let slabs = match purpose {
            Purpose::PerTask(store) => Some(Slabs::new(net, store, backend)?),
            _ => None,
        };
        let fed = OnceCell::new();
        let kernels = (0..net.ops.len()).map(|node| {
            let fed = &fed;
            let values = &values;
            let codes = &codes[..];
            let positions = &positions;
            let gradients = &gradients;
            let contributions = &contributions;
            let slabs = slabs.as_ref();
            let at =
                Prepare { net, node, purpose, params, values, codes, positions, gradients, fed, contributions, slabs };
            let loops = match backend {
                Backend::Loops => T::kernel(net.ops[node].as_ref(), &at)?,
                Backend::Formulas(_) => None,
            };
            Ok(match loops {
                Some(kernel) => kernel,
                None => Box::new(Differentiated::new(&at)?) as Box<dyn Kernel>,
            })
        });
        let kernels = kernels.collect::<Result<Vec<_>>>()?;
        let clear =
            contributions.map(|contributions| contributions.map_or(Vec::new(), |contributions| contributions.clear));
        let heads = match (purpose, net.linear_heads()) {
            (Purpose::Representation { lanes: false }, Some(node)) => {
                let weight = node.multiplies().expect("linear heads are a product");
                let range = net.params[weight].range.clone();
                let weight = params.values.part(range.start, layout(1, 1, 1, range.len()))?;
                let dy = gradients[Pass::Summed as usize][node.output()].as_ref().expect("outputs learn");
                Some(HeadProducts::new(net, node.output(), &weight, dy)?)
            }
            _ => None,
        };
        let names = net.terms();
        let mut terms = Vec::with_capacity(net.ops.len());
        for op in &net.ops {
            let places = op.terms().into_iter().map(|name| names.iter().position(|known| *known == name));
            terms.push(places.map(|place| place.expect("the network knows its nodes' terms")).collect());
        }
        let outputs = net.outputs.clone();
        let judged = net.judged.clone();
        let representation = net.representation;
        let learns = net.ops.iter().map(|op| net.values[op.output()].learns).collect();
        let frozen =
            net.entries.iter().filter(|entry| entry.frozen && entry.param.is_some_and(|p| net.params[p].learns));
        let frozen = frozen
            .map(|entry| entry.range.clone())
            .map(|range| params.gradients.part(range.start, layout(1, 1, 1, range.len())));
        let frozen = frozen.collect::<Result<_>>()?;
        Ok(Self {
            extents,
            values,
            inputs: net.inputs.clone(),
            codes,
            positions,
            gradients,
            fed: fed.into_inner(),
            clear,
            kernels,
            terms,
            learns,
            frozen,
            slabs,
            heads,
            representation,
            outputs,
            judged,
        })
    }

    /// Where it computes.
    pub fn backend(&self) -> Backend {
        self.values[0].backend()
    }

    /// An input of real numbers `[rows, width]`, to be filled before a forward.
    pub fn real(&mut self, input: InputId) -> &mut Storage<T> {
        let InputKind::Real(value) = self.inputs[input].kind else { unreachable!("an input of real numbers") };
        &mut self.values[value]
    }

    /// An input of codes `[rows, columns]`, to be filled before a forward.
    pub fn codes(&mut self, input: InputId) -> &mut Storage<i32> {
        self.codes[input].as_mut().expect("an input of codes")
    }

    /// Says where each row's positions on a ragged axis begin and the last row's end, `[rows + 1]`; before a forward.
    ///
    /// # Errors
    /// Places that do not begin at 0, go down, or leave the room; another axis.
    pub fn place(&mut self, axis: AxisId, starts: &[i32]) -> Result<()> {
        self.positions.place(axis, starts)
    }

    /// How many rows of an axis there are: those of the batch, or as many positions as were said.
    pub fn count(&self, axis: AxisId) -> usize {
        self.positions.count(axis)
    }

    /// The inputs of the network.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Runs the nodes in order.
    pub fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        if let Some(fed) = &mut self.fed {
            fed.feed(step)?;
        }
        launching(|| self.kernels.iter_mut().try_for_each(|kernel| kernel.forward(step)))
    }

    /// Sends all that the passes of a step will be told, so that what follows are launches: also what the gradients of the
    /// tasks' losses are multiplied by, and those of their outputs once more.
    pub fn feed(&mut self, step: &Step<'_>, scales: &[f64], factors: &[f64]) -> Result<()> {
        let Some(fed) = &mut self.fed else { return Ok(()) };
        fed.ahead(step, scales, factors)
    }

    /// What the gradient of each task's loss is multiplied by, on the device of a plan by formulas, each without dimensions.
    pub(crate) fn scales(&mut self, scales: &[f64]) -> Result<Vec<Tensor>> {
        self.fed.as_mut().expect("nodes by formulas are fed").scales(scales)
    }

    /// What the gradient of each task's outputs is multiplied by once more, likewise.
    pub(crate) fn factors(&mut self, factors: &[f64]) -> Result<Vec<Tensor>> {
        self.fed.as_mut().expect("nodes by formulas are fed").factors(factors)
    }

    /// Adds the terms of the objective that the last forward gave, in the order of [`Network::terms`].
    pub fn add_terms(&self, into: &mut [f64]) -> Result<()> {
        let mut away = Vec::new();
        for (kernel, places) in self.kernels.iter().zip(&self.terms).filter(|(_, places)| !places.is_empty()) {
            match kernel.terms() {
                Terms::Numbers(terms) => terms.iter().zip(places).for_each(|(term, &place)| into[place] += term),
                Terms::Tensors(terms) => away.extend(terms.iter().zip(places)),
            }
        }
        if !away.is_empty() {
            let terms = Tensor::f_stack(&away.iter().map(|&(term, _)| term).collect::<Vec<_>>(), 0)?;
            away.iter().zip(fetch::<f64>(&terms)?).for_each(|(&(_, &place), term)| into[place] += term);
        }
        Ok(())
    }

    /// Adds the same on the device of a plan by formulas, to `[terms]`.
    pub(crate) fn add_terms_there(&self, into: &Tensor) -> Result<()> {
        for (kernel, places) in self.kernels.iter().zip(&self.terms) {
            if let Terms::Tensors(terms) = kernel.terms() {
                for (term, &place) in terms.iter().zip(places) {
                    let _ = into.f_select(0, place as i64)?.f_add_(term)?;
                }
            }
        }
        Ok(())
    }

    /// Where one task's raw outputs are.
    pub fn output(&self, task: TaskId) -> (&Storage<T>, Window) {
        let output = &self.outputs[task];
        (&self.values[output.value], self.window(output))
    }

    /// Where what one task's loss judges is.
    pub fn judged(&self, task: TaskId) -> (&Storage<T>, Window) {
        let output = &self.judged[task];
        (&self.values[output.value], self.window(output))
    }

    /// Where what one task's loss judges is, and in the same places of other memory its gradient, if anything before it
    /// learns; call [`Plan::clear`] first.
    pub fn judged_and_gradient(&mut self, task: TaskId, pass: Pass) -> (&Storage<T>, Option<&mut Storage<T>>, Window) {
        let value = self.judged[task].value;
        let window = self.window(&self.judged[task]);
        (&self.values[value], self.gradients[pass as usize][value].as_mut(), window)
    }

    /// One task's raw outputs `[rows, width]`, where they are.
    pub(crate) fn output_tensor(&self, task: TaskId) -> Result<Tensor> {
        let (outputs, window) = self.output(task);
        seen_through(outputs, window)
    }

    /// What one task's loss judges `[rows, width]`, where it is.
    pub(crate) fn judged_tensor(&self, task: TaskId) -> Result<Tensor> {
        let (judged, window) = self.judged(task);
        seen_through(judged, window)
    }

    /// Where the gradient of that goes, if anything before it learns; call [`Plan::clear`] first.
    pub(crate) fn gradient_tensor(&mut self, task: TaskId, pass: Pass) -> Result<Option<Tensor>> {
        let (_, gradient, window) = self.judged_and_gradient(task, pass);
        gradient.map(|gradient| seen_through(gradient, window)).transpose()
    }

    /// One task's raw outputs `[rows, width]`, row by row.
    pub fn raw(&self, task: TaskId) -> Result<Vec<T>> {
        fetch(&self.output_tensor(task)?)
    }

    /// Sets the gradient of one task's raw outputs `[rows, width]`, if anything before them learns; call [`Plan::clear`] first.
    pub fn set_gradient(&mut self, task: TaskId, pass: Pass, numbers: &[T]) -> Result<()> {
        if let Some(mut gradient) = self.gradient_tensor(task, pass)? {
            gradient.f_copy_(&send(numbers, gradient.device())?.f_view_as(&gradient)?)?;
        }
        Ok(())
    }

    /// A value, for a look inside.
    pub fn value(&self, id: ValueId) -> &Storage<T> {
        &self.values[id]
    }

    /// Zeroes the gradients that contributions do not tile; before the losses fill theirs.
    pub fn clear(&mut self, pass: Pass) -> Result<()> {
        for &value in &self.clear[pass as usize] {
            if let Some(gradient) = &mut self.gradients[pass as usize][value] {
                gradient.clear_all()?;
            }
        }
        match (pass, &mut self.slabs) {
            (Pass::PerTask, Some(slabs)) => slabs.clear(),
            _ => Ok(()),
        }
    }

    /// Runs the nodes backwards.
    pub fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        self.backward_over(step, pass, 0..self.kernels.len())
    }

    /// Runs some of the nodes backwards.
    pub fn backward_over(&mut self, step: &Step<'_>, pass: Pass, nodes: Range<usize>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        if let Some(fed) = &mut self.fed {
            fed.weigh(step)?;
        }
        launching(|| {
            let kernels = self.kernels.iter_mut().enumerate().take(nodes.end).skip(nodes.start);
            for (i, kernel) in kernels.rev().filter(|(i, _)| self.learns[*i]) {
                kernel.backward(step, pass)?;
                if let (Pass::PerTask, Some(slabs)) = (pass, &mut self.slabs) {
                    slabs.after(i)?;
                }
            }
            self.frozen.iter_mut().try_for_each(Storage::clear_all)
        })
    }

    /// Adds the Gramian of the tasks' gradients at the representation, in the passes of a plan made for it: from the outputs'
    /// gradients before a backward, or from those at the representation after the per-task one has come so far.
    pub fn add_gramian_at_representation(&mut self, tasks: usize, into: &mut [f64]) -> Result<()> {
        if let Some(heads) = &self.heads {
            return heads.add_gramian(into);
        }
        let gradient = self.gradients[Pass::PerTask as usize][self.representation].as_ref();
        let gradient = gradient.expect("a plan without fused heads carries the tasks' gradients");
        let Layout { groups, rows, lanes, width } = gradient.layout();
        match gradient.host() {
            Some(gradient) => {
                gradient.slice().chunks_exact(lanes * width).for_each(|row| add_products(row, tasks, into));
            }
            None => {
                let of_tasks = gradient.view(&[lanes, groups * rows, width], &[width, lanes * width, 1], 0)?;
                let gramian = gram::formula(&of_tasks.f_reshape([lanes as i64, -1])?)?;
                into.iter_mut().zip(fetch::<f64>(&gramian)?).for_each(|(sum, x)| *sum += x);
            }
        }
        Ok(())
    }

    /// The gradient of a value in a pass.
    pub fn gradient(&mut self, id: ValueId, pass: Pass) -> Option<&mut Storage<T>> {
        self.gradients[pass as usize][id].as_mut()
    }

    /// The per-task gradients of the last [`Pass::PerTask`].
    pub fn slabs(&self) -> Option<&Slabs<T>> {
        self.slabs.as_ref()
    }

    fn window(&self, output: &super::Output) -> Window {
        let Layout { rows, width, .. } = self.values[output.value].layout();
        let start = output.group * rows * width + output.columns.start;
        Window { start, rows, stride: width, width: output.columns.len() }
    }
}

/// A window of memory as a tensor `[rows, width]`, which writes where it lies.
fn seen_through<T: Real>(memory: &Storage<T>, window: Window) -> Result<Tensor> {
    memory.view(&[window.rows, window.width], &[window.stride, 1], window.start)
}

fn layout(groups: usize, rows: usize, lanes: usize, width: usize) -> Layout {
    Layout { groups, rows, lanes, width }
}

/// Gradients of all values that learn; where a pass has one lane it shares the other pass's memory.
fn gradients<T: Real>(
    net: &Network,
    extents: &Extents,
    purpose: Purpose,
    pass: Pass,
    backend: Backend,
    other: Option<&Vec<Option<Storage<T>>>>,
) -> Result<Vec<Option<Storage<T>>>> {
    let wanted = purpose.passes().contains(&pass);
    let mut gradients = Vec::with_capacity(net.values.len());
    for (id, value) in net.values.iter().enumerate() {
        let seen = pass == Pass::Summed || id == net.representation || purpose.reaches(net, id);
        if !wanted || !value.learns || !seen {
            gradients.push(None);
            continue;
        }
        let of_other = other.and_then(|other| other[id].as_ref());
        gradients.push(Some(match of_other.filter(|_| value.reach != Reach::All) {
            Some(buffer) => buffer.share(),
            None => Storage::zeros(
                layout(value.groups, extents.each()[value.axis], lanes(net, id, pass), value.width),
                backend,
            )?,
        }));
    }
    Ok(gradients)
}
