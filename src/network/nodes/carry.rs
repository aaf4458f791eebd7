//! Between a coarser axis and a finer one, such as rows and the positions within them: spread, pooled, or from neighbour to
//! neighbour.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::segments::{covers, take_times};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::axis::Link;
use crate::network::entrance::Entrance;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::owner::Owner;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::positions::{PlaceTensors, Places};
use crate::network::prepare::{InputGradient, Prepare};
use crate::network::{InputId, Network, ValueId};

/// What goes where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A coarser position's numbers to each of its finer ones.
    Spread,
    /// The sum over a coarser position's finer ones; 0 of none.
    Sum,
    /// Their mean; 0 of none.
    Mean,
    /// To each finer position the numbers of the one so many further on that belongs to the same; 0 beyond its ends.
    Neighbour(i64),
}

/// Carries a value along a link between axes.
#[derive(Debug)]
pub struct Carry {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// The axes.
    pub link: Link,
    /// What goes where.
    pub way: Way,
}

struct CarryKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    places: Places,
    way: Way,
    owner: Owner,
    entrance: Option<Entrance>,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

impl Node for Carry {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Spread => "Spread",
            Way::Sum | Way::Mean => "Pool",
            Way::Neighbour(_) => "Neighbour",
        }
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(match self.way {
            Way::Spread => json!({"way": "spread"}),
            Way::Sum => json!({"way": "sum"}),
            Way::Mean => json!({"way": "mean"}),
            Way::Neighbour(by) => json!({"way": "neighbour", "by": by}),
        })
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let places = given.places();
        let picked = |index: &Tensor, there: &Tensor| {
            let picked = x.index_select(1, index);
            picked.where_self(&there.reshape([1, -1, 1]), &picked.zeros_like())
        };
        Ok(match self.way {
            Way::Spread => picked(&places.parents(), &places.there()),
            Way::Neighbour(by) => {
                let (further, same) = places.neighbours(by);
                picked(&further, &same)
            }
            Way::Sum | Way::Mean => {
                let counts = places.counts();
                let (groups, _, width) = x.size3()?;
                let there = x.where_self(&places.mask(), &x.zeros_like());
                let sums = Tensor::zeros([groups, counts.size()[0], width], (x.kind(), x.device()));
                let sums = sums.index_add(1, &places.parents(), &there);
                match self.way {
                    Way::Mean => sums / counts.clamp_min(1).to_kind(x.kind()).reshape([1, -1, 1]),
                    _ => sums,
                }
            }
        }
        .into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &[self.input], self.output)
    }
}

impl<T: Real> Prepares<T> for Carry {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(self.output, pass), leaving))))?;
        by_loops(CarryKernel {
            x: at.value(self.input),
            y: at.value(self.output),
            places: at.places(self.link),
            way: self.way,
            owner: at.net.owner(self.output),
            entrance: at.entrance(0),
            passes,
        })
    }
}

impl<T: Real> CarryKernel<T> {
    /// A factor and a pair of rows, of the output and of the input, wherever something goes from one to the other.
    fn pairs(way: Way, places: &Places) -> impl Iterator<Item = (T, usize, usize)> + '_ {
        let parents = places.parents.slice();
        let counts = places.counts.slice();
        let pair = move |(position, &parent): (usize, &i32)| {
            let of = usize::try_from(parent).ok()?;
            match way {
                Way::Spread => Some((T::ONE, position, of)),
                Way::Sum => Some((T::ONE, of, position)),
                Way::Mean => Some((T::of(1.0 / f64::from(counts[of])), of, position)),
                Way::Neighbour(by) => {
                    let other = position.checked_add_signed(by as isize)?;
                    (parents.get(other) == Some(&parent)).then_some((T::ONE, position, other))
                }
            }
        };
        parents.iter().enumerate().filter_map(pair)
    }
}

impl<T: Real> Kernel for CarryKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let Layout { groups, rows: from, width, .. } = self.x.layout;
        let to = self.y.layout.rows;
        let x = self.x.slice();
        let y = self.y.slice_mut();
        y.fill(T::ZERO);
        for group in 0..groups {
            for (factor, o, i) in Self::pairs(self.way, &self.places) {
                let y = &mut y[(group * to + o) * width..][..width];
                take_times(y, &x[(group * from + i) * width..][..width], factor, true);
            }
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Some((dy, dx)) = self.passes.of(pass) else { return Ok(()) };
        if let (Pass::Summed, Some(entrance)) = (pass, &self.entrance) {
            entrance.weigh(step, dy.layout, dy.slice_mut());
        }
        let from = dy.layout;
        let to = dx.buffer.layout;
        let width = from.width;
        for group in 0..from.groups {
            // Lane by lane, or from the one lane into that of the task.
            let same = from.lanes == to.lanes;
            let lanes = if same { 0..to.lanes } else { self.owner.task(group)..self.owner.task(group) + 1 };
            let dx_rows =
                &mut dx.buffer.slice_mut()[group * to.rows * to.lanes * width..][..to.rows * to.lanes * width];
            if dx.mode == Mode::Write {
                for row in dx_rows.chunks_exact_mut(to.lanes * width) {
                    row[lanes.start * width..lanes.end * width].fill(T::ZERO);
                }
            }
            let dy_rows = &dy.slice()[group * from.rows * from.lanes * width..][..from.rows * from.lanes * width];
            let count = lanes.len() * width;
            for (factor, o, i) in Self::pairs(self.way, &self.places) {
                let dx = &mut dx_rows[(i * to.lanes + lanes.start) * width..][..count];
                take_times(dx, &dy_rows[o * from.lanes * width..][..count], factor, true);
            }
        }
        Ok(())
    }
}

