//! The loops of a recurrence: at each time one product over all rows that still have a position, of all lanes at once.

use std::ops::Range;

use tch::Tensor;

use super::loops::{Arriving, Columns, Given, Leaving, Worked, gru, gru_back, lstm, lstm_back, sums};
use super::order::Order;
use super::{Cell, Recur};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::gram::Square;
use crate::machine::product::{Mode, PartialProduct};
use crate::machine::real::Real;
use crate::network::gradient::Tiled;
use crate::network::node::Kernel;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::positions::Places;
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};

/// Sizes that a kernel goes through.
#[derive(Debug, Clone, Copy)]
struct Shape {
    cell: Cell,
    /// Room for positions, and rows of the batch.
    room: usize,
    rows: usize,
    directions: usize,
    width: usize,
}

impl Shape {
    /// Numbers that the input has for each direction.
    fn wide(&self) -> usize {
        self.cell.gates() * self.width
    }

    /// Of the columns of a value, those of a direction, so many numbers each.
    fn columns(&self, direction: usize, count: usize) -> Columns {
        Columns { stride: self.directions * count, first: direction * count, count }
    }

    /// A group's part of memory of a value, so many numbers each direction and lane.
    fn group(&self, group: usize, lanes: usize, count: usize) -> Range<usize> {
        let size = self.room * lanes * self.directions * count;
        group * size..(group + 1) * size
    }

    /// Where a group's weight begins.
    fn of_weight(&self, group: usize) -> usize {
        group * self.wide() * self.width
    }

    /// Memory as rows of its width.
    fn matrix<T: Real>(&self, memory: &Buffer<T>) -> Result<Tensor> {
        let Layout { rows, lanes, width, .. } = memory.layout;
        memory.shaped(&[rows * lanes, width])
    }

    /// The sums of so many columns of `inner`, from `first` on, with `h` of before: into `to`, from `start` on.
    fn of_sums<T: Real>(
        &self,
        to: &Buffer<T>,
        start: usize,
        inner: &Buffer<T>,
        first: usize,
        count: usize,
        run: &Run<T>,
    ) -> Result<PartialProduct> {
        let out = to.view(&[count, self.width], &[self.width, 1], start)?;
        let Layout { rows, lanes, width, .. } = inner.layout;
        let turned = inner.view(&[count, rows], &[1, lanes * width], first)?;
        PartialProduct::of_sums(out, turned, self.matrix(&run.before)?)
    }

    /// The same for some outputs at a time, each `[lanes, outputs, width]` into the same memory.
    fn tiles<T: Real>(&self, inner: &Buffer<T>, tiled: Tiled, run: &Run<T>) -> Result<Weight<T>> {
        let lanes = inner.layout.lanes;
        let outer = self.wide();
        let chunk = (tiled.size / (lanes * self.width).max(1)).clamp(1, outer);
        let tile = Buffer::zeros(Layout { groups: 1, rows: 1, lanes, width: chunk * self.width })?;
        let mut tiles = Vec::new();
        for first in (0..outer).step_by(chunk) {
            let count = chunk.min(outer - first);
            let size = count * self.width;
            let mut products = Vec::new();
            if count == outer {
                products.push(self.of_sums(&tile, 0, inner, 0, lanes * outer, run)?);
            } else {
                for lane in 0..lanes {
                    products.push(self.of_sums(&tile, lane * size, inner, lane * outer + first, count, run)?);
                }
            }
            let slab = tile.part(0, Layout { groups: 1, rows: 1, lanes, width: size })?;
            tiles.push((products, Square::new(slab, lanes)?));
        }
        Ok(Weight::Tiles(tiles, tiled.gramian))
    }
}

