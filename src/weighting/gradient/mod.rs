//! Weightings that look at the tasks' gradients.

pub mod aligned_mtl;
pub mod cagrad;
pub mod config;
pub mod cr_mogm;
pub mod db_mtl;
pub mod dualproj;
pub mod excess_mtl;
pub mod fairgrad;
pub mod graddrop;
pub mod gradnorm;
pub mod gradvac;
pub mod imtl;
pub mod imtl_g;
pub mod krum;
pub mod mgda;
pub mod moco;
pub mod modo;
pub mod nash_mtl;
pub mod pcd;
pub mod pcgrad;
pub mod pivrg;
pub mod preference;
mod rows;
pub mod sdmgrad;
mod shares;
mod surgery;
pub mod trimmed_mean;
pub mod upgrad;

#[cfg(test)]
mod bounds;
#[cfg(test)]
pub(crate) mod checks;
#[cfg(test)]
mod trial;
