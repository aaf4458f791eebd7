//! Axes: what the rows of values are, and how those of a finer one belong to those of a coarser.

use super::Network;
use crate::bail;
use crate::error::Result;

/// Index of an axis.
pub type AxisId = usize;

/// The axis of the batch's rows, the first of every network.
pub const ROWS: AxisId = 0;

/// What the rows of a value are: rows of the batch, or positions within them, which lie end to end, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// Which positions each row has.
    pub extent: Extent,
}

/// Which positions each row of the batch has on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One: the row itself.
    Rows,
    /// As many as the data say: tokens, frames, candidates.
    Ragged,
    /// Those of a grid, line after line: pixels; a line alone is a grid of height 1.
    Grid {
        /// Lines.
        height: usize,
        /// Positions a line.
        width: usize,
    },
    /// All pairs of its positions on another axis: the first with each, then the second with each, and so on.
    Pairs(AxisId),
    /// One a member of an ensemble of so many, all of which see the row.
    Members(usize),
}

/// How positions of a finer axis belong to those of a coarser: each to one, which has any number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// The finer axis.
    pub fine: AxisId,
    /// The coarser axis.
    pub coarse: AxisId,
    /// Which of its positions.
    pub by: By,
}

/// To which position of a coarser axis one belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// A position to its row.
    Row,
    /// A pair to its first position.
    First,
    /// A pair to its second position.
    Second,
    /// A position of a grid to the block it lies in.
    Block,
}

impl Link {
    /// Of positions to their rows.
    pub fn rows(fine: AxisId) -> Self {
        Self { fine, coarse: ROWS, by: By::Row }
    }
}

/// Axes of the network with most of them.
const MOST: usize = 8;

/// How many rows the values of each axis have room for in a plan, in the order of the network's axes: first the rows of the
/// batch, then the positions of each other axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extents {
    sizes: [usize; MOST],
    axes: usize,
}

impl Extents {
    /// With an axis of so many positions more.
    ///
    /// # Errors
    /// More axes than there may be; more positions than can be numbered.
    pub fn and(mut self, positions: usize) -> Result<Self> {
        if self.axes == MOST {
            bail!("a network may have {} axes of positions", MOST - 1);
        }
        if i32::try_from(positions).is_err() {
            bail!("a batch may have {} positions of one axis; got {positions}: use a smaller `batch_size`", i32::MAX);
        }
        self.sizes[self.axes] = positions;
        self.axes += 1;
        Ok(self)
    }

    /// Of each axis.
    pub fn each(&self) -> &[usize] {
        &self.sizes[..self.axes]
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.sizes[0]
    }

    /// Room for so many positions, and up to an eighth more, so that few plans serve all batches.
    pub fn bucket(positions: usize) -> usize {
        let step = (positions.checked_next_power_of_two().unwrap_or(usize::MAX) / 16).max(16);
        positions.max(1).checked_next_multiple_of(step).unwrap_or(usize::MAX)
    }
}

impl From<usize> for Extents {
    fn from(rows: usize) -> Self {
        let mut sizes = [0; MOST];
        sizes[0] = rows;
        Self { sizes, axes: 1 }
    }
}

/// The axes of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes<'a>(pub &'a [Axis]);

impl Axes<'_> {
    /// How many positions a row has on an axis, if it has so many on each ragged one.
    pub fn count(self, axis: AxisId, ragged: &impl Fn(AxisId) -> usize) -> usize {
        match self.0[axis].extent {
            Extent::Rows => 1,
            Extent::Ragged => ragged(axis),
            Extent::Grid { height, width } => height.saturating_mul(width),
            Extent::Pairs(of) => self.count(of, ragged).saturating_pow(2),
            Extent::Members(members) => members,
        }
    }

    /// The ragged axis on which that depends, if one.
    pub fn base(self, axis: AxisId) -> Option<AxisId> {
        match self.0[axis].extent {
            Extent::Rows | Extent::Grid { .. } | Extent::Members(_) => None,
            Extent::Ragged => Some(axis),
            Extent::Pairs(of) => self.base(of),
        }
    }

    /// Calls `tell` with the positions of one row on the finer axis of a link, in order, as those of the coarser one to which
    /// they belong, counted from the row's first.
    pub fn walk(self, link: Link, ragged: &impl Fn(AxisId) -> usize, mut tell: impl FnMut(usize)) {
        let count = self.count(link.fine, ragged);
        match (link.by, self.0[link.fine].extent, self.0[link.coarse].extent) {
            (By::Row, ..) => (0..count).for_each(|_| tell(0)),
            (By::First, Extent::Pairs(of), _) => {
                let each = self.count(of, ragged);
                (0..count).for_each(|pair| tell(pair / each));
            }
            (By::Second, Extent::Pairs(of), _) => {
                let each = self.count(of, ragged);
                (0..count).for_each(|pair| tell(pair % each));
            }
            (By::Block, Extent::Grid { height, width }, Extent::Grid { height: lines, width: columns }) => {
                let block = |position: usize| (position / width * lines / height, position % width * columns / width);
                for (line, column) in (0..count).map(block) {
                    tell(line * columns + column);
                }
            }
            _ => unreachable!("the builder makes links of axes that fit"),
        }
    }
}

impl Network {
    /// Room for so many rows of a batch and their positions: `sum` adds up what a function gives of how many positions each
    /// row has on a ragged axis. For ragged ones, and pairs of them, there is room for a few more, so that few plans serve all
    /// batches.
    ///
    /// # Errors
    /// More positions than can be numbered.
    pub fn extents(&self, rows: usize, sum: impl Fn(AxisId, &dyn Fn(usize) -> usize) -> usize) -> Result<Extents> {
        let axes = Axes(&self.axes);
        (1..self.axes.len()).try_fold(Extents::from(rows), |extents, axis| {
            let room = match axes.base(axis) {
                Some(base) => Extents::bucket(sum(base, &|count| axes.count(axis, &|_| count)).max(rows)),
                None => rows.saturating_mul(axes.count(axis, &|_| 0)),
            };
            extents.and(room)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes() -> Vec<Axis> {
        let extents = [
            Extent::Rows,
            Extent::Ragged,
            Extent::Pairs(1),
            Extent::Grid { height: 4, width: 2 },
            Extent::Grid { height: 2, width: 1 },
            Extent::Members(3),
        ];
        extents.into_iter().map(|extent| Axis { name: String::new(), extent }).collect()
    }

    fn walked(fine: AxisId, coarse: AxisId, by: By, count: usize) -> Vec<usize> {
        let mut walked = Vec::new();
        Axes(&axes()).walk(Link { fine, coarse, by }, &|_| count, |of| walked.push(of));
        walked
    }

    #[test]
    fn each_position_belongs_to_one_of_a_coarser_axis() {
        assert_eq!(walked(1, ROWS, By::Row, 3), [0, 0, 0]);
        assert_eq!(walked(2, 1, By::First, 3), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(walked(2, 1, By::Second, 3), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(walked(2, 1, By::Second, 0), [0; 0]);
        assert_eq!(walked(3, 4, By::Block, 7), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(walked(4, 3, By::Row, 7), [0, 0]);
        assert_eq!(walked(5, ROWS, By::Row, 7), [0, 0, 0]);
        let axes = axes();
        let counts: Vec<_> = (0..6).map(|axis| Axes(&axes).count(axis, &|_| 3)).collect();
        assert_eq!(counts, [1, 3, 9, 8, 2, 3]);
        let bases: Vec<_> = (0..6).map(|axis| Axes(&axes).base(axis)).collect();
        assert_eq!(bases, [None, Some(1), Some(1), None, None, None]);
    }
}
