//! What a node computes, as tensor algebra: what its loops are compared with, what runs where it has none, and what runs on
//! devices that are no processor.

use tch::{Kind, Tensor};

use super::positions::PlaceTensors;
use crate::machine::draws::Draws;

/// What a node's formula is given.
#[derive(Debug)]
pub struct Operands<'a> {
    /// The node's inputs, `[groups, rows, width]` each.
    pub inputs: &'a [Tensor],
    /// The node's parameters, in shapes of their own.
    pub params: &'a [Tensor],
    /// The codes of the node's inputs of codes, `[rows, columns]` of `i32` each, whose 32 bits are those of a `u32`.
    pub codes: &'a [Tensor],
    /// Where positions are, a link of the node's each.
    pub places: &'a [PlaceTensors],
    /// Where positions of the output are, if it is of positions.
    pub within: Option<&'a PlaceTensors>,
    /// The flat state of the network.
    pub state: &'a Tensor,
    /// Where frozen pieces of the state start.
    pub frozen: &'a [usize],
    /// Numbers at random.
    pub draws: Draws<'a>,
    /// Training, or evaluation.
    pub training: bool,
    /// This micro-batch's share of the step's rows, `f64` without dimensions: a factor on terms of the objective.
    pub share: &'a Tensor,
}

/// What a node's formula gives.
#[derive(Debug)]
pub struct Computed {
    /// The node's output, `[groups, rows, width]`.
    pub output: Tensor,
    /// The terms that it adds to the objective while training, in the order of the node's names of them, `[groups]` each.
    pub terms: Vec<Tensor>,
    /// Pieces of the flat state that are new, with where each starts.
    pub state: Vec<(usize, Tensor)>,
}

impl From<Tensor> for Computed {
    fn from(output: Tensor) -> Self {
        Self { output, terms: Vec::new(), state: Vec::new() }
    }
}

impl Operands<'_> {
    /// The `k`-th input.
    pub fn input(&self, k: usize) -> &Tensor {
        &self.inputs[k]
    }

    /// The `k`-th parameter, group by group: `[groups, ...]`.
    pub fn grouped(&self, k: usize, shape: &[i64]) -> Tensor {
        self.params[k].reshape(shape)
    }

    /// The codes of the node's `k`-th input of codes, `[rows, columns]` of `i64`.
    pub fn codes(&self, k: usize) -> Tensor {
        self.codes[k].to_kind(Kind::Int64).bitwise_and(i64::from(u32::MAX))
    }

    /// Where positions are, of the node's first link.
    ///
    /// # Panics
    /// A node that has none.
    pub fn places(&self) -> &PlaceTensors {
        &self.places[0]
    }

    /// How many rows there are, of the batch or positions, without dimensions; positions are counted on the device.
    pub fn count(&self) -> Tensor {
        let (_, rows, _) = sizes(self.input(0));
        match self.within {
            Some(places) => places.there().sum(Kind::Int64),
            None => Tensor::full([], rows, (Kind::Int64, self.input(0).device())),
        }
    }

    /// The mean over these rows of `[groups, rows, width]`, `[groups, 1, width]`; 0 of none.
    pub fn mean_of_rows(&self, x: &Tensor) -> Tensor {
        match self.within {
            Some(places) => {
                let there = x.where_self(&places.mask(), &x.zeros_like());
                there.sum_dim_intlist(1_i64, true, x.kind()) / self.count().clamp_min(1)
            }
            None => x.mean_dim(1_i64, true, x.kind()),
        }
    }

    /// A factor on terms of the objective times this micro-batch's share of the step's rows.
    pub fn shared(&self, factor: f64) -> Tensor {
        (self.share * factor).to_kind(self.kind())
    }

    /// The kind of the network's numbers.
    pub fn kind(&self) -> Kind {
        self.inputs[0].kind()
    }
}

/// Groups, rows and width of a value.
pub fn sizes(value: &Tensor) -> (i64, i64, i64) {
    value.size3().expect("values are [groups, rows, width]")
}