pub(super) struct RecurKernel<T> {
    shape: Shape,
    x: Buffer<T>,
    y: Buffer<T>,
    places: Places,
    order: Order,
    /// Whether a backward may follow, which wants to know all times; else each takes the place of the one before.
    keeps: bool,
    /// One a group and direction.
    runs: Vec<Run<T>>,
    /// Of a GRU, one a direction.
    biases: Vec<Buffer<T>>,
    /// `h` and `c` of the rows at one time.
    hidden: Buffer<T>,
    state: Buffer<T>,
    passes: PerPass<Backward<T>>,
}

/// One network through the rows, in one direction.
struct Run<T> {
    group: usize,
    direction: usize,
    /// `gates = before W^T`
    product: PartialProduct,
    /// In the order in which positions are gone through: gates, what else is kept, and `h` of before.
    gates: Buffer<T>,
    kept: Buffer<T>,
    before: Buffer<T>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    dx: Option<InputGradient<T>>,
    /// The gradient at `W h`, in order, of the run at work; and those that come back from the next time.
    inner: Buffer<T>,
    hidden: Buffer<T>,
    state: Buffer<T>,
    /// `hidden = inner W`, one a run.
    products: Vec<PartialProduct>,
    /// One a run.
    weights: Vec<Weight<T>>,
    /// The gradients of weights and biases, one a direction, of those that learn and are kept.
    of_weights: Vec<Option<ParamGradient<T>>>,
    of_biases: Vec<ParamGradient<T>>,
}

/// How the gradient of a run's weights comes about: `inner^T before`.
enum Weight<T> {
    /// In one product, for the sum or for all tasks.
    Whole(PartialProduct),
    /// For all tasks, tile by tile, each into the Gramian.
    Tiles(Vec<(Vec<PartialProduct>, Square<T>)>, Buffer<f64>),
    /// Not at all.
    Frozen,
}

impl<T: Real> RecurKernel<T> {
    pub fn new(node: &Recur, at: &Prepare<'_, T>) -> Result<Self> {
        let x = at.value(node.input);
        let y = at.value(node.output);
        let places = at.places(node.link);
        let directions = node.weights.len();
        let Layout { groups, rows: room, width, .. } = y.layout;
        let rows = places.counts.layout.len();
        let shape = Shape { cell: node.cell, room, rows, directions, width: width / directions };
        let mut weights = Vec::with_capacity(directions);
        for &weight in &node.weights {
            weights.push(at.param(weight)?);
        }
        let keeps = at.each_pass(|_| Ok(()))?.0.iter().any(Option::is_some);
        let flat = |rows: usize, width: usize| Buffer::zeros(Layout { groups: 1, rows, lanes: 1, width });
        let kept_rows = if keeps { room } else { rows };
        let mut runs = Vec::with_capacity(groups * directions);
        for group in 0..groups {
            for (direction, weight) in weights.iter().enumerate() {
                let gates = flat(kept_rows, shape.wide())?;
                let before = flat(kept_rows, shape.width)?;
                let turned = weight.view(&[shape.width, shape.wide()], &[1, shape.width], shape.of_weight(group))?;
                let product = PartialProduct::of_rows(shape.matrix(&gates)?, shape.matrix(&before)?, turned)?;
                let kept = flat(kept_rows, node.cell.kept() * shape.width)?;
                runs.push(Run { group, direction, product, gates, kept, before });
            }
        }
        Ok(Self {
            passes: at.each_pass(|pass| Backward::new(node, at, shape, &weights, &runs, pass))?,
            biases: node.biases.iter().map(|&bias| at.param(bias)).collect::<Result<_>>()?,
            hidden: flat(rows, shape.width)?,
            state: flat(if node.cell == Cell::Lstm { rows } else { 0 }, shape.width)?,
            order: Order::new(room),
            keeps,
            shape,
            x,
            y,
            places,
            runs,
        })
    }
}

