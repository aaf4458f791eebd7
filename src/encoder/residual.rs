//! Residual blocks over numbers of one width.

use super::Encoder;
use super::mlp::Norm;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Activation;

crate::component! {
    /// A residual network for tables (Gorishniy, Rubachev, Khrulkov & Babenko, Revisiting Deep Learning Models for Tabular Data,
    /// NeurIPS 2021): a linear layer to the width of all blocks, then blocks
    /// `x + drop(linear(drop(activation(linear(norm(x))))))`, and at the end `activation(norm(x))`.
    ///
    /// What one block makes is added to what the others made, so that deep ones learn like shallow ones. Each block is a stage
    /// that schemes may share or branch at.
    pub struct Residual = "Residual" {
        /// Numbers between blocks.
        width: usize = 192, in 1.0..;
        /// How many blocks.
        blocks: usize = 2, in 1.0..;
        /// Numbers within a block.
        hidden: usize = 256, in 1.0..;
        /// Probability with which a number within a block is zeroed while training.
        dropout: f64 = 0.2, in 0.0..1.0;
        /// Probability with which a number that a block adds is zeroed while training.
        residual_dropout: f64 = 0.0, in 0.0..1.0;
        /// `"layer"`, `"batch"` or None.
        norm: Option<Norm> = Some(Norm::Batch);
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Activation> = Some(Activation::Relu);
    }
}

impl Encoder for Residual {
    fn stages(&self) -> usize {
        self.blocks
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        let of = |part: &str| paths.iter().map(|path| format!("{path}.{part}")).collect::<Vec<_>>();
        let within = |part: &str| of(&format!("{stage}.{part}"));
        let x = if stage == 0 { net.linear(&of("input"), x, self.width, None) } else { x };
        let normal = self.normal(net, &within("norm"), x);
        let inner = net.linear(&within("first"), normal, self.hidden, self.activation);
        let inner = net.dropout(inner, self.dropout);
        let more = net.linear(&within("second"), inner, self.width, None);
        let more = net.dropout(more, self.residual_dropout);
        let sum = net.add(&[x, more])?;
        if stage + 1 < self.blocks {
            return Ok(sum);
        }
        let normal = self.normal(net, &of("norm"), sum);
        Ok(self.activation.map_or(normal, |activation| net.activation(normal, activation)))
    }
}

impl Residual {
    fn normal(&self, net: &mut Builder, paths: &[String], x: ValueId) -> ValueId {
        match self.norm {
            None => x,
            Some(Norm::Layer) => net.layer_norm(paths, x),
            Some(Norm::Batch) => net.batch_norm(paths, x),
        }
    }
}
