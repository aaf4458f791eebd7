//! Convolutions over positions.

use super::Encoder;
use super::window::Pooling;
use crate::bail;
use crate::component::Sizes;
use crate::error::Result;
use crate::network::builder::{Builder, Pool};
use crate::network::nodes::activation::Activation;
use crate::network::{ROWS, ValueId};

crate::component! {
    /// Layers of convolution over the positions of each row (Waibel, Hanazawa, Hinton, Shikano & Lang, IEEE Transactions on
    /// Acoustics, Speech, and Signal Processing 1989; of texts Collobert et al., JMLR 2011, and Kim, EMNLP 2014). Tasks of
    /// positions read what comes out, tasks of rows pool it.
    ///
    /// A layer is `activation(bias + sum over k of W_k x_(i + dilation * (k - (width - 1) / 2)))`, with zeros beyond the ends of
    /// a row, so that each row keeps its positions: what `torch.nn.Conv1d` computes with `padding=dilation * (width - 1) // 2`. A
    /// layer is a stage, which schemes may share, mix or branch after; each lets a position see `dilation * (width - 1) / 2` more on
    /// both sides. Its weight is `[hidden, width * inputs]`, the inputs of the leftmost place first. Weights and biases start
    /// uniform in plus or minus `1/sqrt(width * inputs)`, as PyTorch's do.
    pub struct Convolution1d = "Convolution1d" {
        /// Width of each layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![128]), in 1.0..;
        /// Positions that a kernel covers, an odd number of them.
        width: usize = 3, in 1.0..2002.0;
        /// Steps from one of them to the next; a list has one a layer (1, 2, 4, ... sees far in few layers; Yu & Koltun, ICLR
        /// 2016).
        dilation: Sizes = Sizes(vec![1]), in 1.0..1_000_001.0;
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Activation> = Some(Activation::Relu);
        /// Probability with which a number is zeroed while training, after each activation.
        dropout: f64 = 0.0, in 0.0..1.0;
        /// Whether layers that keep their width add their input.
        residual: bool = false;
        /// `"mean"`, `"sum"`, `"max"` or `"attention"` (a mean whose weights are the softmax of a learned score each, one linear
        /// layer a task; Yang et al., NAACL 2016, without their hidden layer): what a task of rows sees of a row's positions.
        pool: Pooling = Pooling::Mean;
    }
    check: fits;
}

/// A kernel has a place in its middle, and dilations are one for all layers or one each.
fn fits(given: &Convolution1d) -> Result<()> {
    let Convolution1d { hidden: Sizes(hidden), dilation: Sizes(dilation), width, .. } = given;
    if width % 2 == 0 {
        bail!("Convolution1d: argument `width` should be odd, so that a kernel has a middle; got {width}");
    }
    if ![1, hidden.len()].contains(&dilation.len()) {
        let layers = hidden.len();
        bail!(
            "Convolution1d: argument `dilation` should be one number or one for each of {layers} layers; got {dilation:?}"
        );
    }
    Ok(())
}

impl Encoder for Convolution1d {
    fn stages(&self) -> usize {
        self.hidden.0.len()
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        net.check()?;
        if net.value(x).axis == ROWS {
            bail!("Convolution1d: the inputs have no positions within rows; use MLP, or inputs with `positions`");
        }
        let width = self.hidden.0[stage];
        let dilation = self.dilation.0[stage % self.dilation.0.len()];
        let beside = net.window(x, self.width / 2, dilation)?;
        let layer: Vec<_> = paths.iter().map(|path| format!("{path}.{stage}")).collect();
        let y = net.linear(&layer, beside, width, self.activation);
        let y = net.dropout(y, self.dropout);
        if self.residual && net.value(x).width == width { net.add(&[x, y]) } else { Ok(y) }
    }

    fn pool(&self) -> Pool {
        self.pool.into()
    }
}
