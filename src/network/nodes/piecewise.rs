//! Piecewise-linear embeddings of numbers.

use std::ops::Range;

use serde_json::{Value, json};

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel::{Disjoint, split, threads};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{ParamGradient, Prepare};
use crate::parameters::ParamId;
use crate::vectorised;

/// `y[f] = act(e(x[f]) W[f] + b[f])`, or `act(e(x[f]) W[f]) + s[f] x[f] + b[f]` with a slope, for each column `f` of `x`
/// (Gorishniy, Rubachev & Babenko, NeurIPS 2022; with a slope Gorishniy, Kotelnikov & Babenko, TabM, ICLR 2025).
///
/// `e` has a number a bin: 1 for bins below that of `x`, how far `x` is through its own, 0 for those above; the first goes on
/// below its edge, and the last one above its own. Edges rise, and a bin of no width does not count: features of fewer bins
/// repeat their last edge.
#[derive(Debug)]
pub struct Piecewise {
    /// What it reads, one group.
    pub input: ValueId,
    /// What it fills, `[rows, features * width]`.
    pub output: ValueId,
    /// `[features, bins, width]`.
    pub weight: ParamId,
    /// `[features, width]`.
    pub bias: ParamId,
    /// The same, if there is a linear embedding beside.
    pub slope: Option<ParamId>,
    /// Where edges stand in the flat state, `[features, bins + 1]`.
    pub edges: usize,
    /// Most bins of a feature.
    pub bins: usize,
    /// Whether the activation is ReLU instead of none.
    pub relu: bool,
}

impl Node for Piecewise {
    fn name(&self) -> &'static str {
        "Piecewise"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"bins": self.bins, "slope": self.slope.is_some(), "relu": self.relu, "edges": self.edges}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0).permute([2, 1, 0]);
        let (features, bins) = (x.size()[0], self.bins as i64);
        let edges = given.state.narrow(0, self.edges as i64, features * (bins + 1)).reshape([features, 1, bins + 1]);
        let left = edges.narrow(2, 0, bins);
        let sizes = edges.narrow(2, 1, bins) - &left;
        let used = sizes.gt(0.0);
        let shares = (&x - left) / sizes.where_self(&used, &sizes.ones_like());
        // Counted from the front, so that no bin behind the last one is the first or the last.
        let number = used.cumsum(2, tch::Kind::Int64);
        let last = used.logical_and(&number.eq_tensor(&used.sum_dim_intlist(2_i64, true, tch::Kind::Int64)));
        let first = used.logical_and(&number.eq(1));
        let shares = shares.where_self(&first, &shares.clamp_min(0.0));
        let shares = shares.where_self(&last, &shares.clamp_max(1.0)) * used.to_kind(given.kind());
        let y = shares.matmul(&given.grouped(0, &[features, bins, -1]));
        let bias = given.grouped(1, &[features, 1, -1]);
        let act = |y: tch::Tensor| if self.relu { y.relu() } else { y };
        let y = match self.slope {
            None => act(y + bias),
            Some(_) => act(y) + x * given.grouped(2, &[features, 1, -1]) + bias,
        };
        let rows = y.size()[1];
        Ok(y.permute([1, 0, 2]).reshape([1, rows, -1]).into())
    }

    fn params(&self) -> Vec<ParamId> {
        [self.weight, self.bias].into_iter().chain(self.slope).collect()
    }
}

