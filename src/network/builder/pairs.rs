//! Scores of pairs of positions.

use super::Builder;
use crate::bail;
use crate::error::Result;
use crate::network::axis::{Extent, Link};
use crate::network::nodes::activation::Activation;
use crate::network::nodes::attach::Attach;
use crate::network::nodes::pairwise::Pairwise;
use crate::network::{Value, ValueId};
use crate::parameters::Reach;

/// How large a biaffine form of pairs is.
#[derive(Debug, Clone, Copy)]
pub struct FormSize {
    /// What each of the two positions is seen by.
    pub width: usize,
    /// Scores of a pair.
    pub columns: usize,
}

impl Builder {
    /// Scores of pairs of positions, on their axis: a biaffine form of one nonlinear layer over the first position and another
    /// over the second (Dozat & Manning, ICLR 2017), for one task.
    ///
    /// # Errors
    /// Values that are not of positions within rows, have groups, or go on to several tasks.
    pub fn biaffine(
        &mut self,
        path: &str,
        x: ValueId,
        size: FormSize,
        activation: Option<Activation>,
        dropout: f64,
        reach: Reach,
    ) -> Result<ValueId> {
        let Value { axis, groups, .. } = *self.value(x);
        if self.net.axes[axis].extent != Extent::Ragged {
            bail!("`{}` make no pairs: positions within rows do", self.net.axes[axis].name);
        }
        if groups != 1 || !matches!(reach, Reach::One(_) | Reach::All) {
            bail!("pairs are scored for one task at a time");
        }
        let FormSize { width, columns } = size;
        let inner = columns.saturating_mul(width.saturating_add(1));
        self.afford(&[inner, width])?;
        let pairs = self.pairs(axis)?;
        let mut side = |name: &str| {
            let side = self.narrow(&format!("{path}.{name}"), x, width, activation, reach);
            self.dropout(side, dropout)
        };
        let [first, second] = [side("first"), side("second")];
        let second = self.narrow(&format!("{path}.form"), second, inner, None, reach);
        let output = self.fresh(1, columns, reach, true);
        self.net.values[output].axis = pairs;
        let links = [Link::rows(axis), Link::rows(pairs)];
        Ok(self.push(Pairwise { inputs: [first, second], output, links }))
    }

    /// Logarithms of probabilities of pairs from scores of arcs and of kinds, where each position is attached to one.
    ///
    /// # Errors
    /// Values that are not of pairs.
    pub fn attach(&mut self, arcs: ValueId, kinds: ValueId) -> Result<ValueId> {
        let Value { axis, width, reach, .. } = *self.value(kinds);
        let Extent::Pairs(of) = self.net.axes[axis].extent else {
            bail!("`{}` are not attached to each other: positions within rows are", self.net.axes[axis].name)
        };
        if (self.value(arcs).axis, self.value(arcs).width, self.value(arcs).reach) != (axis, 1, reach) {
            bail!("scores of arcs should be one number a pair; got {:?}", self.value(arcs));
        }
        let output = self.fresh(1, width + 1, reach, true);
        self.net.values[output].axis = axis;
        let links = [Link::rows(of), Link::rows(axis)];
        Ok(self.push(Attach { inputs: [arcs, kinds], output, links }))
    }
}
