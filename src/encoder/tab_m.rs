//! An ensemble of networks that share most of their weights.

use serde::{Deserialize, Serialize};

use super::Encoder;
use crate::bail;
use crate::component::Sizes;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::{Builder, ScaleStart};
use crate::network::nodes::activation::Activation;

/// What the members have for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Scales before and after each layer's weights, and biases.
    Full,
    /// A scale of the features.
    Mini,
    /// Everything.
    Packed,
}

crate::choices!(Variant: Full, Mini, Packed);

/// How the first scales start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum First {
    /// At 1 or -1.
    Signs,
    /// Normal, with a deviation of 1.
    Normal,
}

crate::choices!(First: Signs, Normal);

crate::component! {
    /// TabM (Gorishniy, Kotelnikov & Babenko, TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling, ICLR
    /// 2025): an ensemble of MLPs that share most of their weights, which makes tables the better for many weak members.
    ///
    /// All members see all rows. The loss that is trained on is the mean over members, each with its own last layer of the
    /// heads; what is predicted, measured and evaluated is the mean of their predictions (of probabilities, rates, or means
    /// and variances). `"full"` is the paper's TabM: each layer is `act(s * (W (r * x)) + b)` with `r`, `s` and `b` of each
    /// member's own (Wen, Tran & Ba, BatchEnsemble, ICLR 2020); `"mini"` keeps the first `r` alone, `"packed"` shares nothing.
    /// It takes tables; positions within rows it does not. A loss or a head of your own sees a row for each member.
    pub struct TabM = "TabM" {
        /// Width of each layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![256, 256, 256]), in 1.0..;
        /// How many members.
        members: usize = 32, in 1.0..;
        /// `"full"`, `"mini"` or `"packed"`: what members have for themselves.
        variant: Variant = Variant::Full;
        /// `"signs"` or `"normal"`: how the first scales start, one a column, and one for all columns of an embedded
        /// number; the paper takes `"normal"` where numbers are embedded.
        first: First = First::Signs;
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Activation> = Some(Activation::Relu);
        /// Probability with which a number is zeroed while training, after each activation.
        dropout: f64 = 0.1, in 0.0..1.0;
    }
}

impl Encoder for TabM {
    fn stages(&self) -> usize {
        self.hidden.0.len()
    }

    fn build(&self, net: &mut Builder, paths: &[String], x: ValueId) -> Result<ValueId> {
        if self.hidden.0.is_empty() {
            bail!("TabM: `hidden` should have a layer at least, which members see in ways of their own; got []");
        }
        (0..self.stages()).try_fold(x, |x, stage| self.stage(net, stage, paths, x))
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        let width = self.hidden.0[stage];
        let of = |part: &str| paths.iter().map(|path| format!("{path}.{stage}{part}")).collect::<Vec<_>>();
        // What stands upon another encoder of members begins like its second layer.
        let first = stage == 0 && net.members_of(x).is_none();
        let start = match self.first {
            _ if !first => ScaleStart::Ones,
            First::Signs => ScaleStart::Signs,
            First::Normal => ScaleStart::Normal,
        };
        let members = self.members;
        let y = match self.variant {
            Variant::Packed => net.member_linear(&of(""), x, members, width, self.activation)?,
            Variant::Mini if !first => net.linear(&of(""), x, width, self.activation),
            Variant::Mini => {
                let scaled = net.adapter(&of(".input"), x, members, start, None, None)?;
                net.linear(&of(""), scaled, width, self.activation)
            }
            Variant::Full => {
                let scaled = net.adapter(&of(".input"), x, members, start, None, None)?;
                let bound = 1.0 / (net.value(scaled).width.max(1) as f64).sqrt();
                let sums = net.product(&of(""), scaled, width);
                net.adapter(&of(".output"), sums, members, ScaleStart::Ones, Some(bound), self.activation)?
            }
        };
        Ok(net.dropout(y, self.dropout))
    }
}
