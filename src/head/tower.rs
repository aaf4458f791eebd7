//! A small network a task.

use super::{Head, Target, common};
use crate::error::Result;
use crate::network::builder::Builder;
use crate::network::nodes::activation::Curve;
use crate::network::{Reach, ValueId};
use crate::registry::Sizes;

crate::component! {
    /// A tower per task: hidden layers, then a linear layer.
    ///
    /// Towers over the same features run side by side, as batched matrix products.
    pub struct Tower = "Tower" {
        /// Width of each hidden layer; a list, or one number for one layer.
        hidden: Sizes = Sizes(vec![32]), in 1.0..;
        /// `"relu"`, `"leaky_relu"`, `"elu"`, `"gelu"`, `"silu"`, `"tanh"`, `"sigmoid"`, or None for linear layers.
        activation: Option<Curve> = Some(Curve::Relu);
        /// Probability with which a number is zeroed while training, after each activation.
        dropout: f64 = 0.0, in 0.0..1.0;
    }
}

impl Head for Tower {
    fn build(&self, net: &mut Builder, targets: &[Target]) -> Result<()> {
        match common(targets).filter(|_| targets.len() > 1 && !self.hidden.0.is_empty()) {
            Some(features) => self.together(net, targets, features),
            None => self.apart(net, targets),
        }
        Ok(())
    }
}

impl Tower {
    fn together(&self, net: &mut Builder, targets: &[Target], features: ValueId) {
        let paths = |layer: usize| targets.iter().map(|t| format!("{}.{layer}", t.path)).collect::<Vec<_>>();
        let mut x = features;
        for (i, &width) in self.hidden.0.iter().enumerate() {
            x = match i {
                0 => net.fan_out(&paths(0), x, width, self.activation, Reach::Own),
                _ => net.linear(&paths(i), x, width, self.activation),
            };
            x = net.dropout(x, self.dropout);
        }
        let last = paths(self.hidden.0.len());
        let width = targets[0].width;
        if targets.iter().all(|target| target.width == width) {
            let value = net.linear(&last, x, width, None);
            (0..targets.len()).for_each(|task| net.output(value, task, 0..width));
            return;
        }
        for (task, (target, path)) in targets.iter().zip(&last).enumerate() {
            let own = net.select(x, task, 0..net.value(x).width, Reach::One(task));
            let value = net.task_linear(path, own, target.width, None, task);
            net.output(value, 0, 0..target.width);
        }
    }

    fn apart(&self, net: &mut Builder, targets: &[Target]) {
        for (task, target) in targets.iter().enumerate() {
            let mut x = target.features;
            for (i, &width) in self.hidden.0.iter().enumerate() {
                x = net.task_linear(&format!("{}.{i}", target.path), x, width, self.activation, task);
                x = net.dropout(x, self.dropout);
            }
            let path = format!("{}.{}", target.path, self.hidden.0.len());
            let value = net.task_linear(&path, x, target.width, None, task);
            net.output(value, 0, 0..target.width);
        }
    }
}
