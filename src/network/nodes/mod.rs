//! The nodes: each a description, and a kernel with forward and backward over a plan's buffers.

pub mod activation;
pub mod add;
pub mod calibrate;
pub mod concat;
pub mod dot;
pub mod dropout;
pub mod embedding;
pub mod funnel;
pub mod gather;
pub mod island;
pub mod join;
pub mod linear;
pub mod mixture;
pub mod norm;
mod route;
pub mod select;
pub mod selectors;
pub mod softmax;
pub mod stitch;

use super::plan::{Kernel, Prepare};
use super::{Network, ValueId};
use crate::error::Result;
use crate::machine::real::Real;
use crate::parameters::ParamId;

/// What every node's description offers.
pub trait Node {
    /// The values it reads.
    fn inputs(&self) -> Vec<ValueId>;
    /// The value it fills.
    fn output(&self) -> ValueId;
    /// The parameters it uses.
    fn params(&self) -> Vec<ParamId> {
        Vec::new()
    }
    /// Names of the terms that it adds to the objective.
    fn terms(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Whether its contribution covers its inputs' whole gradients (in the lanes it touches).
    fn covers_input(&self, _net: &Network) -> bool {
        true
    }
    /// Whether it can work through the slab of a parameter's per-task gradients in tiles.
    fn tiles(&self, _param: ParamId) -> bool {
        false
    }
    /// Makes the kernel: every view and buffer, once.
    fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>>;
}

macro_rules! nodes {
    ($($name:ident = $node:path),+ $(,)?) => {
        /// Any node.
        #[derive(Debug)]
        pub enum Op { $(#[allow(missing_docs)] $name($node)),+ }

        impl Op {
            /// The values it reads.
            pub fn inputs(&self) -> Vec<ValueId> {
                match self { $(Op::$name(node) => node.inputs()),+ }
            }
            /// The value it fills.
            pub fn output(&self) -> ValueId {
                match self { $(Op::$name(node) => node.output()),+ }
            }
            /// The parameters it uses.
            pub fn params(&self) -> Vec<ParamId> {
                match self { $(Op::$name(node) => node.params()),+ }
            }
            /// Names of the terms that it adds to the objective.
            pub fn terms(&self) -> Vec<&'static str> {
                match self { $(Op::$name(node) => node.terms()),+ }
            }
            /// Whether its contribution covers its inputs' whole gradients.
            pub fn covers_input(&self, net: &Network) -> bool {
                match self { $(Op::$name(node) => node.covers_input(net)),+ }
            }
            /// Whether it can work through a parameter's slab in tiles.
            pub fn tiles(&self, param: ParamId) -> bool {
                match self { $(Op::$name(node) => node.tiles(param)),+ }
            }
            /// Makes the kernel.
            pub fn prepare<T: Real>(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
                match self { $(Op::$name(node) => node.prepare(at)),+ }
            }
            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => stringify!($name)),+ }
            }
        }
    };
}

nodes! {
    Activation = activation::Activation,
    Add = add::Add,
    BatchNorm = norm::BatchNorm,
    Calibrate = calibrate::Calibrate,
    Concat = concat::Concat,
    Dot = dot::Dot,
    Dropout = dropout::Dropout,
    Embedding = embedding::Embedding,
    Funnel = funnel::Funnel,
    Gather = gather::Gather,
    Island = island::Island,
    Join = join::Join,
    LayerNorm = norm::LayerNorm,
    Linear = linear::Linear,
    Mixture = mixture::Mixture,
    Select = select::Select,
    Selectors = selectors::Selectors,
    Softmax = softmax::Softmax,
    Stitch = stitch::Stitch,
}
