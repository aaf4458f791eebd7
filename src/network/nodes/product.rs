//! The product of two values, number by number, with or without a third one added: cross layers.

use serde_json::{Value, json};

use super::route::Route;
use super::segments::covers;
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::Prepare;
use crate::network::{Network, ValueId};
use crate::vectorised;

/// `y = a * b`, or `y = a * b + c`.
#[derive(Debug)]
pub struct Product {
    /// `a`, `b` and maybe `c`, of one shape.
    pub inputs: Vec<ValueId>,
    /// What it fills.
    pub output: ValueId,
}

struct ProductKernel<T> {
    inputs: Vec<Buffer<T>>,
    y: Buffer<T>,
    passes: PerPass<Ways<T>>,
}

/// The ways back to the inputs in one pass.
struct Ways<T> {
    dy: Buffer<T>,
    routes: Vec<Option<Route<T>>>,
}

impl Node for Product {
    fn name(&self) -> &'static str {
        "Product"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let product = given.input(0) * given.input(1);
        Ok(given.inputs[2..].iter().fold(product, |sum, c| sum + c).into())
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for Product {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes = at.each_pass(|pass| {
            let routes = (0..self.inputs.len()).map(|k| Route::new(at, k, pass)).collect();
            Ok(Ways { dy: at.arriving(self.output, pass), routes })
        })?;
        let inputs = self.inputs.iter().map(|&x| at.value(x)).collect();
        by_loops(ProductKernel { inputs, y: at.value(self.output), passes })
    }
}

impl<T: Real> Kernel for ProductKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let [a, b, more @ ..] = self.inputs.as_slice() else { unreachable!("it has two inputs at least") };
        multiply(a.slice(), b.slice(), more.first().map(Buffer::slice), self.y.slice_mut());
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Ways { dy, routes } = self.passes.of(pass);
        let slopes = [Some(self.inputs[1].slice()), Some(self.inputs[0].slice()), None];
        for (route, slopes) in routes.iter_mut().zip(slopes) {
            if let Some(route) = route {
                route.give_each(step, dy, slopes);
            }
        }
        Ok(())
    }
}

vectorised! {
fn multiply<T: Real>(a: &[T], b: &[T], c: Option<&[T]>, y: &mut [T]) {
    let factors = a.iter().zip(b);
    match c {
        None => y.iter_mut().zip(factors).for_each(|(y, (&a, &b))| *y = a * b),
        Some(c) => y.iter_mut().zip(factors.zip(c)).for_each(|(y, ((&a, &b), &c))| *y = a * b + c),
    }
}
}
