//! Quadratic programs over nonnegative numbers, by an active set.

use pulp::{Scalar, Simd, WithSimd};

use crate::machine::lent::Lent;
use crate::machine::level::vectors;
use crate::solver::add;
use crate::solver::factor::{Aligned, Factor, room, subtract};

/// `min 1/2 y^T C y - f^T y` over `y >= 0`, for `C` positive semidefinite with a diagonal of ones (or rows of zeros,
/// which stay out): the active set of Lawson & Hanson (Solving Least Squares Problems, 1974) on the Gramian, with steps
/// along null directions where rows depend on each other.
#[derive(Debug, Clone)]
pub struct Program<'a> {
    matrix: &'a [f64],
    n: usize,
    factor: Factor,
    /// Indices that gained nothing when they last entered.
    refused: Lent<bool>,
    /// `f - C y`, as of the last look.
    slopes: Aligned,
    /// What the factor was last asked for, one number a kept index.
    x: Aligned,
    /// Indices that are to enter together.
    entering: Lent<usize>,
    /// `y`.
    pub solution: Lent<f64>,
}

/// What came of an index that was to become positive.
enum Entry {
    Progress,
    Nothing,
    Ray,
}

/// Minimises, starting from the kept indices; whether it stopped at a ray.
struct Run<'p, 'a> {
    program: &'p mut Program<'a>,
    linear: &'p [f64],
    bounded: bool,
}

impl WithSimd for Run<'_, '_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        self.program.run(simd, self.linear, self.bounded)
    }
}

/// Keeps indices that are the first to be tried.
struct Guess<'p, 'a> {
    program: &'p mut Program<'a>,
    indices: &'p [usize],
}

impl WithSimd for Guess<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.program.start_from(simd, self.indices);
    }
}

impl<'a> Program<'a> {
    /// Programs with the matrix `[n, n]`.
    pub fn new(matrix: &'a [f64], n: usize) -> Self {
        Self {
            matrix,
            n,
            factor: Factor::new(n),
            refused: Lent::filled(false, n),
            slopes: Aligned::new(n),
            x: Aligned::new(room(n)),
            entering: Lent::with_capacity(n),
            solution: Lent::zeros(n),
        }
    }

    /// Minimises, starting from the positive indices of the last program. If the objective falls for ever, a ray `z`
    /// along which it does (`C z = 0`, `f^T z > 0`).
    pub fn minimise(&mut self, linear: &[f64]) -> Option<Lent<f64>> {
        vectors().dispatch(Run { program: self, linear, bounded: false }).then(|| self.ray())
    }

    /// As [`Program::minimise`] where there is a minimum: what looks like a ray is rounding.
    pub fn minimise_bounded(&mut self, linear: &[f64]) {
        vectors().dispatch(Run { program: self, linear, bounded: true });
    }

    /// Lets the next program start from these indices, but for those that nearly depend on others.
    pub fn guess(&mut self, indices: &[usize]) {
        vectors().dispatch(Guess { program: self, indices });
    }

    #[inline(always)]
    fn start_from<S: Simd>(&mut self, simd: S, indices: &[usize]) {
        self.refused.fill(true);
        indices.iter().for_each(|&i| self.refused[i] = false);
        let before = self.factor.kept().len();
        let common = self.factor.kept().iter().filter(|&&i| !self.refused[i]).count();
        if 4 * (before + indices.len() - 2 * common) > before {
            self.factor.clear();
            self.join(simd, indices);
            return;
        }
        let floor = self.floor();
        let refused = &self.refused;
        self.factor.retain(simd, self.matrix, floor, |i| !refused[i]);
        self.factor.kept().iter().for_each(|&i| self.refused[i] = true);
        let mut entering = std::mem::take(&mut self.entering);
        entering.clear();
        entering.extend(indices.iter().filter(|&&i| !self.refused[i]));
        self.join(simd, &entering);
        self.entering = entering;
    }