/// The largest number over each coarser position's finer ones that are there, column by column; minus infinity of none.
pub(super) fn largest(x: &Tensor, there: &Tensor, places: &PlaceTensors) -> Result<Tensor> {
    let (groups, _, width) = x.size3()?;
    let coarse = places.counts().size()[0];
    let least = Tensor::full([], f64::NEG_INFINITY, (x.kind(), x.device()));
    let there = x.where_self(there, &least);
    let none = least.expand([groups, coarse, width], false).contiguous();
    let parents = places.parents().reshape([1, -1, 1]).expand_as(x);
    Ok(none.internal_scatter_reduce(1, &parents, &there, "amax", true))
}

/// The largest number over a coarser position's finer ones, column by column; 0 of none. Equal ones share the gradient.
#[derive(Debug)]
pub struct MaxPool {
    /// What it reads, on the finer axis.
    pub input: ValueId,
    /// What it fills, on the coarser.
    pub output: ValueId,
    /// The axes.
    pub link: Link,
}

impl Node for MaxPool {
    fn name(&self) -> &'static str {
        "Pool"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"way": "max"}))
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let places = given.places();
        let largest = largest(x, &places.mask(), places)?;
        Ok(largest.where_self(&places.counts().gt(0).reshape([1, -1, 1]), &largest.zeros_like()).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &[self.input], self.output)
    }
}

impl<T: Real> Prepares<T> for MaxPool {}

/// A mean over a coarser position's finer ones whose weights are the softmax of scores, one each; 0 of none.
#[derive(Debug)]
pub struct AttentionPool {
    /// The scores, of width 1, and what is pooled, both on the finer axis.
    pub inputs: [ValueId; 2],
    /// What it fills, on the coarser.
    pub output: ValueId,
    /// The axes.
    pub link: Link,
}

impl Node for AttentionPool {
    fn name(&self) -> &'static str {
        "Pool"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.to_vec()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"way": "attention"}))
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let scores = given.input(0);
        let x = given.input(1);
        let places = given.places();
        let parents = places.parents();
        let (groups, _, width) = x.size3()?;
        let coarse = places.counts().size()[0];
        let zeros = |width: i64| Tensor::zeros([groups, coarse, width], (x.kind(), x.device()));
        // The largest score is taken off, as a constant: it changes no weight.
        let largest = largest(&scores.detach(), &places.mask(), places)?.index_select(1, &parents);
        let shifted = (scores - largest).where_self(&places.mask(), &scores.zeros_like());
        let weights = shifted.exp() * places.mask().to_kind(x.kind());
        let whole = zeros(1).index_add(1, &parents, &weights);
        let clean = x.where_self(&places.mask(), &x.zeros_like());
        let sums = zeros(width).index_add(1, &parents, &(clean * &weights));
        Ok((sums / whole.where_self(&whole.gt(0.0), &whole.ones_like())).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for AttentionPool {}

/// For each row of one axis the numbers of the position of another that it names by its number in the row; 0 where it names
/// none.
#[derive(Debug)]
pub struct Pick {
    /// What it reads, on the axis of positions.
    pub input: ValueId,
    /// The names, one column of codes.
    pub names: InputId,
    /// What it fills, on the axis of the names.
    pub output: ValueId,
    /// Of the positions to their rows; then of the names to theirs, if they are not of rows themselves.
    pub links: Vec<Link>,
}

impl Node for Pick {
    fn name(&self) -> &'static str {
        "Pick"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn codes(&self) -> Vec<InputId> {
        vec![self.names]
    }

    fn along(&self) -> Vec<Link> {
        self.links.clone()
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let names = given.codes(0).select(1, 0);
        let rows = match given.places.get(1) {
            Some(of_names) => of_names.parents(),
            None => Tensor::arange(names.size()[0], (Kind::Int64, names.device())),
        };
        let (positions, there) = given.places().named(&rows, &names);
        let there = match given.places.get(1) {
            Some(of_names) => there.logical_and(&of_names.there()),
            None => there,
        };
        let picked = x.index_select(1, &positions);
        Ok(picked.where_self(&there.reshape([1, -1, 1]), &picked.zeros_like()).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &[self.input], self.output)
    }
}

impl<T: Real> Prepares<T> for Pick {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_stay_within_rows() {
        let numbers = |numbers: &[i32]| {
            let mut memory = Buffer::<i32>::zeros(Layout::flat(numbers.len())).unwrap();
            memory.slice_mut().copy_from_slice(numbers);
            memory
        };
        // Rows of 2, 0 and 3 positions, and room for one more.
        let places = Places { parents: numbers(&[0, 0, 2, 2, 2, -1]), counts: numbers(&[2, 0, 3]) };
        let pairs = |way| CarryKernel::<f64>::pairs(way, &places).collect::<Vec<_>>();
        assert_eq!(pairs(Way::Spread), [(1.0, 0, 0), (1.0, 1, 0), (1.0, 2, 2), (1.0, 3, 2), (1.0, 4, 2)]);
        assert_eq!(pairs(Way::Mean)[1..3], [(0.5, 0, 1), (1.0 / 3.0, 2, 2)]);
        assert_eq!(pairs(Way::Neighbour(1)), [(1.0, 0, 1), (1.0, 2, 3), (1.0, 3, 4)]);
        assert_eq!(pairs(Way::Neighbour(-2)), [(1.0, 4, 2)]);
        assert_eq!(pairs(Way::Neighbour(i64::MAX)), []);
        assert_eq!(pairs(Way::Neighbour(i64::MIN)), []);
    }
}
