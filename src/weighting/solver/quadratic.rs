//! Quadratic programs over nonnegative numbers, by an active set.

use super::add;
use super::factor::Factor;

/// `min 1/2 y^T C y - f^T y` over `y >= 0`, for `C` positive semidefinite with a diagonal of ones (or rows of zeros,
/// which stay out): the active set of Lawson & Hanson (Solving Least Squares Problems, 1974) on the Gramian, with steps
/// along null directions where rows depend on each other.
#[derive(Debug, Clone)]
pub struct Program<'a> {
    matrix: &'a [f64],
    n: usize,
    factor: Factor,
    /// Indices that gained nothing when they last entered.
    refused: Vec<bool>,
    /// `f - C y`, as of the last look.
    slopes: Vec<f64>,
    /// `y`.
    pub solution: Vec<f64>,
}

/// What came of an index that was to become positive.
enum Entry {
    Progress,
    Nothing,
    Ray(Vec<f64>),
}

impl<'a> Program<'a> {
    /// Programs with the matrix `[n, n]`.
    pub fn new(matrix: &'a [f64], n: usize) -> Self {
        let zeros = vec![0.0; n];
        Self { matrix, n, factor: Factor::new(n), refused: vec![false; n], slopes: zeros.clone(), solution: zeros }
    }

    /// Minimises, starting from the positive indices of the last program. If the objective falls for ever, a ray `z`
    /// along which it does (`C z = 0`, `f^T z > 0`).
    pub fn minimise(&mut self, linear: &[f64]) -> Option<Vec<f64>> {
        self.run(linear, false)
    }

    /// As [`Program::minimise`] where there is a minimum: what looks like a ray is rounding.
    pub fn minimise_bounded(&mut self, linear: &[f64]) {
        self.run(linear, true);
    }

    /// The indices whose numbers are positive.
    pub fn positive(&self) -> &[usize] {
        self.factor.kept()
    }

    /// `C_SS^-1 b_S` for the positive indices `S`, in their order.
    pub fn solve_positive(&self, b: &[f64]) -> Vec<f64> {
        let kept = self.factor.kept();
        let mut x = self.solved(b);
        // One step of refinement: the factor of a nearly singular matrix is not exact.
        let mut residual: Vec<f64> = kept
            .iter()
            .map(|&i| b[i] - kept.iter().zip(&x).map(|(&j, x)| self.matrix[i * self.n + j] * x).sum::<f64>())
            .collect();
        self.factor.solve(&mut residual);
        add(&mut x, 1.0, &residual);
        x
    }

    fn solved(&self, b: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = self.factor.kept().iter().map(|&i| b[i]).collect();
        self.factor.solve(&mut x);
        x
    }

    fn run(&mut self, linear: &[f64], bounded: bool) -> Option<Vec<f64>> {
        self.start(linear);
        self.refused.fill(false);
        // The objective falls with every index that enters, so no set comes twice; the limit is for rounding errors.
        for _ in 0..20 * (self.n + 1) {
            let Some(next) = self.steepest(linear) else { break };
            match self.enter(next, linear) {
                Entry::Progress => self.refused.fill(false),
                Entry::Ray(ray) if !bounded => return Some(ray),
                Entry::Nothing | Entry::Ray(_) => self.refused[next] = true,
            }
        }
        self.polish(linear);
        None
    }

    /// What the kept rows leave of a row that is their combination, up to rounding.
    fn floor(&self) -> f64 {
        4.0 * self.n as f64 * f64::EPSILON
    }

    fn drop(&mut self, position: usize) {
        let (floor, gone) = (self.floor(), self.factor.kept()[position]);
        self.solution[gone] = 0.0;
        self.factor.retain(self.matrix, floor, |i| i != gone);
    }

    /// A feasible start near the minimum: exchanges all indices on the wrong side at once for as long as that helps
    /// (block pivoting: Portugal, Judice & Vicente, Mathematics of Computation, 1994), and lets negative ones go.
    fn start(&mut self, linear: &[f64]) {
        let (mut fewest, mut patience) = (self.n + 1, 3);
        loop {
            self.solution.fill(0.0);
            let x = self.solved(linear);
            self.factor.kept().iter().zip(x).for_each(|(&i, x)| self.solution[i] = x);
            let negative = self.factor.kept().iter().filter(|&&i| self.solution[i] <= 0.0).count();
            let size = self.look(linear);
            let entering: Vec<usize> = self.falling(linear, size).map(|(i, _)| i).collect();
            let wrong = negative + if patience > 0 { entering.len() } else { 0 };
            if wrong == 0 {
                return;
            }
            if wrong < fewest {
                (fewest, patience) = (wrong, 1);
            } else if patience > 0 {
                patience -= 1;
            }
            let (floor, solution) = (self.floor(), &self.solution);
            self.factor.retain(self.matrix, floor, |i| solution[i] > 0.0);
            if patience > 0 {
                self.join(&entering);
            }
        }
    }

