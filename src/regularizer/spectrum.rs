//! The Gramian of the tasks' parameters, and functions of its eigenvalues.

use super::{Places, rows};
use crate::machine::real::Real;
use crate::solver::eigen::Eigen;

/// A Gramian with the memory that it takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spectrum {
    /// The Gramian `[n, n]`.
    pub gramian: Vec<f64>,
    /// Taken apart.
    pub eigen: Eigen,
    /// A function of it.
    pub matrix: Vec<f64>,
    room: Vec<f64>,
}

impl Spectrum {
    /// Fills in `W W^T`, `[tasks, tasks]`, where a task's row of `W` is all that the stacks hold of it.
    ///
    /// In double precision throughout: regularizers make `W` of low rank, and small eigenvalues drown in the rounding
    /// of single precision.
    pub fn look<T: Real>(&mut self, places: &Places, flat: &[T]) {
        let tasks = places.tasks;
        self.clear(tasks);
        for stack in &places.stacks {
            for first in (0..stack.size).step_by(rows::BLOCK) {
                let count = (stack.size - first).min(rows::BLOCK);
                self.room.resize(tasks * count, 0.0);
                rows::widen(&stack.starts, first, flat, &mut self.room);
                rows::add_products(&self.room, tasks, &mut self.gramian);
            }
        }
    }

    /// Fills in the products of the rows of a matrix.
    pub fn look_at(&mut self, matrix: &[f64], count: usize) {
        self.clear(count);
        rows::add_products(matrix, count, &mut self.gramian);
    }

    fn clear(&mut self, rows: usize) {
        self.gramian.clear();
        self.gramian.resize(rows * rows, 0.0);
    }

    /// `sum_k sqrt(lambda_k + smoothing)` of the Gramian `[n, n]`; the matrix becomes `factor` times
    /// `(Gramian + smoothing I)^(-1/2)`.
    pub fn root(&mut self, n: usize, smoothing: f64, factor: f64) -> f64 {
        let Self { gramian, eigen, matrix, .. } = self;
        eigen.take(gramian, n);
        eigen.assemble(|_, lambda| factor / root(lambda, smoothing), matrix);
        eigen.values.iter().map(|&lambda| root(lambda, smoothing)).sum()
    }
}

/// `sqrt(lambda + smoothing)`; rounding may leave an eigenvalue below 0.
pub fn root(lambda: f64, smoothing: f64) -> f64 {
    (lambda.max(0.0) + smoothing).sqrt()
}
