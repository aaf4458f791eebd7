//! A term of the objective that keeps an event from being likelier than the one before.

use serde_json::{Value, json};

use super::concat::Pieces;
use super::route::Route;
use super::segments::covers;
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::real::{LANES, Real};
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, Terms, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::Prepare;
use crate::network::{Network, ValueId};
use crate::vectorised;

/// `y = b`, and in the objective `strength * mean over rows of max(sigmoid(b) - sigmoid(a), 0)`, summed over groups (Xi et
/// al., KDD 2021).
///
/// The predecessor `a` gets its part of the term's gradient in lanes of its own.
#[derive(Debug)]
pub struct Calibrate {
    /// The logit `b`, then its predecessor `a`, of width 1.
    pub inputs: [ValueId; 2],
    /// What it fills.
    pub output: ValueId,
    /// Strength of the term.
    pub strength: f64,
}

struct CalibrateKernel<T> {
    inputs: [Buffer<T>; 2],
    y: Buffer<T>,
    /// Slopes of the term at each input.
    slopes: [Buffer<T>; 2],
    strength: f64,
    term: [f64; 1],
    passes: PerPass<Option<Backward<T>>>,
}

struct Backward<T> {
    through: Pieces<T>,
    routes: [Option<Route<T>>; 2],
}

impl Node for Calibrate {
    fn name(&self) -> &'static str {
        "Calibrate"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.to_vec()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"strength": self.strength}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let b = given.input(0);
        let a = given.input(1);
        let excess = (b.sigmoid() - a.sigmoid()).relu();
        let mean = given.mean_of_rows(&excess).sum_dim_intlist([1_i64, 2].as_slice(), false, given.kind());
        let terms = vec![mean * given.shared(self.strength)];
        Ok(Computed { terms, ..b.shallow_clone().into() })
    }

    fn terms(&self) -> Vec<&'static str> {
        vec!["calibration"]
    }

    fn covers_input(&self, net: &Network) -> bool {
        covers(net, &self.inputs, self.output)
    }
}

impl<T: Real> Prepares<T> for Calibrate {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        if at.is_of_positions(self.output) {
            return Ok(None);
        }
        let learns = at.net.values[self.output].learns;
        let backward = |pass| Backward {
            through: Pieces::new(at, self.output, &[0], pass),
            routes: [0, 1].map(|k| Route::new(at, k, pass)),
        };
        by_loops(CalibrateKernel {
            inputs: self.inputs.map(|x| at.value(x)),
            y: at.value(self.output),
            slopes: [at.scratch(self.output)?, at.scratch(self.output)?],
            strength: self.strength,
            term: [0.0],
            passes: at.each_pass(|pass| Ok(learns.then(|| backward(pass))))?,
        })
    }
}

impl<T: Real> CalibrateKernel<T> {
    /// What a row counts.
    fn scale(&self, step: &Step<'_>) -> f64 {
        self.strength * step.share / self.y.layout.rows as f64
    }
}

impl<T: Real> Kernel for CalibrateKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let scale = self.scale(step);
        let [b, a] = &self.inputs;
        let [of_b, of_a] = &mut self.slopes;
        self.y.slice_mut().copy_from_slice(b.slice());
        self.term = [0.0];
        if step.training {
            self.term = [scale * excess(a.slice(), b.slice(), of_a.slice_mut(), of_b.slice_mut())];
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let scale = T::of(if step.training { self.scale(step) } else { 0.0 });
        let Some(Backward { through, routes: [to_b, to_a] }) = self.passes.of(pass) else { return Ok(()) };
        let [of_b, of_a] = &self.slopes;
        through.give_back(step);
        if let Some(route) = to_b {
            route.give_term(step, pass, of_b.slice(), scale, true);
        }
        if let Some(route) = to_a {
            route.give_term(step, pass, of_a.slice(), scale, route.adds());
        }
        Ok(())
    }

    fn terms(&self) -> Terms<'_> {
        Terms::Numbers(&self.term)
    }
}

vectorised! {
/// The sum of `max(sigmoid(b) - sigmoid(a), 0)`, and its slopes.
fn excess<T: Real>(a: &[T], b: &[T], of_a: &mut [T], of_b: &mut [T]) -> f64 {
    let mut total = 0.0;
    for first in (0..a.len()).step_by(LANES) {
        let mut lanes = [T::ZERO; LANES];
        for (lane, i) in lanes.iter_mut().zip(first..a.len()) {
            let p = a[i].sigmoid();
            let q = b[i].sigmoid();
            let beyond = if b[i] > a[i] { T::ONE } else { T::ZERO };
            *lane = beyond * (q - p);
            of_a[i] = (T::ZERO - beyond) * p * (T::ONE - p);
            of_b[i] = beyond * q * (T::ONE - q);
        }
        let mut sum = T::ZERO;
        for lane in lanes {
            sum += lane;
        }
        total += sum.wide();
    }
    total
}
}
