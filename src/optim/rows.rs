//! Steps on sparse tables: a rule for one row, applied to the rows that were touched.

use super::Rule;
use crate::machine::level;
use crate::machine::memory::fetch;
use crate::parameters::touched::Touched;

/// Rows that are under way from memory while one is worked on.
const AHEAD: usize = 8;

/// A rule for one row of a table.
pub(super) trait RowRule<const S: usize> {
    /// Updates the row and its state in place.
    fn apply_to_row(&self, parameters: &mut [f32], gradient: &[f32], state: [&mut [f32]; S]);
}

impl<R: Rule<S>, const S: usize> RowRule<S> for R {
    #[inline(always)]
    fn apply_to_row(&self, parameters: &mut [f32], gradient: &[f32], mut state: [&mut [f32]; S]) {
        let count = parameters.len();
        let gradient = &gradient[..count];
        state = state.map(|slot| &mut slot[..count]);
        for i in 0..count {
            let mut own = std::array::from_fn(|s| state[s][i]);
            parameters[i] = self.apply(parameters[i], gradient[i], &mut own);
            for s in 0..S {
                state[s][i] = own[s];
            }
        }
    }
}

/// Applies a rule to the touched rows of a table and of its state.
pub(super) fn sweep_rows<R: RowRule<S>, const S: usize>(
    rule: &R,
    table: &mut [f32],
    touched: &Touched<f32>,
    state: &mut [&mut [f32]],
) {
    let mut slots = state.iter_mut();
    let state = std::array::from_fn(|_| &mut **slots.next().expect("one buffer a slot"));
    level::run(RowSweep { rule, table, touched, state });
}

struct RowSweep<'a, R, const S: usize> {
    rule: &'a R,
    table: &'a mut [f32],
    touched: &'a Touched<f32>,
    state: [&'a mut [f32]; S],
}

impl<R: RowRule<S>, const S: usize> pulp::NullaryFnOnce for RowSweep<'_, R, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rule, table, touched, mut state } = self;
        let width = touched.width();
        let count = table.len() / width;
        let widths: [usize; S] = std::array::from_fn(|s| state[s].len() / count);
        let each = touched.codes().iter().zip(touched.rows().chunks_exact(width));
        for (index, (&code, gradient)) in each.enumerate() {
            let ahead = if index == 0 { 0..AHEAD } else { index + AHEAD - 1..index + AHEAD };
            for &code in ahead.filter_map(|index| touched.codes().get(index)) {
                fetch(table, code, width);
                (0..S).for_each(|s| fetch(state[s], code, widths[s]));
            }
            let code = code as usize;
            let mut own = state.iter_mut().zip(widths);
            let own = std::array::from_fn(|_| {
                let (slot, width) = own.next().expect("as many as slots");
                &mut slot[code * width..(code + 1) * width]
            });
            rule.apply_to_row(&mut table[code * width..(code + 1) * width], gradient, own);
        }
    }
}
