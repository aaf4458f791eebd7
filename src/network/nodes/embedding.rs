//! Numeric features and one embedding per categorical feature, gathered into one row.

use serde_json::{Value, json};
use tch::Tensor;

use super::concat::Pieces;
use crate::error::Result;
use crate::input::{Bag, Combine, NOTHING};
use crate::machine::buffer::{Buffer, Layout, codes};
use crate::machine::gram::add_products;
use crate::machine::memory;
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands};
use crate::network::gradient::Tiled;
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{ParamGradient, Prepare};
use crate::network::{InputId, ValueId};
use crate::parameters::ParamId;
use crate::parameters::touched::{SparseGradient, Touched};

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

/// A categorical feature and its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Numbers a row of the table.
    pub width: usize,
    /// How several codes become one row; none for a feature of one code.
    pub bag: Option<Bag>,
    /// Whether a step touches the rows of its codes alone.
    pub sparse: bool,
    /// Whether the first row starts at 0: that of all codes that were not seen.
    pub unseen: bool,
}

impl Feature {
    /// One code, and a table like any other parameter.
    pub fn plain(width: usize) -> Self {
        Self { width, bag: None, sparse: false, unseen: false }
    }

    /// Columns of codes.
    pub fn columns(&self) -> usize {
        self.bag.map_or(1, |bag| bag.length)
    }

    /// Whether its table stays in the cache, as far as one can tell, and has a row for each row of the data.
    fn is_near(&self) -> bool {
        self.bag.is_none() && !self.sparse
    }
}

/// `y = [numeric, table_1[code_1], table_2[code_2], ...]`, with the mean or the sum of several rows for a bag.
#[derive(Debug)]
pub struct Embedding {
    /// Numbers that come first.
    pub numeric: ValueId,
    /// The input that has the codes.
    pub codes: InputId,
    /// One table `[codes, width]` a categorical feature.
    pub tables: Vec<ParamId>,
    /// The features.
    pub features: Vec<Feature>,
    /// The first column of codes of each.
    pub firsts: Vec<usize>,
    /// What it fills.
    pub output: ValueId,
}

struct EmbeddingKernel<T> {
    numeric: Buffer<T>,
    codes: Buffer<i32>,
    tables: Vec<Buffer<T>>,
    spots: Vec<Spot>,
    y: Buffer<T>,
    passes: PerPass<Backward<T>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    gradients: Vec<Gradient<T>>,
    /// To the numbers, if they learn.
    numbers: Pieces<T>,
}

/// Where a feature stands in a row of codes and in a row of the output.
#[derive(Debug, Clone, Copy)]
struct Spot {
    feature: Feature,
    /// Its first column of codes.
    first: usize,
    /// Columns of codes of all features.
    count: usize,
    /// Its first number.
    start: usize,
}

impl Spot {
    /// Features from these columns on, of so many, after numbers.
    fn all(features: &[Feature], firsts: &[usize], count: usize, numeric: usize) -> Vec<Self> {
        let mut start = numeric;
        let mut spots = Vec::with_capacity(features.len());
        for (&feature, &first) in features.iter().zip(firsts) {
            spots.push(Self { feature, first, count, start });
            start += feature.width;
        }
        spots
    }
}

/// How a table's gradient comes about.
enum Gradient<T> {
    /// Added up in place.
    Whole(ParamGradient<T>),
    /// For all tasks, some codes of the batch at a time, each lot into the Gramian.
    Tiles { tile: Buffer<T>, gramian: Buffer<f64>, entries: Vec<Entry<T>> },
    /// The rows of the batch alone; none where another pass brings them.
    Rows(Option<SparseGradient<T>>),
    /// Not at all.
    Frozen,
}

