//! Steps on whole weight matrices: a rule for them, and the work memory in which they are orthogonalised.

use std::fmt::Debug;

use tch::Tensor;

use super::{TensorStep, Updated};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::{Mode, Product};
use crate::machine::real::LANES;
use crate::parameters::Segment;
use crate::vectorised;

/// Coefficients of the quintic iteration.
pub(super) const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// The least length that a matrix is divided by.
pub(super) const SHORTEST: f64 = 1e-7;

/// A rule for weight matrices of hidden layers.
pub trait MatrixRule: Debug {
    /// The rule as tensor algebra: parameters, gradients and state are `[matrices, rows, columns]`; gives the new state of the
    /// first slots.
    fn formula(&self, step: &TensorStep<'_>) -> Updated;

    /// A step on equal matrices, of which there are slices; gradients count `gradient_scale` times.
    ///
    /// # Errors
    /// What libtorch refuses.
    fn update(
        &self,
        gradient_scale: f32,
        segment: &Segment,
        work: &mut Work,
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    ) -> Result<()>;
}

/// Work memory for several batches of equal matrices, which take turns in it.
#[derive(Debug)]
pub struct Works(Vec<Work>);

/// Work memory for a batch of equal matrices.
#[derive(Debug)]
pub struct Work {
    /// How many, their rows and columns.
    shape: [usize; 3],
    /// Each step reads one of them and fills the other.
    matrices: [Buffer<f32>; 2],
    /// `x x^T`, or `x^T x` where there are more rows than columns.
    gram: Buffer<f32>,
    /// Its square.
    square: Buffer<f32>,
    steps: [Step; 2],
}

/// The products of a step of the iteration.
#[derive(Debug)]
struct Step {
    gram: Product,
    square: Product,
    next: Product,
}

impl Works {
    /// For batches of so many matrices, rows and columns each.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn new(shapes: &[[usize; 3]]) -> Result<Self> {
        let most = |size: fn(&[usize; 3]) -> usize| Layout::flat(shapes.iter().map(size).max().unwrap_or(0));
        let matrix = most(|shape| shape.iter().product());
        let square = most(|&[count, rows, columns]| count * rows.min(columns).pow(2));
        let memory = [matrix, matrix, square, square].map(Buffer::zeros);
        let [Ok(one), Ok(other), Ok(gram), Ok(square)] = &memory else {
            return Err(memory.into_iter().find_map(Result::err).expect("one of them failed"));
        };
        let memory = [one, other, gram, square];
        Ok(Self(shapes.iter().map(|&shape| Work::new(shape, memory)).collect::<Result<_>>()?))
    }

    /// A step of a rule on every batch, a segment each.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn update(
        &mut self,
        rule: &dyn MatrixRule,
        gradient_scale: f32,
        segments: &[Segment],
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    ) -> Result<()> {
        for (work, segment) in self.0.iter_mut().zip(segments) {
            rule.update(gradient_scale, segment, work, parameters, gradients, state)?;
        }
        Ok(())
    }
}

impl Work {
    fn new(shape: [usize; 3], [one, other, gram, square]: [&Buffer<f32>; 4]) -> Result<Self> {
        let [count, rows, columns] = shape;
        let side = rows.min(columns);
        let part = |of: &Buffer<f32>, len: usize| of.part(0, Layout::flat(len));
        let [one, other] = [part(one, count * rows * columns)?, part(other, count * rows * columns)?];
        let [gram, square] = [part(gram, count * side * side)?, part(square, count * side * side)?];
        // One matrix is no batch.
        let plain = |of: &Buffer<f32>, [rows, columns]: [usize; 2]| match count {
            1 => of.view(&[rows, columns], &[columns, 1], 0),
            _ => of.view(&[count, rows, columns], &[rows * columns, columns, 1], 0),
        };
        let turned = |of: &Buffer<f32>| match count {
            1 => of.view(&[columns, rows], &[1, columns], 0),
            _ => of.view(&[count, columns, rows], &[rows * columns, 1, columns], 0),
        };
        let step = |x: &Buffer<f32>, y: &Buffer<f32>| -> Result<Step> {
            let whole = [rows, columns];
            let of_side = |of: &Buffer<f32>| plain(of, [side, side]);
            let (gram, square) = (&gram, &square);
            let (product, next) = match rows > columns {
                true => ([turned(x)?, plain(x, whole)?], [plain(x, whole)?, of_side(gram)?]),
                false => ([plain(x, whole)?, turned(x)?], [of_side(gram)?, plain(x, whole)?]),
            };
            let into = |out: Tensor, [left, right]: [Tensor; 2]| Product::new(out, left, right);
            Ok(Step {
                gram: into(of_side(gram)?, product)?,
                square: into(of_side(square)?, [of_side(gram)?, of_side(gram)?])?,
                next: into(plain(y, whole)?, next)?,
            })
        };
        let steps = [step(&one, &other)?, step(&other, &one)?];
        Ok(Self { shape, matrices: [one, other], gram, square, steps })
    }

    /// Rows and columns of a matrix.
    pub(super) fn sides(&self) -> [usize; 2] {
        [self.shape[1], self.shape[2]]
    }

    /// What is to be orthogonalised.
    pub(super) fn given(&mut self) -> &mut [f32] {
        self.matrices[0].slice_mut()
    }

    /// Brings the singular values of each given matrix to about 1, in so many steps of the Newton-Schulz iteration.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(super) fn orthogonalised(&mut self, steps: usize) -> Result<&[f32]> {
        let [_, rows, columns] = self.shape;
        let side = rows.min(columns);
        for matrix in self.matrices[0].slice_mut().chunks_exact_mut((rows * columns).max(1)) {
            let length = length(matrix).max(SHORTEST);
            scale((1.0 / length) as f32, matrix);
        }
        for step in 0..steps {
            let Step { gram, square, next } = &self.steps[step % 2];
            gram.run(Mode::Write)?;
            square.run(Mode::Write)?;
            polynomial(side, QUINTIC.map(|x| x as f32), self.square.slice(), self.gram.slice_mut());
            next.run(Mode::Write)?;
        }
        Ok(self.matrices[steps % 2].slice())
    }
}

/// The length of a matrix as a vector, which no gradient is too long for.
fn length(matrix: &[f32]) -> f64 {
    squares(matrix).sqrt()
}

vectorised! {
fn squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    for row in values.chunks(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(row) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    lanes.iter().sum()
}
}

vectorised! {
fn scale(by: f32, values: &mut [f32]) {
    for x in values {
        *x *= by;
    }
}
}

vectorised! {
/// `a + b gram + c square` of each matrix, in the place of `gram`.
fn polynomial(side: usize, coefficients: [f32; 3], square: &[f32], gram: &mut [f32]) {
    let [a, b, c] = coefficients;
    for (x, &y) in gram.iter_mut().zip(square) {
        *x = b * *x + c * y;
    }
    for matrix in gram.chunks_exact_mut((side * side).max(1)) {
        for i in 0..side {
            matrix[i * side + i] += a;
        }
    }
}
}
