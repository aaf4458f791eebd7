//! Embeddings of numbers: several numbers for each column of a value (Gorishniy, Rubachev & Babenko, On Embeddings for
//! Numerical Features in Tabular Deep Learning, NeurIPS 2022).

use super::Builder;
use crate::error::Result;
use crate::input::Embed;
use crate::network::nodes::activation::Activation;
use crate::network::nodes::periodic::Periodic;
use crate::network::nodes::piecewise::Piecewise;
use crate::network::{Value, ValueId};
use crate::parameters::{Init, Lots, Role};

impl Builder {
    /// The numeric features of a table embedded, which come first among its features.
    ///
    /// # Errors
    /// Sizes beyond the limit.
    pub fn embedded_numeric(&mut self, path: &str, embed: Embed) -> Result<ValueId> {
        let count = self.value(self.numeric()).width;
        let embedded = self.embedded(path, self.numeric(), embed)?;
        let (Embed::Piecewise { width: each, .. } | Embed::Periodic { width: each, .. }) = embed;
        let first = if matches!(embed, Embed::Periodic { raw: true, .. }) { count } else { 0 };
        self.lots = Some(Lots { first, each, count });
        Ok(embedded)
    }

    /// The columns of a value of one group embedded, one beside the other.
    ///
    /// # Errors
    /// Sizes beyond the limit.
    pub fn embedded(&mut self, path: &str, x: ValueId, embed: Embed) -> Result<ValueId> {
        let relu = |activation: bool| activation.then_some(Activation::Relu);
        match embed {
            Embed::Piecewise { width, bins, linear, activation } => {
                self.piecewise(path, x, [bins, width], linear, activation)
            }
            Embed::Periodic { width, frequencies, scale, lite, activation, raw } => {
                let x = self.materialize(x);
                let features = self.value(x).width;
                let waves = self.periodic(path, x, frequencies, scale)?;
                self.afford(&[if lite { 1 } else { features }, frequencies, 2, width])?;
                self.afford(&[features, width])?;
                let each = if lite {
                    self.tied(path, waves, width, relu(activation))
                } else {
                    self.linear(&self.numbered(path, features)?, waves, width, relu(activation))
                };
                let embedded = self.join(each);
                if raw { self.concat(&[x, embedded]) } else { Ok(embedded) }
            }
        }
    }

    /// Piecewise-linear embeddings of so many bins and numbers each, with a linear embedding beside or a bias. Edges of bins
    /// are state, `[features, bins + 1]`, all 0 until somebody puts them there.
    ///
    /// Without the linear embedding weights and biases start uniform in plus or minus `1/sqrt(bins)`. With it the weights
    /// start at 0, and slopes and biases uniform in plus or minus `1/sqrt(width)`.
    ///
    /// # Errors
    /// Sizes beyond the limit.
    pub fn piecewise(
        &mut self,
        path: &str,
        x: ValueId,
        sizes: [usize; 2],
        linear: bool,
        relu: bool,
    ) -> Result<ValueId> {
        let input = self.materialize(x);
        let [bins, width] = sizes;
        let Value { width: features, reach, .. } = *self.value(input);
        self.afford(&[features, bins.saturating_add(1), width])?;
        let bound = |size: usize| Init::Uniform(1.0 / (size.max(1) as f64).sqrt());
        let one = [path.to_owned()];
        let start = if linear { Init::Constant(0.0) } else { bound(bins) };
        let small = bound(if linear { width } else { bins });
        let weight = self.grouped(&one, "weight", 1, &[features, bins, width], Role::Weight, start);
        let bias = self.grouped(&one, "bias", 1, &[features, width], Role::Bias, small.clone());
        let slope = linear.then(|| self.grouped(&one, "slope", 1, &[features, width], Role::Weight, small));
        let edges = self.piece_of_state(&format!("{path}.edges"), vec![features, bins + 1], &[]);
        let output = self.fresh(1, features * width, reach, true);
        Ok(self.push(Piecewise { input, output, weight, bias, slope, edges: edges.start, bins, relu }))
    }

    /// Cosines and then sines of `2 pi` times a frequency times each column, in a group each, `[features, rows, 2 *
    /// frequencies]`. Frequencies start normal with a standard deviation of `scale`, and none beyond three of it.
    ///
    /// # Errors
    /// Sizes beyond the limit.
    pub fn periodic(&mut self, path: &str, x: ValueId, frequencies: usize, scale: f64) -> Result<ValueId> {
        let input = self.materialize(x);
        let Value { width: features, reach, .. } = *self.value(input);
        self.afford(&[features, frequencies, 2])?;
        let one = [path.to_owned()];
        let shape = [features, frequencies];
        let weight = self.grouped(&one, "frequencies", 1, &shape, Role::Weight, Init::Truncated(scale));
        let output = self.fresh(features, 2 * frequencies, reach, true);
        Ok(self.push(Periodic { input, output, frequencies: weight }))
    }
}
