//! A value of picked groups of others.

use super::segments::{covers, take, take_times};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::node::{Kernel, Node, Prepares};
use crate::network::owner::Owner;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::network::{Network, ValueId};

/// `y[i] = x_k[g]`, where `(k, g)` is the `i`-th pick.
#[derive(Debug)]
pub struct Gather {
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// Which input and which group of it each group of the output is.
    pub picks: Vec<(usize, usize)>,
    /// What it fills.
    pub output: ValueId,
}

impl Gather {
    /// From picks `(value, group)`.
    pub fn new(picks: &[(ValueId, usize)], output: ValueId) -> Self {
        let mut inputs: Vec<ValueId> = Vec::new();
        let mut place = |value: ValueId| {
            inputs.iter().position(|&known| known == value).unwrap_or_else(|| {
                inputs.push(value);
                inputs.len() - 1
            })
        };
        let picks = picks.iter().map(|&(value, group)| (place(value), group)).collect();
        Self { inputs, picks, output }
    }
}

struct GatherKernel<T> {
    inputs: Vec<Buffer<T>>,
    picks: Vec<(usize, usize)>,
    y: Buffer<T>,
    owner: Owner,
    passes: PerPass<Backward<T>>,
}

struct Backward<T> {
    dy: Buffer<T>,
    /// An input's gradient, and whether this pass weighs what goes there.
    inputs: Vec<Option<(InputGradient<T>, bool)>>,
}

impl Node for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn covers_input(&self, net: &Network) -> bool {
        let once = |k: usize, group: usize| self.picks.iter().filter(|&&pick| pick == (k, group)).count() == 1;
        let whole = |k: usize, value: ValueId| (0..net.values[value].groups).all(|group| once(k, group));
        covers(net, &self.inputs, self.output) && self.inputs.iter().enumerate().all(|(k, &value)| whole(k, value))
    }
}

impl<T: Real> Prepares<T> for Gather {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let passes = at.each_pass(|pass| {
            let enters = |k: usize| pass == Pass::Summed && at.entrance(k).is_some();
            let inputs = (0..self.inputs.len()).map(|k| Some((at.leaving(k, pass)?, enters(k)))).collect();
            Ok(Backward { dy: at.arriving(self.output, pass), inputs })
        })?;
        Ok(Box::new(GatherKernel {
            inputs: self.inputs.iter().map(|&x| at.value(x)).collect(),
            picks: self.picks.clone(),
            y: at.value(self.output),
            owner: at.net.owner(self.output),
            passes,
        }))
    }
}

impl<T: Real> Kernel for GatherKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let Layout { rows, width, .. } = self.y.layout;
        let size = rows * width;
        for (y, &(k, group)) in self.y.slice_mut().chunks_exact_mut(size).zip(&self.picks) {
            y.copy_from_slice(&self.inputs[k].slice()[group * size..][..size]);
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Backward { dy, inputs } = self.passes.of(pass);
        let Layout { rows, lanes, width, .. } = dy.layout;
        for (i, &(k, group)) in self.picks.iter().enumerate() {
            let Some((dx, enters)) = &mut inputs[k] else { continue };
            let to = dx.buffer.layout.lanes;
            let add = dx.mode == Mode::Add;
            let task = self.owner.task(i);
            let dy = &dy.slice()[i * rows * lanes * width..][..rows * lanes * width];
            let dx = &mut dx.buffer.slice_mut()[group * rows * to * width..][..rows * to * width];
            if *enters && !step.weights.is_empty() {
                take_times(dx, dy, step.weight(task), add);
            } else if to == lanes {
                take(dx, dy, add);
            } else {
                let rows = dx.chunks_exact_mut(to * width).zip(dy.chunks_exact(width));
                rows.for_each(|(dx, dy)| take(&mut dx[task * width..][..width], dy, add));
            }
        }
        Ok(())
    }
}