    /// Keeps those of some indices that do not nearly depend on the kept ones.
    fn join(&mut self, indices: &[usize]) {
        for &i in indices {
            let pivot = self.factor.pivot(self.matrix, i);
            if pivot > 1e-8 {
                self.factor.push(i, pivot);
            }
        }
    }

    /// Looks at the slopes; returns the sum of the solution's sizes, which their rounding errors are relative to.
    fn look(&mut self, linear: &[f64]) -> f64 {
        self.slopes.copy_from_slice(linear);
        let mut size = 0.0;
        for &i in self.factor.kept() {
            let x = self.solution[i];
            size += x.abs();
            add(&mut self.slopes, -x, &self.matrix[i * self.n..][..self.n]);
        }
        size
    }

    /// The indices outside that lower the objective beyond rounding errors, and by how much.
    fn falling(&self, linear: &[f64], size: f64) -> impl Iterator<Item = (usize, f64)> {
        let rounding = (self.n + 8) as f64 * f64::EPSILON;
        let outside = |&i: &usize| self.solution[i] == 0.0 && self.matrix[i * self.n + i] > 0.0;
        let beyond = move |i: usize| (i, self.slopes[i] - rounding * (linear[i].abs() + size));
        (0..self.n).filter(outside).map(beyond).filter(|(_, beyond)| *beyond > 0.0)
    }

    /// The one that lowers it fastest.
    fn steepest(&mut self, linear: &[f64]) -> Option<usize> {
        let size = self.look(linear);
        let falling = self.falling(linear, size).filter(|&(i, _)| !self.refused[i]);
        falling.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }

    fn enter(&mut self, next: usize, linear: &[f64]) -> Entry {
        let mut moved = false;
        let mut pivot = self.factor.pivot(self.matrix, next);
        // A row that depends on the kept ones: the objective falls in a straight line until one of them leaves.
        while pivot <= self.floor() {
            let change = self.factor.opposing();
            let Some((position, step)) = self.nearest_bound(&change) else { return self.ray(next, &change) };
            self.advance(&change, step);
            self.solution[next] += step;
            self.drop(position);
            pivot = self.factor.pivot(self.matrix, next);
            moved = true;
        }
        self.factor.push(next, pivot);
        if self.descend(linear) || moved { Entry::Progress } else { Entry::Nothing }
    }

    fn ray(&self, next: usize, change: &[f64]) -> Entry {
        let mut ray = vec![0.0; self.n];
        self.factor.kept().iter().zip(change).for_each(|(&i, x)| ray[i] = *x);
        ray[next] = 1.0;
        Entry::Ray(ray)
    }

    /// The kept index that reaches zero first along a change of the solution, and the step that takes it there.
    fn nearest_bound(&self, change: &[f64]) -> Option<(usize, f64)> {
        let kept = self.factor.kept().iter().zip(change).enumerate();
        let steps = kept.filter(|(_, (_, x))| **x < 0.0).map(|(at, (&i, x))| (at, self.solution[i] / -x));
        steps.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn advance(&mut self, change: &[f64], step: f64) {
        for (&i, x) in self.factor.kept().iter().zip(change) {
            self.solution[i] = (self.solution[i] + step * x).max(0.0);
        }
    }

    /// To the minimum over the kept indices, letting go of those that are in the way; whether the solution moved.
    fn descend(&mut self, linear: &[f64]) -> bool {
        let mut moved = false;
        while !self.factor.kept().is_empty() {
            let mut change = self.solved(linear);
            let inside = change.iter().all(|x| *x > 0.0);
            self.factor.kept().iter().zip(&mut change).for_each(|(&i, x)| *x -= self.solution[i]);
            if inside {
                self.advance(&change, 1.0);
                return true;
            }
            let Some((position, step)) = self.nearest_bound(&change) else { return moved };
            self.advance(&change, step);
            self.drop(position);
            moved |= step > 0.0;
        }
        moved
    }

    /// Refines the minimum over the kept indices, if that keeps them positive.
    fn polish(&mut self, linear: &[f64]) {
        let x = self.solve_positive(linear);
        if x.iter().all(|x| *x > 0.0) {
            self.factor.kept().iter().zip(x).for_each(|(&i, x)| self.solution[i] = x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::solver::times;

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
        assert_eq!(Program::new(&opposed, 2).minimise(&[1.0, 1.0]), Some(vec![1.0, 1.0]));
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
