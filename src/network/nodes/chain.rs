//! Labels of positions as a chain: a linear-chain conditional random field (Lafferty, McCallum & Pereira, ICML 2001).

mod messages;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::segments::add_up;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel::{Disjoint, split, threads};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::positions::Places;
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};
use crate::network::{InputId, ValueId};
use crate::parameters::ParamId;
use messages::{Messages, Moves, SLOTS};

/// The logarithm of each label's probability at each position of a row, where a path of labels `y` has the score
/// `start[y_1] + sum_t x[t, y_t] + sum_t moves[y_(t-1), y_t] + end[y_n]` and the probability that is the softmax of it over all
/// paths.
///
/// Without labels these are marginals: of what is predicted. With the labels that are known, those before a position are
/// taken as given: `p(y_t | known labels before t, x)`. The product of these over the known labels is their joint probability,
/// over all labels that are not known, so that the cross-entropy of each position's label adds up to the negative logarithm of
/// it, whatever is missing.
#[derive(Debug)]
pub struct Chain {
    /// Scores of labels at positions.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// `[labels + 2, labels]`: from the label of the row to that of the column, then start, then end.
    pub moves: ParamId,
    /// Labels as codes, -1 where missing: those before a position are taken as given. None for marginals, through which no
    /// gradient goes.
    pub given: Option<InputId>,
    /// From positions to their rows.
    pub link: Link,
}

/// The least sum over paths that is told from none.
const TINY: f64 = 1e-300;

impl Node for Chain {
    fn name(&self) -> &'static str {
        "Chain"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn codes(&self) -> Vec<InputId> {
        self.given.into_iter().collect()
    }

    fn along(&self) -> Vec<Link> {
        vec![self.link]
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.moves]
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"given": self.given.is_some()}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let places = given.places();
        let x = given.input(0).squeeze_dim(0).to_kind(Kind::Double);
        let (positions, labels) = x.size2()?;
        if positions == 0 {
            return Ok(given.input(0).zeros_like().into());
        }
        let whole = given.params[0].to_kind(Kind::Double);
        let [moves, start, end] = [whole.narrow(0, 0, labels), whole.get(labels), whole.get(labels + 1)];
        let inner = |same: &Tensor| same.reshape([-1, 1, 1]);
        let (_, has_before) = places.neighbours(-1);
        let (_, has_after) = places.neighbours(1);
        let log = |p: &Tensor| p.clamp_min(TINY).log();

        // The first position of a row moves to its labels from anywhere alike, the last one to anywhere: products of moves over
        // several rows fall apart into theirs, but for a factor.
        let each = [positions, labels, labels];
        let arrive = moves.where_self(&inner(&has_before), &start.expand(each, false)) + x.unsqueeze(1);
        let leave = (&moves + x.roll([-1], [0]).unsqueeze(1))
            .where_self(&inner(&has_after), &end.unsqueeze(1).expand(each, false));
        let scaled = |scores: Tensor| (&scores - scores.detach().amax([1, 2], true)).exp();
        let possible = match given.codes.first() {
            Some(codes) => {
                // Before they are scaled, so that a label that is far from likely is not lost.
                let known = codes.select(1, 0).to_kind(Kind::Int64).unsqueeze(1);
                let other =
                    known.ge(0).logical_and(&Tensor::arange(labels, (Kind::Int64, x.device())).ne_tensor(&known));
                scaled(arrive.masked_fill(&other.unsqueeze(1), f64::NEG_INFINITY))
            }
            None => scaled(arrive),
        };
        let before = products(possible, false).sum_dim_intlist(1_i64, false, x.kind());
        let before = &before / before.detach().amax([1], true).clamp_min(TINY);
        let after = products(scaled(leave), true).sum_dim_intlist(2_i64, false, x.kind());
        let moved = before.roll([1], [0]).matmul(&(&moves - moves.detach().max()).exp());
        let prior = log(&moved).where_self(&has_before.unsqueeze(1), &start.expand([positions, labels], false));
        let y = (prior + &x + log(&after)).log_softmax(-1, x.kind());
        let y = if self.given.is_some() { y } else { y.detach() };
        let y = y.unsqueeze(0).to_kind(given.kind());
        Ok(y.where_self(&places.mask(), &y.zeros_like()).into())
    }
}

/// Products of matrices `[count, n, n]` of numbers that are not negative, each with all before it, or after it, up to a factor
/// each: in as many steps as the count has binary digits.
fn products(matrices: Tensor, backwards: bool) -> Tensor {
    let count = matrices.size()[0];
    let mut all = matrices;
    let mut apart = 1;
    while apart < count {
        let [early, late] = [all.narrow(0, 0, count - apart), all.narrow(0, apart, count - apart)];
        let joint = early.bmm(&late);
        let joint = &joint / joint.detach().amax([1, 2], true).clamp_min(TINY);
        let rest = if backwards { all.narrow(0, count - apart, apart) } else { all.narrow(0, 0, apart) };
        all = Tensor::cat(&if backwards { [joint, rest] } else { [rest, joint] }, 0);
        apart *= 2;
    }
    all
}

struct ChainKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    param: Buffer<T>,
    given: Option<Buffer<i32>>,
    places: Places,
    moves: Moves,
    /// Of all positions, [`SLOTS`] numbers a label each.
    room: Vec<f64>,
    /// Each thread's own: sums of the parameter's gradient, and a label's numbers twice.
    own: Vec<f64>,
    sums: Vec<T>,
    passes: PerPass<Option<Backward<T>>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    dx: Option<InputGradient<T>>,
    slab: ParamGradient<T>,
}

