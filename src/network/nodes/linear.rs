//! `y = act(x W^T + b)`: one layer, equal layers side by side, several layers over one input, or one layer over all groups.

use serde_json::{Value, json};

mod loops;
mod rounded;
mod shapes;

use std::ops::Range;

use self::loops::{Arriving, by_rows, scale_by_slope, scale_by_slope_together, shift, shift_apart, spread};
use self::rounded::{Halved, scale_by_slope_rounded};
use self::shapes::{Shapes, Tiling};
use super::activation::{Activated, Activation};
use crate::error::{Error, Result};
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::gram::Square;
use crate::machine::half::round;
use crate::machine::parallel::{Disjoint, split};
use crate::machine::product::{Mode, Product};
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::entrance::{Entrance, TaskColumns, task_columns};
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::gradient::Tiled;
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};
use crate::parameters::ParamId;
use crate::with_activation;

/// How groups of input and output correspond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// Each group of the input has so many layers, whose results are neighbouring groups of the output; one product
    /// computes all that read the same group.
    Own(usize),
    /// One layer, for all groups.
    Tied,
}

/// A linear layer with bias and activation, or its product alone; weight `[out, in]`, or `[groups, layers * out, in]`.
#[derive(Debug)]
pub struct Linear {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// `[out, in]`, or `[groups, layers * out, in]`.
    pub weight: ParamId,
    /// `[out]`, or `[groups, layers * out]`; none of a product alone, which has no activation and one layer a group.
    pub bias: Option<ParamId>,
    /// Applied to the sum.
    pub activation: Option<Activation>,
    /// How groups correspond.
    pub wiring: Wiring,
}

struct LinearKernel<T> {
    forward: Product,
    y: Buffer<T>,
    /// What the product gives, `[groups, rows, layers * out]`, where several layers read one group.
    wide: Option<Buffer<T>>,
    layers: usize,
    /// The argument of the activation, where its slope needs it.
    kept: Option<Buffer<T>>,
    bias: Option<Buffer<T>>,
    activation: Option<Activation>,
    /// Room for sums of further threads.
    room: Vec<T>,
    passes: PerPass<Backward<T>>,
}

/// The products and views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    /// The gradient in the layout of the product, where several layers read one group.
    wide: Option<Buffer<T>>,
    bias: Option<ParamGradient<T>>,
    weight: Weight<T>,
    /// Where this pass weighs what goes on to the input.
    entrance: Option<Entrance>,
    input: Input<T>,
}

/// How the weight's gradient comes about.
enum Weight<T> {
    /// In one product, for the sum or for all tasks.
    Whole(Product, ParamGradient<T>),
    /// For all tasks, tile by tile, each into the Gramian.
    Tiles { products: Vec<(Product, Square<T>)>, gramian: Buffer<f64> },
    /// Likewise, with all products of the pass in bfloat16.
    Halves(Box<Halved<T>>),
    /// Not at all.
    Frozen,
}

/// How the input's gradient comes about.
enum Input<T> {
    /// By products; each overwrites or adds to the lanes it touches.
    Products(Vec<(Product, Mode)>),
    /// The same into one lane each of groups whose other lanes are zero.
    Sparse(Buffer<T>, Vec<Product>),
    /// By a loop, from few columns a task into one lane each.
    Narrow { dx: Buffer<T>, mode: Mode, weight: Buffer<T>, pieces: Vec<TaskColumns> },
}

/// Most columns of a task for which a loop beats a product of its own.
const NARROW: usize = 8;

