//! Where the positions of a batch are in one plan, and to which of a coarser axis each belongs.

use tch::{Kind, Tensor};

use super::Network;
use super::axis::{Axes, Axis, AxisId, Extent, Extents, Link};
use crate::bail;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::crossing::{fetch, waiting};
use crate::machine::storage::{Backend, Storage};

/// The positions of one batch in one plan.
#[derive(Debug)]
pub struct Positions {
    axes: Vec<Axis>,
    rows: usize,
    /// Where each row's begin and the last row's end, `[rows + 1]`, of ragged axes.
    starts: Vec<Vec<i32>>,
    links: Vec<Linked>,
}

/// To which position of the coarser axis each of the finer belongs.
#[derive(Debug)]
struct Linked {
    link: Link,
    /// `[fine]`; -1 beyond the last.
    parents: Storage<i32>,
    /// How many each of the coarser axis has, `[coarse]`.
    counts: Storage<i32>,
}

/// The same for loops.
#[derive(Debug)]
pub(crate) struct Places {
    /// The coarser position of each finer one, `[fine]`; -1 beyond the last.
    pub parents: Buffer<i32>,
    /// How many each of the coarser axis has, `[coarse]`.
    pub counts: Buffer<i32>,
}

/// The same for formulas.
#[derive(Debug)]
pub struct PlaceTensors {
    parents: Tensor,
    counts: Tensor,
}

impl Positions {
    /// With room for so many; on ragged axes no row has any yet.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(super) fn new(net: &Network, extents: &Extents, backend: Backend) -> Result<Self> {
        let mut links: Vec<_> = (1..net.axes.len()).map(Link::rows).collect();
        for link in net.ops.iter().flat_map(|op| op.along()) {
            if !links.contains(&link) {
                links.push(link);
            }
        }
        let flat = |axis: AxisId| Storage::zeros(Layout::flat(extents.each()[axis]), backend);
        let linked = |link: Link| Ok(Linked { link, parents: flat(link.fine)?, counts: flat(link.coarse)? });
        let rows = extents.rows();
        let none = |axis: &Axis| if axis.extent == Extent::Ragged { vec![0; rows + 1] } else { Vec::new() };
        let mut new = Self {
            axes: net.axes.clone(),
            rows,
            starts: net.axes.iter().map(none).collect(),
            links: links.into_iter().map(linked).collect::<Result<_>>()?,
        };
        (0..new.links.len()).try_for_each(|link| new.tell(link))?;
        Ok(new)
    }

    /// Says where each row's positions on a ragged axis begin and the last row's end.
    ///
    /// # Errors
    /// Places that do not begin at 0, go down, or leave the room; an axis that is not ragged.
    pub(super) fn place(&mut self, axis: AxisId, starts: &[i32]) -> Result<()> {
        let Self { rows, .. } = *self;
        let room = |linked: &Linked| linked.parents.layout().len();
        let Some(room) = self.links.iter().find(|linked| linked.link == Link::rows(axis)).map(room) else {
            bail!("rows of the batch have no places");
        };
        let fits = starts.len() == rows + 1 && starts[0] == 0 && starts.is_sorted();
        if !fits || starts[rows] as usize > room || self.starts[axis].is_empty() {
            bail!("the positions of {rows} rows should begin one after the other from 0 on, and end within {room}");
        }
        self.starts[axis].copy_from_slice(starts);
        for link in 0..self.links.len() {
            if Axes(&self.axes).base(self.links[link].link.fine) == Some(axis) {
                self.tell(link)?;
            }
        }
        Ok(())
    }

    /// Writes what a link says.
    fn tell(&mut self, link: usize) -> Result<()> {
        let Self { axes, starts, links, rows } = self;
        let Linked { link, parents, counts } = &mut links[link];
        let axes = Axes(axes);
        let write = |parents: &mut [i32], counts: &mut [i32]| {
            counts.fill(0);
            let mut fine = 0;
            let mut coarse = 0;
            for row in 0..*rows {
                let ragged = |axis: AxisId| (starts[axis][row + 1] - starts[axis][row]) as usize;
                let count = axes.count(link.fine, &ragged);
                let Some(of_row) = parents.get_mut(fine..fine + count) else { return false };
                let mut places = of_row.iter_mut();
                axes.walk(*link, &ragged, |of| {
                    counts[coarse + of] += 1;
                    if let Some(place) = places.next() {
                        *place = (coarse + of) as i32;
                    }
                });
                fine += count;
                coarse += axes.count(link.coarse, &ragged);
            }
            parents[fine..].fill(-1);
            true
        };
        let fits = match (&mut *parents, &mut *counts) {
            (Storage::Host(parents), Storage::Host(counts)) => write(parents.slice_mut(), counts.slice_mut()),
            (parents, counts) => {
                let mut of_each = vec![0; parents.layout().len()];
                let mut how_many = vec![0; counts.layout().len()];
                let fits = write(&mut of_each, &mut how_many);
                parents.put(0, &of_each)?;
                counts.put(0, &how_many)?;
                fits
            }
        };
        if !fits {
            let Axis { name, .. } = &axes.0[link.fine];
            bail!("positions of `{name}`: there is room for {}, which is not enough", parents.layout().len());
        }
        Ok(())
    }

    /// How many positions an axis has.
    pub(super) fn count(&self, axis: AxisId) -> usize {
        (0..self.rows).map(|row| Axes(&self.axes).count(axis, &|axis| self.length(axis, row))).sum()
    }

    /// How many positions a row has on a ragged axis.
    fn length(&self, axis: AxisId, row: usize) -> usize {
        (self.starts[axis][row + 1] - self.starts[axis][row]) as usize
    }

    fn linked(&self, link: Link) -> &Linked {
        self.links.iter().find(|linked| linked.link == link).expect("a link of a node, or to rows")
    }

    /// For loops, if they are the host's.
    pub(super) fn places(&self, link: Link) -> Option<Places> {
        let Linked { parents, counts, .. } = self.linked(link);
        Some(Places { parents: parents.host()?.share(), counts: counts.host()?.share() })
    }

    /// For formulas.
    pub(super) fn tensors(&self, link: Link) -> Result<PlaceTensors> {
        let Linked { parents, counts, .. } = self.linked(link);
        let of = |memory: &Storage<i32>| memory.shaped(&[memory.layout().len()]);
        Ok(PlaceTensors { parents: of(parents)?, counts: of(counts)? })
    }
}