impl<T: Real> Prepares<T> for Chain {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let y = at.value(self.output);
        let Layout { rows, width, .. } = y.layout;
        let passes = at.each_pass(|pass| {
            if self.given.is_none() {
                return Ok(None);
            }
            let slab = at.param_gradient(0, pass)?;
            Ok(Some(Backward { dy: at.arriving(self.output, pass), dx: at.leaving(0, pass), slab }))
        })?;
        by_loops(ChainKernel {
            x: at.value(self.input),
            y,
            param: at.param(self.moves)?,
            given: self.given.map(|input| at.codes(input)),
            places: at.places(self.link),
            moves: Moves::new(width),
            room: vec![0.0; SLOTS * rows * width],
            own: Vec::new(),
            sums: Vec::new(),
            passes,
        })
    }
}

/// Where the positions of rows `range` begin, if those before them have so many each.
fn begin(counts: &[i32], row: usize) -> usize {
    counts[..row].iter().map(|&count| count as usize).sum()
}

impl<T: Real> Kernel for ChainKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let width = self.y.layout.width;
        self.moves.tell(self.param.slice());
        let counts = self.places.counts.slice();
        let end = begin(counts, counts.len());
        let numbers = end * width * width;
        self.y.slice_mut()[end * width..].fill(T::ZERO);
        self.own.resize(threads(numbers) * Messages::own(width), 0.0);
        let own = Disjoint::new(&mut self.own);
        let room = Disjoint::new(&mut self.room);
        let y = Disjoint::new(self.y.slice_mut());
        let (x, moves) = (self.x.slice(), &self.moves);
        let given = self.given.as_ref().map(Buffer::slice);
        split(counts.len(), numbers, &|thread, rows| {
            let mut first = begin(counts, rows.start);
            // SAFETY: each thread has numbers, and positions of rows, of its own.
            let own = unsafe { own.part(thread * Messages::own(width)..(thread + 1) * Messages::own(width)) };
            for &count in &counts[rows] {
                let last = first + count as usize;
                let range = first * width..last * width;
                // SAFETY: as above.
                let (room, y) = unsafe { (room.part(range.start * SLOTS..range.end * SLOTS), y.part(range.clone())) };
                let given = given.map(|given| &given[first..last]);
                Messages { moves, room, own: &mut *own }.forward(&x[range], given, y);
                first = last;
            }
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Some(Backward { dy, dx, slab }) = self.passes.of(pass) else { return Ok(()) };
        let Layout { lanes, width, .. } = dy.layout;
        let counts = self.places.counts.slice();
        let end = begin(counts, counts.len());
        let numbers = end * width * width;
        let threads = threads(numbers);
        let size = self.param.layout.len();
        self.own.clear();
        self.own.resize(threads * Messages::own(width) * lanes, 0.0);
        let given = self.given.as_ref().map_or(&[][..], Buffer::slice);
        let add = dx.as_ref().is_some_and(|dx| dx.mode == Mode::Add);
        let to = dx.as_mut().map(|dx| dx.buffer.slice_mut());
        let mut to = to;
        if let Some(to) = to.as_mut().filter(|_| !add) {
            to[end * lanes * width..].fill(T::ZERO);
        }
        let to = to.map(Disjoint::new);
        let own = Disjoint::new(&mut self.own);
        let room = Disjoint::new(&mut self.room);
        let (y, moves, arriving) = (self.y.slice(), &self.moves, dy.slice());
        split(counts.len(), numbers, &|thread, rows| {
            let mut first = begin(counts, rows.start);
            for &count in &counts[rows] {
                let last = first + count as usize;
                let range = first * width..last * width;
                for lane in 0..lanes {
                    let at = (thread * lanes + lane) * Messages::own(width);
                    // SAFETY: each thread has numbers, and positions of rows, of its own.
                    let (own, room) = unsafe {
                        (own.part(at..at + Messages::own(width)), room.part(range.start * SLOTS..range.end * SLOTS))
                    };
                    let mut messages = Messages { moves, room, own };
                    let dy = &arriving[range.start * lanes..range.end * lanes];
                    messages.backward(
                        &y[range.clone()],
                        &given[first..last],
                        dy.chunks_exact(width).skip(lane).step_by(lanes),
                    );
                    if let Some(to) = &to {
                        // SAFETY: as above.
                        let to = unsafe { to.part(range.start * lanes..range.end * lanes) };
                        messages.give(to.chunks_exact_mut(width).skip(lane).step_by(lanes), add);
                    }
                }
                first = last;
            }
        });
        self.sums.clear();
        for thread in self.own.chunks_exact(Messages::own(width) * lanes) {
            for lane in thread.chunks_exact(Messages::own(width)) {
                self.sums.extend(self.moves.slopes(&lane[..size]).map(T::of));
            }
        }
        add_up(slab, step, self.sums.chunks_exact(size * lanes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_one_after_the_other() {
        let matrices = Tensor::rand([5, 3, 3], (Kind::Double, tch::Device::Cpu));
        for backwards in [false, true] {
            let found = products(matrices.shallow_clone(), backwards);
            for at in 0..5 {
                let range: Vec<_> = if backwards { (at..5).collect() } else { (0..=at).collect() };
                let wanted = range[1..].iter().fold(matrices.get(range[0]), |all, &k| all.matmul(&matrices.get(k)));
                let found = found.get(at);
                let apart = (&found / found.sum(Kind::Double) - &wanted / wanted.sum(Kind::Double)).abs().max();
                assert!(apart.double_value(&[]) < 1e-12, "{at}");
            }
        }
    }
}