impl Node for Linear {
    fn name(&self) -> &'static str {
        "Linear"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        let tied = self.wiring == Wiring::Tied;
        let bias = self.bias.is_some();
        Some(json!({"activation": self.activation, "layers": self.layers(), "tied": tied, "bias": bias}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let (groups, rows, inner) = sizes(given.input(0));
        let layers = self.layers() as i64;
        let (of_product, many) = match self.wiring {
            Wiring::Own(_) => (groups, rows),
            Wiring::Tied => (1, groups * rows),
        };
        let weight = given.grouped(0, &[of_product, -1, inner]);
        let sums = given.input(0).reshape([of_product, many, inner]).matmul(&weight.transpose(1, 2));
        let sums = if self.bias.is_some() { sums + given.grouped(1, &[of_product, 1, -1]) } else { sums };
        let apart = sums.reshape([groups, rows, layers, -1]).permute([0, 2, 1, 3]);
        let sums = apart.reshape([groups * layers, rows, -1]);
        Ok(self.activation.map_or(sums.shallow_clone(), |activation| activation.formula(&sums)).into())
    }

    fn params(&self) -> Vec<ParamId> {
        std::iter::once(self.weight).chain(self.bias).collect()
    }

    fn tiles(&self, param: ParamId) -> bool {
        param == self.weight
    }

    fn multiplies(&self) -> Option<ParamId> {
        Some(self.weight)
    }

    fn affine(&self) -> bool {
        self.activation.is_none()
    }
}

impl<T: Real> Prepares<T> for Linear {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let x = self.over(at.value(self.input))?;
        let y = self.over(at.value(self.output))?;
        let shapes = Shapes {
            groups: x.layout.groups,
            rows: x.layout.rows,
            outer: y.layout.width * self.layers(),
            inner: x.layout.width,
        };
        let weight = at.param(self.weight)?;
        let kept = self.activation.is_some_and(Activation::keeps).then(|| at.scratch(self.output)).transpose()?;
        let wide = self.wide(&shapes, 1)?;
        let forward = shapes.forward(&x, &weight, wide.as_ref().unwrap_or(&y))?;
        let passes = at.each_pass(|pass| self.backward(at, &shapes, &x, &weight, pass))?;
        let bias = self.bias.map(|bias| at.param(bias)).transpose()?;
        let activation = self.activation;
        let room = Vec::new();
        let layers = self.layers();
        by_loops(LinearKernel { forward, y, wide, layers, kept, bias, activation, room, passes })
    }
}

impl Linear {
    /// Layers that read one group of the input.
    fn layers(&self) -> usize {
        match self.wiring {
            Wiring::Own(layers) => layers,
            Wiring::Tied => 1,
        }
    }

    /// A buffer as the products see it: groups that share one layer are rows.
    fn over<T: Real>(&self, buffer: Buffer<T>) -> Result<Buffer<T>> {
        let Layout { groups, rows, .. } = buffer.layout;
        match self.wiring {
            Wiring::Own(_) => Ok(buffer),
            Wiring::Tied => buffer.part(0, Layout { groups: 1, rows: groups * rows, ..buffer.layout }),
        }
    }

    /// Memory in the layout of the product, where that is not the value's own.
    fn wide<T: Real>(&self, shapes: &Shapes, lanes: usize) -> Result<Option<Buffer<T>>> {
        let layout = Layout { groups: shapes.groups, rows: shapes.rows, lanes, width: shapes.outer };
        (self.layers() > 1).then(|| Buffer::zeros(layout)).transpose()
    }

