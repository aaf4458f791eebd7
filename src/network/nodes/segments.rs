//! Rows of gradients from one memory into another: which lane goes where, and whose it is.

use crate::machine::buffer::Layout;
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::owner::Owner;
use crate::network::pass::Step;
use crate::network::prepare::ParamGradient;
use crate::network::{Network, ValueId};
use crate::parameters::Reach;
use crate::vectorised;

/// Whether groups that go to their own tasks leave no lane of these inputs empty.
pub(super) fn covers(net: &Network, inputs: &[ValueId], output: ValueId) -> bool {
    net.values[output].reach != Reach::Own || inputs.iter().all(|&x| net.values[x].reach != Reach::All)
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

/// Brings the sums that threads made of a parameter's gradient, one after the other, to where that goes.
pub(super) fn add_up<'a, T: Real>(slab: &mut ParamGradient<T>, step: &Step<'_>, sums: impl Iterator<Item = &'a [T]>) {
    let write = slab.mode(step) == Mode::Write;
    for (thread, own) in sums.enumerate() {
        take(slab.buffer.slice_mut(), own, thread > 0 || !write);
    }
}

/// Pairs of gradient rows, of an output and of its input with `lanes` lanes: lane by lane where both have equally many,
/// else from the output's one lane into the lane of the task it belongs to.
pub(super) fn lanes_between(output: Layout, lanes: usize, owner: Owner) -> impl Iterator<Item = (usize, usize)> {
    let same = output.lanes == lanes;
    let lane = move |row: usize| if same { (row, row) } else { (row, row * lanes + owner.task(row / output.rows)) };
    (0..output.groups * output.rows * output.lanes).map(lane)
}