/// Calls `$body` with `$w` bound to a width that the compiler knows, or to 0 for one it does not.
macro_rules! with_width {
    ($width:expr, $w:ident => $body:expr) => {
        with_width!(@ $width, $w, $body, 8 12 16 24 32)
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

/// Sizes that loops go through.
#[derive(Debug, Clone, Copy)]
struct Shape {
    features: usize,
    bins: usize,
    width: usize,
}

struct PiecewiseKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    shape: Shape,
    edges: Buffer<T>,
    weight: Buffer<T>,
    bias: Buffer<T>,
    slope: Option<Buffer<T>>,
    relu: bool,
    /// Of each feature its last bin.
    last: Vec<u32>,
    /// Sums of the weights of all bins below each, `[features, bins, width]`.
    below: Vec<T>,
    /// Of each row the bin of each feature, and how far it is through it.
    places: Vec<u32>,
    shares: Vec<T>,
    /// What the ReLU was given, where the output does not tell.
    kept: Vec<T>,
    /// Room for each thread's sums of one feature.
    room: Vec<T>,
    passes: PerPass<Backward<T>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    weight: ParamGradient<T>,
    bias: ParamGradient<T>,
    slope: Option<ParamGradient<T>>,
}

impl<T: Real> Prepares<T> for Piecewise {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        // A gradient of the numbers themselves is the formula's.
        if at.net.values[self.input].learns {
            return Ok(None);
        }
        let x = at.value(self.input);
        let y = at.value(self.output);
        let Layout { rows, width: features, .. } = x.layout;
        let shape = Shape { features, bins: self.bins, width: y.layout.width / features };
        let passes = at.each_pass(|pass| {
            Ok(Backward {
                dy: at.arriving(self.output, pass),
                weight: at.param_gradient(0, pass)?,
                bias: at.param_gradient(1, pass)?,
                slope: self.slope.map(|_| at.param_gradient(2, pass)).transpose()?,
            })
        })?;
        let kept = if self.relu && self.slope.is_some() { y.layout.len() } else { 0 };
        by_loops(PiecewiseKernel {
            x,
            y,
            shape,
            edges: at.state(self.edges, 1, features * (self.bins + 1))?,
            weight: at.param(self.weight)?,
            bias: at.param(self.bias)?,
            slope: self.slope.map(|slope| at.param(slope)).transpose()?,
            relu: self.relu,
            last: vec![0; features],
            below: vec![T::ZERO; features * self.bins * shape.width],
            places: vec![0; rows * features],
            shares: vec![T::ZERO; rows * features],
            kept: vec![T::ZERO; kept],
            room: Vec::new(),
            passes,
        })
    }
}

impl<T: Real> Kernel for PiecewiseKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let Self { shape, ref mut below, ref mut last, relu, .. } = *self;
        let Shape { features, bins, width } = shape;
        let edges = self.edges.slice();
        let weight = self.weight.slice();
        for (last, edges) in last.iter_mut().zip(edges.chunks_exact(bins + 1)) {
            *last = edges.windows(2).filter(|pair| pair[1] > pair[0]).count().saturating_sub(1) as u32;
        }
        add_below(shape, weight, below);
        let given = Given {
            weight,
            below,
            bias: self.bias.slice(),
            slope: self.slope.as_ref().map_or(&[], |slope| slope.slice()),
            relu,
        };
        let x = self.x.slice();
        let numbers = self.y.layout.len() + self.x.layout.len() * bins / 4;
        let rows = self.x.layout.rows;
        let keeps = !self.kept.is_empty();
        let y = Disjoint::new(self.y.slice_mut());
        let (places, shares) = (Disjoint::new(&mut self.places), Disjoint::new(&mut self.shares));
        let kept = Disjoint::new(&mut self.kept);
        split(rows, numbers, &|_, rows| {
            let small = rows.start * features..rows.end * features;
            let large = small.start * width..small.end * width;
            let of_kept = if keeps { large.clone() } else { 0..0 };
            // SAFETY: each thread has rows of its own.
            let (places, shares, y, kept) =
                unsafe { (places.part(small.clone()), shares.part(small.clone()), y.part(large), kept.part(of_kept)) };
            locate(shape, edges, last, &x[small], places, shares);
            let found = Found { x: &x[rows.start * features..rows.end * features], places, shares };
            with_width!(width, W => embed::<T, W>(shape, given, found, y, kept));
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let shape = self.shape;
        let Shape { features, bins, width } = shape;
        let numbers = self.y.layout.len();
        let back = self.passes.of(pass);
        let lanes = back.dy.layout.lanes;
        let size = (2 * bins + 3) * width;
        self.room.clear();
        self.room.resize(threads(numbers * lanes) * size, T::ZERO);
        let room = Disjoint::new(&mut self.room);
        let found = Found { x: self.x.slice(), places: &self.places, shares: &self.shares };
        let kept = match (self.relu, self.kept.is_empty()) {
            (false, _) => &[],
            (true, false) => &self.kept[..],
            (true, true) => self.y.slice(),
        };
        let dy = back.dy.slice();
        let slopes = back.slope.is_some();
        let modes = [&back.weight, &back.bias].map(|slab| slab.mode(step) == Mode::Add);
        let of_slope = back.slope.as_ref().is_some_and(|slab| slab.mode(step) == Mode::Add);
        let weight = Disjoint::new(back.weight.buffer.slice_mut());
        let bias = Disjoint::new(back.bias.buffer.slice_mut());
        let slope = back.slope.as_mut().map(|slab| Disjoint::new(slab.buffer.slice_mut()));
        split(features, numbers * lanes, &|thread, range: Range<usize>| {
            // SAFETY: each thread has room of its own.
            let sums = unsafe { room.part(thread * size..(thread + 1) * size) };
            for (f, lane) in range.flat_map(|f| (0..lanes).map(move |lane| (f, lane))) {
                let at = (lane * features + f) * width;
                let arriving = Arriving { dy, kept, lanes, lane, f, slopes };
                with_width!(width, W => collect::<T, W>(shape, found, arriving, sums));
                // SAFETY: each thread has features of its own.
                unsafe {
                    let weight = weight.part(at * bins..(at + width) * bins);
                    spread(shape, sums, weight, modes[0]);
                    let ends = &sums[2 * bins * width..];
                    put(bias.part(at..at + width), &ends[..width], modes[1]);
                    if let Some(slope) = &slope {
                        put(slope.part(at..at + width), &ends[width..2 * width], of_slope);
                    }
                }
            }
        });
        Ok(())
    }
}

