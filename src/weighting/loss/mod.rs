//! Weightings that look at nothing dearer than the task losses.

pub mod equal;
pub mod r#static;
