//! Priority-constrained descent: one task leads, and every other one makes at least some progress.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::component::{Component, list, meant};
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::solver::quadratic::Program;
use crate::solver::ridge::noise;
use crate::solver::{Cosines, square};
use crate::task::About;
use crate::weighting::{Claims, Combination, Evidence, Needs, Promise, State, Weighting};

crate::component! {
    /// PCD (Varam and AlHajri, Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
    /// Multi-Objective Optimization, TMLR 2026).
    ///
    /// The direction nearest to the primary task's gradient that gives each other task at least the fraction `tau` of the
    /// progress its own gradient would: `d = argmin |d - h_1|^2` with `h_j . d >= tau |h_j|^2`, then rescaled to the length
    /// of the primary gradient, which sets the scale. Here `h_j = g_j / sqrt(v_j)`, and `v_j` is an average over time of
    /// `|g_j|^2` with decay `beta`, corrected for its start at 0; so the losses' scales do not matter. The program is
    /// solved exactly, from the Gramian.
    ///
    /// Constraints that cannot hold together (of opposed gradients, for example), or leave no more of the direction than the
    /// rounding of the Gramian, are all dropped for that step, as the first are in the paper. In a batch without labels of the primary task, or where its gradient is 0, the shared parameters stand still.
    /// The authors' code adds 1e-8 to `v`, which matters for small gradients; nothing is added here.
    pub struct Pcd = "PCD" {
        /// The task that leads; by default the first.
        primary: Option<String> = None;
        /// The progress of each other task, as a fraction of what its own gradient would give.
        tau: f64 = 0.02, in 0.0..=1.0;
        /// Decay of the average of squared norms.
        beta: f64 = 0.999, in 0.0..1.0;
    }
    state: Norms;
}

/// Averages of squared norms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Norms {
    squares: Vec<f64>,
    /// Batches of each task.
    batches: Vec<u64>,
    /// Index of the primary task, found anew.
    #[serde(skip)]
    primary: usize,
}

