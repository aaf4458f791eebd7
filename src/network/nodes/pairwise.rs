//! A score of each pair of a row's positions, linear in what each of the two has.

use serde_json::{Value, json};
use tch::Tensor;

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::{Cut, Mode, cut_product};
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::positions::{PlaceTensors, Places};
use crate::network::prepare::{InputGradient, Prepare};

/// `y[(i, j), c] = <a_i, b_j[c]>`, where `b_j` has a vector as wide as `a` a column, and a number more, which is added: a
/// biaffine form where `b` is linear in what the second position has. One product a row of the batch.
#[derive(Debug)]
pub struct Pairwise {
    /// `a` `[positions, width]`, and `b` `[positions, columns * (width + 1)]`.
    pub inputs: [ValueId; 2],
    /// What it fills, on the axis of pairs.
    pub output: ValueId,
    /// Of positions, and of their pairs, to rows.
    pub links: [Link; 2],
}

/// Where the pairs of a batch are, for formulas.
pub(super) struct PairPlaces {
    /// The row of each pair.
    pub row: Tensor,
    /// The first position of each pair, and the second, by their numbers in the row.
    pub numbers: [Tensor; 2],
    /// Where the positions of each row begin.
    pub starts: Tensor,
    /// Whether there is a pair.
    pub there: Tensor,
}

impl PairPlaces {
    pub fn new(of_positions: &PlaceTensors, of_pairs: &PlaceTensors) -> Self {
        let kind = (tch::Kind::Int64, of_pairs.there().device());
        let before = |counts: &Tensor| counts.cumsum(0, tch::Kind::Int64) - counts;
        let counts = of_positions.counts();
        let row = of_pairs.parents();
        let begin = before(&of_pairs.counts()).index_select(0, &row);
        let there = of_pairs.there();
        let number = Tensor::arange(row.size()[0], kind) - begin;
        let number = number.where_self(&there, &number.zeros_like());
        let each = counts.index_select(0, &row).clamp_min(1);
        let first = number.divide_tensor_mode(&each, "floor");
        let second = number - &first * each;
        Self { row, numbers: [first, second], starts: before(&counts), there }
    }
}

struct PairwiseKernel<T> {
    /// `a`, and after each row of it a 1.
    a: Buffer<T>,
    with_one: Buffer<T>,
    b: Buffer<T>,
    y: Buffer<T>,
    places: Places,
    passes: PerPass<Option<Backward<T>>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    da: Option<InputGradient<T>>,
    db: Option<InputGradient<T>>,
}

impl Node for Pairwise {
    fn name(&self) -> &'static str {
        "Pairwise"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.to_vec()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn along(&self) -> Vec<Link> {
        self.links.to_vec()
    }

    /// Rows as long as the longest one, as batched products.
    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let [a, b] = [given.input(0).squeeze_dim(0), given.input(1).squeeze_dim(0)];
        let [of_positions, of_pairs] = [&given.places[0], &given.places[1]];
        let (positions, width) = a.size2()?;
        let columns = b.size()[1] / (width + 1);
        let longest = of_positions.longest()?.max(1);
        let PairPlaces { row, numbers: [first, second], starts, there } = PairPlaces::new(of_positions, of_pairs);
        let rows = starts.size()[0];
        let each = Tensor::arange(longest, (tch::Kind::Int64, a.device()));
        let at = (starts.unsqueeze(1) + each).clamp(0, (positions - 1).max(0)).reshape([-1]);
        let a = Tensor::cat(&[&a, &a.ones_like().narrow(1, 0, 1)], 1);
        let a = a.index_select(0, &at).reshape([rows, longest, width + 1]);
        let b = b.index_select(0, &at).reshape([rows, longest * columns, width + 1]);
        let y = a.bmm(&b.transpose(1, 2)).reshape([rows * longest * longest, columns]);
        let y = y.index_select(0, &(((row * longest) + first) * longest + second)).unsqueeze(0);
        Ok(y.where_self(&there.reshape([1, -1, 1]), &y.zeros_like()).into())
    }
}

impl<T: Real> Prepares<T> for Pairwise {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let a = at.value(self.inputs[0]);
        let passes = at.each_pass(|pass| {
            let [da, db] = [at.leaving(0, pass), at.leaving(1, pass)];
            if da.is_none() && db.is_none() {
                return Ok(None);
            }
            Ok(Some(Backward { dy: at.arriving(self.output, pass), da, db }))
        })?;
        let mut with_one = Buffer::zeros(Layout { width: a.layout.width + 1, ..a.layout })?;
        with_one.slice_mut().fill(T::ONE);
        let [b, y] = [at.value(self.inputs[1]), at.value(self.output)];
        by_loops(PairwiseKernel { a, with_one, b, y, places: at.places(self.links[0]), passes })
    }
}

/// One row's part of each matrix.
struct Part {
    a: Cut,
    /// `a` with ones.
    with_one: Cut,
    b: Cut,
    /// `b` without what is added.
    inner: Cut,
    y: Cut,
}

/// The parts of rows that have positions, and where the last of their positions and pairs end.
fn parts(counts: &[i32], width: usize, columns: usize) -> (impl Iterator<Item = Part> + '_, [usize; 2]) {
    let ends = counts.iter().fold([0, 0], |[position, pair], &count| {
        let count = count as usize;
        [position + count, pair + count * count]
    });
    let parts = counts.iter().filter(|count| **count > 0).scan([0, 0], move |[position, pair], &count| {
        let count = count as usize;
        let (first, wide) = (*position, width + 1);
        let b = Cut::rows(first * columns * wide, count * columns, wide);
        let part = Part {
            a: Cut::rows(first * width, count, width),
            with_one: Cut::rows(first * wide, count, wide),
            b,
            inner: Cut { columns: width, ..b },
            y: Cut::rows(*pair * columns, count, count * columns),
        };
        *position += count;
        *pair += count * count;
        Some(part)
    });
    (parts, ends)
}

impl<T: Real> Kernel for PairwiseKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let width = self.a.layout.width;
        let columns = self.y.layout.width;
        for (with_one, a) in
            self.with_one.slice_mut().chunks_exact_mut(width + 1).zip(self.a.slice().chunks_exact(width))
        {
            with_one[..width].copy_from_slice(a);
        }
        let (parts, [_, end]) = parts(self.places.counts.slice(), width, columns);
        for Part { with_one, b, y, .. } in parts {
            cut_product((&self.y, y), (&self.with_one, with_one), (&self.b, b.turned()), Mode::Write)?;
        }
        self.y.slice_mut()[end * columns..].fill(T::ZERO);
        Ok(())
    }

    fn backward(&mut self, _: &Step<'_>, pass: Pass) -> Result<()> {
        let Some(Backward { dy, da, db }) = self.passes.of(pass) else { return Ok(()) };
        let width = self.a.layout.width;
        let columns = self.y.layout.width;
        let (parts, [end, _]) = parts(self.places.counts.slice(), width, columns);
        for Part { a, with_one, b, inner, y } in parts {
            if let Some(da) = da {
                cut_product((&da.buffer, a), (dy, y), (&self.b, inner), da.mode)?;
            }
            if let Some(db) = db {
                cut_product((&db.buffer, b), (dy, y.turned()), (&self.with_one, with_one), db.mode)?;
            }
        }
        for (gradient, each) in [(da, width), (db, columns * (width + 1))] {
            if let Some(InputGradient { buffer, mode: Mode::Write, .. }) = gradient {
                buffer.slice_mut()[end * each..].fill(T::ZERO);
            }
        }
        Ok(())
    }
}
