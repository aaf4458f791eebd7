//! Weightings that look at the tasks' gradients.

pub mod aligned_mtl;
pub mod cagrad;
pub mod config;
pub mod dualproj;
pub mod fairgrad;
pub mod imtl;
pub mod imtl_g;
pub mod mgda;
pub mod nash_mtl;
pub mod pivrg;
pub mod preference;
pub mod upgrad;

#[cfg(test)]
pub(crate) mod checks;
