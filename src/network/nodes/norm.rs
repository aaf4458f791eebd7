//! Layer and batch normalisation.

use super::Node;
use crate::error::Result;
use crate::network::buffer::{Buffer, Layout};
use crate::network::gradient::{Pass, PerPass};
use crate::network::plan::{InputGradient, Kernel, ParamGradient, Prepare, Step};
use crate::network::product::Mode;
use crate::network::{ParamId, ValueId};
use crate::real::{LANES, Real, vectorised};

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

/// The same over each column of the batch; running averages of its statistics serve evaluation, and batches of one row.
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

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    dx: Option<InputGradient<T>>,
    scale: ParamGradient<T>,
    shift: ParamGradient<T>,
}

impl<T: Real> Backward<T> {
    fn new(at: &Prepare<'_, T>, output: ValueId, pass: Pass) -> Result<Self> {
        let (scale, shift) = (at.param_gradient(0, pass)?, at.param_gradient(1, pass)?);
        Ok(Self { dy: at.arriving(output, pass), dx: at.leaving(0, pass), scale, shift })
    }

    /// Adds `dy * normal` to the scale's gradient and `dy` to the shift's; both `[groups, lanes, width]`.
    fn parameters(&mut self, step: &Step<'_>, normal: &[T]) {
        let Layout { rows, lanes, width, .. } = self.dy.layout;
        for slab in [&mut self.scale, &mut self.shift] {
            if step.mode(slab.mode) == Mode::Write {
                slab.buffer.slice_mut().fill(T::ZERO);
            }
        }
        let (dy, scale, shift) = (self.dy.slice(), self.scale.buffer.slice_mut(), self.shift.buffer.slice_mut());
        vectorised(|| {
            for (i, dy) in dy.chunks_exact(width).enumerate() {
                let normal = &normal[i / lanes * width..][..width];
                let at = (i / (rows * lanes) * lanes + i % lanes) * width;
                let (scale, shift) = (&mut scale[at..at + width], &mut shift[at..at + width]);
                for j in 0..width {
                    scale[j] += dy[j] * normal[j];
                    shift[j] += dy[j];
                }
            }
        });
    }
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
    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.scale, self.shift]
    }

    fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let y = at.value(self.output);
        Ok(Box::new(LayerNormKernel {
            x: at.value(self.input),
            normal: at.scratch(self.output)?,
            inverse: Buffer::zeros(Layout { width: 1, ..y.layout })?,
            y,
            scale: at.param(self.scale)?,
            shift: at.param(self.shift)?,
            eps: T::of(self.eps),
            passes: at.each_pass(|pass| Backward::new(at, self.output, pass))?,
        }))
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
        let Layout { rows, width, .. } = self.y.layout;
        let (x, scale, shift, eps) = (self.x.slice(), self.scale.slice(), self.shift.slice(), self.eps);
        let (y, normal, inverse) = (self.y.slice_mut(), self.normal.slice_mut(), self.inverse.slice_mut());
        let n = T::of(width as f64);
        vectorised(|| {
            for (i, x) in x.chunks_exact(width).enumerate() {
                let mean = sum(width, |j| x[j]) / n;
                let variance = sum(width, |j| (x[j] - mean) * (x[j] - mean)) / n;
                inverse[i] = T::ONE / (variance + eps).sqrt();
                let (y, normal) = (&mut y[i * width..][..width], &mut normal[i * width..][..width]);
                let (scale, shift) = (&scale[i / rows * width..][..width], &shift[i / rows * width..][..width]);
                for j in 0..width {
                    normal[j] = (x[j] - mean) * inverse[i];
                    y[j] = normal[j] * scale[j] + shift[j];
                }
            }
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let (normal, inverse, scale) = (self.normal.slice(), self.inverse.slice(), self.scale.slice());
        let back = self.passes.of(pass);
        back.parameters(step, normal);
        let Layout { rows, lanes, width, .. } = back.dy.layout;
        let Some(dx) = &mut back.dx else { return Ok(()) };
        let keep = if dx.mode == Mode::Add { T::ONE } else { T::ZERO };
        let (dy, dx, n) = (back.dy.slice(), dx.buffer.slice_mut(), T::of(width as f64));
        vectorised(|| {
            for (i, (dy, dx)) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(width)).enumerate() {
                let row = i / lanes;
                let (normal, scale) = (&normal[row * width..][..width], &scale[row / rows * width..][..width]);
                let mean = sum(width, |j| dy[j] * scale[j]) / n;
                let along = sum(width, |j| dy[j] * scale[j] * normal[j]) / n;
                for j in 0..width {
                    dx[j] = keep * dx[j] + inverse[row] * (dy[j] * scale[j] - mean - normal[j] * along);
                }
            }
        });
        Ok(())
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
    passes: PerPass<Backward<T>>,
    /// Column sums of `dy` and `dy * normal`, `[groups, lanes, width]`.
    sums: PerPass<[Buffer<T>; 2]>,
}

