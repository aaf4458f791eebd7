//! The per-task pass of a linear layer in bfloat16.

use super::shapes::{Shapes, Tiling};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout, Memory};
use crate::machine::half::{Halves, add_rounded_products, narrow, round, unround};
use crate::machine::product::{Mode, Product};
use crate::machine::real::Real;
use crate::network::nodes::activation::{Activated, Pointwise};
use crate::network::prepare::InputGradient;
use crate::vectorised;

/// The per-task pass in bfloat16: rounded copies of what its products read, and what they give.
pub(super) struct Halved<T> {
    x: (Buffer<T>, Halves),
    weight: (Buffer<T>, Halves),
    pub(super) dy: Halves,
    /// Each with its size.
    products: Vec<(Product, usize)>,
    tile: Halves,
    room: Vec<f64>,
    gramian: Buffer<f64>,
    dx: Option<HalvedInput<T>>,
}

/// Products into a rounded gradient of the input, and where in the input's gradient it belongs.
struct HalvedInput<T> {
    rounded: Halves,
    products: Vec<(Product, usize, Mode)>,
    dx: Buffer<T>,
}

impl<T: Real> Halved<T> {
    pub(super) fn new(
        shapes: &Shapes,
        x: &Buffer<T>,
        weight: &Buffer<T>,
        dy: &Buffer<T>,
        leaving: Option<InputGradient<T>>,
        size: usize,
        gramian: Buffer<f64>,
    ) -> Result<Self> {
        let lanes = dy.layout.lanes;
        let x = (x.share(), Halves::zeros(x.layout.len())?);
        let weight = (weight.share(), Halves::zeros(weight.layout.len())?);
        let dy = Halves::zeros(dy.layout.len())?;
        let tile = Halves::zeros(shapes.tile(lanes, size))?;
        let products = shapes.tiles(lanes, size, &Tiling { dy: &dy, x: &x.1, tile: &tile })?;
        let dx = leaving.map(|leaving| HalvedInput::new(shapes, lanes, leaving, &dy, &weight.1)).transpose()?;
        Ok(Self { x, weight, dy, products, tile, room: Vec::new(), gramian, dx })
    }

    pub(super) fn run(&mut self, lanes: usize) -> Result<()> {
        round(self.x.0.slice(), self.x.1.slice_mut());
        for (product, size) in &self.products {
            product.run(Mode::Write)?;
            add_rounded_products(&self.tile.slice()[..*size], lanes, &mut self.room, self.gramian.slice_mut());
        }
        let Some(HalvedInput { rounded, products, dx }) = &mut self.dx else { return Ok(()) };
        round(self.weight.0.slice(), self.weight.1.slice_mut());
        for (product, at, mode) in products {
            product.run(Mode::Write)?;
            let rounded = rounded.slice();
            unround(rounded, &mut dx.slice_mut()[*at..*at + rounded.len()], *mode);
        }
        Ok(())
    }
}

impl<T: Real> HalvedInput<T> {
    fn new(shapes: &Shapes, lanes: usize, leaving: InputGradient<T>, dy: &Halves, weight: &Halves) -> Result<Self> {
        let &Shapes { groups, rows, outer, inner } = shapes;
        let long = rows * lanes;
        let rounded = Halves::zeros(long * inner)?;
        let mut products = Vec::with_capacity(groups);
        for group in 0..groups {
            let dy = dy.view(&[long, outer], &[outer, 1], group * long * outer)?;
            let weight = weight.view(&[outer, inner], &[inner, 1], group * outer * inner)?;
            let rounded = rounded.view(&[long, inner], &[inner, 1], 0)?;
            products.push((Product::new(rounded, dy, weight)?, group * long * inner, leaving.mode));
        }
        Ok(Self { rounded, products, dx: leaving.buffer })
    }
}

vectorised! {
/// As [`scale_by_slope`](super::loops::scale_by_slope), but leaves the gradient as it is and rounds what comes out of it.
pub(super) fn scale_by_slope_rounded<T: Real, S: Pointwise>(
    layout: Layout,
    first: usize,
    activated: Activated<'_, T>,
    dy: &[T],
    to: &mut [u16],
    bias: &mut [T],
) {
    let Activated { x, y } = activated;
    let Layout { rows, lanes, width, .. } = layout;
    let dy = &dy[first * lanes * width..];
    for (i, (dy, to)) in dy.chunks_exact(width).zip(to.chunks_exact_mut(width)).enumerate() {
        let row = first + i / lanes;
        let slot = row / rows * lanes + i % lanes;
        let x = &x[row * width..][..width];
        let y = &y[row * width..][..width];
        let bias = &mut bias[slot * width..][..width];
        for j in 0..width {
            let d = dy[j] * S::slope(x[j], y[j]);
            bias[j] += d;
            to[j] = narrow(d);
        }
    }
}
}
