//! Values side by side.

use super::Node;
use crate::error::Result;
use crate::network::buffer::{Buffer, Layout};
use crate::network::gradient::{Pass, PerPass};
use crate::network::plan::{InputGradient, Kernel, Prepare, Step};
use crate::network::product::Mode;
use crate::network::{Reach, ValueId};
use crate::real::Real;
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
    reach: Reach,
    inputs: Vec<(usize, InputGradient<T>, bool)>,
}

impl<T: Real> Pieces<T> {
    /// Input `k` came from the columns that begin at `starts[k]`.
    pub(super) fn new(at: &Prepare<'_, T>, output: ValueId, starts: &[usize], pass: Pass) -> Self {
        let leaving = starts.iter().enumerate().filter_map(|(k, &start)| {
            Some((start, at.leaving(k, pass)?, pass == Pass::Summed && at.entrance(k).is_some()))
        });
        Self { inputs: leaving.collect(), dy: at.arriving(output, pass), reach: at.net.values[output].reach }
    }

    pub(super) fn give_back(&mut self, step: &Step<'_>) {
        let Self { dy, reach, inputs } = self;
        let (from, whole) = (dy.layout, dy.layout.width);
        for (start, dx, enters) in inputs {
            let (to, add) = (dx.buffer.layout, dx.mode == Mode::Add);
            let (dy, dx) = (dy.slice(), dx.buffer.slice_mut());
            let weighed = *enters && !step.weights.is_empty();
            for (i, o) in lanes_between(from, to.lanes, *reach) {
                let (piece, dx) = (&dy[i * whole + *start..][..to.width], &mut dx[o * to.width..][..to.width]);
                match weighed {
                    true => take_times(dx, piece, step.weight(task_of(*reach, from, i)), add),
                    false => take(dx, piece, add),
                }
            }
        }
    }
}

vectorised! {
/// Copies or adds `weight` times a row.
fn take_times<T: Real>(to: &mut [T], from: &[T], weight: T, add: bool) {
    if !add {
        to.fill(T::ZERO);
    }
    for (to, &from) in to.iter_mut().zip(from) {
        *to += weight * from;
    }
}
}

/// The task that row `i` of a gradient of one lane belongs to.
fn task_of(reach: Reach, layout: Layout, i: usize) -> usize {
    match reach {
        Reach::One(task) => task,
        _ => i / layout.rows,
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
pub(super) fn lanes_between(output: Layout, lanes: usize, reach: Reach) -> impl Iterator<Item = (usize, usize)> {
    let lane = move |row: usize| match reach {
        Reach::One(task) => task,
        _ => row / output.rows,
    };
    let same = output.lanes == lanes;
    (0..output.groups * output.rows * output.lanes).map(move |i| if same { (i, i) } else { (i, i * lanes + lane(i)) })
}
