//! A value of picked groups of others.

use serde_json::{Value, json};
use tch::Tensor;

use super::segments::{covers, take, take_times};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
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
        let mut places = Vec::with_capacity(picks.len());
        for &(value, group) in picks {
            let known = inputs.iter().position(|&known| known == value);
            let place = known.unwrap_or(inputs.len());
            if known.is_none() {
                inputs.push(value);
            }
            places.push((place, group));
        }
        Self { inputs, picks: places, output }
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
    inputs: Vec<Option<InputGradient<T>>>,
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

    fn attributes(&self) -> Option<Value> {
        Some(json!({"picks": self.picks}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let group = |&(k, group): &(usize, usize)| given.input(k).narrow(0, group as i64, 1);
        Ok(Tensor::cat(&self.picks.iter().map(group).collect::<Vec<_>>(), 0).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        // Every group of every input is picked once.
        for (k, &value) in self.inputs.iter().enumerate() {
            for group in 0..net.values[value].groups {
                if self.picks.iter().filter(|&&pick| pick == (k, group)).count() != 1 {
                    return false;
                }
            }
        }
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for Gather {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes = at.each_pass(|pass| {
            let inputs = (0..self.inputs.len()).map(|k| at.leaving(k, pass)).collect();
            Ok(Backward { dy: at.arriving(self.output, pass), inputs })
        })?;
        by_loops(GatherKernel {
            inputs: self.inputs.iter().map(|&x| at.value(x)).collect(),
            picks: self.picks.clone(),
            y: at.value(self.output),
            owner: at.net.owner(self.output),
            passes,
        })
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
            let Some(dx) = &mut inputs[k] else { continue };
            let to = dx.buffer.layout.lanes;
            let add = dx.mode == Mode::Add;
            let weighed = dx.is_weighed(step);
            let task = self.owner.task(i);
            let dy = &dy.slice()[i * rows * lanes * width..][..rows * lanes * width];
            let dx = &mut dx.buffer.slice_mut()[group * rows * to * width..][..rows * to * width];
            if weighed {
                take_times(dx, dy, step.weight(task), add);
            } else if to == lanes {
                take(dx, dy, add);
            } else {
                let rows = dx.chunks_exact_mut(to * width).zip(dy.chunks_exact(width));
                for (dx, dy) in rows {
                    take(&mut dx[task * width..][..width], dy, add);
                }
            }
        }
        Ok(())
    }
}
