//! Weightings that learn weights of the training losses from what validation losses make of them.

use crate::error::Result;
use crate::machine::rows;
use crate::weighting::{Evidence, On, Probed};

crate::members!(
    crate::weighting::Weighting:
    moml::Moml,
    forum::Forum,
    auto_lambda::AutoLambda,
);

/// Tasks that have a loss.
fn labelled(probed: &Probed) -> Vec<usize> {
    (0..probed.losses.len()).filter(|&task| !probed.losses[task].is_nan()).collect()
}

/// The gradient of one task's loss.
fn row(probed: &Probed, task: usize) -> &[f32] {
    let width = probed.jacobian.len() / probed.losses.len().max(1);
    &probed.jacobian[task * width..(task + 1) * width]
}

/// Their sum with weights.
fn combine(probed: &Probed, tasks: &[usize], weights: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; probed.jacobian.len() / probed.losses.len().max(1)];
    rows::combine(weights, |index| row(probed, tasks[index]), &mut sum);
    sum
}

/// A shift and a bit more; an empty one is none.
fn shifted(shift: &[f32], direction: &[f64], by: f64) -> Vec<f32> {
    let mut moved = Vec::with_capacity(direction.len());
    for (index, step) in direction.iter().enumerate() {
        let before = if shift.is_empty() { 0.0 } else { f64::from(shift[index]) };
        moved.push((before + by * step) as f32);
    }
    moved
}

/// A path of gradient descent on the weighted training losses: shifts, and what was found there.
struct Descent {
    steps: Vec<(Vec<f32>, Probed)>,
    /// Where it ends.
    end: Vec<f32>,
}