impl Node for Embedding {
    fn name(&self) -> &'static str {
        "Embedding"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.numeric]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        let feature = |(feature, first): (&Feature, &usize)| {
            let combine = feature.bag.map(|bag| bag.combine);
            json!({"first": first, "columns": feature.columns(), "combine": combine})
        };
        Some(json!({"features": self.features.iter().zip(&self.firsts).map(feature).collect::<Vec<_>>()}))
    }

    fn codes(&self) -> Vec<InputId> {
        vec![self.codes]
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let numeric = given.input(0);
        let rows = numeric.size()[1];
        let all = given.codes(0);
        let mut parts = vec![numeric.shallow_clone()];
        for ((feature, &first), table) in self.features.iter().zip(&self.firsts).zip(given.params) {
            let columns = feature.columns() as i64;
            let codes = all.narrow(1, first as i64, columns);
            let there = codes.ne(i64::from(NOTHING));
            let picked = table.index_select(0, &(&codes * &there).reshape([-1]));
            let there = there.to_kind(given.kind()).unsqueeze(2);
            let picked = picked.reshape([rows, columns, feature.width as i64]) * &there;
            let sum = picked.sum_dim_intlist(1_i64, false, given.kind());
            parts.push(
                match feature.bag {
                    Some(Bag { combine: Combine::Mean, .. }) => {
                        sum / there.sum_dim_intlist(1_i64, false, given.kind()).clamp_min(1.0)
                    }
                    _ => sum,
                }
                .unsqueeze(0),
            );
        }
        Ok(Tensor::cat(&parts, 2).into())
    }

    fn params(&self) -> Vec<ParamId> {
        self.tables.clone()
    }

    fn tiles(&self, _param: ParamId) -> bool {
        true
    }
}

impl<T: Real> Prepares<T> for Embedding {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let tables = self.tables.iter().map(|&table| at.param(table)).collect::<Result<_>>()?;
        let passes = at.each_pass(|pass| {
            let gradients = (0..self.tables.len()).map(|k| self.gradient(at, k, pass)).collect::<Result<_>>()?;
            let numbers = Pieces::new(at, self.output, &[0], pass);
            Ok(Backward { dy: at.arriving(self.output, pass), gradients, numbers })
        })?;
        let numeric = at.value(self.numeric);
        let y = at.value(self.output);
        let codes = at.codes(self.codes);
        let spots = Spot::all(&self.features, &self.firsts, codes.layout.width, numeric.layout.width);
        by_loops(EmbeddingKernel { numeric, codes, tables, spots, y, passes })
    }
}

impl Embedding {
    fn gradient<T: Real>(&self, at: &Prepare<'_, T>, k: usize, pass: Pass) -> Result<Gradient<T>> {
        if !at.learns(k) {
            return Ok(Gradient::Frozen);
        }
        if self.features[k].sparse {
            return Ok(Gradient::Rows(at.sparse_gradient(self.tables[k], pass)));
        }
        let Some(Tiled { gramian, size, .. }) = at.tiled(k, pass)? else {
            return Ok(Gradient::Whole(at.param_gradient(k, pass)?));
        };
        let lanes = gramian.layout.lanes;
        let width = self.features[k].width;
        let most = at.codes(self.codes).layout.rows * self.features[k].columns();
        let codes = (size / (lanes * width).max(1)).clamp(1, most);
        let tile = Buffer::zeros(Layout { groups: 1, rows: 1, lanes, width: codes * width })?;
        Ok(Gradient::Tiles { tile, gramian, entries: Vec::with_capacity(most) })
    }
}