/// What rows are embedded with.
#[derive(Clone, Copy)]
struct Given<'a, T> {
    weight: &'a [T],
    below: &'a [T],
    bias: &'a [T],
    /// Empty where there is none.
    slope: &'a [T],
    relu: bool,
}

/// Numbers, each with its bin and how far it is through it, `[rows, features]`.
#[derive(Clone, Copy)]
struct Found<'a, T> {
    x: &'a [T],
    places: &'a [u32],
    shares: &'a [T],
}

/// The gradient that arrives, `[rows, lanes, features * width]`, of which one lane of one feature is looked at.
#[derive(Clone, Copy)]
struct Arriving<'a, T> {
    dy: &'a [T],
    /// What is above 0 where the ReLU lets gradients through, `[rows, features * width]`; empty without one.
    kept: &'a [T],
    lanes: usize,
    lane: usize,
    f: usize,
    slopes: bool,
}

vectorised! {
/// Sums of the weights of all bins below each.
fn add_below<T: Real>(shape: Shape, weight: &[T], below: &mut [T]) {
    let Shape { bins, width, .. } = shape;
    for (weight, below) in weight.chunks_exact(bins * width).zip(below.chunks_exact_mut(bins * width)) {
        below[..width].fill(T::ZERO);
        for at in (width..bins * width).step_by(width) {
            for j in at..at + width {
                below[j] = below[j - width] + weight[j - width];
            }
        }
    }
}
}

vectorised! {
/// The bin of each number, and how far it is through it.
fn locate<T: Real>(shape: Shape, edges: &[T], last: &[u32], x: &[T], places: &mut [u32], shares: &mut [T]) {
    let Shape { features, bins, .. } = shape;
    let rows = x.chunks_exact(features).zip(places.chunks_exact_mut(features)).zip(shares.chunks_exact_mut(features));
    for ((x, places), shares) in rows {
        for f in 0..features {
            let edges = &edges[f * (bins + 1)..][..bins + 1];
            let mut below = 0;
            for &edge in &edges[1..] {
                below += u32::from(x[f] >= edge);
            }
            let place = below.min(last[f]);
            let left = edges[place as usize];
            let size = edges[place as usize + 1] - left;
            places[f] = place;
            shares[f] = if size > T::ZERO { (x[f] - left) / size } else { T::ZERO };
        }
    }
}
}

