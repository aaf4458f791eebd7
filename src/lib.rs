//! Multi-task learning over libtorch: shared and task-specific layers, losses, weightings, regularizers and the
//! training step, as static plans without an autograd graph.
#![doc = ""]
#![doc = include_str!("../README.md")]

pub mod component;
pub mod data;
pub mod encoder;
pub mod error;
pub mod file;
pub mod head;
pub mod input;
pub mod label;
pub mod loss;
pub mod machine;
pub mod meter;
pub mod model;
pub mod network;
pub mod optim;
pub mod parameters;
#[cfg(feature = "python")]
mod python;
pub mod regularizer;
pub mod schedule;
pub mod sharing;
pub mod solver;
pub mod task;
pub mod trainer;
pub mod weighting;
