//! `y = act(x W^T + b)`: one layer, equal layers side by side, or several layers over one input.

mod rounded;

use std::ops::Range;

use tch::Tensor;

use self::rounded::{Halved, unbend_rounded};
use super::Node;
use super::activation::{Curve, Shape};
use crate::error::Result;
use crate::network::buffer::{Buffer, Layout, Memory};
use crate::network::gradient::{Pass, PerPass, Tiled};
use crate::network::gram::Square;
use crate::network::parallel::{Places, split, threads};
use crate::network::plan::{Entrance, InputGradient, Kernel, ParamGradient, Prepare, Step};
use crate::network::product::{Mode, Product};
use crate::network::{ParamId, Reach, ValueId};
use crate::real::Real;
use crate::{vectorised, with_shape};

/// How groups of input and output correspond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// No groups.
    Plain,
    /// Each group its own layer.
    Grouped,
    /// One input, a layer for each group of the output.
    FanOut,
}

/// A linear layer with bias and activation; weight `[out, in]` or `[groups, out, in]`.
#[derive(Debug)]
pub struct Linear {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// `[out, in]`, or `[groups, out, in]`.
    pub weight: ParamId,
    /// `[out]`, or `[groups, out]`.
    pub bias: ParamId,
    /// Applied to the sum.
    pub curve: Option<Curve>,
    /// How groups correspond.
    pub wiring: Wiring,
}

struct LinearKernel<T> {
    forward: Product,
    y: Buffer<T>,
    /// The argument of the activation, where its slope needs it.
    kept: Option<Buffer<T>>,
    bias: Buffer<T>,
    curve: Option<Curve>,
    /// Room for sums of further threads.
    room: Vec<T>,
    passes: PerPass<Backward<T>>,
}

/// The products and views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    bias: ParamGradient<T>,
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
}

/// How the input's gradient comes about.
enum Input<T> {
    /// By products; each overwrites or adds to the lanes it touches.
    Products(Vec<(Product, Mode)>),
    /// By a loop, from few columns a task into one lane each.
    Narrow { dx: Buffer<T>, mode: Mode, weight: Buffer<T>, pieces: Vec<Piece> },
}

/// The columns of one task in a gradient of one lane.
#[derive(Debug, Clone)]
struct Piece {
    task: usize,
    group: usize,
    columns: Range<usize>,
}

/// Most columns of a task for which a loop beats a product of its own.
const NARROW: usize = 8;

impl Node for Linear {
    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.weight, self.bias]
    }

    fn tiles(&self, param: ParamId) -> bool {
        param == self.weight
    }

    fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let (x, y) = (at.value(self.input), at.value(self.output));
        let shapes = Shapes {
            wiring: self.wiring,
            groups: y.layout.groups,
            rows: at.rows,
            outer: y.layout.width,
            inner: x.layout.width,
        };
        let weight = at.param(self.weight)?;
        let kept = self.curve.is_some_and(Curve::keeps).then(|| at.scratch(self.output)).transpose()?;
        let forward = shapes.forward(&x, &weight, &y)?;
        let passes = at.each_pass(|pass| self.backward(at, &shapes, &x, &weight, pass))?;
        let (bias, curve, room) = (at.param(self.bias)?, self.curve, Vec::new());
        Ok(Box::new(LinearKernel { forward, y, kept, bias, curve, room, passes }))
    }
}

