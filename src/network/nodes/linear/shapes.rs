//! The sizes of a linear layer, and the products over them.

use crate::error::Result;
use crate::machine::buffer::{Buffer, Memory};
use crate::machine::product::Product;
use crate::machine::real::Real;
use crate::network::prepare::InputGradient;

/// The sizes of a linear node as its products see them.
pub(super) struct Shapes {
    pub groups: usize,
    pub rows: usize,
    pub outer: usize,
    pub inner: usize,
}

/// What a product of a weight's gradient in tiles reads and fills.
pub(super) struct Tiling<'a> {
    pub dy: &'a dyn Memory,
    pub x: &'a dyn Memory,
    pub tile: &'a dyn Memory,
}

impl Shapes {
    pub(super) fn forward<T: Real>(&self, x: &Buffer<T>, weight: &Buffer<T>, y: &Buffer<T>) -> Result<Product> {
        let &Shapes { groups, rows, outer, inner } = self;
        if groups == 1 {
            let w = weight.view(&[inner, outer], &[1, inner], 0)?;
            return Product::new(y.shaped(&[rows, outer])?, x.shaped(&[rows, inner])?, w);
        }
        let w = weight.view(&[groups, inner, outer], &[outer * inner, 1, inner], 0)?;
        Product::new(y.shaped(&[groups, rows, outer])?, x.shaped(&[groups, rows, inner])?, w)
    }

    /// `dW = dy^T x`, all lanes in one product a group: dy `[rows, lanes * out]`, slab `[lanes * out, in]`.
    pub(super) fn weight<T: Real>(&self, slab: &Buffer<T>, x: &Buffer<T>, dy: &Buffer<T>) -> Result<Product> {
        let &Shapes { groups, rows, inner, .. } = self;
        let wide = dy.layout.lanes * self.outer;
        if groups == 1 {
            let arrived = dy.view(&[wide, rows], &[1, wide], 0)?;
            return Product::new(slab.shaped(&[wide, inner])?, arrived, x.shaped(&[rows, inner])?);
        }
        let arrived = dy.view(&[groups, wide, rows], &[rows * wide, 1, wide], 0)?;
        Product::new(slab.shaped(&[groups, wide, inner])?, arrived, x.shaped(&[groups, rows, inner])?)
    }

    /// Outputs in one tile of at most `size` elements, if at all possible.
    pub(super) fn chunk(&self, lanes: usize, size: usize) -> usize {
        (size / (lanes * self.inner).max(1)).clamp(1, self.outer)
    }

    /// Elements of a tile.
    pub(super) fn tile(&self, lanes: usize, size: usize) -> usize {
        self.chunk(lanes, size) * lanes * self.inner
    }

    /// `dW = dy^T x` for some outputs at a time, each `[lanes, outputs, in]` into the same memory; and the sizes.
    pub(super) fn tiles(&self, lanes: usize, size: usize, memory: &Tiling<'_>) -> Result<Vec<(Product, usize)>> {
        let Tiling { dy, x, tile } = *memory;
        let &Shapes { groups, rows, outer, inner } = self;
        let chunk = self.chunk(lanes, size);
        let wide = lanes * outer;
        let mut products = Vec::new();
        for group in 0..groups {
            let from = group * rows * inner;
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
    pub(super) fn input<T: Real>(&self, dx: &InputGradient<T>, weight: &Buffer<T>, dy: &Buffer<T>) -> Result<Product> {
        let &Shapes { groups, outer, inner, .. } = self;
        let long = self.rows * dy.layout.lanes;
        if groups == 1 {
            let w = weight.shaped(&[outer, inner])?;
            return Product::new(dx.buffer.shaped(&[long, inner])?, dy.shaped(&[long, outer])?, w);
        }
        let d = dx.buffer.shaped(&[groups, long, inner])?;
        let y = dy.shaped(&[groups, long, outer])?;
        Product::new(d, y, weight.shaped(&[groups, outer, inner])?)
    }
}
