//! The relation between tasks, learned from their parameters.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use tch::Tensor;

use super::spectrum::{Spectrum, root};
use super::{Penalty, Places, Regularizer, formula, rows};
use crate::component::Component;
use crate::error::Result;
use crate::machine::crossing::Placed;
use crate::machine::real::Real;
use crate::{bail, value_error};

crate::component! {
    /// `R = tr(W Omega^-1 W^T)` with a covariance `Omega` of the tasks that is learned: of all with trace 1,
    /// `Omega = (W^T W)^(1/2) / tr((W^T W)^(1/2))` makes `R` least (Zhang and Yeung, A Convex Formulation for Learning Task
    /// Relationships in Multi-Task Learning, UAI 2010). Column `t` of `W` is all that task `t` has of its own.
    ///
    /// Parameters and relation take turns, as in the paper: the gradient is that at a fixed `Omega`, and every `refresh`
    /// steps `Omega` becomes the closed form, `(Omega + jitter I) / (1 + tasks * jitter)`, which bounds its inverse.
    /// It starts at `I / tasks`. Read it with `model.relation()`.
    ///
    /// Parameters of different networks can be compared where tasks are linear. Behind hidden layers the relation is not to be
    /// trusted to say which tasks are alike: `pt.relatedness(model, data, "relation")` compares functions instead.
    pub struct TaskRelation = "TaskRelation" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// Steps from one `Omega` to the next.
        refresh: usize = 10, in 1.0..;
        /// What is added to the diagonal of `Omega`, beside its trace of 1.
        jitter: f64 = 1e-3, in 1e-12..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
    state: State;
}

/// What it has learned, and memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps so far.
    steps: u64,
    omega: Vec<f64>,
    inverse: Vec<f64>,
    #[serde(skip)]
    spectrum: Spectrum,
    #[serde(skip)]
    place: Placed,
}

impl State {
    /// The closed form for the Gramian at hand.
    fn refresh(&mut self, tasks: usize, jitter: f64) {
        let Spectrum { gramian, eigen, .. } = &mut self.spectrum;
        eigen.take(gramian, tasks);
        let trace: f64 = eigen.values.iter().map(|&lambda| root(lambda, 0.0)).sum();
        // Without any weight nothing is known of the tasks.
        if !(trace > 0.0 && trace.is_finite()) {
            return;
        }
        let value = |lambda: f64| (root(lambda, 0.0) / trace + jitter) / (1.0 + tasks as f64 * jitter);
        eigen.assemble(|_, lambda| value(lambda), &mut self.omega);
        eigen.assemble(|_, lambda| value(lambda).recip(), &mut self.inverse);
    }
}

impl TaskRelation {
    /// A step comes: where it is the relation's turn, it follows from the Gramian that `look` fills in.
    fn turn(&mut self, tasks: usize, look: impl FnOnce(&mut Spectrum)) {
        let state = &mut self.state;
        if state.steps > 0 && state.steps.is_multiple_of(self.refresh as u64) {
            look(&mut state.spectrum);
            state.refresh(tasks, self.jitter);
        }
        state.steps += 1;
    }

    /// The inverse where the parameters are.
    fn placed(&self, tasks: usize, parameters: &Tensor) -> Tensor {
        formula::learned(&self.state.inverse, tasks, &self.state.place, parameters.device())
    }
}

impl Regularizer for TaskRelation {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        let places = all.common(Self::CLASS, self.on.as_deref())?;
        let tasks = places.tasks;
        self.state.omega = vec![0.0; tasks * tasks];
        self.state.inverse = vec![0.0; tasks * tasks];
        for task in 0..tasks {
            self.state.omega[task * (tasks + 1)] = 1.0 / tasks as f64;
            self.state.inverse[task * (tasks + 1)] = tasks as f64;
        }
        Ok(places)
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let rows = formula::rows(places, parameters);
        formula::form(&rows, &self.placed(places.tasks, parameters).to_kind(rows.kind())) * self.strength
    }

    fn learns(&self) -> bool {
        true
    }

    fn learn(&mut self, places: &Places, parameters: &Tensor) {
        self.turn(places.tasks, |spectrum| spectrum.gramian = formula::products(places, parameters));
        let _ = self.placed(places.tasks, parameters);
    }

    fn relation(&self) -> Option<&[f64]> {
        Some(&self.state.omega)
    }

    fn state(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, state: &Value) -> Result<()> {
        let read = State::deserialize(state).map_err(|error| value_error!("TaskRelation: damaged state ({error})"))?;
        let size = self.state.omega.len();
        if read.omega.len() != size || read.inverse.len() != size {
            bail!("TaskRelation: damaged state ({} numbers instead of {size})", read.omega.len());
        }
        self.state = read;
        Ok(())
    }
}