    /// `f - C y` of the last program.
    pub fn slopes(&self) -> &[f64] {
        &self.slopes
    }

    /// The indices whose numbers are positive.
    pub fn positive(&self) -> &[usize] {
        self.factor.kept()
    }

    /// `C_SS^-1 b_S` for the positive indices `S`, in their order.
    pub fn solve_positive(&self, b: &[f64]) -> Lent<f64> {
        let kept = self.factor.kept();
        let mut x = Lent::<f64>::with_capacity(room(self.n));
        x.resize(room(kept.len()), 0.0);
        for (x, &i) in x.iter_mut().zip(kept) {
            *x = b[i];
        }
        self.factor.solve(Scalar::new(), &mut x);
        // One step of refinement: the factor of a nearly singular matrix is not exact.
        let mut residual = Lent::<f64>::with_capacity(room(self.n));
        residual.resize(x.len(), 0.0);
        for (left, &i) in residual.iter_mut().zip(kept) {
            *left = b[i] - kept.iter().zip(&x).map(|(&j, x)| self.matrix[i * self.n + j] * x).sum::<f64>();
        }
        self.factor.solve(Scalar::new(), &mut residual);
        add(&mut x, 1.0, &residual);
        x.truncate(kept.len());
        x
    }

    /// `C_SS^-1 b_S` for the kept indices, in `self.x`.
    #[inline(always)]
    fn solve<S: Simd>(&mut self, simd: S, b: &[f64]) {
        for (x, &i) in self.x.iter_mut().zip(self.factor.kept()) {
            *x = b[i];
        }
        self.factor.solve(simd, &mut self.x);
    }