impl Linear {
    fn backward<T: Real>(
        &self,
        at: &Prepare<'_, T>,
        shapes: &Shapes,
        x: &Buffer<T>,
        weight: &Buffer<T>,
        pass: Pass,
    ) -> Result<Backward<T>> {
        let dy = at.arriving(self.output, pass);
        if let Some(Tiled { gramian, size, halves: true }) = at.tiled(0, pass)? {
            let halved = Halved::new(shapes, [x, weight, &dy], at.leaving(0, pass), size, gramian)?;
            let (weight, input) = (Weight::Halves(Box::new(halved)), Input::Products(Vec::new()));
            return Ok(Backward { dy, bias: at.param_gradient(1, pass)?, weight, entrance: None, input });
        }
        let input = match at.leaving(0, pass) {
            Some(dx) if dx.buffer.layout.lanes == dy.layout.lanes => Input::Products(shapes.input(&dx, weight, &dy)?),
            Some(dx) => self.spread(at, shapes, dx, weight, &dy)?,
            None => Input::Products(Vec::new()),
        };
        let weight = match at.tiled(0, pass)? {
            Some(Tiled { gramian, size, .. }) => {
                let lanes = dy.layout.lanes;
                let tile = Buffer::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: shapes.tile(lanes, size) })?;
                let square = |(product, size)| Ok((product, square(&tile, lanes, size)?));
                let products = shapes.tiles(lanes, size, [&dy, x, &tile])?.into_iter().map(square);
                Weight::Tiles { products: products.collect::<Result<_>>()?, gramian }
            }
            None => {
                let slab = at.param_gradient(0, pass)?;
                Weight::Whole(shapes.weight(&slab.buffer, x, &dy)?, slab)
            }
        };
        let entrance = at.entrance(0).filter(|_| pass == Pass::Summed);
        Ok(Backward { dy, bias: at.param_gradient(1, pass)?, weight, entrance, input })
    }

    /// From a gradient of one lane into one lane each of an input that all tasks reach.
    fn spread<T: Real>(
        &self,
        at: &Prepare<'_, T>,
        shapes: &Shapes,
        dx: InputGradient<T>,
        weight: &Buffer<T>,
        dy: &Buffer<T>,
    ) -> Result<Input<T>> {
        let value = &at.net.values[self.output];
        let Shapes { rows, outer, inner, .. } = *shapes;
        let pieces: Vec<_> = match value.reach {
            Reach::One(task) => vec![Piece { task, group: 0, columns: 0..outer }],
            Reach::Own => (0..shapes.groups).map(|g| Piece { task: g, group: g, columns: 0..outer }).collect(),
            _ => {
                let columns = value.columns.iter().cloned().enumerate();
                columns.map(|(task, columns)| Piece { task, group: 0, columns }).collect()
            }
        };
        if pieces.iter().all(|piece| piece.columns.len() <= NARROW) {
            return Ok(Input::Narrow { dx: dx.buffer, mode: dx.mode, weight: weight.share(), pieces });
        }
        let lanes = dx.buffer.layout.lanes;
        let product = |Piece { task, group, columns }: Piece| {
            let lane = dx.buffer.view(&[rows, inner], &[lanes * inner, 1], task * inner)?;
            let arrived = dy.view(&[rows, columns.len()], &[outer, 1], group * rows * outer + columns.start)?;
            let own = weight.view(&[columns.len(), inner], &[inner, 1], (group * outer + columns.start) * inner)?;
            Ok((Product::new(lane, arrived, own)?, dx.mode))
        };
        Ok(Input::Products(pieces.into_iter().map(product).collect::<Result<_>>()?))
    }
}

/// The sizes of a linear node, and the products over them.
struct Shapes {
    wiring: Wiring,
    groups: usize,
    rows: usize,
    outer: usize,
    inner: usize,
}

impl Shapes {
    fn forward<T: Real>(&self, x: &Buffer<T>, weight: &Buffer<T>, y: &Buffer<T>) -> Result<Product> {
        let &Shapes { groups, rows, outer, inner, .. } = self;
        if self.wiring == Wiring::Plain {
            let w = weight.view(&[inner, outer], &[1, inner], 0)?;
            return Product::new(y.shaped(&[rows, outer])?, x.shaped(&[rows, inner])?, w);
        }
        let w = weight.view(&[groups, inner, outer], &[outer * inner, 1, inner], 0)?;
        Product::new(y.shaped(&[groups, rows, outer])?, self.input_view(x)?, w)
    }

    /// The input `[groups, rows, in]`, repeated for each group where it has none.
    fn input_view<T: Real>(&self, x: &Buffer<T>) -> Result<Tensor> {
        let step = if self.wiring == Wiring::FanOut { 0 } else { self.rows * self.inner };
        x.view(&[self.groups, self.rows, self.inner], &[step, self.inner, 1], 0)
    }

    /// `dW = dy^T x`, all lanes in one product a group: dy `[rows, lanes * out]`, slab `[lanes * out, in]`.
    fn weight<T: Real>(&self, slab: &Buffer<T>, x: &Buffer<T>, dy: &Buffer<T>) -> Result<Product> {
        let &Shapes { groups, rows, inner, .. } = self;
        let wide = dy.layout.lanes * self.outer;
        if self.wiring == Wiring::Plain {
            let arrived = dy.view(&[wide, rows], &[1, wide], 0)?;
            return Product::new(slab.shaped(&[wide, inner])?, arrived, x.shaped(&[rows, inner])?);
        }
        let arrived = dy.view(&[groups, wide, rows], &[rows * wide, 1, wide], 0)?;
        Product::new(slab.shaped(&[groups, wide, inner])?, arrived, self.input_view(x)?)
    }

    /// Outputs in one tile of at most `size` elements, if at all possible.
    fn chunk(&self, lanes: usize, size: usize) -> usize {
        (size / (lanes * self.inner).max(1)).clamp(1, self.outer)
    }

