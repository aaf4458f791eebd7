//! A recurrent network over positions.

use super::Encoder;
use super::window::Pooling;
use crate::bail;
use crate::component::Sizes;
use crate::error::Result;
use crate::network::builder::{Builder, Pool};
use crate::network::nodes::recur::Cell;
use crate::network::{ROWS, ValueId};

crate::component! {
    /// Recurrent layers over the positions of each row, forward and backward: LSTM (Hochreiter & Schmidhuber, Neural
    /// Computation 1997) with forget gates, GRU (Cho et al., EMNLP 2014), bidirectional (Schuster & Paliwal, IEEE
    /// Transactions on Signal Processing 1997). Tasks of positions read what comes out, tasks of rows pool it.
    ///
    /// The equations are those of `torch.nn.LSTM` and `torch.nn.GRU`: gates in the order `i`, `f`, `g`, `o`, or `r`, `z`,
    /// `n` with `n = tanh(W_in x + b_in + r * (W_hn h + b_hn))`. A layer is a stage, which schemes may share, mix or branch
    /// after; a bidirectional one has `2 * hidden` numbers a position, those of the forward direction first, each of which
    /// has seen all positions of its row. `h` and `c` are 0 before a row's first position. Weights start uniform in plus or
    /// minus `1/sqrt(hidden)`, biases at 0; an LSTM has one bias a gate, which is as much as PyTorch's two.
    pub struct Recurrent = "Recurrent" {
        /// Width of each direction of each layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![128]), in 1.0..;
        /// `"lstm"` or `"gru"`.
        cell: Cell = Cell::Lstm;
        /// Whether a second network goes through each row from its last position to its first.
        bidirectional: bool = true;
        /// Probability with which a number is zeroed while training, after each layer.
        dropout: f64 = 0.0, in 0.0..1.0;
        /// `"mean"`, `"sum"`, `"max"` or `"attention"` (a mean whose weights are the softmax of a learned score each, one linear
        /// layer a task; Yang et al., NAACL 2016, without their hidden layer): what a task of rows sees of a row's positions.
        pool: Pooling = Pooling::Mean;
    }
}

impl Encoder for Recurrent {
    fn stages(&self) -> usize {
        self.hidden.0.len()
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        if net.value(x).axis == ROWS {
            bail!("Recurrent: the inputs have no positions within rows; use MLP, or inputs with `positions`");
        }
        let layer: Vec<_> = paths.iter().map(|path| format!("{path}.{stage}")).collect();
        let y = net.recurrent(&layer, x, self.hidden.0[stage], self.cell, self.bidirectional)?;
        Ok(net.dropout(y, self.dropout))
    }

    fn pool(&self) -> Pool {
        self.pool.into()
    }
}