impl<T: Real> Kernel for EmbeddingKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let codes = codes(self.codes.slice());
        let first = self.numeric.layout.width;
        let whole = self.y.layout.width;
        let y = self.y.slice_mut();
        let numeric = self.numeric.slice();
        for (r, y) in y.chunks_exact_mut(whole).enumerate() {
            y[..first].copy_from_slice(&numeric[r * first..(r + 1) * first]);
        }
        let count = self.spots.first().map_or(1, |spot| spot.count);
        for (y, codes) in y.chunks_mut(BLOCK * whole).zip(codes.chunks(BLOCK * count)) {
            for (table, spot) in self.tables.iter().zip(&self.spots).filter(|(_, spot)| spot.feature.is_near()) {
                let places = FeatureRows { codes, spot: *spot, whole };
                let width = spot.feature.width;
                with_width!(width, W => places.look_up::<T, W>(table.slice(), y, width));
            }
        }
        for (table, spot) in self.tables.iter().zip(&self.spots).filter(|(_, spot)| !spot.feature.is_near()) {
            let places = FeatureRows { codes, spot: *spot, whole };
            let width = spot.feature.width;
            with_width!(width, W => places.combine::<T, W>(table.slice(), y, width));
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let all = codes(self.codes.slice());
        let Backward { dy, gradients, numbers } = self.passes.of(pass);
        numbers.give_back(step);
        let lanes = dy.layout.lanes;
        let whole = dy.layout.width;
        for (gradient, spot) in gradients.iter_mut().zip(&self.spots) {
            let places = FeatureRows { codes: all, spot: *spot, whole };
            match gradient {
                Gradient::Whole(slab) => {
                    if slab.mode(step) == Mode::Write {
                        slab.buffer.slice_mut().fill(T::ZERO);
                    }
                    if !spot.feature.is_near() {
                        places.scatter_bags(slab.buffer.slice_mut(), dy);
                    }
                }
                Gradient::Tiles { tile, gramian, entries } => {
                    places.sorted(entries);
                    by_codes(entries, [spot.start, spot.feature.width], dy, tile, gramian.slice_mut());
                }
                Gradient::Rows(Some(rows)) => {
                    let mut rows = rows.open();
                    let most = dy.layout.rows * spot.feature.columns();
                    rows.begin(lanes, most, step.accumulate);
                    with_width!(spot.feature.width, W => places.gather::<T, W>(&mut rows, dy, spot.feature.width));
                }
                Gradient::Rows(None) | Gradient::Frozen => {}
            }
        }
        let count = self.spots.first().map_or(1, |spot| spot.count);
        for (dy, codes) in dy.slice().chunks(BLOCK * lanes * whole).zip(all.chunks(BLOCK * count)) {
            for (gradient, spot) in gradients.iter_mut().zip(&self.spots).filter(|(_, spot)| spot.feature.is_near()) {
                let Gradient::Whole(slab) = gradient else { continue };
                let size = slab.buffer.layout.width;
                let width = spot.feature.width;
                for (lane, table) in slab.buffer.slice_mut().chunks_exact_mut(size).enumerate() {
                    let spot = Spot { start: lane * whole + spot.start, ..*spot };
                    let places = FeatureRows { codes, spot, whole: lanes * whole };
                    with_width!(width, W => places.scatter::<T, W>(table, dy, width));
                }
            }
        }
        Ok(())
    }
}

/// One code of one row of the data, and its share of the row's gradient.
#[derive(Debug, Clone, Copy)]
struct Entry<T> {
    code: u32,
    row: u32,
    share: T,
}

/// Adds to the Gramian the products of the gradients of the codes that occur, `[start, width]` of a row; entries come
/// sorted by their codes.
fn by_codes<T: Real>(
    entries: &[Entry<T>],
    [start, width]: [usize; 2],
    dy: &Buffer<T>,
    tile: &mut Buffer<T>,
    gramian: &mut [f64],
) {
    let Layout { lanes, width: whole, .. } = dy.layout;
    let room = tile.layout.width;
    let mut lots = entries.chunk_by(|a, b| a.code == b.code).peekable();
    while lots.peek().is_some() {
        tile.slice_mut().fill(T::ZERO);
        for (slot, lot) in lots.by_ref().take(room / width).enumerate() {
            for (entry, lane) in lot.iter().flat_map(|entry| (0..lanes).map(move |lane| (entry, lane))) {
                let from = &dy.slice()[(entry.row as usize * lanes + lane) * whole + start..][..width];
                let to = &mut tile.slice_mut()[lane * room + slot * width..][..width];
                add(to, from, entry.share);
            }
        }
        add_products(tile.slice(), lanes, gramian);
    }
}

/// Rows that go through all near tables together, so that they stay in the cache.
const BLOCK: usize = 64;

/// Rows of a far table that are under way from memory while one is worked on.
const AHEAD: usize = 16;

/// One feature's codes and numbers in a block of rows.
#[derive(Clone, Copy)]
struct FeatureRows<'a> {
    codes: &'a [u32],
    spot: Spot,
    /// Numbers a row of the output.
    whole: usize,
}

