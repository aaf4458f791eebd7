//! Cross layers: products of features, explicitly.

use serde::{Deserialize, Serialize};

use super::Encoder;
use crate::component::Sizes;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Activation;

/// How cross layers and deep layers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Structure {
    /// Deep layers over the cross layers.
    Stacked,
    /// Deep layers beside the cross layers, both over the features.
    Parallel,
}

crate::choices!(Structure: Stacked, Parallel);

crate::component! {
    /// DCN-V2 (Wang, Shivanna, Cheng, Jain, Lin, Hong & Chi, DCN V2: Improved Deep & Cross Network and Practical Lessons for
    /// Web-scale Learning to Rank Systems, WWW 2021): cross layers, which multiply features with each other, and deep ones.
    ///
    /// With the features `x_0`, embeddings among them, a cross layer is `x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`, number by
    /// number: `layers` of them reach products of `layers + 1` features. With `rank`, `W_l = U_l V_l` has that many rows
    /// between, which takes `2 width rank` parameters instead of `width^2`. Deep layers are those of `pt.encoder.MLP`,
    /// over the last cross layer, or beside it as far as the representation, which is then both of them; with `hidden=[]`
    /// there are cross layers alone. The paper's mixture of low-rank experts is not here.
    ///
    /// All cross layers, which read `x_0`, are one stage that schemes may share or branch after, each deep layer over them
    /// is another; with `"parallel"` all is one stage. Weights and biases start uniform in plus or minus `1/sqrt(inputs)`.
    pub struct Cross = "Cross" {
        /// Width of each deep layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![128]), in 1.0..;
        /// How many cross layers.
        layers: usize = 2, in 1.0..;
        /// Rows between the two factors of a cross layer's weights; None for one square matrix.
        rank: Option<usize> = None, in 1.0..;
        /// `"stacked"` or `"parallel"`: whether deep layers read the cross layers or the features.
        structure: Structure = Structure::Stacked;
        /// Of deep layers: `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear
        /// layers.
        activation: Option<Activation> = Some(Activation::Relu);
        /// Probability with which a number is zeroed while training, after each activation of deep layers.
        dropout: f64 = 0.0, in 0.0..1.0;
    }
}

impl Encoder for Cross {
    fn stages(&self) -> usize {
        match self.structure {
            Structure::Stacked => 1 + self.hidden.0.len(),
            Structure::Parallel => 1,
        }
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        if stage > 0 {
            return Ok(self.deep(net, stage - 1, paths, x));
        }
        let crossed = (0..self.layers).try_fold(x, |last, layer| self.cross(net, layer, paths, [x, last]))?;
        match self.structure {
            Structure::Parallel if !self.hidden.0.is_empty() => {
                let deep = (0..self.hidden.0.len()).fold(x, |x, layer| self.deep(net, layer, paths, x));
                net.concat(&[crossed, deep])
            }
            _ => Ok(crossed),
        }
    }
}

impl Cross {
    fn cross(&self, net: &mut Builder, layer: usize, paths: &[String], [x, last]: [ValueId; 2]) -> Result<ValueId> {
        net.check()?;
        let of = |part: &str| paths.iter().map(|path| format!("{path}.cross.{layer}{part}")).collect::<Vec<_>>();
        let width = net.value(x).width;
        let linear = match self.rank {
            None => net.linear(&of(""), last, width, None),
            Some(rank) => {
                let narrow = net.product(&of(".down"), last, rank);
                net.linear(&of(".up"), narrow, width, None)
            }
        };
        net.multiply(x, linear, Some(last))
    }

    fn deep(&self, net: &mut Builder, layer: usize, paths: &[String], x: ValueId) -> ValueId {
        let paths: Vec<_> = paths.iter().map(|path| format!("{path}.deep.{layer}")).collect();
        let y = net.linear(&paths, x, self.hidden.0[layer], self.activation);
        net.dropout(y, self.dropout)
    }
}
