//! Values between rows and the positions within them.

use super::Builder;
use crate::bail;
use crate::error::Result;
use crate::network::nodes::carry::{AttentionPool, Carry, MaxPool, Way};
use crate::network::{AxisId, ROWS, Value, ValueId};
use crate::parameters::Reach;

/// How numbers of a row's positions become those of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest of each column.
    Max,
    /// Their mean with weights that are the softmax of a score each, which is learned: attention of one query.
    Attention,
}

impl Builder {
    /// Rows from positions, from here on for `reach`; a row without any has zeros. What is learned for it has this path.
    ///
    /// # Errors
    /// A value of rows.
    pub fn pool(&mut self, path: &str, x: ValueId, pool: Pool, reach: Reach) -> Result<ValueId> {
        let input = self.materialize(x);
        let axis = self.of_positions(input)?;
        if pool == Pool::Attention {
            let scores = self.narrow(path, input, 1, None, reach);
            return self.attention_pool(scores, input);
        }
        let output = self.carried(input, ROWS, reach);
        Ok(match pool {
            Pool::Sum => self.push(Carry { input, output, axis, way: Way::Sum }),
            Pool::Mean => self.push(Carry { input, output, axis, way: Way::Mean }),
            _ => self.push(MaxPool { input, output, axis }),
        })
    }

    /// Rows from positions that are weighed by the softmax of scores of width 1; for what reaches both.
    ///
    /// # Errors
    /// Values of rows, of other groups, or of reaches that cannot be joined.
    pub fn attention_pool(&mut self, scores: ValueId, x: ValueId) -> Result<ValueId> {
        let inputs = [self.materialize(scores), self.materialize(x)];
        let axis = self.of_positions(inputs[1])?;
        let (_, reach) = self.meet(&inputs)?;
        if self.value(inputs[0]).width != 1 || self.value(inputs[0]).axis != axis {
            bail!("scores should be one number a position; got {:?}", self.value(inputs[0]));
        }
        let output = self.carried(inputs[1], ROWS, reach);
        self.net.values[output].learns |= self.value(inputs[0]).learns;
        Ok(self.push(AttentionPool { inputs, output, axis }))
    }

    /// Positions from rows: each has what its row has.
    ///
    /// # Errors
    /// A value of positions.
    pub fn spread(&mut self, x: ValueId, axis: AxisId) -> Result<ValueId> {
        let input = self.materialize(x);
        if self.value(input).axis != ROWS {
            bail!("only values of rows can be spread to positions; got {:?}", self.value(input));
        }
        let output = self.carried(input, axis, self.value(input).reach);
        Ok(self.push(Carry { input, output, axis, way: Way::Spread }))
    }

    /// Each position beside its neighbours, as many before as after it: `(2 * radius + 1)` times as wide, zeros beyond the
    /// ends of a row.
    ///
    /// # Errors
    /// A value of rows.
    pub fn window(&mut self, x: ValueId, radius: usize) -> Result<ValueId> {
        let input = self.materialize(x);
        let axis = self.of_positions(input)?;
        let radius = radius as i64;
        let mut beside = Vec::new();
        for by in -radius..=radius {
            let moved = |net: &mut Self| {
                let output = net.carried(input, axis, net.value(input).reach);
                net.push(Carry { input, output, axis, way: Way::Neighbour(by) })
            };
            beside.push(if by == 0 { input } else { moved(self) });
        }
        self.concat(&beside)
    }

    /// The axis of a value of positions.
    fn of_positions(&self, x: ValueId) -> Result<AxisId> {
        match self.value(x).axis {
            ROWS => bail!("a value of rows has no positions: {:?}", self.value(x)),
            axis => Ok(axis),
        }
    }

    /// A value like `x` on an axis, from here on for `reach`.
    fn carried(&mut self, x: ValueId, axis: AxisId, reach: Reach) -> ValueId {
        let Value { groups, width, learns, .. } = *self.value(x);
        let output = self.fresh(groups, width, reach, learns);
        self.net.values[output].axis = axis;
        output
    }
}