impl<T: Real> Backward<T> {
    fn new(
        node: &Recur,
        at: &Prepare<'_, T>,
        shape: Shape,
        weights: &[Buffer<T>],
        runs: &[Run<T>],
        pass: Pass,
    ) -> Result<Self> {
        let dy = at.arriving(node.output, pass);
        let lanes = dy.layout.lanes;
        let memory = |rows: usize, width: usize| Buffer::zeros(Layout { groups: 1, rows, lanes, width });
        let inner = memory(shape.room, shape.wide())?;
        let hidden = memory(shape.rows, shape.width)?;
        let state = memory(if shape.cell == Cell::Lstm { shape.rows } else { 0 }, shape.width)?;
        let mut products = Vec::with_capacity(runs.len());
        let mut of_weights = Vec::with_capacity(weights.len());
        for direction in 0..weights.len() {
            let kept = at.learns(direction) && at.tiled(direction, pass)?.is_none();
            of_weights.push(kept.then(|| at.param_gradient(direction, pass)).transpose()?);
        }
        let mut sinks = Vec::with_capacity(runs.len());
        for run in runs {
            let weight = &weights[run.direction];
            let weight = weight.view(&[shape.wide(), shape.width], &[shape.width, 1], shape.of_weight(run.group))?;
            products.push(PartialProduct::of_rows(shape.matrix(&hidden)?, shape.matrix(&inner)?, weight)?);
            let tiled = at.tiled(run.direction, pass)?;
            sinks.push(match (&of_weights[run.direction], tiled) {
                (Some(slab), _) => {
                    let start = run.group * lanes * shape.wide() * shape.width;
                    Weight::Whole(shape.of_sums(&slab.buffer, start, &inner, 0, lanes * shape.wide(), run)?)
                }
                (None, Some(tiled)) if at.learns(run.direction) => shape.tiles(&inner, tiled, run)?,
                _ => Weight::Frozen,
            });
        }
        let biases = node.weights.len()..node.weights.len() + node.biases.len();
        Ok(Self {
            dy,
            dx: at.leaving(0, pass),
            inner,
            hidden,
            state,
            products,
            weights: sinks,
            of_weights,
            of_biases: biases.map(|k| at.param_gradient(k, pass)).collect::<Result<_>>()?,
        })
    }
}

