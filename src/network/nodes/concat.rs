//! Values side by side.

use super::Node;
use super::route::covers;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::gradient::{Pass, PerPass};
use crate::network::plan::{InputGradient, Kernel, Prepare, Step};
use crate::network::{Network, ValueId};
use crate::parameters::{Reach, TaskId};
use crate::vectorised;

/// `y = [x_1, x_2, ...]` along the width.
#[derive(Debug)]
pub struct Concat {
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it fills.
    pub output: ValueId,
}

struct ConcatKernel<T> {
    inputs: Vec<Buffer<T>>,
    y: Buffer<T>,
    passes: PerPass<Pieces<T>>,
}

impl Node for Concat {
    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }

    fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let inputs: Vec<_> = self.inputs.iter().map(|&x| at.value(x)).collect();
        let widths = inputs.iter().map(|x| x.layout.width);
        let starts: Vec<_> = widths.scan(0, |end, width| Some(std::mem::replace(end, *end + width))).collect();
        let passes = at.each_pass(|pass| Ok(Pieces::new(at, self.output, &starts, pass)))?;
        Ok(Box::new(ConcatKernel { inputs, y: at.value(self.output), passes }))
    }
}

impl<T: Real> Kernel for ConcatKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let whole = self.y.layout.width;
        let mut start = 0;
        for x in &self.inputs {
            let width = x.layout.width;
            let rows = self.y.slice_mut().chunks_exact_mut(whole).zip(x.slice().chunks_exact(width));
            rows.for_each(|(y, x)| y[start..start + width].copy_from_slice(x));
            start += width;
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        self.passes.of(pass).give_back(step);
        Ok(())
    }
}

/// Hands columns of an output's gradient back to the inputs they came from.
pub(super) struct Pieces<T> {
    dy: Buffer<T>,
    owner: Owner,
    inputs: Vec<(usize, InputGradient<T>, bool)>,
}

impl<T: Real> Pieces<T> {
    /// Input `k` came from the columns that begin at `starts[k]`.
    pub(super) fn new(at: &Prepare<'_, T>, output: ValueId, starts: &[usize], pass: Pass) -> Self {
        let leaving = starts.iter().enumerate().filter_map(|(k, &start)| {
            Some((start, at.leaving(k, pass)?, pass == Pass::Summed && at.entrance(k).is_some()))
        });
        Self { inputs: leaving.collect(), dy: at.arriving(output, pass), owner: Owner::new(at, output) }
    }

    pub(super) fn give_back(&mut self, step: &Step<'_>) {
        let Self { dy, owner, inputs } = self;
        let (from, whole) = (dy.layout, dy.layout.width);
        for (start, dx, enters) in inputs {
            let (to, add) = (dx.buffer.layout, dx.mode == Mode::Add);
            let (dy, dx) = (dy.slice(), dx.buffer.slice_mut());
            let weighed = *enters && !step.weights.is_empty();
            for (i, o) in lanes_between(from, to.lanes, *owner) {
                let (piece, dx) = (&dy[i * whole + *start..][..to.width], &mut dx[o * to.width..][..to.width]);
                match weighed {
                    true => take_times(dx, piece, step.weight(owner.task(i / from.rows)), add),
                    false => take(dx, piece, add),
                }
            }
        }
    }
}

vectorised! {
/// Copies or adds `weight` times a row.
pub(super) fn take_times<T: Real>(to: &mut [T], from: &[T], weight: T, add: bool) {
    if !add {
        to.fill(T::ZERO);
    }
    for (to, &from) in to.iter_mut().zip(from) {
        *to += weight * from;
    }
}
}

/// Which task a group belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// One task for all groups.
    One(TaskId),
    /// So many groups each.
    Own(usize),
}

impl Owner {
    pub(super) fn new<T: Real>(at: &Prepare<'_, T>, value: ValueId) -> Self {
        match at.net.values[value].reach {
            Reach::One(task) => Self::One(task),
            _ => Self::Own((at.net.values[value].groups / at.net.tasks()).max(1)),
        }
    }

    pub(super) fn task(self, group: usize) -> TaskId {
        match self {
            Self::One(task) => task,
            Self::Own(share) => group / share,
        }
    }
}

vectorised! {
/// Replaces or adds numbers.
pub(super) fn take<T: Real>(to: &mut [T], from: &[T], add: bool) {
    if !add {
        return to.copy_from_slice(from);
    }
    for (to, &from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
}

/// Pairs of gradient rows, of an output and of its input with `lanes` lanes: lane by lane where both have equally many,
/// else from the output's one lane into the lane of the task it belongs to.
pub(super) fn lanes_between(output: Layout, lanes: usize, owner: Owner) -> impl Iterator<Item = (usize, usize)> {
    let same = output.lanes == lanes;
    let lane = move |row: usize| if same { (row, row) } else { (row, row * lanes + owner.task(row / output.rows)) };
    (0..output.groups * output.rows * output.lanes).map(lane)
}