    /// Elements of a tile.
    fn tile(&self, lanes: usize, size: usize) -> usize {
        self.chunk(lanes, size) * lanes * self.inner
    }

    /// `dW = dy^T x` for some outputs at a time, each `[lanes, outputs, in]` into the same memory; and the sizes.
    fn tiles(&self, lanes: usize, size: usize, memory: [&dyn Memory; 3]) -> Result<Vec<(Product, usize)>> {
        let ([dy, x, tile], &Shapes { groups, rows, outer, inner, .. }) = (memory, self);
        let (chunk, wide) = (self.chunk(lanes, size), lanes * outer);
        let mut products = Vec::new();
        for group in 0..groups {
            let from = if self.wiring == Wiring::FanOut { 0 } else { group * rows * inner };
            for first in (0..outer).step_by(chunk) {
                let count = chunk.min(outer - first);
                let start = group * rows * wide + first;
                let product = if count == outer {
                    let arrived = dy.view(&[wide, rows], &[1, wide], start)?;
                    let x = x.view(&[rows, inner], &[inner, 1], from)?;
                    Product::new(tile.view(&[wide, inner], &[inner, 1], 0)?, arrived, x)?
                } else {
                    let arrived = dy.view(&[lanes, count, rows], &[outer, 1, wide], start)?;
                    let x = x.view(&[lanes, rows, inner], &[0, inner, 1], from)?;
                    Product::new(tile.view(&[lanes, count, inner], &[count * inner, inner, 1], 0)?, arrived, x)?
                };
                products.push((product, lanes * count * inner));
            }
        }
        Ok(products)
    }

    /// `dx = dy W` for input and output of equally many lanes.
    fn input<T: Real>(
        &self,
        dx: &InputGradient<T>,
        weight: &Buffer<T>,
        dy: &Buffer<T>,
    ) -> Result<Vec<(Product, Mode)>> {
        let &Shapes { groups, outer, inner, .. } = self;
        let long = self.rows * dy.layout.lanes;
        if self.wiring == Wiring::Grouped {
            let (d, y) = (dx.buffer.shaped(&[groups, long, inner])?, dy.shaped(&[groups, long, outer])?);
            return Ok(vec![(Product::new(d, y, weight.shaped(&[groups, outer, inner])?)?, dx.mode)]);
        }
        // Every group of a fan-out adds to the one input.
        let product = |g: usize| {
            let y = dy.view(&[long, outer], &[outer, 1], g * long * outer)?;
            let w = weight.view(&[outer, inner], &[inner, 1], g * outer * inner)?;
            let mode = if g == 0 { dx.mode } else { Mode::Add };
            Ok((Product::new(dx.buffer.shaped(&[long, inner])?, y, w)?, mode))
        };
        (0..groups).map(product).collect()
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
        let kept = self.kept.as_mut().map(Buffer::slice_mut);
        with_shape!(self.curve, S => shift::<T, S>(layout, self.y.slice_mut(), kept, self.bias.slice()));
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let y = self.y.slice();
        let kept = self.kept.as_ref().map_or(y, |kept| kept.slice());
        let back = self.passes.of(pass);
        let (layout, mode) = (back.dy.layout, back.bias.mode(step));
        let bias = back.bias.buffer.slice_mut();
        let (curve, size) = (self.curve, layout.lanes * layout.width);
        let of = |rows: &Range<usize>| rows.start * size..rows.end * size;
        if let Weight::Halves(halved) = &mut back.weight {
            let (dy, rounded) = (back.dy.slice(), Places::new(halved.dy.slice_mut()));
            by_rows(layout, bias, mode, &mut self.room, &|rows, bias| {
                // SAFETY: each thread has rows of its own.
                let to = unsafe { rounded.part(of(&rows)) };
                with_shape!(curve, S => unbend_rounded::<T, S>(layout, rows.start, [kept, y, dy], to, bias));
            });
            return halved.run(layout.lanes);
        }
        let dy = Places::new(back.dy.slice_mut());
        by_rows(layout, bias, mode, &mut self.room, &|rows, bias| {
            // SAFETY: each thread has rows of its own.
            let dy = unsafe { dy.part(of(&rows)) };
            with_shape!(curve, S => unbend::<T, S>(layout, rows.start, [kept, y], dy, bias));
        });
        match &mut back.weight {
            Weight::Whole(product, slab) => product.run(slab.mode(step))?,
            Weight::Tiles { products, gramian } => {
                for (product, square) in products {
                    product.run(Mode::Write)?;
                    square.add(gramian.slice_mut())?;
                }
            }
            Weight::Halves(_) => {}
        }
        if let Some(entrance) = &back.entrance {
            entrance.weigh(step, layout, back.dy.slice_mut());
        }
        match &mut back.input {
            Input::Products(products) => products.iter().try_for_each(|(product, mode)| product.run(*mode)),
            Input::Narrow { dx, mode, weight, pieces } => {
                let (to, mode, size) = (dx.layout, *mode, dx.layout.lanes * dx.layout.width);
                let (dy, weight, places) = (back.dy.slice(), weight.slice(), Places::new(dx.slice_mut()));
                split(to.rows, to.len(), &|_, rows| {
                    // SAFETY: each thread has rows of its own.
                    let dx = unsafe { places.part(rows.start * size..rows.end * size) };
                    spread(to, rows.start, pieces, [dy, weight], layout.width, dx, mode);
                });
                Ok(())
            }
        }
    }
}

