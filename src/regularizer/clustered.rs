//! Tasks in clusters that are not known.

use tch::Tensor;

use super::spectrum::Spectrum;
use super::{Penalty, Places, Regularizer, formula, rows};
use crate::bail;
use crate::component::Component;
use crate::error::Result;
use crate::machine::crossing::Placed;
use crate::machine::real::Real;

crate::component! {
    /// Tasks that fall into `clusters` unknown groups (Jacob, Bach and Vert, Clustered Multi-Task Learning: A Convex
    /// Formulation, NIPS 2008). For given groups their penalty is `mean` times the squared length of the tasks' mean,
    /// `between` times that of the groups' means around it, `within` times that of the tasks around their group's mean, a
    /// task each: `tr(W Sigma^-1 W^T)`, where column `t` of `W` is all that task `t` has of its own.
    ///
    /// This is their convex relaxation. `R = mean * tasks * |mean of w|^2 + min tr(W P Sigma^-1 (W P)^T)`, where `P` takes
    /// off the mean, over all `Sigma` with eigenvalues from `1 / within` to `1 / between` and the trace that the groups
    /// would have. With the singular values `s_k` of `W P` the least is at eigenvalues `clip(mu s_k)`, with the `mu` that
    /// gives the trace, which is found exactly in each step. So value and gradient are those of the convex penalty itself:
    /// at its least, the gradient is that at a fixed `Sigma`. Read `Sigma` with `model.relation()`, of trace 1.
    pub struct Clustered = "Clustered" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// Number of groups.
        clusters: usize = 2, in 1.0..;
        /// Weight of the tasks' mean.
        mean: f64 = 0.0, in 0.0..;
        /// Weight of the groups around it.
        between: f64 = 0.1, in 1e-6..;
        /// Weight of the tasks around their group, at least `between`.
        within: f64 = 1.0, in 1e-6..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
    check: ordered;
    state: State;
}

/// What it found in the last step, and memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    spectrum: Spectrum,
    /// Eigenvalues of `Sigma`.
    values: Vec<f64>,
    sigma: Vec<f64>,
    /// Of the inverse of `Sigma`, for steps by the formula.
    place: Placed,
}

fn ordered(clustered: &Clustered) -> Result<()> {
    let Clustered { between, within, .. } = clustered;
    if between > within {
        bail!("Clustered: argument `within` should be at least `between`, {between}; got {within}");
    }
    Ok(())
}

impl Regularizer for Clustered {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        let places = all.common(Self::CLASS, self.on.as_deref())?;
        if self.clusters > places.tasks {
            bail!(
                "Clustered: argument `clusters` should be at most {}, a task each; got {}",
                places.tasks,
                self.clusters
            );
        }
        Ok(places)
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let n = places.tasks;
        let rows = formula::rows(places, parameters);
        let mean = rows.mean_dim(0_i64, true, rows.kind());
        let common = mean.square().sum(rows.kind()) * (self.mean * n as f64);
        let around = formula::form(&(rows - mean), &self.placed(n, parameters).to_kind(parameters.kind()));
        (common + around) * self.strength
    }

    fn learns(&self) -> bool {
        true
    }

    fn learn(&mut self, places: &Places, parameters: &Tensor) {
        self.state.spectrum.gramian = formula::products(places, parameters);
        self.settle(places.tasks);
        self.relate(places.tasks);
        let _ = self.placed(places.tasks, parameters);
    }

    fn look(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let mut fresh = Self { on: self.on.clone(), state: self.state.clone(), ..*self };
        fresh.learn(places, parameters);
        fresh.formula(places, parameters)
    }

    fn relation(&self) -> Option<&[f64]> {
        Some(self.state.sigma.as_slice()).filter(|sigma| !sigma.is_empty())
    }
}

impl<T: Real> Penalty<T> for Clustered {
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        let n = places.tasks;
        self.state.spectrum.look(places, parameters);
        let value = self.settle(n);
        if let Some(gradient) = gradient {
            self.relate(n);
            let State { spectrum: Spectrum { eigen, matrix, .. }, values, .. } = &mut self.state;
            eigen.assemble(|k, _| 2.0 * self.strength / values[k], matrix);
            center(matrix, n);
            matrix.iter_mut().for_each(|x| *x += 2.0 * self.strength * self.mean / n as f64);
            rows::mix(&places.stacks, matrix, parameters, Some(gradient));
        }
        self.strength * value
    }
}

