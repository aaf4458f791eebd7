//! Adapters: what each member of an ensemble has for itself beside weights that all share (Wen, Tran & Ba, BatchEnsemble, ICLR
//! 2020).

use serde_json::{Value, json};

use super::activation::Activation;
use crate::error::Result;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Node, Prepares};
use crate::parameters::ParamId;

/// `y = act(x * scale + bias)`, where each member has a scale and a bias of its own for each column.
#[derive(Debug)]
pub struct Adapter {
    /// What it reads: of members, or of rows, which all members see.
    pub input: ValueId,
    /// What it fills, of members.
    pub output: ValueId,
    /// How many members.
    pub members: usize,
    /// `[members, width]`, or `[groups, members, width]`.
    pub scale: ParamId,
    /// The same, if there is one.
    pub bias: Option<ParamId>,
    /// Applied to the sum.
    pub activation: Option<Activation>,
    /// From rows to members, if it reads rows.
    pub link: Option<Link>,
}

impl Node for Adapter {
    fn name(&self) -> &'static str {
        "Adapter"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({
            "members": self.members,
            "spread": self.link.is_some(),
            "bias": self.bias.is_some(),
            "activation": self.activation,
        }))
    }

    fn along(&self) -> Vec<Link> {
        self.link.into_iter().collect()
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let (groups, _, width) = sizes(given.input(0));
        let members = self.members as i64;
        let each = if self.link.is_some() { 1 } else { members };
        let x = given.input(0).reshape([groups, -1, each, width]);
        let y = x * given.grouped(0, &[groups, 1, members, width]);
        let y = if self.bias.is_some() { y + given.grouped(1, &[groups, 1, members, width]) } else { y };
        let y = y.reshape([groups, -1, width]);
        Ok(self.activation.map_or(y.shallow_clone(), |activation| activation.formula(&y)).into())
    }

    fn params(&self) -> Vec<ParamId> {
        std::iter::once(self.scale).chain(self.bias).collect()
    }
}

impl<T: Real> Prepares<T> for Adapter {}
