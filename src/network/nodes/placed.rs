//! Positions that are told their number in their row.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::bail;
use crate::error::Result;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Node, Prepares};
use crate::parameters::ParamId;

/// `y = x + table[number in the row]`.
#[derive(Debug)]
pub struct Placed {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// `[most, width]`, or `[groups, most, width]`.
    pub table: ParamId,
    /// Most positions of a row.
    pub most: usize,
    /// Of positions to their rows.
    pub link: Link,
}

impl Node for Placed {
    fn name(&self) -> &'static str {
        "Placed"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"most": self.most}))
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let (groups, positions, width) = sizes(x);
        let places = given.places();
        let longest = places.longest()?;
        if longest > self.most as i64 {
            bail!(
                "there are places for {} positions of a row; got a row of {longest}: give the encoder a larger `max_length`",
                self.most
            );
        }
        let counts = places.counts();
        let starts = counts.cumsum(0, Kind::Int64) - &counts;
        let number = Tensor::arange(positions, (Kind::Int64, x.device())) - starts.index_select(0, &places.parents());
        let number = number.clamp(0, self.most as i64 - 1);
        let table = given.grouped(0, &[groups, self.most as i64, width]).index_select(1, &number);
        Ok((x + table.where_self(&places.mask(), &table.zeros_like())).into())
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.table]
    }
}

impl<T: Real> Prepares<T> for Placed {}
