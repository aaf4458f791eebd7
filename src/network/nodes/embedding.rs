//! Numeric features and one embedding per categorical feature, gathered into one row.

use super::Node;
use crate::error::Result;
use crate::network::buffer::{Buffer, Layout};
use crate::network::gradient::{Pass, PerPass, Tiled};
use crate::network::gram::add_products;
use crate::network::plan::{Kernel, ParamGradient, Prepare, Step};
use crate::network::product::Mode;
use crate::network::{ParamId, ValueId};
use crate::real::Real;

/// Calls `$body` with `$w` bound to a width that the compiler knows, or to 0 for one it does not.
macro_rules! with_width {
    ($width:expr, $w:ident => $body:expr) => {
        with_width!(@ $width, $w, $body, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 32)
    };
    (@ $width:expr, $w:ident, $body:expr, $($known:literal)+) => {
        match $width {
            $($known => {
                const $w: usize = $known;
                $body
            })+
            _ => {
                const $w: usize = 0;
                $body
            }
        }
    };
}

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
    passes: PerPass<(Buffer<T>, Vec<Table<T>>)>,
}

/// How a table's gradient comes about.
enum Table<T> {
    /// Added up in place.
    Whole(ParamGradient<T>),
    /// For all tasks, some codes of the batch at a time, each lot into the Gramian.
    Tiles { tile: Buffer<T>, gramian: Buffer<f64>, rows: Vec<u32> },
    /// Not at all.
    Frozen,
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

    fn tiles(&self, _param: ParamId) -> bool {
        true
    }

    fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let tables = self.tables.iter().map(|&table| at.param(table)).collect::<Result<_>>()?;
        let passes = at.each_pass(|pass| {
            let tables = (0..self.tables.len()).map(|k| self.table(at, k, pass)).collect::<Result<_>>()?;
            Ok((at.arriving(self.output, pass), tables))
        })?;
        let (numeric, y) = (at.value(self.numeric), at.value(self.output));
        Ok(Box::new(EmbeddingKernel { numeric, tables, widths: self.widths.clone(), y, passes }))
    }
}

impl Embedding {
    fn table<T: Real>(&self, at: &Prepare<'_, T>, k: usize, pass: Pass) -> Result<Table<T>> {
        if !at.learns(k) {
            return Ok(Table::Frozen);
        }
        let Some(Tiled { gramian, size, .. }) = at.tiled(k, pass)? else {
            return Ok(Table::Whole(at.param_gradient(k, pass)?));
        };
        let (lanes, width) = (gramian.layout.lanes, self.widths[k]);
        let codes = (size / (lanes * width).max(1)).clamp(1, at.rows);
        let tile = Buffer::zeros(Layout { groups: 1, rows: 1, lanes, width: codes * width })?;
        Ok(Table::Tiles { tile, gramian, rows: (0..at.rows as u32).collect() })
    }
}