vectorised! {
/// `dx[row, task] = sum over the task's columns of dy[row, column] W[column]` for rows from `first` on; the layout is `dx`'s.
fn spread<T: Real>(
    layout: Layout,
    first: usize,
    pieces: &[Piece],
    from: [&[T]; 2],
    outer: usize,
    dx: &mut [T],
    mode: Mode,
) {
    let ([dy, weight], Layout { rows, lanes, width, .. }) = (from, layout);
    for (row, dx) in dx.chunks_exact_mut(lanes * width).enumerate() {
        let row = first + row;
        for piece in pieces {
            let dx = &mut dx[piece.task * width..][..width];
            let start = piece.group * rows * outer + row * outer;
            for column in piece.columns.clone() {
                let (d, own) = (dy[start + column], &weight[(piece.group * outer + column) * width..][..width]);
                if mode == Mode::Write && column == piece.columns.start {
                    for j in 0..width {
                        dx[j] = d * own[j];
                    }
                } else {
                    for j in 0..width {
                        dx[j] += d * own[j];
                    }
                }
            }
        }
    }
}
}

vectorised! {
/// Adds the bias and applies the activation, in one pass over `y`.
fn shift<T: Real, S: Shape>(layout: Layout, y: &mut [T], kept: Option<&mut [T]>, bias: &[T]) {
    let Layout { rows, width, .. } = layout;
    let Some(kept) = kept else {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            let bias = &bias[i / rows * width..][..width];
            for j in 0..width {
                y[j] = S::value(y[j] + bias[j]);
            }
        }
        return;
    };
    for (i, (y, z)) in y.chunks_exact_mut(width).zip(kept.chunks_exact_mut(width)).enumerate() {
        let bias = &bias[i / rows * width..][..width];
        for j in 0..width {
            z[j] = y[j] + bias[j];
            y[j] = S::value(z[j]);
        }
    }
}
}

vectorised! {
/// Takes the gradient of rows from `first` on back through the activation in place, and adds it to the bias's gradient.
fn unbend<T: Real, S: Shape>(layout: Layout, first: usize, values: [&[T]; 2], dy: &mut [T], bias: &mut [T]) {
    let ([x, y], Layout { rows, lanes, width, .. }) = (values, layout);
    for (i, dy) in dy.chunks_exact_mut(width).enumerate() {
        let row = first + i / lanes;
        let slot = row / rows * lanes + i % lanes;
        let (x, y) = (&x[row * width..][..width], &y[row * width..][..width]);
        let bias = &mut bias[slot * width..][..width];
        for j in 0..width {
            dy[j] = dy[j] * S::slope(x[j], y[j]);
            bias[j] += dy[j];
        }
    }
}
}

/// The bias's gradient, which each thread adds up by itself and the first takes together.
fn by_rows<T: Real>(
    layout: Layout,
    bias: &mut [T],
    mode: Mode,
    room: &mut Vec<T>,
    body: &(dyn Fn(Range<usize>, &mut [T]) + Sync),
) {
    let numbers = layout.len();
    if mode == Mode::Write {
        bias.fill(T::ZERO);
    }
    let size = bias.len();
    room.clear();
    room.resize((threads(numbers) - 1) * size, T::ZERO);
    let (own, others) = (Places::new(bias), Places::new(room));
    split(layout.groups * layout.rows, numbers, &|thread, rows| {
        // SAFETY: the bias is the first thread's, and every other one has a place of its own.
        let sums =
            unsafe { if thread == 0 { own.part(0..size) } else { others.part((thread - 1) * size..thread * size) } };
        body(rows, sums);
    });
    for sums in room.chunks_exact(size.max(1)) {
        bias.iter_mut().zip(sums).for_each(|(bias, &sum)| *bias += sum);
    }
}