    fn backward<T: Real>(
        &self,
        at: &Prepare<'_, T>,
        shapes: &Shapes,
        x: &Buffer<T>,
        weight: &Buffer<T>,
        pass: Pass,
    ) -> Result<Backward<T>> {
        let arriving = self.over(at.arriving(self.output, pass))?;
        let wide = self.wide(shapes, arriving.layout.lanes)?;
        let dy = wide.as_ref().unwrap_or(&arriving).share();
        let leaving = at.leaving(0, pass);
        let leaving = leaving.map(|dx| Ok::<_, Error>(InputGradient { buffer: self.over(dx.buffer)?, ..dx }));
        let leaving = leaving.transpose()?;
        if let Some(Tiled { gramian, size, halves: true }) = at.tiled(0, pass)? {
            let halved = Halved::new(shapes, x, weight, &dy, leaving, size, gramian)?;
            let weight = Weight::Halves(Box::new(halved));
            let input = Input::Products(Vec::new());
            let bias = self.bias_gradient(at, pass)?;
            return Ok(Backward { dy: arriving, wide, bias, weight, entrance: None, input });
        }
        let pieces = task_columns(at.net, self.output, self.layers());
        let input = match leaving {
            Some(dx) if dx.buffer.layout.lanes == dy.layout.lanes => {
                Input::Products(vec![(shapes.input(&dx, weight, &dy)?, dx.mode)])
            }
            Some(dx) => spread_over(shapes, dx, weight, &dy, pieces.clone())?,
            None => Input::Products(Vec::new()),
        };
        let weight = match at.tiled(0, pass)? {
            Some(Tiled { gramian, size, .. }) => {
                let lanes = dy.layout.lanes;
                let tile = Buffer::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: shapes.tile(lanes, size) })?;
                let mut products = Vec::new();
                for (product, size) in shapes.tiles(lanes, size, &Tiling { dy: &dy, x, tile: &tile })? {
                    products.push((product, square(&tile, lanes, size)?));
                }
                Weight::Tiles { products, gramian }
            }
            None if !at.learns(0) => Weight::Frozen,
            None => {
                let slab = at.param_gradient(0, pass)?;
                Weight::Whole(shapes.weight(&slab.buffer, x, &dy)?, slab)
            }
        };
        let entrance = at.entrance(0).filter(|_| pass == Pass::Summed).map(|_| Entrance::new(pieces));
        Ok(Backward { dy: arriving, wide, bias: self.bias_gradient(at, pass)?, weight, entrance, input })
    }

    fn bias_gradient<T: Real>(&self, at: &Prepare<'_, T>, pass: Pass) -> Result<Option<ParamGradient<T>>> {
        self.bias.map(|_| at.param_gradient(1, pass)).transpose()
    }
}

/// From a gradient of one lane into one lane each of an input that all tasks reach.
fn spread_over<T: Real>(
    shapes: &Shapes,
    dx: InputGradient<T>,
    weight: &Buffer<T>,
    dy: &Buffer<T>,
    pieces: Vec<TaskColumns>,
) -> Result<Input<T>> {
    let &Shapes { groups, rows, outer, inner } = shapes;
    if groups == 1 && pieces.iter().all(|piece| piece.columns.len() <= NARROW) {
        return Ok(Input::Narrow { dx: dx.buffer, mode: dx.mode, weight: weight.share(), pieces });
    }
    let lanes = dx.buffer.layout.lanes;
    let mut products = Vec::with_capacity(pieces.len());
    for TaskColumns { task, group, columns } in pieces {
        let start = (group * rows * lanes + task) * inner;
        let lane = dx.buffer.view(&[rows, inner], &[lanes * inner, 1], start)?;
        let arrived = dy.view(&[rows, columns.len()], &[outer, 1], group * rows * outer + columns.start)?;
        let own = weight.view(&[columns.len(), inner], &[inner, 1], (group * outer + columns.start) * inner)?;
        products.push(Product::new(lane, arrived, own)?);
    }
    // With groups, each lane is filled in the groups of its own task alone.
    match (groups, dx.mode) {
        (1, mode) => Ok(Input::Products(products.into_iter().map(|product| (product, mode)).collect())),
        (_, Mode::Write) => Ok(Input::Sparse(dx.buffer, products)),
        (_, Mode::Add) => Ok(Input::Products(products.into_iter().map(|product| (product, Mode::Add)).collect())),
    }
}

/// The products of the first `size` elements of a tile, all tasks' parts with each other.
fn square<T: Real>(tile: &Buffer<T>, lanes: usize, size: usize) -> Result<Square<T>> {
    Square::new(tile.part(0, Layout { groups: 1, rows: 1, lanes, width: size / lanes })?, lanes)
}