impl Weighting for Pcd {
    fn claims(&self) -> Claims {
        Claims { needs: Needs::Gramian, promises: &[Promise::Weighted, Promise::Homogeneous], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.squares.resize(tasks.len(), 0.0);
        self.state.batches.resize(tasks.len(), 0);
        self.state.primary = match &self.primary {
            None => 0,
            Some(name) => match tasks.iter().position(|task| task.name == *name) {
                Some(index) => index,
                None => {
                    let names: Vec<_> = tasks.iter().map(|task| &task.name).collect();
                    let meant = meant(name, &names);
                    let known = list(&names);
                    bail!("PCD: argument `primary`: there is no task {name:?}; {meant}there are {known}");
                }
            },
        };
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks = Lent::from(evidence.tasks());
        let noise = noise(tasks.len(), evidence.rounding());
        let rows = tasks.len();
        let gramian = evidence.gramian()?;
        let mut scales = Lent::with_capacity(rows);
        for (row, &task) in tasks.iter().enumerate() {
            scales.push(self.scale(task, gramian[row * (rows + 1)]));
        }
        into.weights.fill(0.0);
        let primary = tasks.iter().position(|&task| task == self.state.primary);
        let Some(primary) = primary.filter(|&row| gramian[row * (rows + 1)] > 0.0) else { return Ok(()) };
        let mut scaled = Lent::from(gramian);
        for (at, product) in scaled.iter_mut().enumerate() {
            *product = *product * scales[at / rows] * scales[at % rows];
        }
        let mut weights = solve(&scaled, rows, primary, self.tau);
        // A direction that may be all rounding says no more than constraints that cannot hold together.
        let sum: f64 = (0..rows).map(|i| weights[i] * weights[i] * scaled[i * (rows + 1)]).sum();
        if noise * sum > 0.25 * square(&scaled, &weights) {
            weights = (0..rows).map(|i| f64::from(u8::from(i == primary))).collect();
        }
        let length = (gramian[primary * (rows + 1)] / square(&scaled, &weights)).sqrt();
        (0..rows).for_each(|i| into.weights[i] = weights[i] * scales[i] * length);
        Ok(())
    }

    fn state(&self) -> State {
        State::of(&self.state)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let primary = self.state.primary;
        self.state = Norms { primary, ..state.read(Self::CLASS, &self.state)? };
        Ok(())
    }

    fn reset(&mut self) {
        self.state = Norms { primary: self.state.primary, ..Norms::default() };
    }
}

impl Pcd {
    /// Takes note of a squared norm; gives what brings the task's gradients to about 1.
    fn scale(&mut self, task: usize, square: f64) -> f64 {
        let Norms { squares, batches, .. } = &mut self.state;
        batches[task] += 1;
        squares[task] = self.beta * squares[task] + (1.0 - self.beta) * square.max(0.0);
        let corrected = squares[task] / (1.0 - self.beta.powf(batches[task] as f64));
        if corrected > 0.0 { 1.0 / corrected.sqrt() } else { 0.0 }
    }
}

/// The weights of `argmin |d - h_p|^2` with `h_j . d >= tau |h_j|^2` for all other `j`, which is
/// `h_p + sum_j m_j h_j` with multipliers `m >= 0` that solve the dual program; only `h_p` if that is impossible.
fn solve(gramian: &[f64], rows: usize, primary: usize, tau: f64) -> Lent<f64> {
    let Cosines { mut matrix, lengths } = Cosines::of(gramian, rows);
    // How far the primary gradient is from what each other task asks for.
    let mut lacks = Lent::zeros(rows);
    for j in (0..rows).filter(|&j| j != primary) {
        lacks[j] = tau * lengths[j] - matrix[j * rows + primary] * lengths[primary];
    }
    for j in 0..rows {
        // Rows of zeros stay out of the program.
        matrix[j * rows + primary] = 0.0;
        matrix[primary * rows + j] = 0.0;
    }
    let mut program = Program::new(&matrix, rows);
    let possible = program.minimise(&lacks).is_none();
    let mut weights = Lent::zeros(rows);
    weights[primary] = 1.0;
    for j in (0..rows).filter(|&j| j != primary && possible && lengths[j] != 0.0) {
        weights[j] = program.solution[j] / lengths[j];
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::random::Stream;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    /// The multipliers and the direction for rows of gradients, the first of which leads.
    fn solved(rows: usize, jacobian: &[f64], tau: f64) -> (Vec<f64>, Vec<f64>) {
        let gramian = Given::jacobian(rows, jacobian).gramian.unwrap();
        let weights = solve(&gramian, rows, 0, tau);
        let width = jacobian.len() / rows;
        let direction = (0..width).map(|k| (0..rows).map(|i| weights[i] * jacobian[i * width + k]).sum());
        (weights.to_vec(), direction.collect())
    }

    #[test]
    fn two_tasks_by_hand() {
        // In one batch h_j is g_j over its norm: (1, 0) and (-0.6, 0.8). The multiplier is tau - h_1 . h_2 = 0.62, the
        // direction (1 - 0.372, 0.496), rescaled to the norm 10 of the first gradient.
        let mut weighting = trial::prepared(&Pcd::default(), 2);
        let direction = trial::shared(&mut weighting, &Given::jacobian(2, &[10.0, 0.0, -3.0, 4.0]));
        let length = (0.628_f64 * 0.628 + 0.496 * 0.496).sqrt();
        trial::close(&direction, &[10.0 * 0.628 / length, 10.0 * 0.496 / length], 1e-6);
        // Where both agree, it is the first gradient.
        let mut weighting = trial::prepared(&Pcd::default(), 2);
        let direction = trial::shared(&mut weighting, &Given::jacobian(2, &[10.0, 0.0, 3.0, 4.0]));
        trial::close(&direction, &[10.0, 0.0], 1e-6);
    }

    #[test]
    fn averages_are_corrected_for_their_start() {
        let mut weighting = trial::prepared(&Pcd { beta: 0.75, ..Pcd::default() }, 1);
        assert_eq!(weighting.scale(0, 4.0), 0.5);
        // (3/4 * 1 + 1/4 * 18) / (1 - 9/16) = 12.
        trial::close(&[weighting.scale(0, 18.0)], &[1.0 / 12.0_f64.sqrt()], 1e-15);
    }

    #[test]
    fn the_program_is_solved() {
        let random = Stream::new(3, &[]);
        let mut active = 0;
        for trial in 0..300 {
            let rows = 2 + trial as usize % 7;
            let width = 6 + trial as usize % 5;
            let mut jacobian: Vec<f64> = (0..rows * width).map(|k| random.normal(trial * 1000 + k as u64)).collect();
            for k in width..rows * width {
                jacobian[k] -= 0.7 * jacobian[k % width];
            }
            let tau = random.uniform(trial);
            let (weights, direction) = solved(rows, &jacobian, tau);
            for row in 1..rows {
                let g = &jacobian[row * width..][..width];
                let square: f64 = g.iter().map(|x| x * x).sum();
                let slack = g.iter().zip(&direction).map(|(a, b)| a * b).sum::<f64>() - tau * square;
                assert!(weights[row] >= 0.0 && slack > -1e-8 * square, "{trial}: {weights:?} {slack}");
                // A multiplier only where the constraint is met exactly.
                assert!(weights[row] * slack.abs() < 1e-7, "{trial}: {weights:?} {slack}");
                active += usize::from(weights[row] > 0.0);
            }
        }
        assert!(active > 500, "{active}");
    }

    #[test]
    fn impossible_dependent_and_zero_constraints() {
        // Opposed gradients cannot both make progress.
        assert_eq!(solved(3, &[1.0, 0.0, 0.0, 1.0, 0.0, -2.0], 0.2).0, [1.0, 0.0, 0.0]);
        // They can both stand still.
        assert_eq!(solved(3, &[1.0, 1.0, 0.0, 1.0, 0.0, -2.0], 0.0).1, [1.0, 0.0]);
        // Of parallel ones the more demanding decides, g . d >= 0.4 |g|^2.
        for longer in [3.0, 0.5] {
            let (weights, direction) = solved(3, &[1.0, 0.0, -1.0, 1.0, -longer, longer], 0.4);
            let progress = direction[1] - direction[0];
            trial::close(&[progress], &[0.8 * f64::max(1.0, longer)], 1e-12);
            assert!(weights.iter().filter(|weight| **weight > 0.0).count() == 2, "{weights:?}");
        }
        let (weights, _) = solved(3, &[1.0, 0.0, 0.0, 0.0, -1.0, 1.0], 0.5);
        assert_eq!(weights[1], 0.0);
        assert!(weights[2] > 0.0);
    }

    #[test]
    fn the_primary_task_leads_by_name() {
        let mut weighting = Pcd { primary: Some("b".into()), ..Pcd::default() };
        weighting.prepare(&About::named(&["a", "b"])).unwrap();
        let direction = trial::shared(&mut weighting, &Given::jacobian(2, &[3.0, 4.0, 10.0, 0.0]));
        trial::close(&direction, &[10.0, 0.0], 1e-6);
        // Without it nothing moves.
        let alone = Given { tasks: vec![0], ..Given::jacobian(1, &[3.0, 4.0]) };
        assert_eq!(trial::decide(&mut weighting, &alone).weights, [0.0]);
        let error =
            Pcd { primary: Some("c".into()), ..Pcd::default() }.prepare(&About::named(&["a", "b"])).unwrap_err();
        assert!(error.to_string().contains("no task \"c\"; there are `a`, `b`"), "{error}");
    }

    #[test]
    fn general() {
        trial::general(&Pcd::default());
    }
}
