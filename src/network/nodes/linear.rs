//! `y = act(x W^T + b)`: one layer, equal layers side by side, or several layers over one input.

use tch::Tensor;

use super::Node;
use super::activation::{Curve, Shape};
use crate::error::Result;
use crate::network::buffer::{Buffer, Layout};
use crate::network::gradient::{Pass, PerPass};
use crate::network::plan::{InputGradient, Kernel, ParamGradient, Prepare, Step};
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
    passes: PerPass<Backward<T>>,
}

/// The products and views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    bias: ParamGradient<T>,
    weight: Vec<Product>,
    weight_mode: Mode,
    /// Products into the input's gradient; each overwrites or adds to the lanes it touches.
    input: Vec<(Product, Mode)>,
}

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
        Ok(Box::new(LinearKernel { forward, y, kept, bias: at.param(self.bias)?, curve: self.curve, passes }))
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
        let slab = at.param_gradient(0, pass)?;
        let input = match at.leaving(0, pass) {
            Some(dx) if dx.buffer.layout.lanes == dy.layout.lanes => shapes.input(&dx, weight, &dy)?,
            Some(dx) => self.spread(at, shapes, &dx, weight, &dy)?,
            None => Vec::new(),
        };
        let weight = shapes.weight(&slab.buffer, x, &dy)?;
        Ok(Backward { dy, bias: at.param_gradient(1, pass)?, weight, weight_mode: slab.mode, input })
    }

    /// From a gradient of one lane into one lane each of an input that all tasks reach.
    fn spread<T: Real>(
        &self,
        at: &Prepare<'_, T>,
        shapes: &Shapes,
        dx: &InputGradient<T>,
        weight: &Buffer<T>,
        dy: &Buffer<T>,
    ) -> Result<Vec<(Product, Mode)>> {
        let value = &at.net.values[self.output];
        let Shapes { rows, outer, inner, .. } = *shapes;
        let lanes = dx.buffer.layout.lanes;
        let lane = |task: usize| dx.buffer.view(&[rows, inner], &[lanes * inner, 1], task * inner);
        let one = |task: usize, group: usize, columns: std::ops::Range<usize>| {
            let arrived = dy.view(&[rows, columns.len()], &[outer, 1], group * rows * outer + columns.start)?;
            let own = weight.view(&[columns.len(), inner], &[inner, 1], (group * outer + columns.start) * inner)?;
            Ok((Product::new(lane(task)?, arrived, own)?, dx.mode))
        };
        match value.reach {
            Reach::One(task) => Ok(vec![one(task, 0, 0..outer)?]),
            Reach::Own => (0..shapes.groups).map(|g| one(g, g, 0..outer)).collect(),
            _ => value.columns.iter().enumerate().map(|(task, columns)| one(task, 0, columns.clone())).collect(),
        }
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
    fn weight<T: Real>(&self, slab: &Buffer<T>, x: &Buffer<T>, dy: &Buffer<T>) -> Result<Vec<Product>> {
        let &Shapes { groups, rows, inner, .. } = self;
        let wide = dy.layout.lanes * self.outer;
        if self.wiring == Wiring::Plain {
            let arrived = dy.view(&[wide, rows], &[1, wide], 0)?;
            return Ok(vec![Product::new(slab.shaped(&[wide, inner])?, arrived, x.shaped(&[rows, inner])?)?]);
        }
        let arrived = dy.view(&[groups, wide, rows], &[rows * wide, 1, wide], 0)?;
        Ok(vec![Product::new(slab.shaped(&[groups, wide, inner])?, arrived, self.input_view(x)?)?])
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
        let (layout, mode) = (back.dy.layout, step.mode(back.bias.mode));
        let bias = back.bias.buffer.slice_mut();
        with_shape!(self.curve, S => unbend::<T, S>(layout, [kept, y], back.dy.slice_mut(), bias, mode));
        back.weight.iter().try_for_each(|product| product.run(step.mode(back.weight_mode)))?;
        back.input.iter().try_for_each(|(product, mode)| product.run(*mode))
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
/// Takes the gradient back through the activation in place, and sums it over rows into the bias's gradient.
fn unbend<T: Real, S: Shape>(layout: Layout, values: [&[T]; 2], dy: &mut [T], bias: &mut [T], mode: Mode) {
    let ([x, y], Layout { rows, lanes, width, .. }) = (values, layout);
    if mode == Mode::Write {
        bias.fill(T::ZERO);
    }
    for (i, dy) in dy.chunks_exact_mut(width).enumerate() {
        let (row, slot) = (i / lanes, i / (rows * lanes) * lanes + i % lanes);
        let (x, y) = (&x[row * width..][..width], &y[row * width..][..width]);
        let bias = &mut bias[slot * width..][..width];
        for j in 0..width {
            dy[j] = dy[j] * S::slope(x[j], y[j]);
            bias[j] += dy[j];
        }
    }
}
}
