//! What formulas of regularizers are written with: places of the flat parameters as tensors.

use tch::{Device, Kind, Tensor};

use super::{Piece, Places, Stack};
use crate::machine::buffer::as_i64;
use crate::machine::crossing::{Placed, constant, fetch};

/// A piece of the flat parameters as a matrix `[rows, columns]`.
pub(super) fn matrix(piece: &Piece, flat: &Tensor) -> Tensor {
    let range = piece.range();
    flat.narrow(0, range.start as i64, range.len() as i64).reshape(as_i64(&piece.matrix()))
}

/// All numbers of the pieces, one after the other.
pub(super) fn numbers(places: &Places, flat: &Tensor) -> Tensor {
    let pieces = places.pieces.iter().map(|piece| matrix(piece, flat).reshape([-1]));
    let none = flat.narrow(0, 0, 0);
    Tensor::cat(&std::iter::once(none).chain(pieces).collect::<Vec<_>>(), 0)
}

/// The tasks' weights of a stack, `[tasks, out, in]`.
pub(super) fn stacked(stack: &Stack, flat: &Tensor) -> Tensor {
    let own = |&start: &usize| flat.narrow(0, start as i64, stack.size as i64).reshape(as_i64(&stack.matrix()));
    Tensor::stack(&stack.starts.iter().map(own).collect::<Vec<_>>(), 0)
}

/// All that each task has of its own, `[tasks, numbers]`.
pub(super) fn rows(places: &Places, flat: &Tensor) -> Tensor {
    let tasks = places.tasks as i64;
    let of_stack = |stack: &Stack| stacked(stack, flat).reshape([tasks, -1]);
    Tensor::cat(&places.stacks.iter().map(of_stack).collect::<Vec<_>>(), 1)
}

/// The products of these rows, `[tasks, tasks]`, on the host.
pub(super) fn products(places: &Places, flat: &Tensor) -> Vec<f64> {
    let rows = rows(places, flat).detach().to_kind(Kind::Double);
    fetch(&rows.matmul(&rows.tr())).expect("numbers come to the host")
}

/// A matrix `[n, n]` that never changes as a tensor like another.
pub(super) fn square(values: &[f64], n: usize, other: &Tensor) -> Tensor {
    let numbers = constant(values, other.kind(), other.device());
    numbers.expect("libtorch has room for `[tasks, tasks]` numbers").reshape([n as i64, n as i64])
}

/// A matrix `[n, n]` that is learned, in its place; of double precision.
pub(super) fn learned(values: &[f64], n: usize, place: &Placed, device: Device) -> Tensor {
    let numbers = place.holding(values, device);
    numbers.expect("a relation is sent before it is launched with").reshape([n as i64, n as i64])
}

/// `tr(W^T M W)` of rows `W`, `[tasks, numbers]`.
pub(super) fn form(rows: &Tensor, matrix: &Tensor) -> Tensor {
    (matrix.matmul(rows) * rows).sum(rows.kind())
}

/// The sum of squared distances from the mean of the rows.
pub(super) fn spread(rows: &Tensor) -> Tensor {
    (rows - rows.mean_dim(0_i64, true, rows.kind())).square().sum(rows.kind())
}

/// `sum sqrt(s^2 + smoothing)` over the singular values of a matrix, by the smaller of its two Gramians, in double precision:
/// it is of low rank, or becomes so.
pub(super) fn trace_norm(matrix: &Tensor, smoothing: f64) -> Tensor {
    let kind = matrix.kind();
    let matrix = matrix.to_kind(Kind::Double);
    let (rows, columns) = matrix.size2().expect("a matrix");
    let gramian = if rows > columns { matrix.tr().matmul(&matrix) } else { matrix.matmul(&matrix.tr()) };
    let squares = gramian.linalg_eigvalsh("L").clamp_min(0.0);
    (squares + smoothing).sqrt().sum(Kind::Double).to_kind(kind)
}

/// The sum of tensors without dimensions, of one at least.
pub(super) fn sum_of(terms: impl Iterator<Item = Tensor>) -> Tensor {
    terms.reduce(|sum, term| sum + term).expect("a regularizer is about something")
}