impl Node for BatchNorm {
    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.scale, self.shift]
    }

    fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let y = at.value(self.output);
        let Layout { groups, width, .. } = y.layout;
        let columns = |lanes| Buffer::zeros(Layout { groups, rows: 1, lanes, width });
        Ok(Box::new(BatchNormKernel {
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
            passes: at.each_pass(|pass| Backward::new(at, self.output, pass))?,
            sums: at.each_pass(|pass| {
                let lanes = at.arriving(self.output, pass).layout.lanes;
                Ok([columns(lanes)?, columns(lanes)?])
            })?,
        }))
    }
}

impl<T: Real> BatchNormKernel<T> {
    /// Mean and variance of each column of the batch, taken into the running averages.
    fn measure(&mut self) {
        let Layout { rows, width, .. } = self.x.layout;
        let n = T::of(rows as f64);
        let (x, means, inverses) = (self.x.slice(), self.mean.slice_mut(), self.inverse.slice_mut());
        let (running_mean, running_variance) = (self.running_mean.slice_mut(), self.running_variance.slice_mut());
        let (momentum, eps) = (self.momentum, self.eps);
        vectorised(|| {
            means.fill(T::ZERO);
            inverses.fill(T::ZERO);
            for (g, x) in x.chunks_exact(rows * width).enumerate() {
                let at = g * width..(g + 1) * width;
                let (mean, inverse) = (&mut means[at.clone()], &mut inverses[at.clone()]);
                x.chunks_exact(width).for_each(|x| (0..width).for_each(|j| mean[j] += x[j]));
                mean.iter_mut().for_each(|m| *m = *m / n);
                x.chunks_exact(width)
                    .for_each(|x| (0..width).for_each(|j| inverse[j] += (x[j] - mean[j]) * (x[j] - mean[j])));
                for (j, s) in at.enumerate() {
                    let unbiased = inverse[j] / (n - T::ONE);
                    running_mean[s] += momentum * (mean[j] - running_mean[s]);
                    running_variance[s] += momentum * (unbiased - running_variance[s]);
                    inverse[j] = T::ONE / (inverse[j] / n + eps).sqrt();
                }
            }
        });
    }

    /// The running averages stand in for the batch's statistics.
    fn recall(&mut self) {
        self.mean.slice_mut().copy_from_slice(self.running_mean.slice());
        for (inverse, &variance) in self.inverse.slice_mut().iter_mut().zip(self.running_variance.slice()) {
            *inverse = T::ONE / (variance + self.eps).sqrt();
        }
    }

    fn measures(&self, step: &Step<'_>) -> bool {
        step.training && self.x.layout.rows > 1
    }
}

impl<T: Real> Kernel for BatchNormKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        if self.measures(step) {
            self.measure()
        } else {
            self.recall()
        }
        let Layout { rows, width, .. } = self.y.layout;
        let (x, mean, inverse) = (self.x.slice(), self.mean.slice(), self.inverse.slice());
        let (scale, shift) = (self.scale.slice(), self.shift.slice());
        let (y, normal) = (self.y.slice_mut(), self.normal.slice_mut());
        vectorised(|| {
            for (i, x) in x.chunks_exact(width).enumerate() {
                let (g, at) = (i / rows * width, i * width);
                for j in 0..width {
                    normal[at + j] = (x[j] - mean[g + j]) * inverse[g + j];
                    y[at + j] = normal[at + j] * scale[g + j] + shift[g + j];
                }
            }
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let measured = self.measures(step);
        let (normal, inverse, scale) = (self.normal.slice(), self.inverse.slice(), self.scale.slice());
        let back = self.passes.of(pass);
        back.parameters(step, normal);
        let Layout { rows, lanes, width, .. } = back.dy.layout;
        let Some(dx) = &mut back.dx else { return Ok(()) };
        let keep = if dx.mode == Mode::Add { T::ONE } else { T::ZERO };
        let (dy, dx) = (back.dy.slice(), dx.buffer.slice_mut());
        let [sum, along] = self.sums.of(pass);
        let (sum, along) = (sum.slice_mut(), along.slice_mut());
        sum.fill(T::ZERO);
        along.fill(T::ZERO);
        let n = T::of(rows as f64);
        vectorised(|| {
            for (i, dy) in dy.chunks_exact(width).enumerate().filter(|_| measured) {
                let (row, at) = (i / lanes * width, (i / (rows * lanes) * lanes + i % lanes) * width);
                for j in 0..width {
                    sum[at + j] += dy[j] / n;
                    along[at + j] += dy[j] * normal[row + j] / n;
                }
            }
            for (i, (dy, dx)) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(width)).enumerate() {
                let (row, at) = (i / lanes * width, (i / (rows * lanes) * lanes + i % lanes) * width);
                let g = i / (rows * lanes) * width;
                for j in 0..width {
                    let centred = dy[j] - sum[at + j] - normal[row + j] * along[at + j];
                    dx[j] = keep * dx[j] + scale[g + j] * inverse[g + j] * centred;
                }
            }
        });
        Ok(())
    }
}
