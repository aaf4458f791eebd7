//! Scores of pairs of positions.

use super::{Head, Target};
use crate::bail;
use crate::error::Result;
use crate::label::Pairing;
use crate::network::Output;
use crate::network::builder::{Builder, FormSize};
use crate::network::nodes::activation::Activation;

crate::component! {
    /// Scores of pairs of positions for a task of pairs (`per="pair"`): `a_i^T U_k b_j + u_k^T a_i + v_k^T b_j + w_k` for the
    /// kind `k` of the pair `(i, j)`, where `a` and `b` are a layer each over what the task sees of a position (Dozat &
    /// Manning, Deep Biaffine Attention for Neural Dependency Parsing, ICLR 2017). Where positions are attached as a tree,
    /// arcs have a form of their own. It is the head of a task of pairs where no other is named.
    pub struct Biaffine = "Biaffine" {
        /// Width of the layers for kinds.
        width: usize = 64, in 1.0..;
        /// Width of the layers for arcs.
        arcs: usize = 128, in 1.0..;
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Activation> = Some(Activation::LeakyRelu);
        /// Probability with which a number of a layer is zeroed while training.
        dropout: f64 = 0.0, in 0.0..1.0;
    }
}

impl Head for Biaffine {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<Vec<Output>> {
        targets.iter().map(|target| self.of(net, target)).collect()
    }

    fn pairs(&self) -> bool {
        true
    }
}

impl Biaffine {
    fn of(&self, net: &mut Builder, target: &Target) -> Result<Output> {
        let Target { path, features, width, reach, pairing } = target;
        let x = features.alone(net, *reach);
        let form = |net: &mut Builder, path: &str, width: usize, columns: usize| {
            net.biaffine(path, x, FormSize { width, columns }, self.activation, self.dropout, *reach)
        };
        let value = match pairing {
            None => bail!("Biaffine is for tasks of pairs, `per=\"pair\"`"),
            Some(Pairing::Free) => form(net, path, self.width, *width)?,
            Some(Pairing::Tree) => {
                let arcs = form(net, &format!("{path}.arcs"), self.arcs, 1)?;
                let kinds = form(net, path, self.width, width - 1)?;
                net.attach(arcs, kinds)?
            }
        };
        Ok(Output { value, group: 0, columns: 0..*width })
    }
}
