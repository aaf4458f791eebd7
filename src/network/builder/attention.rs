//! Attention over the positions of each row, and tables of places in it.

use super::Builder;
use crate::bail;
use crate::error::Result;
use crate::network::axis::Link;
use crate::network::nodes::attend::Attend;
use crate::network::nodes::placed::Placed;
use crate::network::{Value, ValueId};
use crate::parameters::{Init, Role};

impl Builder {
    /// Attention of each position to all of its row, of so many heads, from a value that has queries, keys and values one after
    /// the other, `3 * width` numbers; `width` numbers a position.
    ///
    /// # Errors
    /// A value of rows; widths that heads do not share.
    pub fn attend(&mut self, x: ValueId, heads: usize, rotary: bool) -> Result<ValueId> {
        let input = self.materialize(x);
        let link = Link::rows(self.value(input).axis);
        self.check_link(link, input, link.fine)?;
        let Value { groups, width, reach, learns, .. } = *self.value(input);
        if heads == 0 || !width.is_multiple_of(3 * heads) || (rotary && !(width / 3 / heads).is_multiple_of(2)) {
            let even = if rotary { "an even number" } else { "a number" };
            bail!("queries, keys and values of {heads} heads should have {even} of columns a head; got {width} in all");
        }
        let output = self.fresh(groups, width / 3, reach, learns);
        self.net.values[output].axis = link.fine;
        Ok(self.push(Attend { input, output, heads, rotary, link }))
    }

    /// Each position with what a table has for its number in its row added, of rows of at most so many; one path a group. Tables
    /// start normal with a standard deviation of 0.02.
    ///
    /// # Errors
    /// A value of rows; sizes beyond the limit.
    pub fn placed(&mut self, paths: &[String], x: ValueId, most: usize) -> Result<ValueId> {
        let input = self.materialize(x);
        let link = Link::rows(self.value(input).axis);
        self.check_link(link, input, link.fine)?;
        let Value { groups, width, .. } = *self.value(input);
        self.afford(&[groups, most, width])?;
        let table = self.grouped(paths, "weight", groups, &[most, width], Role::Embedding, Init::Normal(0.02));
        let output = self.like(input);
        self.net.values[output].learns = true;
        Ok(self.push(Placed { input, output, table, most, link }))
    }
}
