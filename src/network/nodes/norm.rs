//! Layer and batch normalisation.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::crossing::constant;
use crate::machine::product::Mode;
use crate::machine::real::{LANES, Real};
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};
use crate::parameters::ParamId;
use crate::vectorised;

/// `y = (x - mean(x)) / sqrt(var(x) + eps) * scale + shift` over each row.
#[derive(Debug)]
pub struct LayerNorm {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// `[width]`, or `[groups, width]`.
    pub scale: ParamId,
    /// `[width]`, or `[groups, width]`.
    pub shift: ParamId,
    /// Added to the variance.
    pub eps: f64,
}

/// The same over each column of the batch, or of its positions; running averages of its statistics serve evaluation, batches
/// of one row, and groups whose statistics are frozen. On positions it has no loops.
#[derive(Debug)]
pub struct BatchNorm {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// `[width]`, or `[groups, width]`.
    pub scale: ParamId,
    /// `[width]`, or `[groups, width]`.
    pub shift: ParamId,
    /// Where the running mean stands in the flat state.
    pub mean: usize,
    /// Where the running variance stands in the flat state.
    pub variance: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Weight of a new batch in the running averages.
    pub momentum: f64,
}

/// What a forward leaves for the backward: the standardised numbers, inverse deviations, and the scale that follows.
#[derive(Clone, Copy)]
struct Standardised<'a, T> {
    normal: &'a [T],
    inverse: &'a [T],
    scale: &'a [T],
}

/// Sums over rows of `dy` and of `dy * normal`, `[groups, lanes, width]`.
#[derive(Clone, Copy)]
struct ColumnSums<'a, T> {
    plain: &'a [T],
    along: &'a [T],
}

/// Running averages of the columns of a group.
struct Running<'a, T> {
    means: &'a mut [T],
    variances: &'a mut [T],
    momentum: T,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    dx: Option<InputGradient<T>>,
    /// Of scale and shift, unless both are frozen.
    affine: Option<[ParamGradient<T>; 2]>,
}

impl<T: Real> Backward<T> {
    fn new(at: &Prepare<'_, T>, output: ValueId, pass: Pass) -> Result<Self> {
        let affine = if at.learns(0) || at.learns(1) {
            Some([at.param_gradient(0, pass)?, at.param_gradient(1, pass)?])
        } else {
            None
        };
        Ok(Self { dy: at.arriving(output, pass), dx: at.leaving(0, pass), affine })
    }

    /// Adds `dy * normal` to the scale's gradient and `dy` to the shift's; both `[groups, lanes, width]`.
    fn parameters(&mut self, step: &Step<'_>, normal: &[T]) {
        let Some(affine) = &mut self.affine else { return };
        for slab in &mut *affine {
            if slab.mode(step) == Mode::Write {
                slab.buffer.slice_mut().fill(T::ZERO);
            }
        }
        let [scale, shift] = affine.each_mut().map(|slab| slab.buffer.slice_mut());
        column_sums(self.dy.layout, self.dy.slice(), normal, shift, scale);
    }
}

vectorised! {
/// Adds `dy` to `plain` and `dy * normal` to `along`, over rows; both `[groups, lanes, width]`.
fn column_sums<T: Real>(layout: Layout, dy: &[T], normal: &[T], plain: &mut [T], along: &mut [T]) {
    let Layout { rows, lanes, width, .. } = layout;
    for (i, dy) in dy.chunks_exact(width).enumerate() {
        let normal = &normal[i / lanes * width..][..width];
        let at = (i / (rows * lanes) * lanes + i % lanes) * width;
        let plain = &mut plain[at..at + width];
        let along = &mut along[at..at + width];
        for j in 0..width {
            plain[j] += dy[j];
            along[j] += dy[j] * normal[j];
        }
    }
}
}

/// `normal * scale + shift`, with the node's own of each group.
fn scaled(given: &Operands<'_>, normal: Tensor) -> Tensor {
    let (groups, _, width) = sizes(&normal);
    normal * given.grouped(0, &[groups, 1, width]) + given.grouped(1, &[groups, 1, width])
}

struct LayerNormKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    normal: Buffer<T>,
    inverse: Buffer<T>,
    scale: Buffer<T>,
    shift: Buffer<T>,
    eps: T,
    passes: PerPass<Backward<T>>,
}

impl Node for LayerNorm {
    fn name(&self) -> &'static str {
        "LayerNorm"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"eps": self.eps}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let centred = x - x.mean_dim(2_i64, true, given.kind());
        let variance = centred.square().mean_dim(2_i64, true, given.kind());
        Ok(scaled(given, centred / (variance + self.eps).sqrt()).into())
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.scale, self.shift]
    }
}

