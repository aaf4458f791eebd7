//! What stops a step before numbers that are none reach the parameters.

use crate::bail;
use crate::error::Result;
use crate::model::workspace::Workspace;
use crate::task::Task;

/// Stops before a loss that is no longer a number reaches the parameters; `when` says of which rows and where.
pub(super) fn finite(tasks: &[Task], sums: &[f64], work: &Workspace, steps: u64, when: &str) -> Result<()> {
    match sums.iter().position(|sum| !sum.is_finite()) {
        Some(j) => bail!(
            "the loss of task `{}` is {} {when} step {}: {}; the model is as after step {steps}",
            tasks[j].name,
            sums[j],
            steps + 1,
            why(&tasks[j], work.extremes(j)?, steps)
        ),
        None => Ok(()),
    }
}

/// Targets beyond this have squares that single precision cannot hold, with some room for their differences and sums.
const HUGE: f32 = 1e15;

/// The likeliest cause of a loss that is not finite, from the sizes of the task's largest output and target.
fn why(task: &Task, [output, target]: [f32; 2], steps: u64) -> String {
    match () {
        () if !output.is_finite() && steps == 0 => "its outputs are not finite before any step was made: are features \
             of extreme size, or parameters that were loaded not finite?"
            .to_owned(),
        () if !output.is_finite() => "its outputs are not finite: try a smaller learning rate".to_owned(),
        () if target > HUGE && target >= output => {
            format!("its targets go up to {target:e}: give them in a larger unit, or standardise them")
        }
        () if task.loss.foreign().is_some() => {
            format!("that is what its loss function made of outputs up to {output:e} and targets up to {target:e}")
        }
        () => format!("its outputs go up to {output:e}: try a smaller learning rate"),
    }
}