impl<T: Real> Kernel for RecurKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let Self { shape, x, y, places, order, keeps, runs, biases, hidden, state, .. } = self;
        let Shape { cell, width, directions, .. } = *shape;
        order.lay(places.counts.slice());
        for run in runs {
            let backward = run.direction == 1;
            let group = shape.group(run.group, 1, shape.wide());
            let bias = biases.get(run.direction).map_or(&[][..], |bias| &bias.slice()[run.group * width..][..width]);
            for t in 0..order.longest() {
                let count = order.count(t);
                let start = if *keeps { order.offset(t) } else { 0 };
                let before = &mut run.before.slice_mut()[start * width..][..count * width];
                if t == 0 {
                    before.fill(T::ZERO);
                    hidden.slice_mut()[..count * width].fill(T::ZERO);
                    run.gates.slice_mut()[start * shape.wide()..][..count * shape.wide()].fill(T::ZERO);
                } else {
                    before.copy_from_slice(&hidden.slice()[..count * width]);
                    run.product.rows(start, start, count, Mode::Write)?;
                }
                let given = Given {
                    x: &x.slice()[group.clone()],
                    of_x: shape.columns(run.direction, shape.wide()),
                    positions: order.positions(backward, t),
                    bias,
                };
                let worked = Worked {
                    gates: &mut run.gates.slice_mut()[start * shape.wide()..],
                    kept: &mut run.kept.slice_mut()[start * cell.kept() * width..],
                    hidden: hidden.slice_mut(),
                    state: state.slice_mut(),
                    y: &mut y.slice_mut()[shape.group(run.group, 1, width)],
                    of_y: shape.columns(run.direction, width),
                };
                match cell {
                    Cell::Lstm => {
                        if t == 0 {
                            worked.state[..count * width].fill(T::ZERO);
                        }
                        lstm(given, worked);
                    }
                    Cell::Gru => gru(given, worked),
                }
            }
        }
        // Beyond the last position there is nothing.
        for of_group in y.slice_mut().chunks_exact_mut((shape.room * directions * width).max(1)) {
            of_group[order.total() * directions * width..].fill(T::ZERO);
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Self { shape, order, runs, .. } = self;
        let Shape { cell, width, directions, .. } = *shape;
        let back = self.passes.of(pass);
        let lanes = back.dy.layout.lanes;
        for (index, run) in runs.iter().enumerate() {
            for t in (0..order.longest()).rev() {
                let (count, start) = (order.count(t), order.offset(t));
                // Rows that end here have nothing behind them.
                let ending = order.count(t + 1) * lanes * width..count * lanes * width;
                back.hidden.slice_mut()[ending.clone()].fill(T::ZERO);
                let arriving = Arriving {
                    lanes,
                    dy: &back.dy.slice()[shape.group(run.group, lanes, width)],
                    of_y: shape.columns(run.direction, width),
                    positions: order.positions(run.direction == 1, t),
                    gates: &run.gates.slice()[start * shape.wide()..],
                    kept: &run.kept.slice()[start * cell.kept() * width..],
                    before: &run.before.slice()[start * width..],
                };
                let dx = back.dx.as_mut().map(|dx| {
                    let add = dx.mode == Mode::Add;
                    let group = shape.group(run.group, lanes, shape.wide());
                    (&mut dx.buffer.slice_mut()[group], shape.columns(run.direction, shape.wide()), add)
                });
                let leaving = Leaving {
                    hidden: back.hidden.slice_mut(),
                    state: back.state.slice_mut(),
                    inner: &mut back.inner.slice_mut()[start * lanes * shape.wide()..],
                    dx,
                };
                let mode = match cell {
                    Cell::Lstm => {
                        leaving.state[ending].fill(T::ZERO);
                        lstm_back(arriving, leaving);
                        Mode::Write
                    }
                    Cell::Gru => {
                        gru_back(arriving, leaving);
                        Mode::Add
                    }
                };
                if t > 0 {
                    back.products[index].rows(0, start * lanes, count * lanes, mode)?;
                }
            }
            back.store(step, *shape, order, index, run)?;
        }
        if let Some(InputGradient { buffer, mode: Mode::Write, .. }) = &mut back.dx {
            let size = lanes * directions * shape.wide();
            for of_group in buffer.slice_mut().chunks_exact_mut((shape.room * size).max(1)) {
                of_group[order.total() * size..].fill(T::ZERO);
            }
        }
        Ok(())
    }
}

impl<T: Real> Backward<T> {
    /// The gradients of a run's parameters: at the first time `h` of before is 0.
    fn store(&mut self, step: &Step<'_>, shape: Shape, order: &Order, index: usize, run: &Run<T>) -> Result<()> {
        let later = order.count(0)..order.total();
        match &mut self.weights[index] {
            Weight::Whole(product) => {
                let mode = self.of_weights[run.direction].as_ref().map_or(Mode::Write, |slab| slab.mode(step));
                product.within(later, mode)?;
            }
            Weight::Tiles(tiles, gramian) => {
                for (products, square) in tiles {
                    products.iter().try_for_each(|product| product.within(later.clone(), Mode::Write))?;
                    square.add(gramian.slice_mut())?;
                }
            }
            Weight::Frozen => {}
        }
        if let Some(bias) = self.of_biases.get_mut(run.direction) {
            let lanes = self.inner.layout.lanes;
            let add = bias.mode(step) == Mode::Add;
            let inner = &self.inner.slice()[..order.total() * lanes * shape.wide()];
            let to = &mut bias.buffer.slice_mut()[run.group * lanes * shape.width..][..lanes * shape.width];
            sums(inner, lanes, shape.wide(), to, add);
        }
        Ok(())
    }
}