impl<T: Real> Prepares<T> for LayerNorm {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let y = at.value(self.output);
        by_loops(LayerNormKernel {
            x: at.value(self.input),
            normal: at.scratch(self.output)?,
            inverse: Buffer::zeros(Layout { width: 1, ..y.layout })?,
            y,
            scale: at.param(self.scale)?,
            shift: at.param(self.shift)?,
            eps: T::of(self.eps),
            passes: at.each_pass(|pass| Backward::new(at, self.output, pass))?,
        })
    }
}

/// The sum of `f` over positions, in lanes that vectorise.
#[inline(always)]
fn sum<T: Real>(len: usize, f: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let blocks = len / LANES;
    for block in 0..blocks {
        for (k, lane) in lanes.iter_mut().enumerate() {
            *lane += f(block * LANES + k);
        }
    }
    let rest = (blocks * LANES..len).fold(T::ZERO, |sum, i| sum + f(i));
    lanes.into_iter().fold(rest, |sum, lane| sum + lane)
}

impl<T: Real> Kernel for LayerNormKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let layout = self.y.layout;
        let normal = self.normal.slice_mut();
        let inverse = self.inverse.slice_mut();
        standardise(layout.width, self.x.slice(), normal, inverse, self.eps);
        affine(layout, self.normal.slice(), self.scale.slice(), self.shift.slice(), self.y.slice_mut());
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let normal = self.normal.slice();
        let inverse = self.inverse.slice();
        let scale = self.scale.slice();
        let back = self.passes.of(pass);
        back.parameters(step, normal);
        let Some(dx) = &mut back.dx else { return Ok(()) };
        let keep = dx.mode == Mode::Add;
        let standardised = Standardised { normal, inverse, scale };
        give_back_rows(back.dy.layout, back.dy.slice(), standardised, dx.buffer.slice_mut(), keep);
        Ok(())
    }
}

vectorised! {
/// Rows brought to mean 0 and variance 1; `inverse` gets what they were multiplied by.
fn standardise<T: Real>(width: usize, x: &[T], normal: &mut [T], inverse: &mut [T], eps: T) {
    let n = T::of(width as f64);
    for ((x, normal), inverse) in x.chunks_exact(width).zip(normal.chunks_exact_mut(width)).zip(inverse) {
        let mean = sum(width, |j| x[j]) / n;
        let variance = sum(width, |j| (x[j] - mean) * (x[j] - mean)) / n;
        *inverse = T::ONE / (variance + eps).sqrt();
        for j in 0..width {
            normal[j] = (x[j] - mean) * *inverse;
        }
    }
}
}

vectorised! {
/// `y = normal * scale + shift`, with scale and shift `[groups, width]`.
fn affine<T: Real>(layout: Layout, normal: &[T], scale: &[T], shift: &[T], y: &mut [T]) {
    let Layout { rows, width, .. } = layout;
    for (i, (y, normal)) in y.chunks_exact_mut(width).zip(normal.chunks_exact(width)).enumerate() {
        let scale = &scale[i / rows * width..][..width];
        let shift = &shift[i / rows * width..][..width];
        for j in 0..width {
            y[j] = normal[j] * scale[j] + shift[j];
        }
    }
}
}

vectorised! {
/// The gradient of [`standardise`], after that of [`affine`].
fn give_back_rows<T: Real>(layout: Layout, dy: &[T], standardised: Standardised<'_, T>, dx: &mut [T], keep: bool) {
    let Standardised { normal, inverse, scale } = standardised;
    let Layout { rows, lanes, width, .. } = layout;
    let n = T::of(width as f64);
    for (i, (dy, dx)) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(width)).enumerate() {
        let row = i / lanes;
        let normal = &normal[row * width..][..width];
        let scale = &scale[row / rows * width..][..width];
        let mean = sum(width, |j| dy[j] * scale[j]) / n;
        let along = sum(width, |j| dy[j] * scale[j] * normal[j]) / n;
        for j in 0..width {
            dx[j] = if keep { dx[j] } else { T::ZERO } + inverse[row] * (dy[j] * scale[j] - mean - normal[j] * along);
        }
    }
}
}

struct BatchNormKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    normal: Buffer<T>,
    /// Mean and inverse deviation in use, `[groups, width]`.
    mean: Buffer<T>,
    inverse: Buffer<T>,
    running_mean: Buffer<T>,
    running_variance: Buffer<T>,
    scale: Buffer<T>,
    shift: Buffer<T>,
    eps: T,
    momentum: T,
    /// Whether each group's statistics are frozen.
    frozen: Vec<bool>,
    passes: PerPass<Backward<T>>,
    /// Column sums of `dy` and `dy * normal`, `[groups, lanes, width]`.
    sums: PerPass<[Buffer<T>; 2]>,
}