impl Clustered {
    /// The inverse of `Sigma` where the parameters are.
    fn placed(&self, tasks: usize, parameters: &Tensor) -> Tensor {
        let State { spectrum, values, place, .. } = &self.state;
        let mut inverse = Vec::new();
        spectrum.eigen.assemble(|k, _| values[k].recip(), &mut inverse);
        formula::learned(&inverse, tasks, place, parameters.device())
    }

    /// Least and greatest eigenvalue of `Sigma`, and its trace.
    fn bounds(&self, tasks: usize) -> ([f64; 2], f64) {
        let bounds = [self.within.recip(), self.between.recip()];
        let trace = (tasks - self.clusters + 1) as f64 * bounds[0] + (self.clusters - 1) as f64 * bounds[1];
        (bounds, trace)
    }

    /// The penalty of the Gramian at hand, and the eigenvalues of the `Sigma` that makes it least.
    fn settle(&mut self, n: usize) -> f64 {
        let (bounds, trace) = self.bounds(n);
        let State { spectrum: Spectrum { gramian, eigen, .. }, values, .. } = &mut self.state;
        // |mean|^2 times tasks is the sum of the Gramian over tasks.
        let mean = self.mean * gramian.iter().sum::<f64>() / n as f64;
        center(gramian, n);
        eigen.take(gramian, n);
        values.clear();
        values.extend(eigen.values.iter().map(|lambda| lambda.max(0.0).sqrt()));
        let squares = eigen.values.iter().map(|lambda| lambda.max(0.0));
        spread(values, bounds, trace);
        let around: f64 = squares.zip(values.iter()).map(|(square, value)| square / value).sum();
        mean + around
    }

    /// `Sigma`, of trace 1.
    fn relate(&mut self, n: usize) {
        let (_, trace) = self.bounds(n);
        let State { spectrum, values, sigma, .. } = &mut self.state;
        spectrum.eigen.assemble(|k, _| values[k] / trace, sigma);
    }
}

/// `P A P` with `P = I - 1 1^T / n`.
fn center(matrix: &mut [f64], n: usize) {
    for row in matrix.chunks_exact_mut(n) {
        let mean = row.iter().sum::<f64>() / n as f64;
        row.iter_mut().for_each(|x| *x -= mean);
    }
    for j in 0..n {
        let mean = matrix.iter().skip(j).step_by(n).sum::<f64>() / n as f64;
        matrix.iter_mut().skip(j).step_by(n).for_each(|x| *x -= mean);
    }
}

/// Turns singular values `s` into the eigenvalues within bounds and of the given sum that make `sum_k s_k^2 / value_k`
/// least: `clip(mu s_k)`.
///
/// That sum rises with `mu`, in straight lines from one bound that is reached to the next.
fn spread(values: &mut [f64], [low, high]: [f64; 2], trace: f64) {
    let mut below = 0.0_f64;
    let mut above = f64::INFINITY;
    for &s in values.iter().filter(|s| **s > 0.0) {
        for mu in [low / s, high / s] {
            if clipped_sum(values, mu, [low, high]) <= trace {
                below = below.max(mu);
            } else {
                above = above.min(mu);
            }
        }
    }
    if above.is_finite() {
        let least = clipped_sum(values, below, [low, high]);
        let most = clipped_sum(values, above, [low, high]);
        let mu = below + (trace - least) / (most - least) * (above - below);
        values.iter_mut().for_each(|s| *s = (mu * *s).clamp(low, high));
        return;
    }
    // All that is not 0 is at the upper bound; what is left has no cost.
    let positive = values.iter().filter(|s| **s > 0.0).count();
    let rest = (trace - positive as f64 * high) / (values.len() - positive).max(1) as f64;
    values.iter_mut().for_each(|s| *s = if *s > 0.0 { high } else { rest.clamp(low, high) });
}

