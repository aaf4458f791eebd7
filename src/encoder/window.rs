//! A window over positions.

use serde::{Deserialize, Serialize};

use super::Encoder;
use crate::bail;
use crate::component::Sizes;
use crate::error::Result;
use crate::network::builder::{Builder, Pool};
use crate::network::nodes::activation::Activation;
use crate::network::{ROWS, ValueId};

/// How a task of rows sees the positions of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// By their mean.
    Mean,
    /// By their sum.
    Sum,
    /// By the largest number of each column.
    Max,
    /// By their mean, weighed by what the task attends to.
    Attention,
}

crate::choices!(Pooling: Mean, Sum, Max, Attention);

impl From<Pooling> for Pool {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Mean => Self::Mean,
            Pooling::Sum => Self::Sum,
            Pooling::Max => Self::Max,
            Pooling::Attention => Self::Attention,
        }
    }
}

crate::component! {
    /// Each position together with its neighbours within the row, through layers of linear and activation (the window approach
    /// of Collobert et al., JMLR 2011). Tasks of positions read what comes out, tasks of rows pool it.
    ///
    /// The first layer sees `2 * radius + 1` positions, zeros beyond the ends of a row.
    pub struct Window = "Window" {
        /// Width of each layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![128]), in 1.0..;
        /// Neighbours on each side.
        radius: usize = 1, in 0.0..1001.0;
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Activation> = Some(Activation::Relu);
        /// Probability with which a number is zeroed while training, after each activation.
        dropout: f64 = 0.0, in 0.0..1.0;
        /// `"mean"`, `"sum"`, `"max"` or `"attention"` (a mean whose weights are the softmax of a learned score each, one linear
        /// layer a task; Yang et al., NAACL 2016, without their hidden layer): what a task of rows sees of a row's positions.
        pool: Pooling = Pooling::Mean;
    }
}

impl Encoder for Window {
    fn stages(&self) -> usize {
        self.hidden.0.len()
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        if net.value(x).axis == ROWS {
            bail!("Window: the inputs have no positions within rows; use MLP, or inputs with `positions`");
        }
        let x = if stage == 0 { net.window(x, self.radius, 1)? } else { x };
        let layer: Vec<_> = paths.iter().map(|path| format!("{path}.{stage}")).collect();
        let y = net.linear(&layer, x, self.hidden.0[stage], self.activation);
        Ok(net.dropout(y, self.dropout))
    }

    fn pool(&self) -> Pool {
        self.pool.into()
    }
}
