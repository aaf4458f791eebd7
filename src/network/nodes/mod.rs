//! The nodes: each a description, and a kernel with forward and backward over a plan's buffers.

pub mod activation;
pub mod adapter;
pub mod add;
pub mod calibrate;
pub mod carry;
pub mod chain;
pub mod concat;
pub mod dot;
pub mod dropout;
pub mod embedding;
pub mod funnel;
pub mod gather;
pub mod island;
pub mod join;
pub mod linear;
pub mod member_linear;
pub mod mixture;
pub mod norm;
pub mod periodic;
pub mod piecewise;
pub mod product;
mod route;
mod segments;
pub mod select;
pub mod selectors;
pub mod softmax;
pub mod stitch;
