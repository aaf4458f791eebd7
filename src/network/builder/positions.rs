//! Axes of positions, and values between them.

use super::Builder;
use crate::bail;
use crate::error::Result;
use crate::network::axis::{Axis, AxisId, By, Extent, Link, ROWS};
use crate::network::nodes::carry::{AttentionPool, Carry, MaxPool, Pick, Way};
use crate::network::{InputId, InputKind, Value, ValueId};
use crate::parameters::Reach;

/// How numbers of finer positions become those of the coarser one to which they belong.
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
    /// An axis of positions within rows, as many as each row has.
    pub fn positions(&mut self, name: &str) -> AxisId {
        self.axis(name.to_owned(), Extent::Ragged)
    }

    /// An axis of the positions of a grid within each row.
    pub fn grid(&mut self, name: &str, height: usize, width: usize) -> AxisId {
        self.axis(name.to_owned(), Extent::Grid { height, width })
    }

    /// The axis of all pairs of positions of a row, which is made once.
    ///
    /// # Errors
    /// The axis of rows.
    pub fn pairs(&mut self, of: AxisId) -> Result<AxisId> {
        if of == ROWS {
            bail!("rows of the batch make no pairs: positions within them do");
        }
        if let Some(made) = self.net.axes.iter().position(|axis| axis.extent == Extent::Pairs(of)) {
            return Ok(made);
        }
        Ok(self.axis(format!("pairs of {}", self.net.axes[of].name), Extent::Pairs(of)))
    }

    /// The axis of blocks of so many lines and columns of a grid.
    ///
    /// # Errors
    /// An axis that is no grid, or of which they do not make a whole number.
    pub fn blocks(&mut self, of: AxisId, lines: usize, columns: usize) -> Result<AxisId> {
        let Axis { ref name, extent } = self.net.axes[of];
        match extent {
            Extent::Grid { height, width } if height.is_multiple_of(lines) && width.is_multiple_of(columns) => {
                let name = format!("blocks of {name}");
                Ok(self.axis(name, Extent::Grid { height: height / lines, width: width / columns }))
            }
            extent => bail!("`{name}` does not consist of blocks of {lines} by {columns}: it is {extent:?}"),
        }
    }

    /// Rows from positions, from here on for `reach`; a row without any has zeros. What is learned for it has this path.
    ///
    /// # Errors
    /// A value of rows.
    pub fn pool(&mut self, path: &str, x: ValueId, pool: Pool, reach: Reach) -> Result<ValueId> {
        let link = Link::rows(self.value(x).axis);
        self.pool_along(path, x, link, pool, reach)
    }

    /// The same along any link: to the first or second positions of pairs, or to blocks of a grid.
    ///
    /// # Errors
    /// A value that is not on the finer axis, or axes without such a link.
    pub fn pool_along(&mut self, path: &str, x: ValueId, link: Link, pool: Pool, reach: Reach) -> Result<ValueId> {
        let input = self.materialize(x);
        self.check_link(link, input, link.fine)?;
        if pool == Pool::Attention {
            let scores = self.narrow(path, input, 1, None, reach);
            return self.attention_pool_along(scores, input, link);
        }
        let output = self.carried(input, link.coarse, reach);
        Ok(match pool {
            Pool::Sum => self.push(Carry { input, output, link, way: Way::Sum }),
            Pool::Mean => self.push(Carry { input, output, link, way: Way::Mean }),
            _ => self.push(MaxPool { input, output, link }),
        })
    }

    /// Rows from positions that are weighed by the softmax of scores of width 1; for what reaches both.
    ///
    /// # Errors
    /// Values of rows, of other groups, or of reaches that cannot be joined.
    pub fn attention_pool(&mut self, scores: ValueId, x: ValueId) -> Result<ValueId> {
        let link = Link::rows(self.value(x).axis);
        self.attention_pool_along(scores, x, link)
    }

    /// The same along any link. Along that of pairs to their first positions it is attention of each position to all.
    ///
    /// # Errors
    /// As [`Builder::attention_pool`]; axes without such a link.
    pub fn attention_pool_along(&mut self, scores: ValueId, x: ValueId, link: Link) -> Result<ValueId> {
        let inputs = [self.materialize(scores), self.materialize(x)];
        self.check_link(link, inputs[1], link.fine)?;
        let (_, reach) = self.meet(&inputs)?;
        if self.value(inputs[0]).width != 1 || self.value(inputs[0]).axis != link.fine {
            bail!("scores should be one number a position; got {:?}", self.value(inputs[0]));
        }
        let output = self.carried(inputs[1], link.coarse, reach);
        self.net.values[output].learns |= self.value(inputs[0]).learns;
        Ok(self.push(AttentionPool { inputs, output, link }))
    }

    /// Positions from rows: each has what its row has.
    ///
    /// # Errors
    /// A value of positions.
    pub fn spread(&mut self, x: ValueId, axis: AxisId) -> Result<ValueId> {
        self.spread_along(x, Link::rows(axis))
    }

    /// The same along any link: to pairs from their first or second positions, or to a grid from its blocks.
    ///
    /// # Errors
    /// A value that is not on the coarser axis, or axes without such a link.
    pub fn spread_along(&mut self, x: ValueId, link: Link) -> Result<ValueId> {
        let input = self.materialize(x);
        self.check_link(link, input, link.coarse)?;
        let output = self.carried(input, link.fine, self.value(input).reach);
        Ok(self.push(Carry { input, output, link, way: Way::Spread }))
    }

    /// Each position beside so many neighbours before and after it, every `step`-th one: `(2 * radius + 1)` times as wide, zeros
    /// beyond the ends of a row.
    ///
    /// # Errors
    /// A value of rows.
    pub fn window(&mut self, x: ValueId, radius: usize, step: usize) -> Result<ValueId> {
        if let Some((source, copies, reach)) = self.repetition(x) {
            let beside = self.window(source, radius, step)?;
            return Ok(self.each(beside, copies, reach));
        }
        let input = self.materialize(x);
        let link = Link::rows(self.value(input).axis);
        self.check_link(link, input, link.fine)?;
        let radius = radius as i64;
        let mut beside = Vec::new();
        for by in (-radius..=radius).map(|place| place * step as i64) {
            let moved = |net: &mut Self| {
                let output = net.carried(input, link.fine, net.value(input).reach);
                net.push(Carry { input, output, link, way: Way::Neighbour(by) })
            };
            beside.push(if by == 0 { input } else { moved(self) });
        }
        self.concat(&beside)
    }

    /// For each row of the axis of an input of one column of codes, the position of `x` that it names, by its number in the
    /// row; zeros where there is none.
    ///
    /// # Errors
    /// A value of rows; other inputs.
    pub fn pick(&mut self, x: ValueId, names: InputId) -> Result<ValueId> {
        let input = self.materialize(x);
        let link = Link::rows(self.value(input).axis);
        self.check_link(link, input, link.fine)?;
        let axis = match &self.net.inputs[names].kind {
            InputKind::Codes(columns) if columns.len() == 1 => self.net.inputs[names].axis,
            kind => bail!("positions are named by one column of codes; got {kind:?}"),
        };
        let links = if axis == ROWS { vec![link] } else { vec![link, Link::rows(axis)] };
        let output = self.carried(input, axis, self.value(input).reach);
        Ok(self.push(Pick { input, names, output, links }))
    }

    pub(super) fn axis(&mut self, name: String, extent: Extent) -> AxisId {
        self.net.axes.push(Axis { name, extent });
        self.net.axes.len() - 1
    }

    /// Whether there is such a link, and a value is on one of its axes.
    pub(super) fn check_link(&self, link: Link, x: ValueId, axis: AxisId) -> Result<()> {
        let Link { fine, coarse, by } = link;
        if fine == ROWS {
            bail!("a value of rows has no positions: {:?}", self.value(x));
        }
        if self.value(x).axis != axis {
            let name = &self.net.axes[axis].name;
            bail!("a value of `{name}` is wanted; got one of `{}`", self.net.axes[self.value(x).axis].name);
        }
        let fits = match (by, self.net.axes[fine].extent, self.net.axes[coarse].extent) {
            (By::Row, extent, Extent::Rows) => extent != Extent::Rows,
            (By::First | By::Second, Extent::Pairs(of), _) => of == coarse,
            (By::Block, Extent::Grid { height, width }, Extent::Grid { height: lines, width: columns }) => {
                height.is_multiple_of(lines) && width.is_multiple_of(columns)
            }
            _ => false,
        };
        if !fits {
            let name = |axis: AxisId| &self.net.axes[axis].name;
            bail!("positions of `{}` do not belong to those of `{}` by {by:?}", name(fine), name(coarse));
        }
        Ok(())
    }

    /// A value like `x` on an axis, from here on for `reach`.
    fn carried(&mut self, x: ValueId, axis: AxisId, reach: Reach) -> ValueId {
        let Value { groups, width, learns, .. } = *self.value(x);
        let output = self.fresh(groups, width, reach, learns);
        self.net.values[output].axis = axis;
        output
    }
}
