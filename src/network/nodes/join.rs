//! The groups of a value side by side.

use serde_json::{Value, json};

use super::segments::take;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};

/// `y = [x[0], x[1], ...]` along the width: `[groups, rows, width]` to `[rows, groups * width]`.
#[derive(Debug)]
pub struct Join {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
}

struct JoinKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

impl Node for Join {
    fn name(&self) -> &'static str {
        "Join"
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
        let (_, rows, _) = sizes(given.input(0));
        Ok(given.input(0).permute([1, 0, 2]).reshape([1, rows, -1]).into())
    }
}

impl<T: Real> Prepares<T> for Join {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(self.output, pass), leaving))))?;
        by_loops(JoinKernel { x: at.value(self.input), y: at.value(self.output), passes })
    }
}

impl<T: Real> Kernel for JoinKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let Layout { groups, rows, width, .. } = self.x.layout;
        for (i, x) in self.x.slice().chunks_exact(width).enumerate() {
            self.y.slice_mut()[(i % rows * groups + i / rows) * width..][..width].copy_from_slice(x);
        }
        Ok(())
    }

    fn backward(&mut self, _: &Step<'_>, pass: Pass) -> Result<()> {
        let Some((dy, dx)) = self.passes.of(pass) else { return Ok(()) };
        let Layout { groups, rows, lanes, width } = dx.buffer.layout;
        let add = dx.mode == Mode::Add;
        let long = rows * lanes;
        for (i, dx) in dx.buffer.slice_mut().chunks_exact_mut(width).enumerate() {
            take(dx, &dy.slice()[(i % long * groups + i / long) * width..][..width], add);
        }
        Ok(())
    }
}
