//! Members of an ensemble: an axis of them, and what each has for itself.

use super::Builder;
use crate::bail;
use crate::error::Result;
use crate::network::axis::{AxisId, Extent, Link, ROWS};
use crate::network::nodes::activation::Activation;
use crate::network::nodes::adapter::Adapter;
use crate::network::nodes::member_linear::MemberLinear;
use crate::network::{Value, ValueId};
use crate::parameters::{Init, Reach, Role};

/// How the scale of an adapter starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleStart {
    /// At 1.
    Ones,
    /// At 1 or -1, by chance.
    Signs,
    /// Normal with a deviation of 1.
    Normal,
}

impl Builder {
    /// How many members of an ensemble a value has a row each of, if it is of members.
    pub fn members_of(&self, x: ValueId) -> Option<usize> {
        match self.net.axes[self.value(x).axis].extent {
            Extent::Members(members) => Some(members),
            _ => None,
        }
    }

    /// The axis of so many members: a network has one.
    ///
    /// # Errors
    /// Another number of them elsewhere in the network.
    fn members(&mut self, members: usize) -> Result<AxisId> {
        let known = |extent| match extent {
            Extent::Members(count) => Some(count),
            _ => None,
        };
        let known = self.net.axes.iter().enumerate().find_map(|(id, axis)| Some((id, known(axis.extent)?)));
        match known {
            Some((id, count)) if count == members => Ok(id),
            Some((_, count)) => bail!("one network has one number of members; got {count} and {members}"),
            None => Ok(self.axis("members".to_owned(), Extent::Members(members))),
        }
    }

    /// The axis that a value of rows or of members gets to, and the link along which.
    fn way_to_members(&mut self, x: ValueId, members: usize) -> Result<(AxisId, Option<Link>)> {
        let axis = self.members(members)?;
        match self.value(x).axis {
            ROWS => Ok((axis, Some(Link::rows(axis)))),
            own if own == axis => Ok((axis, None)),
            other => bail!(
                "TabM is of rows; got a value of `{}`, which are positions within rows: take another encoder for them",
                self.net.axes[other].name
            ),
        }
    }

    /// `act(x * scale + bias)`, of each member's own, from a value of members or of rows; one path a group. Biases start
    /// uniform in plus or minus the bound, alike for all members. Scales that start by chance are of features: one a number
    /// where numbers are embedded.
    ///
    /// # Errors
    /// A value of other positions.
    pub fn adapter(
        &mut self,
        paths: &[String],
        x: ValueId,
        members: usize,
        start: ScaleStart,
        bias: Option<f64>,
        activation: Option<Activation>,
    ) -> Result<ValueId> {
        let input = self.materialize(x);
        let (axis, link) = self.way_to_members(input, members)?;
        let Value { groups, width, reach, .. } = *self.value(input);
        self.afford(&[groups, members, width])?;
        let start = match (start, self.lots) {
            (ScaleStart::Ones, _) => Init::Constant(1.0),
            (start, Some(lots)) => Init::Lots { normal: start == ScaleStart::Normal, width, lots },
            (ScaleStart::Signs, None) => Init::Signs,
            (ScaleStart::Normal, None) => Init::Normal(1.0),
        };
        let scale = self.grouped(paths, "scale", groups, &[members, width], Role::Norm, start);
        let alike = |bound| Init::Alike { bound, members, width };
        let bias = bias.map(|bound| self.grouped(paths, "bias", groups, &[members, width], Role::Bias, alike(bound)));
        let output = self.fresh(groups, width, reach, true);
        self.net.values[output].axis = axis;
        Ok(self.push(Adapter { input, output, members, scale, bias, activation, link }))
    }

    /// A linear layer a member, from a value of members or of rows; one path a group.
    ///
    /// # Errors
    /// A value of other positions.
    pub fn member_linear(
        &mut self,
        paths: &[String],
        x: ValueId,
        members: usize,
        width: usize,
        activation: Option<Activation>,
    ) -> Result<ValueId> {
        let reach = self.value(x).reach;
        self.member_linear_for(paths, x, members, width, activation, reach)
    }

    /// The same from here on for `reach`: one task's, whatever reaches its input.
    fn member_linear_for(
        &mut self,
        paths: &[String],
        x: ValueId,
        members: usize,
        width: usize,
        activation: Option<Activation>,
        reach: Reach,
    ) -> Result<ValueId> {
        let input = self.materialize(x);
        let (axis, link) = self.way_to_members(input, members)?;
        let Value { groups, width: inner, .. } = *self.value(input);
        self.afford(&[groups, members, width, inner])?;
        let bound = Init::Uniform(1.0 / (inner.max(1) as f64).sqrt());
        let shape = [members, width, inner];
        let weight = self.grouped(paths, "weight", groups, &shape, Role::Weight, bound.clone());
        self.net.params[weight].matrix = Some([width, inner]);
        let bias = self.grouped(paths, "bias", groups, &shape[..2], Role::Bias, bound);
        let output = self.fresh(groups, width, reach, true);
        self.net.values[output].axis = axis;
        Ok(self.push(MemberLinear { input, output, members, weight, bias, activation, link }))
    }

    /// The last layer of a task's head: a linear one, or one a member over a value of members.
    ///
    /// # Errors
    /// Sizes that cannot work.
    pub fn last(&mut self, path: &str, x: ValueId, width: usize, reach: Reach) -> Result<ValueId> {
        match self.members_of(x) {
            Some(members) => self.member_linear_for(&[path.to_owned()], x, members, width, None, reach),
            None => Ok(self.narrow(path, x, width, None, reach)),
        }
    }
}
