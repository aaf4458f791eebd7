//! Recurrence over the positions of each row, forward or in both directions: the half of a layer that comes after the products
//! of its input.

mod kernel;
mod loops;
mod order;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use self::kernel::RecurKernel;
use crate::error::Result;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{MaybeKernel, Node, Prepares, by_loops};
use crate::network::prepare::Prepare;
use crate::parameters::ParamId;

/// What a recurrent layer does at a position, from what it made of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// `c' = f c + i g`, `h' = o tanh(c')`, with `i`, `f` and `o` the sigmoid and `g` the hyperbolic tangent of `x + W h`
    /// (Hochreiter & Schmidhuber, Neural Computation 1997).
    Lstm,
    /// `h' = (1 - z) n + z h`, with `r` and `z` the sigmoid of `x + W h`, and `n = tanh(x + r (W h + b))` (Cho et al., EMNLP
    /// 2014).
    Gru,
}

crate::choices!(Cell: Lstm, Gru);

impl Cell {
    /// Numbers that it wants of the input for each of its own.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// Numbers that its backward wants to know beside gates and `h`, for each of its own.
    fn kept(self) -> usize {
        match self {
            // `c` of before, and `tanh(c)`.
            Cell::Lstm => 2,
            // `W h + b` of `n`.
            Cell::Gru => 1,
        }
    }

    /// The next `h`, and the next `c`, by tensor algebra, from the input's and from `W h`; `bias` is that of a GRU.
    fn formula(self, x: &Tensor, of_h: &Tensor, [h, c]: [&Tensor; 2], bias: Option<&Tensor>) -> [Tensor; 2] {
        let chunk = |from: &Tensor, k: usize| {
            let width = h.size()[2];
            from.narrow(2, k as i64 * width, width)
        };
        let sum = |k: usize| chunk(x, k) + chunk(of_h, k);
        match self {
            Cell::Lstm => {
                let c = sum(1).sigmoid() * c + sum(0).sigmoid() * sum(2).tanh();
                [sum(3).sigmoid() * c.tanh(), c]
            }
            Cell::Gru => {
                let own = chunk(of_h, 2);
                let own = bias.map_or(own.shallow_clone(), |bias| own + bias);
                let n = (chunk(x, 2) + sum(0).sigmoid() * own).tanh();
                let z = sum(1).sigmoid();
                [(-&z + 1.0) * n + z * h, c.shallow_clone()]
            }
        }
    }
}

/// `h_t = cell(x_t, W h_{t-1})` over the positions of each row, from 0 on; with two weights the second goes from the last
/// position to the first, its numbers beside those of the first.
#[derive(Debug)]
pub struct Recur {
    /// The products of the layer's input, with their biases: a direction after the other, and in each a gate after the other.
    pub input: ValueId,
    /// `h`, a direction after the other.
    pub output: ValueId,
    /// What happens at a position.
    pub cell: Cell,
    /// `[gates * width, width]`, or `[groups, gates * width, width]`, one a direction.
    pub weights: Vec<ParamId>,
    /// Of a GRU, `[width]` or `[groups, width]`, one a direction.
    pub biases: Vec<ParamId>,
    /// Of positions to their rows.
    pub link: Link,
}

impl Node for Recur {
    fn name(&self) -> &'static str {
        "Recurrence"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"cell": self.cell, "directions": self.weights.len()}))
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    /// One position of all rows after the other, as many as the longest row has.
    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let places = given.places();
        let (groups, positions, wide) = sizes(x);
        let longest = places.longest()?.max(1);
        let counts = places.counts();
        let ends = counts.cumsum(0, Kind::Int64);
        let starts = &ends - &counts;
        let rows = counts.size()[0];
        let parents = places.parents();
        let [of_starts, of_counts] = [&starts, &counts].map(|of_rows| of_rows.index_select(0, &parents));
        let number = Tensor::arange(positions, (Kind::Int64, x.device())) - of_starts;
        let directions = self.weights.len() as i64;
        let width = wide / directions / self.cell.gates() as i64;
        let mut both = Vec::with_capacity(self.weights.len());
        for direction in 0..directions {
            let backward = direction == 1;
            let weight = given.grouped(direction as usize, &[groups, -1, width]).transpose(1, 2);
            let bias = self.biases.get(direction as usize);
            let bias = bias.map(|_| given.grouped((directions + direction) as usize, &[groups, 1, width]));
            let x = x.narrow(2, direction * wide / directions, wide / directions);
            let mut h = Tensor::zeros([groups, rows, width], (x.kind(), x.device()));
            let mut c = h.shallow_clone();
            let mut all = Vec::with_capacity(longest as usize);
            for t in 0..longest {
                let at = if backward { &ends - (t + 1) } else { &starts + t };
                let there = counts.gt(t).reshape([1, -1, 1]);
                let x = x.index_select(1, &at.clamp(0, positions - 1));
                let new = self.cell.formula(&x, &h.matmul(&weight), [&h, &c], bias.as_ref());
                [h, c] = [new[0].where_self(&there, &h), new[1].where_self(&there, &c)];
                all.push(h.shallow_clone());
            }
            let t = if backward { &of_counts - 1 - &number } else { number.shallow_clone() };
            let all = Tensor::stack(&all, 1).reshape([groups, longest * rows, width]);
            let y = all.index_select(1, &(t * rows + &parents).clamp(0, longest * rows - 1));
            both.push(y.where_self(&places.mask(), &y.zeros_like()));
        }
        Ok(Tensor::cat(&both, 2).into())
    }

    fn params(&self) -> Vec<ParamId> {
        self.weights.iter().chain(&self.biases).copied().collect()
    }

    fn tiles(&self, param: ParamId) -> bool {
        self.weights.contains(&param)
    }
}

impl<T: Real> Prepares<T> for Recur {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        by_loops(RecurKernel::new(self, at)?)
    }
}
