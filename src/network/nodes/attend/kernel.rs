//! The loops of attention over the rows of a batch: no row sees another one's memory, and none is padded.

use super::loops::{Head, Lanes, Room, Turn, attend, give_back};
use super::{Attend, BASE};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel::{Disjoint, split, threads};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::node::Kernel;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::positions::Places;
use crate::network::prepare::{InputGradient, Prepare};

pub(super) struct AttendKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    places: Places,
    heads: usize,
    rotary: bool,
    /// Where each row's positions begin, and the last row's end.
    starts: Vec<usize>,
    longest: usize,
    /// Cosines and sines of the turns of each place, `[places, 2, half a head]`.
    turns: Vec<T>,
    /// Of each group, position and head the logarithm of the sum of its exponentials, of which backward makes weights again.
    sums: Vec<T>,
    /// Room for each thread.
    room: Vec<T>,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

impl<T: Real> AttendKernel<T> {
    pub fn new(node: &Attend, at: &Prepare<'_, T>) -> Result<Self> {
        let x = at.value(node.input);
        let y = at.value(node.output);
        let places = at.places(node.link);
        let Layout { groups, rows: room, .. } = y.layout;
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(node.output, pass), leaving))))?;
        Ok(Self {
            starts: vec![0; places.counts.layout.len() + 1],
            longest: 0,
            turns: Vec::new(),
            sums: vec![T::ZERO; groups * room * node.heads],
            room: Vec::new(),
            heads: node.heads,
            rotary: node.rotary,
            x,
            y,
            places,
            passes,
        })
    }

    /// Finds out where rows are, and turns that longer ones have than any before.
    fn lay(&mut self) {
        self.longest = 0;
        for (row, &count) in self.places.counts.slice().iter().enumerate() {
            self.starts[row + 1] = self.starts[row] + count as usize;
            self.longest = self.longest.max(count as usize);
        }
        let half = self.y.layout.width / self.heads / 2;
        if !self.rotary || half == 0 {
            return;
        }
        for place in self.turns.len() / (2 * half)..self.longest {
            let angle = |i: usize| place as f64 * BASE.powf(-(i as f64) / half as f64);
            self.turns.extend((0..half).map(|i| T::of(angle(i).cos())));
            self.turns.extend((0..half).map(|i| T::of(angle(i).sin())));
        }
    }

    /// Makes room for as many threads as work on so many numbers, with so many lanes; how much each has.
    fn make_room(&mut self, numbers: usize, lanes: usize) -> usize {
        let size = Room::<T>::size(self.longest, self.y.layout.width / self.heads, lanes);
        let all = size * threads(numbers);
        if self.room.len() < all {
            self.room.resize(all, T::ZERO);
        }
        size
    }

    /// Numbers that heads of so many lanes touch, as far as that says whether several threads pay.
    fn numbers(&self, lanes: usize) -> usize {
        self.y.layout.len() * lanes * (4 + self.longest / 8)
    }
}

impl<T: Real> Kernel for AttendKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        self.lay();
        let numbers = self.numbers(1);
        let size = self.make_room(numbers, 0);
        let Self { starts, turns, heads, rotary, longest, .. } = self;
        let Layout { groups, rows: all, width, .. } = self.y.layout;
        let (rows, heads, longest) = (starts.len() - 1, *heads, *longest);
        let turn = Turn { on: *rotary, turns };
        let x = self.x.slice();
        let y = Disjoint::new(self.y.slice_mut());
        let sums = Disjoint::new(&mut self.sums);
        let room = Disjoint::new(&mut self.room);
        split(groups * rows, numbers, &|thread, range| {
            // SAFETY: each thread has room of its own.
            let room = unsafe { room.part(thread * size..(thread + 1) * size) };
            let mut room = Room::new(room, longest, width / heads, 0);
            for unit in range {
                let (group, row) = (unit / rows, unit % rows);
                let range = group * all + starts[row]..group * all + starts[row + 1];
                // SAFETY: rows of a group have positions of their own.
                let (y, sums) = unsafe {
                    (y.part(range.start * width..range.end * width), sums.part(range.start * heads..range.end * heads))
                };
                let x = &x[range.start * 3 * width..range.end * 3 * width];
                for head in 0..heads {
                    attend(Head { head, heads, width, count: range.len() }, turn, x, &mut room, y, sums);
                }
            }
        });
        // Beyond the last position there is nothing.
        let end = starts[rows];
        for of_group in self.y.slice_mut().chunks_exact_mut((all * width).max(1)) {
            of_group[end * width..].fill(T::ZERO);
        }
        Ok(())
    }

    fn backward(&mut self, _: &Step<'_>, pass: Pass) -> Result<()> {
        let Some(lanes) = self.passes.of(pass).as_ref().map(|(dy, _)| dy.layout.lanes) else { return Ok(()) };
        let numbers = self.numbers(lanes);
        let size = self.make_room(numbers, lanes);
        let Self { starts, turns, heads, rotary, longest, .. } = self;
        let Some((dy, dx)) = self.passes.of(pass) else { return Ok(()) };
        let Layout { groups, rows: all, width, .. } = self.y.layout;
        let (rows, heads, longest) = (starts.len() - 1, *heads, *longest);
        let turn = Turn { on: *rotary, turns };
        let add = dx.mode == Mode::Add;
        let (x, dy, sums) = (self.x.slice(), dy.slice(), &self.sums);
        let to = Disjoint::new(dx.buffer.slice_mut());
        let room = Disjoint::new(&mut self.room);
        split(groups * rows, numbers, &|thread, range| {
            // SAFETY: each thread has room of its own.
            let room = unsafe { room.part(thread * size..(thread + 1) * size) };
            let mut room = Room::new(room, longest, width / heads, lanes);
            for unit in range {
                let (group, row) = (unit / rows, unit % rows);
                let range = group * all + starts[row]..group * all + starts[row + 1];
                let wide = 3 * width;
                // SAFETY: rows of a group have positions of their own.
                let to = unsafe { to.part(range.start * lanes * wide..range.end * lanes * wide) };
                let x = &x[range.start * wide..range.end * wide];
                let dy = &dy[range.start * lanes * width..range.end * lanes * width];
                let sums = &sums[range.start * heads..range.end * heads];
                for head in 0..heads {
                    let of = Head { head, heads, width, count: range.len() };
                    give_back(of, turn, [x, sums], &mut room, Lanes { lanes, dy, to, add });
                }
            }
        });
        if !add {
            let size = lanes * 3 * width;
            let end = starts[rows];
            for of_group in dx.buffer.slice_mut().chunks_exact_mut((all * size).max(1)) {
                of_group[end * size..].fill(T::ZERO);
            }
        }
        Ok(())
    }
}