impl<T: Real> Kernel for EmbeddingKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let (first, whole, count) = (self.numeric.layout.width, self.y.layout.width, self.tables.len());
        let (y, numeric) = (self.y.slice_mut(), self.numeric.slice());
        for (r, y) in y.chunks_exact_mut(whole).enumerate() {
            y[..first].copy_from_slice(&numeric[r * first..(r + 1) * first]);
        }
        for (y, codes) in y.chunks_mut(BLOCK * whole).zip(step.codes.chunks(BLOCK * count)) {
            let mut start = first;
            for (k, (table, &width)) in self.tables.iter().zip(&self.widths).enumerate() {
                let places = Places { codes, first: k, count, start, whole };
                with_width!(width, W => places.look_up::<T, W>(table.slice(), y, width));
                start += width;
            }
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let count = self.tables.len();
        let (dy, tables) = self.passes.of(pass);
        let mut start = self.numeric.layout.width;
        for (k, (table, &width)) in tables.iter_mut().zip(&self.widths).enumerate() {
            match table {
                Table::Whole(slab) if slab.mode(step) == Mode::Write => slab.buffer.slice_mut().fill(T::ZERO),
                Table::Whole(_) | Table::Frozen => {}
                Table::Tiles { tile, gramian, rows } => {
                    rows.sort_unstable_by_key(|&row| step.codes[row as usize * count + k]);
                    let code = |row: u32| step.codes[row as usize * count + k];
                    by_codes(rows, code, [start, width], dy, tile, gramian.slice_mut());
                }
            }
            start += width;
        }
        let (lanes, whole) = (dy.layout.lanes, dy.layout.width);
        for (dy, codes) in dy.slice().chunks(BLOCK * lanes * whole).zip(step.codes.chunks(BLOCK * count)) {
            let mut start = self.numeric.layout.width;
            for (k, (table, &width)) in tables.iter_mut().zip(&self.widths).enumerate() {
                let Table::Whole(slab) = table else {
                    start += width;
                    continue;
                };
                let size = slab.buffer.layout.width;
                for (lane, table) in slab.buffer.slice_mut().chunks_exact_mut(size).enumerate() {
                    let places = Places { codes, first: k, count, start: lane * whole + start, whole: lanes * whole };
                    with_width!(width, W => places.scatter::<T, W>(table, dy, width));
                }
                start += width;
            }
        }
        Ok(())
    }
}

/// Adds to the Gramian the products of the gradients of the codes that occur, `[start, width]` of a row; `rows` come sorted
/// by their codes.
fn by_codes<T: Real>(
    rows: &[u32],
    code: impl Fn(u32) -> u32,
    [start, width]: [usize; 2],
    dy: &Buffer<T>,
    tile: &mut Buffer<T>,
    gramian: &mut [f64],
) {
    let (lanes, whole, room) = (dy.layout.lanes, dy.layout.width, tile.layout.width);
    let mut lots = rows.chunk_by(|&a, &b| code(a) == code(b)).peekable();
    while lots.peek().is_some() {
        tile.slice_mut().fill(T::ZERO);
        for (slot, lot) in lots.by_ref().take(room / width).enumerate() {
            for (&row, lane) in lot.iter().flat_map(|row| (0..lanes).map(move |lane| (row, lane))) {
                let from = &dy.slice()[(row as usize * lanes + lane) * whole + start..][..width];
                let to = &mut tile.slice_mut()[lane * room + slot * width..][..width];
                to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
            }
        }
        add_products(tile.slice(), lanes, gramian);
    }
}

/// Rows that go through all tables together, so that they stay in the cache.
const BLOCK: usize = 64;

/// Where one table's codes and columns stand in a block of rows.
#[derive(Clone, Copy)]
struct Places<'a> {
    codes: &'a [u32],
    first: usize,
    count: usize,
    start: usize,
    whole: usize,
}

impl<'a> Places<'a> {
    fn codes(self) -> impl Iterator<Item = usize> + 'a {
        self.codes.iter().skip(self.first).step_by(self.count).map(|&code| code as usize)
    }

    /// Copies the rows of a table, of `W` numbers if that is known.
    fn look_up<T: Real, const W: usize>(self, table: &[T], y: &mut [T], width: usize) {
        let width = if W > 0 { W } else { width };
        for (y, code) in y.chunks_exact_mut(self.whole).zip(self.codes()) {
            y[self.start..self.start + width].copy_from_slice(&table[code * width..code * width + width]);
        }
    }

    /// Adds to the rows of a table.
    fn scatter<T: Real, const W: usize>(self, table: &mut [T], dy: &[T], width: usize) {
        let width = if W > 0 { W } else { width };
        for (dy, code) in dy.chunks_exact(self.whole).zip(self.codes()) {
            let from = &dy[self.start..self.start + width];
            let to = &mut table[code * width..code * width + width];
            for (to, &from) in to.iter_mut().zip(from) {
                *to += from;
            }
        }
    }
}
