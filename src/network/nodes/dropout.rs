//! Dropout whose mask is a function of (seed, step, node), computed again in the backward instead of stored.

use serde_json::{Value, json};

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::draws;
use crate::machine::product::Mode;
use crate::machine::random::{Stream, coarse};
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::vectorised;

/// Stream of dropout within a seed.
const DROPOUT: u64 = 2;

/// Zeroes each number with probability `rate` while training, and scales the rest by `1 / (1 - rate)`.
#[derive(Debug)]
pub struct Dropout {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// Probability of zero.
    pub rate: f64,
}

/// Below which drawn bits zero a number.
fn threshold(rate: f64) -> u32 {
    (rate * 2f64.powi(32)) as u32
}

struct DropoutKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    mask: Mask<T>,
    node: u64,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

#[derive(Clone, Copy)]
struct Mask<T> {
    threshold: u32,
    scale: T,
}

impl<T: Real> Mask<T> {
    #[inline(always)]
    fn at(self, key: [u32; 2], index: usize) -> T {
        if coarse(key, index as u32) >= self.threshold { self.scale } else { T::ZERO }
    }
}

impl Node for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"rate": self.rate}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        if !given.training {
            return Ok(x.shallow_clone().into());
        }
        let drawn = draws::coarse(&given.draws.key(DROPOUT), x.numel());
        let kept = drawn.ge(i64::from(threshold(self.rate))).view_as(x).to_kind(given.kind());
        Ok((x * kept * (1.0 / (1.0 - self.rate))).into())
    }
}

impl<T: Real> Prepares<T> for Dropout {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(self.output, pass), leaving))))?;
        let mask = Mask { threshold: threshold(self.rate), scale: T::of(1.0 / (1.0 - self.rate)) };
        let x = at.value(self.input);
        let y = at.value(self.output);
        by_loops(DropoutKernel { x, y, mask, node: at.node as u64, passes })
    }
}

impl<T: Real> DropoutKernel<T> {
    fn key(&self, step: &Step<'_>) -> [u32; 2] {
        Stream::new(step.seed, &[DROPOUT, step.number, self.node]).halves()
    }
}

impl<T: Real> Kernel for DropoutKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let key = self.key(step);
        let mask = self.mask;
        let x = self.x.slice();
        let y = self.y.slice_mut();
        if !step.training {
            y.copy_from_slice(x);
            return Ok(());
        }
        apply(mask, key, x, y);
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let key = self.key(step);
        let mask = self.mask;
        let training = step.training;
        let Some((dy, dx)) = self.passes.of(pass) else { return Ok(()) };
        // Outside training nothing is dropped: a threshold no number is below.
        let mask = if training { mask } else { Mask { threshold: 0, scale: T::ONE } };
        let keep = dx.mode == Mode::Add;
        apply_back(mask, key, dy.layout, dy.slice(), dx.buffer.slice_mut(), keep);
        Ok(())
    }
}

vectorised! {
fn apply<T: Real>(mask: Mask<T>, key: [u32; 2], x: &[T], y: &mut [T]) {
    for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
        *y = x * mask.at(key, i);
    }
}
}

vectorised! {
fn apply_back<T: Real>(mask: Mask<T>, key: [u32; 2], layout: Layout, dy: &[T], dx: &mut [T], keep: bool) {
    let Layout { lanes, width, .. } = layout;
    for (i, (dy, dx)) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(width)).enumerate() {
        let first = i / lanes * width;
        for (j, (dx, &dy)) in dx.iter_mut().zip(dy).enumerate() {
            *dx = if keep { *dx } else { T::ZERO } + dy * mask.at(key, first + j);
        }
    }
}
}
