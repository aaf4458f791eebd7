//! A small network a task.

use super::{Head, Target, side_by_side};
use crate::component::Sizes;
use crate::error::Result;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Activation;
use crate::network::{Output, ValueId};

crate::component! {
    /// A tower per task: hidden layers, then a linear layer.
    ///
    /// Towers over the same features run side by side, as batched matrix products. Over members of an ensemble
    /// (`pt.encoder.TabM`) the last layer is each member's own.
    pub struct Tower = "Tower" {
        /// Width of each hidden layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![32]), in 1.0..;
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Activation> = Some(Activation::Relu);
        /// Probability with which a number is zeroed while training, after each activation.
        dropout: f64 = 0.0, in 0.0..1.0;
    }
}

impl Head for Tower {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<Vec<Output>> {
        match side_by_side(net, targets).filter(|_| !self.hidden.0.is_empty()) {
            Some(features) => self.together(net, targets, features),
            None => targets.iter().map(|target| self.apart(net, target)).collect(),
        }
    }
}

impl Tower {
    /// `features` are groups, a task each.
    fn together(&self, net: &mut Builder, targets: &[Target], features: ValueId) -> Result<Vec<Output>> {
        let paths = |layer: usize| targets.iter().map(|t| format!("{}.{layer}", t.path)).collect::<Vec<_>>();
        let mut x = features;
        for (i, &width) in self.hidden.0.iter().enumerate() {
            net.check()?;
            x = net.linear(&paths(i), x, width, self.activation);
            x = net.dropout(x, self.dropout);
        }
        let last = paths(self.hidden.0.len());
        let width = targets[0].width;
        if net.members_of(x).is_none() && targets.iter().all(|target| target.width == width) {
            let value = net.linear(&last, x, width, None);
            return Ok((0..targets.len()).map(|group| Output { value, group, columns: 0..width }).collect());
        }
        let mut outputs = Vec::with_capacity(targets.len());
        for (task, target) in targets.iter().enumerate() {
            let own = net.group_of(x, task, target.reach);
            let value = net.last(&last[task], own, target.width, target.reach)?;
            outputs.push(Output { value, group: 0, columns: 0..target.width });
        }
        Ok(outputs)
    }

    fn apart(&self, net: &mut Builder, target: &Target) -> Result<Output> {
        let mut x = target.features.alone(net, target.reach);
        for (i, &width) in self.hidden.0.iter().enumerate() {
            net.check()?;
            x = net.narrow(&format!("{}.{i}", target.path), x, width, self.activation, target.reach);
            x = net.dropout(x, self.dropout);
        }
        let path = format!("{}.{}", target.path, self.hidden.0.len());
        let value = net.last(&path, x, target.width, target.reach)?;
        Ok(Output { value, group: 0, columns: 0..target.width })
    }
}