vectorised! {
/// The embeddings of rows; `kept`, unless it is empty, what the ReLU was given.
fn embed<T: Real, const W: usize>(shape: Shape, given: Given<'_, T>, found: Found<'_, T>, y: &mut [T], kept: &mut [T]) {
    let Shape { features, bins, width } = shape;
    let width = if W > 0 { W } else { width };
    let Given { weight, below, bias, slope, relu, .. } = given;
    for (i, y) in y.chunks_exact_mut(width).enumerate() {
        let f = i % features;
        let at = (f * bins + found.places[i] as usize) * width;
        let (weight, below) = (&weight[at..at + width], &below[at..at + width]);
        let bias = &bias[f * width..][..width];
        let (x, share) = (found.x[i], found.shares[i]);
        if slope.is_empty() {
            for j in 0..width {
                let sum = below[j] + share * weight[j] + bias[j];
                y[j] = if relu && sum <= T::ZERO { T::ZERO } else { sum };
            }
            continue;
        }
        let slope = &slope[f * width..][..width];
        if !kept.is_empty() {
            let kept = &mut kept[i * width..][..width];
            for j in 0..width {
                kept[j] = below[j] + share * weight[j];
            }
        }
        for j in 0..width {
            let sum = below[j] + share * weight[j];
            let bent = if relu && sum <= T::ZERO { T::ZERO } else { sum };
            y[j] = bent + (x * slope[j] + bias[j]);
        }
    }
}
}

vectorised! {
/// Sums over rows of what arrives at one feature in one lane: of each bin, whole and as far as rows are through it, `[bins, 2,
/// width]`; then of all rows, and times their numbers.
fn collect<T: Real, const W: usize>(shape: Shape, found: Found<'_, T>, arriving: Arriving<'_, T>, sums: &mut [T]) {
    let Shape { features, bins, width } = shape;
    let width = if W > 0 { W } else { width };
    let Arriving { dy, kept, lanes, lane, f, slopes } = arriving;
    let whole = features * width;
    sums.fill(T::ZERO);
    let (bins_of, ends) = sums.split_at_mut(2 * bins * width);
    let (bias, rest) = ends.split_at_mut(width);
    let (slope, bent) = rest.split_at_mut(width);
    let (slope, bent) = (&mut slope[..width], &mut bent[..width]);
    for row in 0..found.x.len() / features {
        let i = row * features + f;
        let dy = &dy[(row * lanes + lane) * whole + f * width..][..width];
        let x = found.x[i];
        bent.copy_from_slice(dy);
        if !kept.is_empty() {
            let kept = &kept[row * whole + f * width..][..width];
            for j in 0..width {
                bent[j] = if kept[j] > T::ZERO { dy[j] } else { T::ZERO };
            }
        }
        let of_bias = if slopes { dy } else { &*bent };
        for j in 0..width {
            bias[j] += of_bias[j];
        }
        if slopes {
            for j in 0..width {
                slope[j] += x * dy[j];
            }
        }
        let (entire, partly) = bins_of[2 * width * found.places[i] as usize..][..2 * width].split_at_mut(width);
        let share = found.shares[i];
        for j in 0..width {
            entire[j] += bent[j];
            partly[j] += share * bent[j];
        }
    }
}
}

vectorised! {
/// The gradient of one feature's weights: of rows in a bin their share, and of those in bins above all.
fn spread<T: Real>(shape: Shape, sums: &mut [T], weight: &mut [T], add: bool) {
    let Shape { bins, width, .. } = shape;
    let (bins_of, ends) = sums.split_at_mut(2 * bins * width);
    let above = &mut ends[2 * width..3 * width];
    above.fill(T::ZERO);
    for (weight, of) in weight.chunks_exact_mut(width).zip(bins_of.chunks_exact(2 * width)).rev() {
        let (entire, partly) = of.split_at(width);
        for j in 0..width {
            weight[j] = if add { weight[j] } else { T::ZERO } + (above[j] + partly[j]);
            above[j] += entire[j];
        }
    }
}
}

/// Replaces or adds numbers.
fn put<T: Real>(to: &mut [T], from: &[T], add: bool) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = if add { *to } else { T::ZERO } + from;
    }
}
