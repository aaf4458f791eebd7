//! Heads behind a function that ends at 1.

use super::linear::Linear;
use super::{Head, Target};
use crate::error::Result;
use crate::network::Output;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Activation;

crate::component! {
    /// One linear layer a task over the hyperbolic tangent of its features.
    pub struct Saturated = "Saturated" {}
}

impl Head for Saturated {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<Vec<Output>> {
        let mut targets = targets.to_vec();
        let mut seen = Vec::new();
        for target in &mut targets {
            let value = target.features.value;
            let known = seen.iter().find(|(before, _)| *before == value).map(|(_, after)| *after);
            target.features.value = known.unwrap_or_else(|| net.activation(value, Activation::Tanh));
            seen.push((value, target.features.value));
        }
        Linear {}.build(net, &targets)
    }
}
