//! Values side by side.

use serde_json::{Value, json};
use tch::Tensor;

use super::segments::{covers, lanes_between, take, take_times};
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::owner::Owner;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::network::{Network, ValueId};

/// `y = [x_1, x_2, ...]` along the width.
#[derive(Debug)]
pub struct Concat {
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it fills.
    pub output: ValueId,
}

struct ConcatKernel<T> {
    inputs: Vec<Buffer<T>>,
    y: Buffer<T>,
    passes: PerPass<Pieces<T>>,
}

impl Node for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        Ok(Tensor::cat(given.inputs, 2).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for Concat {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let inputs: Vec<_> = self.inputs.iter().map(|&x| at.value(x)).collect();
        let widths = inputs.iter().map(|x| x.layout.width);
        let starts: Vec<_> = widths.scan(0, |end, width| Some(std::mem::replace(end, *end + width))).collect();
        let passes = at.each_pass(|pass| Ok(Pieces::new(at, self.output, &starts, pass)))?;
        by_loops(ConcatKernel { inputs, y: at.value(self.output), passes })
    }
}

impl<T: Real> Kernel for ConcatKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let whole = self.y.layout.width;
        let mut start = 0;
        for x in &self.inputs {
            let width = x.layout.width;
            let rows = self.y.slice_mut().chunks_exact_mut(whole).zip(x.slice().chunks_exact(width));
            for (y, x) in rows {
                y[start..start + width].copy_from_slice(x);
            }
            start += width;
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        self.passes.of(pass).give_back(step);
        Ok(())
    }
}

/// Hands columns of an output's gradient back to the inputs they came from.
pub(super) struct Pieces<T> {
    dy: Buffer<T>,
    owner: Owner,
    /// Where each input's columns begin, and its gradient.
    inputs: Vec<(usize, InputGradient<T>)>,
}

impl<T: Real> Pieces<T> {
    /// Input `k` came from the columns that begin at `starts[k]`.
    pub(super) fn new(at: &Prepare<'_, T>, output: ValueId, starts: &[usize], pass: Pass) -> Self {
        let mut inputs = Vec::with_capacity(starts.len());
        for (k, &start) in starts.iter().enumerate() {
            inputs.extend(at.leaving(k, pass).map(|dx| (start, dx)));
        }
        Self { inputs, dy: at.arriving(output, pass), owner: at.net.owner(output) }
    }

    pub(super) fn give_back(&mut self, step: &Step<'_>) {
        let Self { dy, owner, inputs } = self;
        let from = dy.layout;
        for (start, dx) in inputs {
            let to = dx.buffer.layout;
            let add = dx.mode == Mode::Add;
            let weighed = dx.is_weighed(step);
            let dy = dy.slice();
            let dx = dx.buffer.slice_mut();
            for (i, o) in lanes_between(from, to.lanes, *owner) {
                let piece = &dy[i * from.width + *start..][..to.width];
                let dx = &mut dx[o * to.width..][..to.width];
                if weighed {
                    take_times(dx, piece, step.weight(owner.task(i / from.rows)), add);
                } else {
                    take(dx, piece, add);
                }
            }
        }
    }
}