impl PlaceTensors {
    /// How many positions each coarser one has, `[coarse]` of `i32`: the memory itself.
    pub fn lengths(&self) -> Tensor {
        self.counts.shallow_clone()
    }

    /// The coarser position of each finer one, `[fine]` of `i64`; any beyond the last.
    pub fn parents(&self) -> Tensor {
        self.parents.to_kind(Kind::Int64).clamp_min(0)
    }

    /// Whether there is a position, `[fine]`.
    pub fn there(&self) -> Tensor {
        self.parents.ge(0)
    }

    /// The same for values, `[1, fine, 1]`.
    pub fn mask(&self) -> Tensor {
        self.there().reshape([1, -1, 1])
    }

    /// The most positions that a coarser one has, which the host asks for and waits.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn longest(&self) -> Result<i64> {
        waiting(|| Ok(fetch::<i32>(&self.counts)?.into_iter().max().map_or(0, i64::from)))
    }

    /// How many positions each coarser one has, `[coarse]` of `i64`.
    pub fn counts(&self) -> Tensor {
        self.counts.to_kind(Kind::Int64)
    }

    /// Of each position the one so many further on, `[fine]` of `i64`, and whether it belongs to the same.
    pub fn neighbours(&self, by: i64) -> (Tensor, Tensor) {
        let count = self.parents.size()[0];
        let further = Tensor::arange(count, (Kind::Int64, self.parents.device())) + by;
        let within = further.ge(0).logical_and(&further.lt(count));
        let further = further.clamp(0, (count - 1).max(0));
        let same = self.parents.index_select(0, &further).eq_tensor(&self.parents);
        (further, same.logical_and(&within).logical_and(&self.there()))
    }

    /// Of rows of another axis, which belong to these rows, the position that each names by its number in its row, `[fine]` of
    /// `i64`, and whether there is one.
    pub fn named(&self, rows: &Tensor, numbers: &Tensor) -> (Tensor, Tensor) {
        let counts = self.counts();
        let starts = counts.cumsum(0, Kind::Int64) - &counts;
        let there = numbers.ge(0).logical_and(&numbers.lt_tensor(&counts.index_select(0, rows)));
        let position = starts.index_select(0, rows) + numbers;
        (position.where_self(&there, &numbers.zeros_like()), there)
    }
}