impl<T: Real> Kernel for LinearKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        self.forward.run(Mode::Write)?;
        let layout = self.y.layout;
        let Some(bias) = &self.bias else { return Ok(()) };
        let bias = bias.slice();
        let layers = self.layers;
        let kept = self.kept.as_mut().map(Buffer::slice_mut);
        match &self.wide {
            Some(wide) => {
                let wide = wide.slice();
                let y = self.y.slice_mut();
                with_activation!(self.activation, S => shift_apart::<T, S>(layout, layers, wide, y, kept, bias));
            }
            None => with_activation!(self.activation, S => shift::<T, S>(layout, self.y.slice_mut(), kept, bias)),
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let y = self.y.slice();
        let activated = Activated { x: self.kept.as_ref().map_or(y, |kept| kept.slice()), y };
        let back = self.passes.of(pass);
        let Some(bias) = &mut back.bias else {
            let layout = back.dy.layout;
            if let Weight::Halves(halved) = &mut back.weight {
                round(back.dy.slice(), halved.dy.slice_mut());
                return halved.run(layout.lanes);
            }
            return back.products(step, layout);
        };
        let mode = bias.mode(step);
        let activation = self.activation;
        let layers = self.layers;
        let layout = back.wide.as_ref().map_or(back.dy.layout, |wide| wide.layout);
        let bias = bias.buffer.slice_mut();
        let size = layout.lanes * layout.width;
        let of = |rows: &Range<usize>| rows.start * size..rows.end * size;
        if let Some(wide) = &mut back.wide {
            let dy = back.dy.slice();
            let places = Disjoint::new(wide.slice_mut());
            by_rows(layout, bias, mode, &mut self.room, &|rows, bias| {
                // SAFETY: each thread has rows of its own.
                let to = unsafe { places.part(of(&rows)) };
                with_activation!(activation, S => scale_by_slope_together::<T, S>(layout, layers, rows.start, activated, dy, to, bias));
            });
            if let Weight::Halves(halved) = &mut back.weight {
                round(wide.slice(), halved.dy.slice_mut());
                return halved.run(layout.lanes);
            }
        } else if let Weight::Halves(halved) = &mut back.weight {
            let dy = back.dy.slice();
            let rounded = Disjoint::new(halved.dy.slice_mut());
            by_rows(layout, bias, mode, &mut self.room, &|rows, bias| {
                // SAFETY: each thread has rows of its own.
                let to = unsafe { rounded.part(of(&rows)) };
                with_activation!(activation, S => scale_by_slope_rounded::<T, S>(layout, rows.start, activated, dy, to, bias));
            });
            return halved.run(layout.lanes);
        } else {
            let dy = Disjoint::new(back.dy.slice_mut());
            by_rows(layout, bias, mode, &mut self.room, &|rows, bias| {
                // SAFETY: each thread has rows of its own.
                let dy = unsafe { dy.part(of(&rows)) };
                with_activation!(activation, S => scale_by_slope::<T, S>(layout, rows.start, activated, dy, bias));
            });
        }
        back.products(step, layout)
    }
}

impl<T: Real> Backward<T> {
    /// The gradients of weight and input, from the one before the activation.
    fn products(&mut self, step: &Step<'_>, layout: Layout) -> Result<()> {
        match &mut self.weight {
            Weight::Whole(product, slab) => product.run(slab.mode(step))?,
            Weight::Tiles { products, gramian } => {
                for (product, square) in products {
                    product.run(Mode::Write)?;
                    square.add(gramian.slice_mut())?;
                }
            }
            Weight::Halves(_) | Weight::Frozen => {}
        }
        let dy = self.wide.as_mut().unwrap_or(&mut self.dy);
        if let Some(entrance) = &self.entrance {
            entrance.weigh(step, layout, dy.slice_mut());
        }
        match &mut self.input {
            Input::Products(products) => products.iter().try_for_each(|(product, mode)| product.run(*mode)),
            Input::Sparse(dx, products) => {
                dx.slice_mut().fill(T::ZERO);
                products.iter().try_for_each(|product| product.run(Mode::Add))
            }
            Input::Narrow { dx, mode, weight, pieces } => {
                let to = dx.layout;
                let mode = *mode;
                let size = dx.layout.lanes * dx.layout.width;
                let arriving = Arriving { dy: dy.slice(), outer: layout.width, weight: weight.slice() };
                let places = Disjoint::new(dx.slice_mut());
                split(to.rows, to.len(), &|_, rows| {
                    // SAFETY: each thread has rows of its own.
                    let dx = unsafe { places.part(rows.start * size..rows.end * size) };
                    spread(to, rows.start, pieces, arriving, dx, mode);
                });
                Ok(())
            }
        }
    }
}
