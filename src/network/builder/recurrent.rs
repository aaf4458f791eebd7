//! Recurrent layers over the positions of each row.

use super::Builder;
use crate::error::Result;
use crate::network::axis::Link;
use crate::network::nodes::recur::{Cell, Recur};
use crate::network::{Value, ValueId};
use crate::parameters::{Init, Role};

impl Builder {
    /// A recurrent layer over the positions of each row: `width` numbers a position, and as many beside them of one that goes
    /// backward if it is bidirectional; one path a group. Weights start uniform in plus or minus `1/sqrt(width)`, biases at 0.
    ///
    /// # Errors
    /// A value of rows.
    pub fn recurrent(
        &mut self,
        paths: &[String],
        x: ValueId,
        width: usize,
        cell: Cell,
        bidirectional: bool,
    ) -> Result<ValueId> {
        let link = Link::rows(self.value(x).axis);
        self.check_link(link, x, link.fine)?;
        let names = if bidirectional { &["recurrent", "reversed"][..] } else { &["recurrent"] };
        let gates = cell.gates().saturating_mul(width);
        self.afford(&[gates, width])?;
        let bound = Init::Uniform(1.0 / (width.max(1) as f64).sqrt());
        let input = self.linear_from(paths, x, gates.saturating_mul(names.len()), None, Some(bound.clone()));
        let Value { groups, reach, .. } = *self.value(input);
        let mut weights = Vec::new();
        let mut biases = Vec::new();
        for name in names {
            let weight =
                self.grouped(paths, &format!("{name}.weight"), groups, &[gates, width], Role::Weight, bound.clone());
            weights.push(weight);
            if cell == Cell::Gru {
                let start = Init::Constant(0.0);
                biases.push(self.grouped(paths, &format!("{name}.bias"), groups, &[width], Role::Bias, start));
            }
        }
        let output = self.fresh(groups, width.saturating_mul(names.len()), reach, true);
        self.net.values[output].axis = link.fine;
        Ok(self.push(Recur { input, output, cell, weights, biases, link }))
    }
}
