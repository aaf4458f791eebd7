//! A transformer over positions.

use serde::{Deserialize, Serialize};

use super::Encoder;
use super::window::Pooling;
use crate::bail;
use crate::error::Result;
use crate::network::builder::{Builder, Pool};
use crate::network::nodes::activation::Activation;
use crate::network::{ROWS, ValueId};

/// How positions are told their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    /// Queries and keys are turned (Su et al., RoFormer, 2021).
    Rotary,
    /// By a table.
    Learned,
}

crate::choices!(Told: Rotary, Learned);

crate::component! {
    /// A transformer over the positions of each row (Vaswani et al., Attention Is All You Need, NeurIPS 2017), with normalisation
    /// before each part (Xiong et al., On Layer Normalization in the Transformer Architecture, ICML 2020). Tasks of positions
    /// read what comes out, tasks of rows pool it.
    ///
    /// The input goes through a linear layer to `width` numbers a position. A block is `x = x + drop(W_o attend(W_i norm(x)))`,
    /// where each position attends to all of its own row in each head, by `softmax(q k / sqrt(width / heads))`, and then `x = x +
    /// drop(W_2 drop(gelu(W_1 norm(x))))`; behind the last one is a normalisation. A block is a stage, which schemes may share,
    /// mix or branch after. Rows are not padded, and no weights of attention are kept: memory grows with the positions of a batch,
    /// time with the squares of rows' lengths.
    ///
    /// Without `positions` the order of a row's positions changes nothing. `"rotary"` turns pairs of numbers of queries and keys
    /// by the place times `10000^(-2i/d)` (Su et al., RoFormer, 2021), so that weights depend on distances; a pair is a number of
    /// a head's first half and that of its second. `"learned"` adds the row of a table, which starts normal with a deviation of
    /// 0.02. Layers start as `torch.nn.Linear` does.
    pub struct Transformer = "Transformer" {
        /// How many blocks.
        layers: usize = 2, in 1.0..;
        /// Numbers a position, a multiple of `heads`.
        width: usize = 128, in 1.0..;
        /// Heads of attention.
        heads: usize = 4, in 1.0..;
        /// Numbers of a block's hidden layer, times `width`.
        feedforward: usize = 4, in 1.0..1025.0;
        /// Probability with which a number is zeroed while training: of what a part of a block adds, and of its hidden layer.
        dropout: f64 = 0.1, in 0.0..1.0;
        /// `"rotary"`, `"learned"` or None: how positions are told their places.
        positions: Option<Told> = Some(Told::Rotary);
        /// With `"learned"` the most positions of a row; longer ones are refused.
        max_length: Option<usize> = None, in 1.0..;
        /// `"mean"`, `"sum"`, `"max"` or `"attention"` (a mean whose weights are the softmax of a learned score each, one linear
        /// layer a task; Yang et al., NAACL 2016, without their hidden layer): what a task of rows sees of a row's positions.
        pool: Pooling = Pooling::Mean;
    }
    check: fits;
}

/// Heads share the width, and a table has a length.
fn fits(given: &Transformer) -> Result<()> {
    let Transformer { width, heads, positions, max_length, .. } = *given;
    if !width.is_multiple_of(heads) {
        bail!("Transformer: argument `width` should be a multiple of `heads`; got {width} and {heads}");
    }
    if positions == Some(Told::Rotary) && !(width / heads).is_multiple_of(2) {
        bail!(
            "Transformer: argument `width` should give each head an even number for positions=\"rotary\"; got {width} for {heads} heads"
        );
    }
    if (positions == Some(Told::Learned)) != max_length.is_some() {
        let got = max_length.map_or("none".to_owned(), |length| length.to_string());
        bail!("Transformer: argument `max_length` goes with positions=\"learned\", and only with it; got {got}");
    }
    Ok(())
}

impl Encoder for Transformer {
    fn stages(&self) -> usize {
        self.layers
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        if net.value(x).axis == ROWS {
            bail!("Transformer: the inputs have no positions within rows; use MLP, or inputs with `positions`");
        }
        let of = |part: &str| paths.iter().map(|path| format!("{path}.{part}")).collect::<Vec<_>>();
        let within = |part: &str| of(&format!("{stage}.{part}"));
        let x = if stage == 0 { self.entered(net, &of("input"), &of("places"), x)? } else { x };
        let normal = net.layer_norm(&within("attention.norm"), x);
        let inner = net.linear(&within("attention.input"), normal, self.width.saturating_mul(3), None);
        let attended = net.attend(inner, self.heads, self.positions == Some(Told::Rotary))?;
        let more = net.linear(&within("attention.output"), attended, self.width, None);
        let more = net.dropout(more, self.dropout);
        let x = net.add(&[x, more])?;
        let normal = net.layer_norm(&within("feedforward.norm"), x);
        let hidden = self.width.saturating_mul(self.feedforward);
        let inner = net.linear(&within("feedforward.first"), normal, hidden, Some(Activation::Gelu));
        let inner = net.dropout(inner, self.dropout);
        let more = net.linear(&within("feedforward.second"), inner, self.width, None);
        let more = net.dropout(more, self.dropout);
        let sum = net.add(&[x, more])?;
        Ok(if stage + 1 < self.layers { sum } else { net.layer_norm(&of("norm"), sum) })
    }

    fn pool(&self) -> Pool {
        self.pool.into()
    }
}

impl Transformer {
    /// The input at the width of all blocks, with places if it learns them.
    fn entered(&self, net: &mut Builder, paths: &[String], places: &[String], x: ValueId) -> Result<ValueId> {
        let x = net.linear(paths, x, self.width, None);
        match self.max_length {
            Some(most) => net.placed(places, x, most),
            None => Ok(x),
        }
    }
}
