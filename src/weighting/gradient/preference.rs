//! How much each task counts in a projection.

use crate::bail;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::task::About;

/// Refuses preferences that are not one a task.
///
/// # Errors
/// Too many or too few numbers.
pub fn check(class: &str, preference: Option<&[f64]>, tasks: &[About]) -> Result<()> {
    match preference {
        Some(numbers) if numbers.len() != tasks.len() => bail!(
            "{class}: argument `preference` should have one number a task, {}; got {}",
            tasks.len(),
            numbers.len()
        ),
        _ => Ok(()),
    }
}

/// The preferences of the rows: those of their tasks, or one over the number of rows.
pub fn rows(preference: Option<&[f64]>, tasks: &[usize]) -> Lent<f64> {
    match preference {
        Some(numbers) => tasks.iter().map(|&task| numbers[task]).collect(),
        None => Lent::filled(1.0 / tasks.len() as f64, tasks.len()),
    }
}