impl<'a> FeatureRows<'a> {
    /// The one code of each row.
    fn codes(self) -> impl Iterator<Item = usize> + 'a {
        self.codes.iter().skip(self.spot.first).step_by(self.spot.count).map(|&code| code as usize)
    }

    /// The codes of each row.
    fn bags(self) -> impl Iterator<Item = &'a [u32]> {
        let first = self.spot.first;
        let columns = self.spot.feature.columns();
        self.codes.chunks_exact(self.spot.count).map(move |row| &row[first..first + columns])
    }

    /// What each code of a row counts.
    fn share<T: Real>(self, codes: &[u32]) -> T {
        match self.spot.feature.bag {
            Some(Bag { combine: Combine::Mean, .. }) => T::of(1.0 / there(codes).count().max(1) as f64),
            _ => T::ONE,
        }
    }

    /// Copies the rows of a table, of `W` numbers if that is known.
    fn look_up<T: Real, const W: usize>(self, table: &[T], y: &mut [T], width: usize) {
        let width = if W > 0 { W } else { width };
        let start = self.spot.start;
        for (y, code) in y.chunks_exact_mut(self.whole).zip(self.codes()) {
            y[start..start + width].copy_from_slice(&table[code * width..code * width + width]);
        }
    }

    /// Sums or means of the rows of a table, which are fetched ahead.
    fn combine<T: Real, const W: usize>(self, table: &[T], y: &mut [T], width: usize) {
        let width = if W > 0 { W } else { width };
        let start = self.spot.start;
        let mut ahead = self.bags();
        let mut fetch = |bags: usize| {
            ahead.by_ref().take(bags).flat_map(there).for_each(|code| memory::fetch(table, code, width));
        };
        fetch(AHEAD.div_ceil(self.spot.feature.columns()));
        for (y, codes) in y.chunks_exact_mut(self.whole).zip(self.bags()) {
            fetch(1);
            let y = &mut y[start..start + width];
            let share = self.share::<T>(codes);
            y.fill(T::ZERO);
            for code in there(codes) {
                let from = &table[code as usize * width..code as usize * width + width];
                y.iter_mut().zip(from).for_each(|(y, &x)| *y += x);
            }
            if share != T::ONE {
                y.iter_mut().for_each(|y| *y = *y * share);
            }
        }
    }

    /// Adds to the rows of a table. Inlined, the compiler would no longer know that the slices are apart, nor vectorise.
    #[inline(never)]
    fn scatter<T: Real, const W: usize>(self, table: &mut [T], dy: &[T], width: usize) {
        let width = if W > 0 { W } else { width };
        let start = self.spot.start;
        for (dy, code) in dy.chunks_exact(self.whole).zip(self.codes()) {
            let from = &dy[start..start + width];
            let to = &mut table[code * width..code * width + width];
            for (to, &from) in to.iter_mut().zip(from) {
                *to += from;
            }
        }
    }

    /// Adds to the rows of a table's slab `[lanes, table]`, for bags.
    fn scatter_bags<T: Real>(self, slab: &mut [T], dy: &Buffer<T>) {
        let lanes = dy.layout.lanes;
        let width = self.spot.feature.width;
        let start = self.spot.start;
        let size = slab.len() / lanes;
        for (codes, dy) in self.bags().zip(dy.slice().chunks_exact(lanes * self.whole)) {
            let share = self.share::<T>(codes);
            for (code, lane) in there(codes).flat_map(|code| (0..lanes).map(move |lane| (code, lane))) {
                let to = &mut slab[lane * size + code as usize * width..][..width];
                let from = &dy[lane * self.whole + start..][..width];
                add(to, from, share);
            }
        }
    }

    /// Adds to the touched rows of a table, of `W` numbers a lane if that is known.
    fn gather<T: Real, const W: usize>(self, rows: &mut Touched<T>, dy: &Buffer<T>, width: usize) {
        let width = if W > 0 { W } else { width };
        let start = self.spot.start;
        let lanes = dy.layout.lanes;
        for (codes, dy) in self.bags().zip(dy.slice().chunks_exact(lanes * self.whole)) {
            let share = self.share::<T>(codes);
            for code in there(codes) {
                let lanes = rows.row(code).chunks_exact_mut(width).zip(dy.chunks_exact(self.whole));
                lanes.for_each(|(to, dy)| add(to, &dy[start..start + width], share));
            }
        }
    }

    /// Every code of every row, sorted.
    fn sorted<T: Real>(self, entries: &mut Vec<Entry<T>>) {
        entries.clear();
        for (row, codes) in (0..).zip(self.bags()) {
            let share = self.share(codes);
            entries.extend(there(codes).map(|code| Entry { code, row, share }));
        }
        entries.sort_unstable_by_key(|entry| (entry.code, entry.row));
    }
}

/// Adds a share of one row to another.
#[inline(always)]
fn add<T: Real>(to: &mut [T], from: &[T], share: T) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to += from * share);
}

/// The codes of a row that are not nothing.
fn there(codes: &[u32]) -> impl Iterator<Item = u32> {
    codes.iter().copied().filter(|&code| code != NOTHING)
}
