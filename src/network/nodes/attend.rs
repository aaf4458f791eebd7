//! Attention of each position to those of its row.

mod kernel;
mod loops;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use self::kernel::AttendKernel;
use crate::error::Result;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{MaybeKernel, Node, Prepares, by_loops};
use crate::network::prepare::Prepare;

/// The base of rotary frequencies (Su et al., 2021): of the pair `i` of a head of `d` numbers it is `10000^(-2i/d)`.
const BASE: f64 = 10_000.0;

/// `y_i = sum over j of softmax_j(q_i k_j / sqrt(d)) v_j` over the positions `j` of the row of `i`, for each of some heads of `d`
/// numbers (Vaswani et al., NeurIPS 2017); rotary, `q` and `k` are turned by their place first (Su et al., RoFormer, 2021).
///
/// The input has the queries of all heads, then keys, then values. Of a head of rotary attention the number `i` of the first half
/// and that of the second are a pair.
#[derive(Debug)]
pub struct Attend {
    /// `[positions, 3 * width]`.
    pub input: ValueId,
    /// `[positions, width]`.
    pub output: ValueId,
    /// How many heads, of which `width` is a multiple.
    pub heads: usize,
    /// Whether queries and keys are turned.
    pub rotary: bool,
    /// Of positions to their rows.
    pub link: Link,
}

impl Node for Attend {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"heads": self.heads, "rotary": self.rotary, "base": BASE}))
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    /// All rows as long as the longest one.
    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let places = given.places();
        let (groups, positions, wide) = sizes(x);
        let longest = places.longest()?.max(1);
        let counts = places.counts();
        let starts = counts.cumsum(0, Kind::Int64) - &counts;
        let rows = counts.size()[0];
        let parents = places.parents();
        let times = Tensor::arange(longest, (Kind::Int64, x.device()));
        let at = (starts.unsqueeze(1) + &times).clamp(0, positions - 1).reshape([-1]);
        let heads = self.heads as i64;
        let each = wide / 3 / heads;
        // `[3, groups, rows, heads, longest, each]`
        let laid = x.index_select(1, &at).reshape([groups, rows, longest, 3, heads, each]).permute([3, 0, 1, 4, 2, 5]);
        let turned = |x: Tensor| if self.rotary { turned(&x, &times) } else { x };
        let [q, k] = [0, 1].map(|part| turned(laid.get(part)));
        let scores = q.matmul(&k.transpose(3, 4)) / (each as f64).sqrt();
        // Far below all scores, and a number, so that rows without positions are none of the gradient's business.
        let none = Tensor::full([], -1e30, (x.kind(), x.device()));
        let there = times.unsqueeze(0).lt_tensor(&counts.unsqueeze(1)).reshape([1, rows, 1, 1, longest]);
        let weights = scores.where_self(&there, &none).softmax(4, x.kind());
        let y = weights.matmul(&laid.get(2)).transpose(2, 3).reshape([groups, rows * longest, wide / 3]);
        let number = Tensor::arange(positions, (Kind::Int64, x.device())) - starts.index_select(0, &parents);
        let y = y.index_select(1, &(&parents * longest + number).clamp(0, rows * longest - 1));
        Ok(y.where_self(&places.mask(), &y.zeros_like()).into())
    }
}

/// `[..., places, numbers]` with the halves of the numbers turned as pairs.
fn turned(x: &Tensor, times: &Tensor) -> Tensor {
    let width = x.size()[4];
    let pairs = Tensor::arange(width / 2, (Kind::Double, x.device()));
    let frequencies = (pairs * (-2.0 * BASE.ln() / width as f64)).exp();
    let angles = times.to_kind(Kind::Double).unsqueeze(1) * frequencies;
    let (cos, sin) = (angles.cos().to_kind(x.kind()), angles.sin().to_kind(x.kind()));
    let (a, b) = (x.narrow(4, 0, width / 2), x.narrow(4, width / 2, width / 2));
    Tensor::cat(&[&a * &cos - &b * &sin, &b * &cos + &a * &sin], 4)
}

impl<T: Real> Prepares<T> for Attend {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        by_loops(AttendKernel::new(self, at)?)
    }
}