    /// The kept indices and what was last solved for.
    #[inline(always)]
    fn solved(&self) -> impl Iterator<Item = (usize, f64)> {
        self.factor.kept().iter().copied().zip(self.x.iter().copied())
    }

    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S, linear: &[f64], bounded: bool) -> bool {
        if !self.start(simd, linear) {
            self.refused.fill(false);
            // The objective falls with every index that enters, so no set comes twice; the limit is for rounding errors.
            for _ in 0..20 * (self.n + 1) {
                let Some(next) = self.steepest(simd, linear) else { break };
                match self.enter(simd, next, linear) {
                    Entry::Progress => self.refused.fill(false),
                    Entry::Ray if !bounded => {
                        self.entering.clear();
                        self.entering.push(next);
                        return true;
                    }
                    Entry::Nothing | Entry::Ray => self.refused[next] = true,
                }
            }
            self.look(simd, linear);
        }
        if self.polish(simd) {
            self.look(simd, linear);
        }
        false
    }

    /// What the kept rows leave of a row that is their combination, up to rounding.
    fn floor(&self) -> f64 {
        4.0 * self.n as f64 * f64::EPSILON
    }

    #[inline(always)]
    fn drop<S: Simd>(&mut self, simd: S, position: usize) {
        let floor = self.floor();
        let gone = self.factor.kept()[position];
        self.solution[gone] = 0.0;
        self.factor.retain(simd, self.matrix, floor, |i| i != gone);
    }

    /// A feasible start near the minimum: exchanges all indices on the wrong side at once for as long as that helps
    /// (block pivoting: Portugal, Judice & Vicente, Mathematics of Computation, 1994), and lets negative ones go.
    /// Whether it is the minimum already.
    #[inline(always)]
    fn start<S: Simd>(&mut self, simd: S, linear: &[f64]) -> bool {
        let mut fewest = self.n + 1;
        let mut patience = 3;
        loop {
            self.solve(simd, linear);
            self.solution.fill(0.0);
            let mut negative = 0;
            for (&i, &x) in self.factor.kept().iter().zip(self.x.iter()) {
                self.solution[i] = x;
                negative += usize::from(x <= 0.0);
            }
            let size = self.look(simd, linear);
            let mut entering = std::mem::take(&mut self.entering);
            entering.clear();
            entering.extend(self.falling(linear, size).map(|(i, _)| i));
            let wrong = negative + if patience > 0 { entering.len() } else { 0 };
            if wrong == 0 {
                let done = entering.is_empty();
                self.entering = entering;
                return done;
            }
            if wrong < fewest {
                fewest = wrong;
                patience = 1;
            } else if patience > 0 {
                patience -= 1;
            }
            let floor = self.floor();
            let solution = &self.solution;
            if negative > 0 {
                self.factor.retain(simd, self.matrix, floor, |i| solution[i] > 0.0);
            }
            if patience > 0 {
                self.join(simd, &entering);
            }
            self.entering = entering;
        }
    }

    /// Keeps those of some indices that do not nearly depend on the kept ones.
    #[inline(always)]
    fn join<S: Simd>(&mut self, simd: S, indices: &[usize]) {
        const LEAST: f64 = 1e-8;
        // A few are sooner done one by one.
        if 8 * indices.len() > self.factor.kept().len() {
            return self.factor.extend(simd, self.matrix, indices, Some(LEAST), 0.0);
        }
        for &i in indices {
            let pivot = self.factor.pivot(simd, self.matrix, i);
            if pivot > LEAST {
                self.factor.push(i, pivot);
            }
        }
    }

    /// Looks at the slopes; returns the sum of the solution's sizes, which their rounding errors are relative to.
    #[inline(always)]
    fn look<S: Simd>(&mut self, simd: S, linear: &[f64]) -> f64 {
        self.slopes.copy_from_slice(linear);
        let mut size = 0.0;
        for &i in self.factor.kept() {
            let x = self.solution[i];
            size += x.abs();
            subtract(simd, &mut self.slopes, x, &self.matrix[i * self.n..][..self.n]);
        }
        size
    }

    /// The indices outside that lower the objective beyond rounding errors, and by how much.
    #[inline(always)]
    fn falling(&self, linear: &[f64], size: f64) -> impl Iterator<Item = (usize, f64)> {
        let rounding = (self.n + 8) as f64 * f64::EPSILON;
        let outside = (0..self.n).filter(|&i| self.solution[i] == 0.0 && self.matrix[i * self.n + i] > 0.0);
        let falls = outside.map(move |i| (i, self.slopes[i] - rounding * (linear[i].abs() + size)));
        falls.filter(|(_, beyond)| *beyond > 0.0)
    }

    /// The one that lowers it fastest.
    #[inline(always)]
    fn steepest<S: Simd>(&mut self, simd: S, linear: &[f64]) -> Option<usize> {
        let size = self.look(simd, linear);
        let falling = self.falling(linear, size).filter(|&(i, _)| !self.refused[i]);
        falling.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }

    #[inline(always)]
    fn enter<S: Simd>(&mut self, simd: S, next: usize, linear: &[f64]) -> Entry {
        let mut moved = false;
        let mut pivot = self.factor.pivot(simd, self.matrix, next);
        // A row that depends on the kept ones: the objective falls in a straight line until one of them leaves.
        while pivot <= self.floor() {
            self.factor.opposing(simd, &mut self.x);
            let Some((position, step)) = self.nearest_bound() else {
                // Whether it moved before or not, only kept indices have a number.
                self.solution[next] = 0.0;
                return Entry::Ray;
            };
            self.advance(step);
            self.solution[next] += step;
            self.drop(simd, position);
            pivot = self.factor.pivot(simd, self.matrix, next);
            moved = true;
        }
        self.factor.push(next, pivot);
        if self.descend(simd, linear) || moved { Entry::Progress } else { Entry::Nothing }
    }

    /// The ray of the index that was last to enter.
    fn ray(&self) -> Lent<f64> {
        let mut ray = Lent::zeros(self.n);
        self.solved().for_each(|(i, x)| ray[i] = x);
        self.entering.iter().for_each(|&next| ray[next] = 1.0);
        ray
    }

    /// The kept index that reaches zero first along a change of the solution, and the step that takes it there.
    #[inline(always)]
    fn nearest_bound(&self) -> Option<(usize, f64)> {
        let steps = self.solved().enumerate().filter(|(_, (_, x))| *x < 0.0);
        steps.map(|(at, (i, x))| (at, self.solution[i] / -x)).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    #[inline(always)]
    fn advance(&mut self, step: f64) {
        for (&i, x) in self.factor.kept().iter().zip(self.x.iter()) {
            self.solution[i] = (self.solution[i] + step * x).max(0.0);
        }
    }

    /// To the minimum over the kept indices, letting go of those that are in the way; whether the solution moved.
    #[inline(always)]
    fn descend<S: Simd>(&mut self, simd: S, linear: &[f64]) -> bool {
        let mut moved = false;
        while !self.factor.kept().is_empty() {
            self.solve(simd, linear);
            let inside = self.solved().all(|(_, x)| x > 0.0);
            for (&i, x) in self.factor.kept().iter().zip(self.x.iter_mut()) {
                *x -= self.solution[i];
            }
            if inside {
                self.advance(1.0);
                return true;
            }
            let Some((position, step)) = self.nearest_bound() else { return moved };
            self.advance(step);
            self.drop(simd, position);
            moved |= step > 0.0;
        }
        moved
    }

    /// Refines the minimum over the kept indices, whose slopes were just looked at, if that keeps them positive. Slopes
    /// that are no more than the rounding of one number tell nothing. Whether it moved so far that slopes differ.
    #[inline(always)]
    fn polish<S: Simd>(&mut self, simd: S) -> bool {
        let mut size = 0.0;
        let mut slope = 0.0_f64;
        for (x, &i) in self.x.iter_mut().zip(self.factor.kept()) {
            *x = self.slopes[i];
            size += self.solution[i];
            slope = slope.max(x.abs());
        }
        if slope <= f64::EPSILON * size {
            return false;
        }
        self.factor.solve(simd, &mut self.x);
        let refined = self.solved().all(|(i, x)| self.solution[i] + x > 0.0);
        let mut change = 0.0;
        if refined {
            for (&i, x) in self.factor.kept().iter().zip(self.x.iter()) {
                self.solution[i] += x;
                change += x.abs();
            }
        }
        change > 1e-8 * size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::times;

    #[test]
    fn a_program_by_hand() {
        // The free minimum is (2, -2) / 0.75 + ...: the second number would be negative, so y = (1, 0).
        let matrix = [1.0, 0.5, 0.5, 1.0];
        let mut program = Program::new(&matrix, 2);
        assert_eq!(program.minimise(&[1.0, -1.0]), None);
        assert_eq!((program.solution.as_slice(), program.positive()), (&[1.0, 0.0][..], &[0][..]));
        assert_eq!(program.minimise(&[1.0, 1.0]), None);
        assert!(program.solution.iter().all(|x| (x - 1.0 / 1.5).abs() < 1e-15), "starts where it was");
    }

    #[test]
    fn opposed_rows_have_a_ray_and_dependent_ones_a_minimum() {
        let opposed = [1.0, -1.0, -1.0, 1.0];
        assert_eq!(Program::new(&opposed, 2).minimise(&[1.0, 1.0]).expect("a ray"), [1.0, 1.0]);
        // Rows (1, 0), (0, 1), (1, 1) / sqrt 2, target (2, 1).
        let half = 0.5_f64.sqrt();
        let matrix = [1.0, 0.0, half, 0.0, 1.0, half, half, half, 1.0];
        let linear = [2.0, 1.0, 3.0 * half];
        let mut program = Program::new(&matrix, 3);
        assert_eq!(program.minimise(&linear), None);
        let reached = times(&matrix, &program.solution);
        assert!(reached.iter().zip(linear).all(|(a, b)| (a - b).abs() < 1e-15), "{reached:?}");
        assert!(program.solution.iter().all(|x| *x >= 0.0));
    }
}
