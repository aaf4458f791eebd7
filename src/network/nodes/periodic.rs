//! Cosines and sines of numbers, of frequencies that are learned.

use serde_json::{Value, json};
use tch::Tensor;

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel::{Disjoint, split};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{ParamGradient, Prepare};
use crate::parameters::ParamId;
use crate::vectorised;

/// `y[f] = [cos(2 pi c[f] x[f]), sin(2 pi c[f] x[f])]`: a group for each column `f` of `x`, with frequencies `c[f]` of its own
/// (Gorishniy, Rubachev & Babenko, NeurIPS 2022).
#[derive(Debug)]
pub struct Periodic {
    /// What it reads, one group.
    pub input: ValueId,
    /// What it fills, `[features, rows, 2 * frequencies]`.
    pub output: ValueId,
    /// `[features, frequencies]`.
    pub frequencies: ParamId,
}

impl Node for Periodic {
    fn name(&self) -> &'static str {
        "Periodic"
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
        let x = given.input(0).permute([2, 1, 0]);
        let features = x.size()[0];
        let turns = x * given.grouped(0, &[features, 1, -1]);
        let angles = turns * std::f64::consts::TAU;
        Ok(Tensor::cat(&[angles.cos(), angles.sin()], 2).into())
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.frequencies]
    }
}

struct PeriodicKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    frequencies: Buffer<T>,
    passes: PerPass<(Buffer<T>, ParamGradient<T>)>,
}

impl<T: Real> Prepares<T> for Periodic {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        // A gradient of the numbers themselves is the formula's.
        if at.net.values[self.input].learns {
            return Ok(None);
        }
        let passes = at.each_pass(|pass| Ok((at.arriving(self.output, pass), at.param_gradient(0, pass)?)))?;
        let frequencies = at.param(self.frequencies)?;
        by_loops(PeriodicKernel { x: at.value(self.input), y: at.value(self.output), frequencies, passes })
    }
}

impl<T: Real> Kernel for PeriodicKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let Layout { groups, rows, width, .. } = self.y.layout;
        // A cosine takes as long as a few sums.
        let numbers = 4 * self.y.layout.len();
        let x = self.x.slice();
        let frequencies = self.frequencies.slice();
        let y = Disjoint::new(self.y.slice_mut());
        split(groups * rows, numbers, &|_, range| {
            // SAFETY: each thread has rows of its own.
            let y = unsafe { y.part(range.start * width..range.end * width) };
            turn([groups, rows], range.start, x, frequencies, y);
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Layout { groups, rows, width, .. } = self.y.layout;
        let (dy, slab) = self.passes.of(pass);
        let lanes = dy.layout.lanes;
        let (x, y, dy) = (self.x.slice(), self.y.slice(), dy.slice());
        let frequencies = width / 2;
        let write = slab.mode(step) == Mode::Write;
        let places = Disjoint::new(slab.buffer.slice_mut());
        split(groups, groups * rows * lanes * width, &|_, features| {
            for (f, lane) in features.flat_map(|f| (0..lanes).map(move |lane| (f, lane))) {
                let at = (lane * groups + f) * frequencies;
                // SAFETY: each thread has features of its own.
                let of = unsafe { places.part(at..at + frequencies) };
                if write {
                    of.fill(T::ZERO);
                }
                give_back([groups, rows, lanes], [f, lane], x, y, dy, of);
            }
        });
        Ok(())
    }
}

vectorised! {
/// Cosines and sines of rows of `[features, rows]` from `first` on.
fn turn<T: Real>(sizes: [usize; 2], first: usize, x: &[T], frequencies: &[T], y: &mut [T]) {
    let [features, rows] = sizes;
    let count = frequencies.len() / features;
    for (i, y) in y.chunks_exact_mut(2 * count).enumerate() {
        let (f, row) = ((first + i) / rows, (first + i) % rows);
        let x = x[row * features + f];
        let of = &frequencies[f * count..][..count];
        let (cosines, sines) = y.split_at_mut(count);
        let sines = &mut sines[..count];
        for k in 0..count {
            let [cos, sin] = (x * of[k]).turned();
            cosines[k] = cos;
            sines[k] = sin;
        }
    }
}
}

vectorised! {
/// Adds the gradient of one feature's frequencies in one lane.
fn give_back<T: Real>(sizes: [usize; 3], at: [usize; 2], x: &[T], y: &[T], dy: &[T], of: &mut [T]) {
    let [features, rows, lanes] = sizes;
    let [f, lane] = at;
    let count = of.len();
    for row in 0..rows {
        let scale = x[row * features + f] * T::of(std::f64::consts::TAU);
        let place = f * rows + row;
        let (cosines, sines) = y[place * 2 * count..][..2 * count].split_at(count);
        let (of_cosines, of_sines) = dy[(place * lanes + lane) * 2 * count..][..2 * count].split_at(count);
        for k in 0..count {
            of[k] += scale * (cosines[k] * of_sines[k] - sines[k] * of_cosines[k]);
        }
    }
}
}
