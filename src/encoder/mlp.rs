//! A multi-layer perceptron.

use serde::{Deserialize, Serialize};

use super::Encoder;
use crate::component::Sizes;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Activation;

/// Which normalisation follows each linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Layer normalisation (Ba, Kiros & Hinton, 2016).
    Layer,
    /// Batch normalisation (Ioffe & Szegedy, ICML 2015).
    Batch,
}

crate::choices!(Norm: Layer, Batch);

crate::component! {
    /// Multi-layer perceptron: layers of linear, normalisation, activation, dropout.
    ///
    /// Weights and biases start uniform in plus or minus `1/sqrt(inputs)`, as `torch.nn.Linear` does.
    /// With `residual=True` a layer whose input has its own width adds that input to its result.
    pub struct Mlp = "MLP" {
        /// Width of each layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![128]), in 1.0..;
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Activation> = Some(Activation::Relu);
        /// Probability with which a number is zeroed while training, after each activation.
        dropout: f64 = 0.0, in 0.0..1.0;
        /// `"layer"`, `"batch"` or None.
        norm: Option<Norm> = None;
        /// Whether layers that keep their width add their input.
        residual: bool = false;
    }
}

impl Encoder for Mlp {
    fn stages(&self) -> usize {
        self.hidden.0.len()
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        let width = self.hidden.0[stage];
        let layer: Vec<_> = paths.iter().map(|path| format!("{path}.{stage}")).collect();
        let y = self.layer(net, &layer, x, width);
        if self.residual && net.value(x).width == width { net.add(&[x, y]) } else { Ok(y) }
    }
}

impl Mlp {
    fn layer(&self, net: &mut Builder, paths: &[String], x: ValueId, width: usize) -> ValueId {
        let norms: Vec<_> = paths.iter().map(|path| format!("{path}.norm")).collect();
        let y = match self.norm {
            None => net.linear(paths, x, width, self.activation),
            Some(norm) => {
                let y = net.linear(paths, x, width, None);
                let y = match norm {
                    Norm::Layer => net.layer_norm(&norms, y),
                    Norm::Batch => net.batch_norm(&norms, y),
                };
                self.activation.map_or(y, |activation| net.activation(y, activation))
            }
        };
        net.dropout(y, self.dropout)
    }
}
