//! Multi-task learning over libtorch: shared and task-specific layers, losses, weightings, regularizers and the
//! training step, as static plans without an autograd graph.

pub mod data;
mod description;
pub mod encoder;
pub mod error;
pub mod file;
pub mod format;
pub mod head;
pub mod inspection;
pub mod lent;
pub mod level;
pub mod loss;
pub mod meter;
pub mod model;
pub mod network;
pub mod optim;
#[cfg(feature = "python")]
mod python;
pub mod real;
pub mod registry;
pub mod regularizer;
pub mod schedule;
pub mod sharing;
mod summary;
pub mod task;
pub mod trainer;
pub mod weighting;
pub mod workspace;