impl Descent {
    /// Takes steps until the losses are no longer finite.
    fn run(evidence: &mut dyn Evidence, weights: &[f64], lr: f64, count: usize) -> Result<Self> {
        let tasks = evidence.tasks().to_vec();
        let mut path = Self { steps: Vec::new(), end: Vec::new() };
        for _ in 0..count {
            let probed = evidence.probe(&path.end, On::Batch)?;
            if tasks.iter().any(|&task| !probed.losses[task].is_finite()) {
                path.end = path.steps.pop().map_or(Vec::new(), |(shift, _)| shift);
                break;
            }
            let next = shifted(&path.end, &combine(&probed, &tasks, weights), -lr);
            path.steps.push((std::mem::replace(&mut path.end, next), probed));
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    //! What the tests of these weightings share.

    use crate::error::Result;
    use crate::weighting::{Combination, Evidence, Moment, On, Probed, Weighting};

    /// `1/2 (x - centre)^T hessian (x - centre)` in the plane.
    #[derive(Debug, Clone, Copy)]
    pub struct Bowl {
        pub hessian: [[f64; 2]; 2],
        pub centre: [f64; 2],
    }

    impl Bowl {
        pub fn gradient(&self, at: [f64; 2]) -> [f64; 2] {
            let [x, y] = [at[0] - self.centre[0], at[1] - self.centre[1]];
            self.hessian.map(|[a, b]| a * x + b * y)
        }

        pub fn loss(&self, at: [f64; 2]) -> f64 {
            let [x, y] = self.gradient(at);
            0.5 * (x * (at[0] - self.centre[0]) + y * (at[1] - self.centre[1]))
        }
    }

    /// Tasks whose losses are bowls, those of validation data being others.
    #[derive(Debug, Clone)]
    pub struct Plane {
        pub train: Vec<Bowl>,
        pub validation: Vec<Bowl>,
        pub at: [f64; 2],
        pub tasks: Vec<usize>,
        pub unlabelled_in_validation: Vec<usize>,
        pub losses: Vec<f64>,
        pub moment: Moment,
        pub probes: usize,
    }

    impl Plane {
        /// Three tasks of different shapes.
        pub fn new() -> Self {
            let bowl = |a: f64, b: f64, c: f64, centre| Bowl { hessian: [[a, b], [b, c]], centre };
            let train = vec![
                bowl(2.0, 0.5, 1.0, [1.0, 0.0]),
                bowl(1.0, -0.3, 0.8, [-0.5, 1.5]),
                bowl(0.7, 0.0, 3.0, [0.2, -1.0]),
            ];
            let validation = vec![
                bowl(2.2, 0.4, 1.0, [1.2, 0.1]),
                bowl(0.9, -0.2, 0.9, [-0.6, 1.2]),
                bowl(0.6, 0.1, 2.0, [0.0, -0.8]),
            ];
            let moment = Moment { lr: 0.1, ..Moment::default() };
            let mut plane = Self {
                train,
                validation,
                at: [0.25, 0.5],
                tasks: vec![],
                unlabelled_in_validation: vec![],
                losses: vec![],
                moment,
                probes: 0,
            };
            plane.show(&[0, 1, 2]);
            plane
        }

        /// Lets these tasks have labels.
        pub fn show(&mut self, tasks: &[usize]) {
            self.tasks = tasks.to_vec();
            self.losses = tasks.iter().map(|&task| self.train[task].loss(self.at)).collect();
        }

        /// Where gradient descent ends.
        pub fn descend(&self, weights: &[f64], lr: f64, steps: usize) -> [f64; 2] {
            (0..steps).fold(self.at, |at, _| {
                let mut next = at;
                for (&task, weight) in self.tasks.iter().zip(weights) {
                    let gradient = self.train[task].gradient(at);
                    next = [next[0] - lr * weight * gradient[0], next[1] - lr * weight * gradient[1]];
                }
                next
            })
        }
    }

    impl Evidence for Plane {
        fn tasks(&self) -> &[usize] {
            &self.tasks
        }

        fn losses(&self) -> &[f64] {
            &self.losses
        }

        fn moment(&self) -> Moment {
            self.moment
        }

        fn gramian(&mut self) -> Result<&[f64]> {
            unreachable!("weights come from probes")
        }

        fn jacobian(&mut self) -> Result<&[f32]> {
            unreachable!("weights come from probes")
        }

        fn probe(&mut self, shift: &[f32], on: On) -> Result<Probed> {
            self.probes += 1;
            let by = |index: usize| shift.get(index).map_or(0.0, |&x| f64::from(x));
            let at = [self.at[0] + by(0), self.at[1] + by(1)];
            let bowls = if on == On::Batch { &self.train } else { &self.validation };
            let mut probed = Probed::default();
            for (task, bowl) in bowls.iter().enumerate() {
                let absent = match on {
                    On::Batch => !self.tasks.contains(&task),
                    On::Validation => self.unlabelled_in_validation.contains(&task),
                };
                probed.losses.push(if absent { f64::NAN } else { bowl.loss(at) });
                let gradient = if absent { [0.0; 2] } else { bowl.gradient(at) };
                probed.jacobian.extend(gradient.map(|x| x as f32));
            }
            Ok(probed)
        }
    }

    /// The weights for this evidence.
    pub fn weigh(weighting: &mut dyn Weighting, plane: &mut Plane) -> Vec<f64> {
        let mut into = Combination::default();
        into.clear(plane.tasks.len());
        weighting.weigh(plane, &mut into).unwrap();
        assert!(into.direction.is_empty());
        into.weights
    }

    /// Equal up to rounding in 32 bits.
    pub fn near(seen: &[f64], expected: &[f64], tolerance: f64) {
        let largest = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * largest;
        assert!(seen.len() == expected.len() && seen.iter().zip(expected).all(near), "{seen:?} is not {expected:?}");
    }

    /// A weighting goes on from its state with the same bits, keeps what it knows of absent tasks, does with any
    /// labels, and is as new after a reset.
    pub fn remembers<W: Weighting>(new: impl Fn() -> W) {
        let about = crate::weighting::loss::tests::about(3);
        let run = |weighting: &mut W, steps: std::ops::Range<usize>| -> Vec<Vec<f64>> {
            let step = |step: usize| {
                let mut plane = Plane::new();
                plane.at = [(0.3 * step as f64).sin(), (0.7 * step as f64).cos()];
                plane.show([&[0, 1, 2][..], &[0, 2], &[1], &[]][step % 4]);
                plane.unlabelled_in_validation = [&[][..], &[1], &[0, 1, 2]][step % 3].to_vec();
                plane.moment.epoch = step as u64 / 5;
                let weights = weigh(weighting, &mut plane);
                assert!(weights.iter().all(|weight| weight.is_finite()));
                weights
            };
            steps.map(step).collect()
        };
        let prepared = || {
            let mut weighting = new();
            weighting.prepare(&about).unwrap();
            weighting
        };
        let mut whole = prepared();
        let first = run(&mut whole, 0..9);
        let state = whole.state();
        let rest = run(&mut whole, 9..30);
        let mut other = prepared();
        other.restore(&state).unwrap();
        assert_eq!(run(&mut other, 9..30), rest);
        let mut other = new();
        other.restore(&state).unwrap();
        other.prepare(&about).unwrap();
        assert_eq!(run(&mut other, 9..30), rest);
        assert_ne!(whole.state(), prepared().state());
        whole.reset();
        whole.prepare(&about).unwrap();
        assert_eq!(whole.state(), prepared().state());
        assert_eq!(run(&mut whole, 0..9), first);

        let before = whole.state().value;
        let mut plane = Plane::new();
        plane.show(&[0, 2]);
        plane.unlabelled_in_validation = vec![1];
        weigh(&mut whole, &mut plane);
        assert_ne!(before, whole.state().value);
        crate::weighting::loss::tests::same_of(&before, &whole.state().value, 1);
    }
}
