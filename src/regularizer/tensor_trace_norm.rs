//! The trace norms of the tasks' layers, stacked to tensors.

use tch::Tensor;

use super::spectrum::Spectrum;
use super::{Penalty, Places, Regularizer, Stack, formula, rows};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum over layers, and over the three unfoldings of their tensor [out, in, tasks], of the trace norm` (Tucker's
    /// form in Yang and Hospedales, Trace Norm Regularised Deep Multi-Task Learning, ICLR workshop 2017): layer by layer,
    /// the tasks' weights lie in few directions, of tasks, of outputs and of inputs.
    ///
    /// Each unfolding `X` counts `sum_k sqrt(s_k^2 + smoothing)` over its singular values, with the gradient
    /// `(X X^T + smoothing I)^(-1/2) X`, by way of the smaller of `X X^T` and `X^T X`. The eigenvalues of that matrix are
    /// found in every step: for layers of some hundred units that takes longer than the rest of a step.
    pub struct TensorTraceNorm = "TensorTraceNorm" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// What is added to each squared singular value.
        smoothing: f64 = 1e-6, in 1e-12..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
    state: State;
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    spectrum: Spectrum,
    starts: Vec<usize>,
    unfolded: Vec<f64>,
    slopes: Vec<f64>,
}

impl Regularizer for TensorTraceNorm {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.common(Self::CLASS, self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let norm = |stack: &Stack| {
            let tensor = formula::stacked(stack, parameters);
            let unfolded = |axes: [i64; 3]| {
                let turned = tensor.permute(axes);
                formula::trace_norm(&turned.reshape([turned.size()[0], -1]), self.smoothing)
            };
            formula::sum_of([[0, 1, 2], [1, 0, 2], [2, 0, 1]].map(unfolded).into_iter())
        };
        formula::sum_of(places.stacks.iter().map(norm)) * self.strength
    }
}

impl<T: Real> Penalty<T> for TensorTraceNorm {
    fn add(&mut self, places: &Places, parameters: &[T], mut gradient: Option<&mut [T]>) -> f64 {
        let Self { state, strength, smoothing, .. } = self;
        let mut total = 0.0;
        for stack in &places.stacks {
            for mode in 0..3 {
                let unfolding = Unfolding::new(stack, mode);
                total += *strength * state.norm(&unfolding, parameters, [*smoothing, *strength]);
                if let Some(gradient) = gradient.as_mut() {
                    state.add_slopes(&unfolding, gradient);
                }
            }
        }
        total
    }
}

impl State {
    /// The smoothed trace norm of one unfolding; leaves `factor` times its derivative by the Gramian in the spectrum.
    fn norm<T: Real>(&mut self, unfolding: &Unfolding<'_>, flat: &[T], [smoothing, factor]: [f64; 2]) -> f64 {
        let [rows, columns] = unfolding.size;
        self.unfolded.clear();
        self.unfolded.resize(rows * columns, 0.0);
        unfolding.each(|at, place| self.unfolded[at] = flat[place].wide());
        self.spectrum.look_at(&self.unfolded, rows);
        self.spectrum.root(rows, smoothing, factor)
    }

    /// Adds the gradient of what [`State::norm`] looked at.
    fn add_slopes<T: Real>(&mut self, unfolding: &Unfolding<'_>, gradient: &mut [T]) {
        let [rows, columns] = unfolding.size;
        let Self { spectrum, starts, unfolded, slopes } = self;
        starts.clear();
        starts.extend((0..rows).map(|row| row * columns));
        slopes.clear();
        slopes.resize(rows * columns, 0.0);
        rows::mix_rows(starts, columns, &spectrum.matrix, unfolded, Some(slopes));
        unfolding.each(|at, place| gradient[place] += T::of(slopes[at]));
    }
}

/// A tensor `[tasks, out, in]` as a matrix whose shorter side is one axis, or all but that axis.
struct Unfolding<'a> {
    stack: &'a Stack,
    /// `[rows, columns]`.
    size: [usize; 2],
    /// What a step along each axis is in the matrix.
    strides: [usize; 3],
}

impl<'a> Unfolding<'a> {
    fn new(stack: &'a Stack, mode: usize) -> Self {
        let [out, inputs] = stack.matrix();
        let axes = [stack.starts.len(), out, inputs];
        let own = axes[mode];
        let rest = axes.iter().product::<usize>() / axes[mode].max(1);
        let turned = own > rest;
        let mut strides = [0; 3];
        let mut within = if turned { own } else { 1 };
        for axis in (0..3).rev().filter(|&axis| axis != mode) {
            strides[axis] = within;
            within *= axes[axis];
        }
        strides[mode] = if turned { 1 } else { rest };
        Self { stack, size: if turned { [rest, own] } else { [own, rest] }, strides }
    }

    /// Calls with each element's place in the matrix and in the flat parameters.
    fn each(&self, mut call: impl FnMut(usize, usize)) {
        let [out, inputs] = self.stack.matrix();
        let [by_task, by_out, by_in] = self.strides;
        for (task, start) in self.stack.starts.iter().enumerate() {
            for o in 0..out {
                for i in 0..inputs {
                    call(task * by_task + o * by_out + i * by_in, start + o * inputs + i);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::task_relation::tests::two_tasks;
    use super::*;
    use crate::parameters::path::Path;

    #[test]
    fn by_hand() {
        let mut norm = TensorTraceNorm { strength: 2.0, smoothing: 1e-30, ..TensorTraceNorm::default() };
        // Rows (3, 4) and (0, 0), [1, 2] each: one direction of length 5 in all three unfoldings.
        let mut gradient = [0.0; 4];
        let value = norm.add(&two_tasks(2), &[3.0, 4.0, 0.0, 0.0], Some(&mut gradient));
        // Rounding errors of eigenvalues that are 0 come in by their roots.
        assert!((value - 30.0).abs() < 1e-6, "{value}");
        let want = [3.6, 4.8, 0.0, 0.0];
        assert!(gradient.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6), "{gradient:?}");
    }

    #[test]
    fn unfoldings_have_their_shorter_side_first() {
        let stack = |shape: [usize; 2], tasks: usize| Stack {
            path: Path::new("w"),
            starts: (0..tasks).map(|task| task * shape[0] * shape[1]).collect(),
            size: shape[0] * shape[1],
            shape: shape.to_vec(),
        };
        for (shape, tasks) in [([2, 3], 2), ([1, 9], 2), ([9, 1], 3), ([2, 2], 7), ([1, 1], 4)] {
            let stack = stack(shape, tasks);
            for mode in 0..3 {
                let unfolding = Unfolding::new(&stack, mode);
                let mut seen = vec![0; stack.size * tasks];
                unfolding.each(|at, _| seen[at] += 1);
                assert!(seen.iter().all(|&count| count == 1), "{shape:?} {tasks} {mode}");
                assert!(unfolding.size[0] <= unfolding.size[1]);
                let own = [tasks, shape[0], shape[1]][mode];
                assert_eq!(unfolding.size.iter().product::<usize>(), seen.len());
                assert!(unfolding.size.contains(&own));
            }
        }
    }
}
