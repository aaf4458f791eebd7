//! Positions of a row as one list: the logarithms of their shares.

use serde_json::{Value, json};
use tch::Tensor;

use super::carry::largest;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::positions::Places;
use crate::network::prepare::{InputGradient, Prepare};
use crate::network::{InputId, ValueId};

/// `x_i - ln sum_j exp(x_j)` over the positions `j` of a row that have a label, column by column; 0 where there is none.
#[derive(Debug)]
pub struct List {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// Labels as codes `[positions, width]`, of which those below 0 are missing.
    pub given: InputId,
    /// From positions to their rows.
    pub link: Link,
}

impl Node for List {
    fn name(&self) -> &'static str {
        "List"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn codes(&self) -> Vec<InputId> {
        vec![self.given]
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let places = given.places();
        let parents = places.parents();
        let there = given.codes[0].ge(0).unsqueeze(0).logical_and(&places.mask());
        let none = x.zeros_like();
        let top = largest(&x.detach(), &there, places)?.index_select(1, &parents);
        let shifted = (x - top).where_self(&there, &none);
        let shares = shifted.exp().where_self(&there, &none);
        let sums = Tensor::zeros([1, places.counts().size()[0], x.size()[2]], (x.kind(), x.device()));
        let sums = sums.index_add(1, &parents, &shares).index_select(1, &parents);
        Ok((shifted - sums.where_self(&there, &none.ones_like()).log()).into())
    }
}

struct ListKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    given: Buffer<i32>,
    places: Places,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

impl<T: Real> Prepares<T> for List {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(self.output, pass), leaving))))?;
        by_loops(ListKernel {
            x: at.value(self.input),
            y: at.value(self.output),
            given: at.codes(self.given),
            places: at.places(self.link),
            passes,
        })
    }
}

/// The numbers of each row's positions in one column that have a label, `[positions, width]`.
fn lists<'a>(
    counts: &'a [i32],
    given: &'a [i32],
    width: usize,
) -> impl Iterator<Item = impl Iterator<Item = usize> + Clone + 'a> + 'a {
    let mut last = 0;
    counts.iter().flat_map(move |&count| {
        let first = last;
        last += count as usize;
        let end = last;
        (0..width).map(move |column| (first..end).map(move |i| i * width + column).filter(|&at| given[at] >= 0))
    })
}

impl<T: Real> Kernel for ListKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let width = self.y.layout.width;
        let x = self.x.slice();
        let y = self.y.slice_mut();
        y.fill(T::ZERO);
        for list in lists(self.places.counts.slice(), self.given.slice(), width) {
            let top = list.clone().fold(T::LOWEST, |top, at| top.max(x[at]));
            let sum = list.clone().fold(T::ZERO, |sum, at| sum + (x[at] - top).exp());
            let whole = top + sum.ln();
            list.for_each(|at| y[at] = x[at] - whole);
        }
        Ok(())
    }

    /// `dx_i = dy_i - exp(y_i) sum_j dy_j`, in every lane.
    fn backward(&mut self, _: &Step<'_>, pass: Pass) -> Result<()> {
        let Some((dy, dx)) = self.passes.of(pass) else { return Ok(()) };
        let Layout { lanes, width, .. } = dy.layout;
        let add = dx.mode == Mode::Add;
        let (y, dy) = (self.y.slice(), dy.slice());
        let to = dx.buffer.slice_mut();
        if !add {
            to.fill(T::ZERO);
        }
        for list in lists(self.places.counts.slice(), self.given.slice(), width) {
            for lane in 0..lanes {
                let place = |at: usize| (at / width * lanes + lane) * width + at % width;
                let sum = list.clone().fold(T::ZERO, |sum, at| sum + dy[place(at)]);
                list.clone().for_each(|at| to[place(at)] += dy[place(at)] - y[at].exp() * sum);
            }
        }
        Ok(())
    }
}