impl Node for BatchNorm {
    fn name(&self) -> &'static str {
        "BatchNorm"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"eps": self.eps, "momentum": self.momentum, "mean": self.mean, "variance": self.variance}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let (groups, rows, width) = sizes(x);
        let running = |offset: usize| given.state.narrow(0, offset as i64, groups * width).reshape([groups, 1, width]);
        let mean_before = running(self.mean);
        let variance_before = running(self.variance);
        if !given.training || rows == 1 {
            let normal = (x - mean_before) / (variance_before + self.eps).sqrt();
            return Ok(scaled(given, normal).into());
        }
        let is_frozen = |group: usize| {
            let at = |offset: usize| given.frozen.contains(&(offset + group * width as usize));
            f64::from(u8::from(at(self.mean) || at(self.variance)))
        };
        let frozen: Vec<_> = (0..groups as usize).map(is_frozen).collect();
        let frozen = constant(&frozen, Kind::Bool, x.device())?.reshape([groups, 1, 1]);
        let count = given.count();
        let frozen = frozen.logical_or(&count.le(1));
        let mean = given.mean_of_rows(x);
        let variance = given.mean_of_rows(&(x - &mean).square());
        let normal = (x - mean_before.where_self(&frozen, &mean))
            / (variance_before.where_self(&frozen, &variance) + self.eps).sqrt();
        let count = count.to_kind(given.kind());
        let unbiased = &variance * (&count / (&count - 1.0).clamp_min(1.0));
        let follow = |before: &Tensor, batch: &Tensor| {
            let moved = before + (batch - before) * self.momentum;
            before.where_self(&frozen, &moved).detach().reshape([-1])
        };
        let state =
            vec![(self.mean, follow(&mean_before, &mean)), (self.variance, follow(&variance_before, &unbiased))];
        Ok(Computed { state, ..scaled(given, normal).into() })
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.scale, self.shift]
    }
}

impl<T: Real> Prepares<T> for BatchNorm {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        if at.is_of_positions(self.output) {
            return Ok(None);
        }
        let y = at.value(self.output);
        let Layout { groups, width, .. } = y.layout;
        let columns = |lanes| Buffer::zeros(Layout { groups, rows: 1, lanes, width });
        by_loops(BatchNormKernel {
            x: at.value(self.input),
            y,
            normal: at.scratch(self.output)?,
            mean: columns(1)?,
            inverse: columns(1)?,
            running_mean: at.state(self.mean, groups, width)?,
            running_variance: at.state(self.variance, groups, width)?,
            scale: at.param(self.scale)?,
            shift: at.param(self.shift)?,
            eps: T::of(self.eps),
            momentum: T::of(self.momentum),
            frozen: (0..groups)
                .map(|g| at.state_is_frozen(self.mean + g * width) || at.state_is_frozen(self.variance + g * width))
                .collect(),
            passes: at.each_pass(|pass| Backward::new(at, self.output, pass))?,
            sums: at.each_pass(|pass| {
                let lanes = at.arriving(self.output, pass).layout.lanes;
                Ok([columns(lanes)?, columns(lanes)?])
            })?,
        })
    }
}

impl<T: Real> BatchNormKernel<T> {
    /// Mean and variance of each column of a group of the batch, taken into the running averages.
    fn measure(&mut self, group: usize) {
        let Layout { rows, width, .. } = self.x.layout;
        let n = T::of(rows as f64);
        let at = group * width..(group + 1) * width;
        let means = &mut self.mean.slice_mut()[at.clone()];
        let inverses = &mut self.inverse.slice_mut()[at.clone()];
        spread(&self.x.slice()[group * rows * width..][..rows * width], means, inverses);
        let running = Running {
            means: &mut self.running_mean.slice_mut()[at.clone()],
            variances: &mut self.running_variance.slice_mut()[at],
            momentum: self.momentum,
        };
        follow(running, n, self.eps, means, inverses);
    }

    /// A group's running averages stand in for the batch's statistics.
    fn recall(&mut self, group: usize) {
        let at = group * self.x.layout.width..(group + 1) * self.x.layout.width;
        self.mean.slice_mut()[at.clone()].copy_from_slice(&self.running_mean.slice()[at.clone()]);
        let inverses = self.inverse.slice_mut()[at.clone()].iter_mut();
        for (inverse, &variance) in inverses.zip(&self.running_variance.slice()[at]) {
            *inverse = T::ONE / (variance + self.eps).sqrt();
        }
    }

    fn measures(&self, step: &Step<'_>) -> bool {
        step.training && self.x.layout.rows > 1
    }
}

