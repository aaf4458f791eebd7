//! Positions within rows, as many as each row has: those of a batch lie end to end, row after row.

use tch::{Kind, Tensor};

use crate::bail;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::storage::{Backend, Storage};

/// Axes of the network with most of them.
const MOST: usize = 4;

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
    /// More axes than there may be.
    pub fn and(mut self, positions: usize) -> Result<Self> {
        if self.axes == MOST {
            bail!("a network may have {} axes of positions", MOST - 1);
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
        positions.max(1).next_multiple_of((positions.next_power_of_two() / 16).max(16))
    }
}

impl From<usize> for Extents {
    fn from(rows: usize) -> Self {
        Self { sizes: [rows, 0, 0, 0], axes: 1 }
    }
}

/// Where the positions of one axis stand in one plan.
#[derive(Debug)]
pub struct Positions {
    /// Where each row's begin and the last row's end, `[rows + 1]`.
    starts: Storage<i32>,
    /// The row of each position, `[positions]`; -1 beyond the last.
    rows: Storage<i32>,
}

/// The same for loops.
#[derive(Debug)]
pub(crate) struct Places {
    /// Where each row's begin and the last row's end, `[rows + 1]`.
    pub starts: Buffer<i32>,
    /// The row of each position, `[positions]`; -1 beyond the last.
    pub rows: Buffer<i32>,
}

/// The same for formulas.
#[derive(Debug)]
pub struct PlaceTensors {
    starts: Tensor,
    rows: Tensor,
}

impl Positions {
    /// For so many rows and at most so many positions; no row has any yet.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn new(rows: usize, positions: usize, backend: Backend) -> Result<Self> {
        let mut new = Self {
            starts: Storage::zeros(Layout::flat(rows + 1), backend)?,
            rows: Storage::zeros(Layout::flat(positions), backend)?,
        };
        new.place(&vec![0; rows + 1])?;
        Ok(new)
    }

    /// Says where each row's begin and the last row's end.
    ///
    /// # Errors
    /// Places that do not begin at 0, go down, or leave the room.
    pub fn place(&mut self, starts: &[i32]) -> Result<()> {
        let rows = self.starts.layout().len() - 1;
        let room = self.rows.layout().len();
        let fits = starts.len() == rows + 1 && starts[0] == 0 && starts.is_sorted();
        if !fits || starts[rows] as usize > room {
            bail!("the positions of {rows} rows should begin one after the other from 0 on, and end within {room}");
        }
        let tell = |rows: &mut [i32]| {
            for (row, ends) in starts.windows(2).enumerate() {
                rows[ends[0] as usize..ends[1] as usize].fill(row as i32);
            }
            rows[starts[starts.len() - 1] as usize..].fill(-1);
        };
        self.starts.put(0, starts)?;
        match &mut self.rows {
            Storage::Host(rows) => {
                tell(rows.slice_mut());
                Ok(())
            }
            away => {
                let mut rows = vec![0; room];
                tell(&mut rows);
                away.put(0, &rows)
            }
        }
    }

    /// For loops, if it is the host's.
    pub(super) fn places(&self) -> Option<Places> {
        Some(Places { starts: self.starts.host()?.share(), rows: self.rows.host()?.share() })
    }

    /// For formulas.
    pub(super) fn tensors(&self) -> Result<PlaceTensors> {
        let of = |memory: &Storage<i32>| memory.shaped(&[memory.layout().len()]);
        Ok(PlaceTensors { starts: of(&self.starts)?, rows: of(&self.rows)? })
    }
}

impl PlaceTensors {
    /// The row of each position, `[positions]` of `i64`; any row beyond the last.
    pub fn rows(&self) -> Tensor {
        self.rows.to_kind(Kind::Int64).clamp_min(0)
    }

    /// Whether there is a position, `[positions]`.
    pub fn there(&self) -> Tensor {
        self.rows.ge(0)
    }

    /// How many positions each row has, `[rows]` of `i64`.
    pub fn counts(&self) -> Tensor {
        let starts = self.starts.to_kind(Kind::Int64);
        let rows = starts.size()[0] - 1;
        starts.narrow(0, 1, rows) - starts.narrow(0, 0, rows)
    }

    /// Of each position the one so many further on, `[positions]` of `i64`, and whether it is of the same row.
    pub fn neighbours(&self, by: i64) -> (Tensor, Tensor) {
        let count = self.rows.size()[0];
        let further = Tensor::arange(count, (Kind::Int64, self.rows.device())) + by;
        let within = further.ge(0).logical_and(&further.lt(count));
        let further = further.clamp(0, (count - 1).max(0));
        let same = self.rows.index_select(0, &further).eq_tensor(&self.rows);
        (further, same.logical_and(&within).logical_and(&self.there()))
    }
}
