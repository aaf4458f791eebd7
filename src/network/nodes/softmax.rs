//! Softmax over the width of each row: gates.

use serde_json::{Value, json};

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::vectorised;

/// Calls `$body` with `$w` bound to a number of gates that the compiler knows, or to 0 for one it does not.
macro_rules! with_gates {
    ($width:expr, $w:ident => $body:expr) => {
        with_gates!(@ $width, $w, $body, 2 3 4 5 6 8 10 12 16 32)
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

/// `y = exp(x) / sum of exp(x)` over each row of each group.
#[derive(Debug)]
pub struct Softmax {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
}

struct SoftmaxKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

impl Node for Softmax {
    fn name(&self) -> &'static str {
        "Softmax"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        Ok(given.input(0).softmax(2, given.kind()).into())
    }
}

impl<T: Real> Prepares<T> for Softmax {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(self.output, pass), leaving))))?;
        by_loops(SoftmaxKernel { x: at.value(self.input), y: at.value(self.output), passes })
    }
}

impl<T: Real> Kernel for SoftmaxKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let width = self.y.layout.width;
        with_gates!(width, W => softmax::<T, W>(width, self.x.slice(), self.y.slice_mut()));
        Ok(())
    }

    fn backward(&mut self, _: &Step<'_>, pass: Pass) -> Result<()> {
        let Some((dy, dx)) = self.passes.of(pass) else { return Ok(()) };
        let layout = dy.layout;
        let add = dx.mode == Mode::Add;
        let y = self.y.slice();
        let to = dx.buffer.slice_mut();
        with_gates!(layout.width, W => give_back::<T, W>(layout, y, dy.slice(), to, add));
        Ok(())
    }
}

vectorised! {
fn softmax<T: Real, const W: usize>(width: usize, x: &[T], y: &mut [T]) {
    let width = if W > 0 { W } else { width };
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mut top = T::LOWEST;
        for &x in x {
            top = top.max(x);
        }
        let mut sum = T::ZERO;
        for k in 0..width {
            y[k] = (x[k] - top).exp();
        }
        for &y in &*y {
            sum += y;
        }
        let inverse = T::ONE / sum;
        for y in y {
            *y = *y * inverse;
        }
    }
}
}

vectorised! {
/// `dx = y (dy - <y, dy>)`, in every lane.
fn give_back<T: Real, const W: usize>(layout: Layout, y: &[T], dy: &[T], dx: &mut [T], add: bool) {
    let Layout { lanes, width, .. } = layout;
    let width = if W > 0 { W } else { width };
    for (i, (dy, dx)) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(width)).enumerate() {
        let y = &y[i / lanes * width..][..width];
        let mut mean = T::ZERO;
        for k in 0..width {
            mean += y[k] * dy[k];
        }
        for k in 0..width {
            dx[k] = if add { dx[k] } else { T::ZERO } + y[k] * (dy[k] - mean);
        }
    }
}
}