impl<T: Real> Kernel for BatchNormKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        for group in 0..self.frozen.len() {
            if self.measures(step) && !self.frozen[group] { self.measure(group) } else { self.recall(group) }
        }
        let layout = self.y.layout;
        centre(layout, self.x.slice(), self.mean.slice(), self.inverse.slice(), self.normal.slice_mut());
        affine(layout, self.normal.slice(), self.scale.slice(), self.shift.slice(), self.y.slice_mut());
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let measured = self.measures(step);
        let normal = self.normal.slice();
        let inverse = self.inverse.slice();
        let scale = self.scale.slice();
        let back = self.passes.of(pass);
        back.parameters(step, normal);
        let layout = back.dy.layout;
        let Some(dx) = &mut back.dx else { return Ok(()) };
        let keep = dx.mode == Mode::Add;
        let [sum, along] = self.sums.of(pass);
        let sum = sum.slice_mut();
        let along = along.slice_mut();
        sum.fill(T::ZERO);
        along.fill(T::ZERO);
        if measured {
            column_sums(layout, back.dy.slice(), normal, sum, along);
            let size = layout.lanes * layout.width;
            for group in (0..layout.groups).filter(|&group| self.frozen[group]) {
                sum[group * size..][..size].fill(T::ZERO);
                along[group * size..][..size].fill(T::ZERO);
            }
        }
        let standardised = Standardised { normal, inverse, scale };
        let sums = ColumnSums { plain: sum, along };
        give_back_columns(layout, back.dy.slice(), standardised, sums, dx.buffer.slice_mut(), keep);
        Ok(())
    }
}

vectorised! {
/// Takes means and sums of squares of `n` rows into the running averages; the squares become inverse deviations.
fn follow<T: Real>(running: Running<'_, T>, n: T, eps: T, means: &[T], inverses: &mut [T]) {
    let width = means.len();
    let inverses = &mut inverses[..width];
    let momentum = running.momentum;
    let running_means = &mut running.means[..width];
    let running_variances = &mut running.variances[..width];
    for j in 0..width {
        let squares = inverses[j];
        let unbiased = squares / (n - T::ONE);
        running_means[j] += momentum * (means[j] - running_means[j]);
        running_variances[j] += momentum * (unbiased - running_variances[j]);
        inverses[j] = T::ONE / (squares / n + eps).sqrt();
    }
}
}

vectorised! {
/// Mean, and sum of squared differences from it, of each column of `[rows, width]`.
fn spread<T: Real>(x: &[T], mean: &mut [T], squares: &mut [T]) {
    let width = mean.len();
    let n = T::of((x.len() / width) as f64);
    mean.fill(T::ZERO);
    squares.fill(T::ZERO);
    for x in x.chunks_exact(width) {
        for j in 0..width {
            mean[j] += x[j];
        }
    }
    for mean in mean.iter_mut() {
        *mean = *mean / n;
    }
    for x in x.chunks_exact(width) {
        for j in 0..width {
            squares[j] += (x[j] - mean[j]) * (x[j] - mean[j]);
        }
    }
}
}

vectorised! {
/// `normal = (x - mean) * inverse`, with mean and inverse `[groups, width]`.
fn centre<T: Real>(layout: Layout, x: &[T], mean: &[T], inverse: &[T], normal: &mut [T]) {
    let Layout { rows, width, .. } = layout;
    for (i, (x, normal)) in x.chunks_exact(width).zip(normal.chunks_exact_mut(width)).enumerate() {
        let mean = &mean[i / rows * width..][..width];
        let inverse = &inverse[i / rows * width..][..width];
        for j in 0..width {
            normal[j] = (x[j] - mean[j]) * inverse[j];
        }
    }
}
}

vectorised! {
/// The gradient of [`centre`], after that of [`affine`]; the sums are zero where the statistics did not come from the batch.
fn give_back_columns<T: Real>(
    layout: Layout,
    dy: &[T],
    standardised: Standardised<'_, T>,
    sums: ColumnSums<'_, T>,
    dx: &mut [T],
    keep: bool,
) {
    let Standardised { normal, inverse, scale } = standardised;
    let ColumnSums { plain, along } = sums;
    let Layout { rows, lanes, width, .. } = layout;
    let share = T::ONE / T::of(rows as f64);
    for (i, (dy, dx)) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(width)).enumerate() {
        let row = i / lanes;
        let slot = i / (rows * lanes) * lanes + i % lanes;
        let group = i / (rows * lanes);
        let normal = &normal[row * width..][..width];
        let inverse = &inverse[group * width..][..width];
        let scale = &scale[group * width..][..width];
        let plain = &plain[slot * width..][..width];
        let along = &along[slot * width..][..width];
        for j in 0..width {
            let centred = dy[j] - share * (plain[j] + normal[j] * along[j]);
            dx[j] = if keep { dx[j] } else { T::ZERO } + scale[j] * inverse[j] * centred;
        }
    }
}
}
