//! Weights by how slowly losses fall.

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::component::Component;
use crate::error::Result;
use crate::task::About;
use crate::weighting::learned::softmax;
use crate::weighting::positive::Names;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// Dynamic weight average (Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019).
    ///
    /// `w = T softmax(r / temperature)` with `r_j = L_j(e - 1) / L_j(e - 2)`, the means of a task's losses over the
    /// batches of the last two epochs; `T` counts the tasks that have labels in the batch. A task without two epochs
    /// has `r = 1`, so in the first two epochs weights are 1. They sum to `T`: as long as the sum.
    ///
    /// A task's last two epochs are those in which it had labels. The ratio of an epoch to one with a mean of 0 is
    /// taken as 1; a negative mean, which no ratio makes sense of, is refused.
    pub struct Dwa = "DWA" {
        /// How even weights are; 0 would be all weight on the slowest task.
        temperature: f64 = 2.0, in f64::MIN_POSITIVE..;
    }
    state: Courses;
}

/// How the losses of the tasks went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Courses {
    names: Names,
    courses: Vec<Course>,
}

/// How the loss of a task went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Course {
    epoch: u64,
    sum: f64,
    batches: u64,
    /// Means of the last epoch and the one before it.
    means: [Option<f64>; 2],
}

impl Course {
    /// Closes the epoch that it was in, if this is another one.
    fn turn(&mut self, epoch: u64) {
        if self.batches > 0 && self.epoch != epoch {
            self.means = [Some(self.sum / self.batches as f64), self.means[0]];
            self.sum = 0.0;
            self.batches = 0;
        }
        self.epoch = epoch;
    }

    fn ratio(&self) -> f64 {
        match self.means {
            [Some(last), Some(before)] if before > 0.0 => (last / before).min(f64::MAX),
            _ => 1.0,
        }
    }
}

impl Weighting for Dwa {
    fn claims(&self) -> Claims {
        Claims {
            acts_like: ActsLike::Sum,
            promises: &[Promise::Permutes, Promise::Positive, Promise::Count],
            ..Claims::default()
        }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.names = Names::of(tasks);
        self.state.courses.resize(tasks.len(), Course::default());
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let epoch = evidence.moment().epoch;
        let tasks = evidence.tasks();
        for (row, &task) in tasks.iter().enumerate() {
            let course = &mut self.state.courses[task];
            course.turn(epoch);
            if let [Some(mean), _] = course.means
                && mean < 0.0
            {
                let name = self.state.names.get(task);
                bail!("{}: the mean loss of task {name:?} is {mean}; the method needs at least 0", Self::CLASS);
            }
            course.sum += evidence.losses()[row];
            course.batches += 1;
            into.weights[row] = (course.ratio() / self.temperature).min(f64::MAX);
        }
        softmax(&mut into.weights);
        into.weights.iter_mut().for_each(|weight| *weight *= tasks.len() as f64);
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, continues, given, prepared, spares_absent, weigh_given};

    fn at(method: &mut Dwa, epoch: u64, tasks: &[usize], losses: &[f64]) -> Result<Vec<f64>> {
        let mut evidence = given(tasks, losses);
        evidence.moment.epoch = epoch;
        weigh_given(method, &mut evidence)
    }

    #[test]
    fn slow_tasks_weigh_more_from_the_third_epoch_on() {
        let mut method = prepared(Dwa::default(), 2);
        for losses in [[0.5, 2.0], [1.5, 2.0]] {
            assert_eq!(at(&mut method, 0, &[0, 1], &losses).unwrap(), [1.0, 1.0]);
        }
        assert_eq!(at(&mut method, 1, &[0, 1], &[0.5, 2.0]).unwrap(), [1.0, 1.0]);
        // r = (0.5 / 1, 2 / 2): 2 e^.25 / (e^.25 + e^.5).
        let fast = 2.0 / (1.0 + f64::exp(0.25));
        close(&at(&mut method, 2, &[0, 1], &[9.0, 9.0]).unwrap(), &[fast, 2.0 - fast]);
        let state = method.state.clone();
        assert_eq!(state.courses[0].means, [Some(0.5), Some(1.0)]);
    }

    #[test]
    fn absent_tasks_keep_their_course() {
        let mut method = prepared(Dwa::default(), 2);
        at(&mut method, 0, &[0, 1], &[1.0, 4.0]).unwrap();
        at(&mut method, 1, &[0], &[0.5]).unwrap();
        at(&mut method, 2, &[0, 1], &[0.5, 2.0]).unwrap();
        at(&mut method, 3, &[0, 1], &[0.5, 2.0]).unwrap();
        assert_eq!(method.state.courses.iter().map(Course::ratio).collect::<Vec<_>>(), [1.0, 0.5]);
        assert_eq!(at(&mut method, 3, &[1], &[7.0]).unwrap(), [1.0]);
        assert_eq!(at(&mut method, 3, &[], &[]).unwrap(), [0.0; 0]);
        spares_absent(&mut prepared(Dwa::default(), 3));
        continues(|| prepared(Dwa::default(), 3));
    }

    #[test]
    fn zeros_and_explosions_are_finite_and_less_is_refused() {
        let mut method = prepared(Dwa { temperature: 1e-300, ..Dwa::default() }, 3);
        at(&mut method, 0, &[0, 1, 2], &[0.0, 1e-300, 1.0]).unwrap();
        at(&mut method, 1, &[0, 1, 2], &[1.0, 1e300, 0.0]).unwrap();
        assert_eq!(at(&mut method, 2, &[0, 1, 2], &[-1.0, 1.0, 1.0]).unwrap().iter().sum::<f64>(), 3.0);
        let message = at(&mut method, 3, &[0, 1, 2], &[1.0; 3]).unwrap_err().to_string();
        assert_eq!(message, "DWA: the mean loss of task \"a\" is -1; the method needs at least 0");
    }
}
