//! Tables of codes: embeddings, and convolutions over them.

use std::ops::Range;

use super::{Builder, TABLE};
use crate::input::{Bag, Convolution};
use crate::network::nodes::char_cnn::CharCnn;
use crate::network::nodes::embedding::{Embedding, Feature};
use crate::network::{InputId, InputKind, ValueId};
use crate::parameters::{Init, ParamId, Reach, Role};

impl Builder {
    /// Numeric features followed by one embedding a categorical feature; together they read all columns of codes in turn.
    ///
    /// Tables start with variance `1/width`: normal, sparse ones uniform, which is many times faster to draw. What was not
    /// seen starts at 0, as it stays where no row has it: it is then none of the others, and not one of them by chance.
    pub fn features(&mut self, features: &[Feature]) -> ValueId {
        self.features_after(self.numeric(), features)
    }

    /// The same after what numeric features have become.
    pub fn features_after(&mut self, numbers: ValueId, features: &[Feature]) -> ValueId {
        if features.is_empty() {
            return numbers;
        }
        let paths: Vec<_> = (0..features.len()).map(|j| format!("embedding.{j}")).collect();
        self.embedding(&paths, numbers, TABLE.codes, features)
    }

    /// The same of any input of codes, after numbers on its axis; a path a feature. Features that are convolutions come last,
    /// and those of width 0 not at all.
    pub fn embedding(&mut self, paths: &[String], numeric: ValueId, codes: InputId, features: &[Feature]) -> ValueId {
        let InputKind::Codes(columns) = self.net.inputs[codes].kind.clone() else {
            unreachable!("an embedding is of codes")
        };
        let mut next = 0;
        let (mut tables, mut looked_up, mut firsts, mut convolved) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (path, feature) in paths.iter().zip(features) {
            let first = next;
            next += feature.columns();
            if feature.width == 0 {
                continue;
            }
            let table = self.table(path, columns[first], feature);
            match feature.bag.and_then(Bag::convolution) {
                Some(convolution) => convolved.push((path, first..next, table, convolution)),
                None => {
                    tables.push(table);
                    looked_up.push(*feature);
                    firsts.push(first);
                }
            }
        }
        let mut value = numeric;
        if !tables.is_empty() {
            let width =
                looked_up.iter().fold(self.value(value).width, |sum, feature| sum.saturating_add(feature.width));
            let output = self.fresh(1, width, Reach::All, true);
            value = self.push(Embedding { numeric, codes, tables, features: looked_up, firsts, output });
        }
        for (path, columns, table, convolution) in convolved {
            value = self.char_cnn(path, value, (codes, columns), table, convolution);
        }
        value
    }

    /// The table of a feature, `[categories, width]`.
    fn table(&mut self, path: &str, categories: usize, feature: &Feature) -> ParamId {
        let shape = [categories, feature.width];
        let deviation = 1.0 / (feature.width as f64).sqrt();
        let init = if feature.sparse { Init::Coarse(3f64.sqrt() * deviation) } else { Init::Normal(deviation) };
        let pieces = vec![(format!("{path}.weight"), shape.to_vec())];
        let table = self.parameter(pieces, &shape, 1, Role::Embedding, init);
        self.net.params[table].sparse = feature.sparse;
        self.net.params[table].blank = if feature.unseen { feature.width } else { 0 };
        table
    }

    /// A convolution over columns of codes with a table, after numbers. Weights and biases start uniform in plus or minus
    /// `1/sqrt(width * embedding)`.
    fn char_cnn(
        &mut self,
        path: &str,
        input: ValueId,
        (codes, columns): (InputId, Range<usize>),
        table: ParamId,
        convolution: Convolution,
    ) -> ValueId {
        let Convolution { filters, width, .. } = convolution;
        let embedding = self.net.params[table].shape[1];
        let bound = Init::Uniform(1.0 / (width.saturating_mul(embedding).max(1) as f64).sqrt());
        let one = [format!("{path}.convolution")];
        let weight = self.grouped(&one, "weight", 1, &[width, filters, embedding], Role::Weight, bound.clone());
        let bias = self.grouped(&one, "bias", 1, &[filters], Role::Bias, bound);
        let output = self.fresh(1, self.value(input).width.saturating_add(filters), Reach::All, true);
        self.push(CharCnn { input, codes, columns, table, weight, bias, convolution, output })
    }
}