impl<T: Real> Penalty<T> for TaskRelation {
    fn add(&mut self, places: &Places, parameters: &[T], gradient: Option<&mut [T]>) -> f64 {
        if gradient.is_some() {
            self.turn(places.tasks, |spectrum| spectrum.look(places, parameters));
        }
        let state = &mut self.state;
        let matrix = &mut state.spectrum.matrix;
        matrix.clear();
        matrix.extend(state.inverse.iter().map(|x| 2.0 * self.strength * x));
        0.5 * rows::mix(&places.stacks, matrix, parameters, gradient)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Piece;
    use super::*;
    use crate::parameters::path::Path;

    /// Heads of two tasks with so many weights each, one behind the other.
    pub(in super::super) fn two_tasks(size: usize) -> Places {
        let piece = |(task, name): (usize, &&str)| Piece {
            path: Path::new(&format!("heads.{name}.weight")),
            start: task * size,
            shape: vec![1, size],
            decays: true,
            task: Some(task),
            reads: Some((0, 0)),
        };
        Places::of(["a", "b"].iter().enumerate().map(piece).collect(), &["a", "b"])
    }

    fn relation(strength: f64, refresh: usize) -> (TaskRelation, Places) {
        let mut relation = TaskRelation { strength, refresh, jitter: 1e-12, ..TaskRelation::default() };
        let places = relation.choose(&two_tasks(2)).unwrap();
        (relation, places)
    }

    #[test]
    fn by_hand() {
        let (mut relation, places) = relation(0.5, 1);
        let parameters = [3.0, 4.0, 0.0, 0.0];
        let mut gradient = [0.0; 4];
        // At I / 2: twice the sum of squares.
        assert_eq!(relation.add(&places, &parameters, Some(&mut gradient)), 25.0);
        assert_eq!(gradient, [6.0, 8.0, 0.0, 0.0]);
        // Rows of length 5 and 2 at right angles: Omega is diag(5, 2) / 7, and R the square of 7.
        let parameters = [5.0, 0.0, 0.0, 2.0];
        let value = relation.add(&places, &parameters, Some(&mut [0.0; 4]));
        assert!((value - 24.5).abs() < 1e-9, "{value}");
        let want = [5.0 / 7.0, 0.0, 0.0, 2.0 / 7.0];
        assert!(relation.relation().unwrap().iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-9));
        // Tasks that are the same: all of Omega is 1 / 2.
        relation.add(&places, &[1.0, 2.0, 1.0, 2.0], Some(&mut [0.0; 4]));
        assert!(relation.relation().unwrap().iter().all(|x| (x - 0.5).abs() < 1e-9));
    }

    #[test]
    fn no_covariance_of_trace_one_gives_less() {
        let (mut relation, places) = relation(1.0, 1);
        let parameters = [1.0, -0.5, 0.3, 2.0];
        relation.add(&places, &parameters, Some(&mut [0.0; 4]));
        let least = relation.add(&places, &parameters, Some(&mut [0.0; 4]));
        let gramian = [1.25, -0.7, -0.7, 4.09];
        for i in 1..100 {
            for j in -99..100 {
                let a = f64::from(i) / 100.0;
                let c = f64::from(j) / 100.0;
                let d = 1.0 - a;
                let determinant = a * d - c * c;
                if determinant > 1e-9 {
                    let value = (d * gramian[0] - 2.0 * c * gramian[1] + a * gramian[3]) / determinant;
                    assert!(value >= least - 1e-9, "{a} {c}: {value} {least}");
                }
            }
        }
    }

    #[test]
    fn it_is_refreshed_when_due_and_only_in_steps() {
        let (mut relation, places) = relation(1.0, 3);
        let parameters = [1.0, 2.0, 1.0, 2.0];
        for step in 0..5 {
            relation.add(&places, &parameters, None::<&mut [f64]>);
            let before = relation.relation().unwrap().to_vec();
            relation.add(&places, &parameters, Some(&mut [0.0; 4]));
            assert_eq!(relation.relation().unwrap() != before, step == 3, "{step}");
        }
    }

    #[test]
    fn its_state_continues_with_the_same_bits() {
        let (mut one, places) = relation(1.0, 2);
        for step in 0..5 {
            one.add(&places, &[1.0, f64::from(step), 0.3, 2.0], Some(&mut [0.0; 4]));
        }
        let (mut other, _) = relation(1.0, 2);
        other.restore(&serde_json::from_str(&Regularizer::state(&one).to_string()).unwrap()).unwrap();
        for step in 0..5 {
            let gradients = [&mut one, &mut other].map(|relation| {
                let mut gradient = [0.0; 4];
                relation.add(&places, &[0.1, f64::from(step), 0.7, -2.0], Some(&mut gradient));
                gradient
            });
            assert_eq!(gradients[0], gradients[1]);
        }
        assert!(other.restore(&serde_json::json!({"steps": 1, "omega": [1.0], "inverse": [1.0]})).is_err());
    }

    #[test]
    fn tasks_without_weights_leave_the_relation_as_it_was() {
        let (mut relation, places) = relation(1.0, 1);
        for _ in 0..3 {
            assert_eq!(relation.add(&places, &[0.0_f32; 4], Some(&mut [0.0; 4])), 0.0);
        }
        assert_eq!(relation.relation().unwrap(), [0.5, 0.0, 0.0, 0.5]);
    }
}
