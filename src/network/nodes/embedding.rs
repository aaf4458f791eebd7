//! Numeric features and one embedding per categorical feature, gathered into one row.

use super::Node;
use crate::error::Result;
use crate::network::buffer::Buffer;
use crate::network::gradient::{Pass, PerPass};
use crate::network::plan::{Kernel, ParamGradient, Prepare, Step};
use crate::network::product::Mode;
use crate::network::{ParamId, ValueId};
use crate::real::{Real, vectorised};

/// `y = [numeric, table_1[code_1], table_2[code_2], ...]`.
#[derive(Debug)]
pub struct Embedding {
    /// The numeric features; they have no gradient.
    pub numeric: ValueId,
    /// One table `[codes, width]` a categorical feature.
    pub tables: Vec<ParamId>,
    /// Their widths.
    pub widths: Vec<usize>,
    /// What it fills.
    pub output: ValueId,
}

struct EmbeddingKernel<T> {
    numeric: Buffer<T>,
    tables: Vec<Buffer<T>>,
    widths: Vec<usize>,
    y: Buffer<T>,
    passes: PerPass<(Buffer<T>, Vec<ParamGradient<T>>)>,
}

impl Node for Embedding {
    fn inputs(&self) -> Vec<ValueId> {
        vec![self.numeric]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn params(&self) -> Vec<ParamId> {
        self.tables.clone()
    }

    fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let tables = self.tables.iter().map(|&table| at.param(table)).collect::<Result<_>>()?;
        let passes = at.each_pass(|pass| {
            let slabs = (0..self.tables.len()).map(|k| at.param_gradient(k, pass)).collect::<Result<_>>()?;
            Ok((at.arriving(self.output, pass), slabs))
        })?;
        let (numeric, y) = (at.value(self.numeric), at.value(self.output));
        Ok(Box::new(EmbeddingKernel { numeric, tables, widths: self.widths.clone(), y, passes }))
    }
}

impl<T: Real> Kernel for EmbeddingKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let (first, whole) = (self.numeric.layout.width, self.y.layout.width);
        let (y, tables) = (self.y.slice_mut(), &self.tables);
        for (r, (y, codes)) in y.chunks_exact_mut(whole).zip(step.codes.chunks_exact(tables.len())).enumerate() {
            y[..first].copy_from_slice(&self.numeric.slice()[r * first..(r + 1) * first]);
            let mut at = first;
            for ((table, &width), &code) in tables.iter().zip(&self.widths).zip(codes) {
                let row = code as usize * width;
                y[at..at + width].copy_from_slice(&table.slice()[row..row + width]);
                at += width;
            }
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let mut at = self.numeric.layout.width;
        let count = self.tables.len();
        let (dy, slabs) = self.passes.of(pass);
        for (k, (slab, &width)) in slabs.iter_mut().zip(&self.widths).enumerate() {
            if step.mode(slab.mode) == Mode::Write {
                slab.buffer.slice_mut().fill(T::ZERO);
            }
            scatter(dy, &mut slab.buffer, step.codes.iter().skip(k).step_by(count), at..at + width);
            at += width;
        }
        Ok(())
    }
}

/// Adds columns of each row's gradient, lane by lane, to the table row of its code; slab `[lanes, codes * width]`.
fn scatter<'a, T: Real>(
    dy: &Buffer<T>,
    slab: &mut Buffer<T>,
    codes: impl Iterator<Item = &'a u32>,
    columns: std::ops::Range<usize>,
) {
    let (lanes, whole, size) = (dy.layout.lanes, dy.layout.width, slab.layout.width);
    let (dy, slab) = (dy.slice(), slab.slice_mut());
    vectorised(|| {
        for (dy, &code) in dy.chunks_exact(lanes * whole).zip(codes) {
            for lane in 0..lanes {
                let from = &dy[lane * whole..][columns.clone()];
                let to = &mut slab[lane * size + code as usize * columns.len()..][..columns.len()];
                to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
            }
        }
    });
}