/// `sum_k clip(mu s_k)`.
fn clipped_sum(values: &[f64], mu: f64, [low, high]: [f64; 2]) -> f64 {
    values.iter().map(|s| (mu * s).clamp(low, high)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::task_relation::tests::two_tasks;
    use super::*;
    use crate::machine::random::Stream;
    use crate::parameters::path::Path;
    use crate::regularizer::Piece;

    fn cost(squares: &[f64], values: &[f64]) -> f64 {
        squares.iter().zip(values).map(|(square, value)| square / value).sum()
    }

    #[test]
    fn by_hand() {
        let mut clustered = Clustered { strength: 0.5, mean: 3.0, between: 0.25, ..Clustered::default() };
        let mut gradient = [0.0; 4];
        // Mean (2, 0): 3 * 2 * 4. Around it (1, 1) and (-1, -1), of squared length 4 in all, in one direction, whose
        // eigenvalue is 1 / between: 4 / 4.
        let value = clustered.add(&two_tasks(2), &[3.0, 1.0, 1.0, -1.0], Some(&mut gradient));
        assert!((value - 0.5 * (24.0 + 1.0)).abs() < 1e-12, "{value}");
        let want = [6.25, 0.25, 5.75, -0.25];
        assert!(gradient.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{gradient:?}");
        // Sigma is 4 along (1, -1) and 1 along (1, 1).
        let want = [0.5, -0.3, -0.3, 0.5];
        assert!(clustered.relation().unwrap().iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12));
    }

    #[test]
    fn no_eigenvalues_of_a_grid_cost_less() {
        let bounds = [1.0, 10.0];
        for (squares, clusters) in [([9.0, 4.0, 1.0, 0.0], 2), ([9.0, 8.0, 7.0, 0.0], 3), ([9.0, 1e-4, 0.0, 0.0], 3)] {
            let trace = (5 - clusters) as f64 * bounds[0] + (clusters - 1) as f64 * bounds[1];
            let mut values = squares.map(f64::sqrt);
            spread(&mut values, bounds, trace);
            assert!((values.iter().sum::<f64>() - trace).abs() < 1e-9, "{values:?}");
            assert!(values.iter().all(|value| (1.0..=10.0).contains(value)), "{values:?}");
            let least = cost(&squares, &values);
            let grid = || (0..=60).map(|i| 1.0 + f64::from(i) * 0.15);
            for (a, b, c) in grid().flat_map(|a| grid().flat_map(move |b| grid().map(move |c| (a, b, c)))) {
                let d = trace - a - b - c;
                if (1.0..=10.0).contains(&d) {
                    assert!(cost(&squares, &[a, b, c, d]) >= least - 1e-9, "{a} {b} {c} {d}");
                }
            }
        }
    }

    #[test]
    fn with_groups_that_are_known_it_costs_no_more_than_they_do() {
        let tasks = 6;
        let size = 5;
        let names: Vec<_> = (0..tasks).map(|t| format!("t{t}")).collect();
        let piece = |t: usize| Piece {
            path: Path::new(&format!("heads.t{t}.weight")),
            start: t * size,
            shape: vec![1, size],
            decays: true,
            task: Some(t),
            reads: None,
        };
        let places = Places::of((0..tasks).map(piece).collect(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        let s = Stream::new(4, &[]);
        let center = |group: usize, k: usize| 5.0 * s.normal((group * size + k) as u64);
        let parameters: Vec<f64> =
            (0..tasks * size).map(|i| center(i / size % 2, i % size) + 0.01 * s.normal(100 + i as u64)).collect();
        let mut clustered = Clustered { strength: 1.0, ..Clustered::default() };
        let value = clustered.add(&places, &parameters, Some(&mut vec![0.0; tasks * size]));
        let of = |group: usize, k: usize| (0..3).map(|i| parameters[(2 * i + group) * size + k]).sum::<f64>() / 3.0;
        let known: f64 = (0..tasks * size)
            .map(|i| {
                let group = i / size % 2;
                let k = i % size;
                let mean = 0.5 * (of(0, k) + of(1, k));
                0.1 * (of(group, k) - mean).powi(2) + (parameters[i] - of(group, k)).powi(2)
            })
            .sum();
        assert!(value <= known + 1e-9 && value > 0.99 * known, "{value} {known}");
        let sigma = clustered.relation().unwrap();
        for (i, j) in (0..tasks).flat_map(|i| (0..i).map(move |j| (i, j))) {
            assert_eq!(sigma[i * tasks + j] > 0.0, i % 2 == j % 2, "{sigma:?}");
        }
    }

    #[test]
    fn arguments_that_do_not_go_together_are_refused() {
        let wrong = Clustered { between: 2.0, ..Clustered::default() };
        let message = wrong.check_ranges().unwrap_err().to_string();
        assert_eq!(message, "Clustered: argument `within` should be at least `between`, 2; got 1");
        let message = Clustered { clusters: 3, ..Clustered::default() }.choose(&two_tasks(2)).unwrap_err().to_string();
        assert_eq!(message, "Clustered: argument `clusters` should be at most 2, a task each; got 3");
    }
}
