//! A linear layer a member of an ensemble.

use serde_json::{Value, json};

use super::activation::Activation;
use crate::error::Result;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Node, Prepares};
use crate::parameters::ParamId;

/// `y = act(x W^T + b)`, where each member has weights and biases of its own.
#[derive(Debug)]
pub struct MemberLinear {
    /// What it reads: of members, or of rows, which all members see.
    pub input: ValueId,
    /// What it fills, of members.
    pub output: ValueId,
    /// How many members.
    pub members: usize,
    /// `[members, out, in]`, or `[groups, members, out, in]`.
    pub weight: ParamId,
    /// `[members, out]`, or `[groups, members, out]`.
    pub bias: ParamId,
    /// Applied to the sum.
    pub activation: Option<Activation>,
    /// From rows to members, if it reads rows.
    pub link: Option<Link>,
}

impl Node for MemberLinear {
    fn name(&self) -> &'static str {
        "MemberLinear"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"members": self.members, "spread": self.link.is_some(), "activation": self.activation}))
    }

    fn along(&self) -> Vec<Link> {
        self.link.into_iter().collect()
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let (groups, _, inner) = sizes(given.input(0));
        let members = self.members as i64;
        let each = if self.link.is_some() { 1 } else { members };
        let x = given.input(0).reshape([groups, -1, each, inner]).transpose(1, 2);
        let weight = given.grouped(0, &[groups, members, -1, inner]);
        let bias = given.grouped(1, &[groups, members, 1, -1]);
        let y = (x.matmul(&weight.transpose(2, 3)) + bias).transpose(1, 2);
        let width = y.size()[3];
        let y = y.reshape([groups, -1, width]);
        Ok(self.activation.map_or(y.shallow_clone(), |activation| activation.formula(&y)).into())
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.weight, self.bias]
    }
}

impl<T: Real> Prepares<T> for MemberLinear {}
