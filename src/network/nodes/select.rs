//! Some columns of one group.

use std::ops::Range;

use serde_json::{Value, json};

use super::segments::{lanes_between, take};
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::entrance::Entrance;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::owner::Owner;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::network::{Network, ValueId};

/// `y = x[group][:, columns]`.
#[derive(Debug)]
pub struct Select {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// Which group.
    pub group: usize,
    /// Which columns.
    pub columns: Range<usize>,
}

struct SelectKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    group: usize,
    start: usize,
    owner: Owner,
    entrance: Option<Entrance>,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

impl Node for Select {
    fn name(&self) -> &'static str {
        "Select"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"group": self.group, "columns": [self.columns.start, self.columns.end]}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let group = given.input(0).narrow(0, self.group as i64, 1);
        Ok(group.narrow(2, self.columns.start as i64, self.columns.len() as i64).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        let input = &net.values[self.input];
        input.groups == 1 && self.columns == (0..input.width)
    }
}

impl<T: Real> Prepares<T> for Select {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(self.output, pass), leaving))))?;
        by_loops(SelectKernel {
            x: at.value(self.input),
            y: at.value(self.output),
            group: self.group,
            start: self.columns.start,
            owner: at.net.owner(self.output),
            entrance: at.entrance(0),
            passes,
        })
    }
}

impl<T: Real> Kernel for SelectKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let from = self.x.layout;
        let width = self.y.layout.width;
        let group = &self.x.slice()[self.group * from.rows * from.width..];
        let rows = self.y.slice_mut().chunks_exact_mut(width).zip(group.chunks_exact(from.width));
        rows.for_each(|(y, x)| y.copy_from_slice(&x[self.start..self.start + width]));
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Some((dy, dx)) = self.passes.of(pass) else { return Ok(()) };
        if let (Pass::Summed, Some(entrance)) = (pass, &self.entrance) {
            entrance.weigh(step, dy.layout, dy.slice_mut());
        }
        let from = dy.layout;
        let to = dx.buffer.layout;
        let add = dx.mode == Mode::Add;
        let first = self.group * to.rows * to.lanes;
        for (i, o) in lanes_between(from, to.lanes, self.owner) {
            let at = (first + o) * to.width + self.start;
            take(&mut dx.buffer.slice_mut()[at..at + from.width], &dy.slice()[i * from.width..][..from.width], add);
        }
        Ok(())
    }
}
