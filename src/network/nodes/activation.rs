//! Activation functions, on their own or fused into a linear node.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::vectorised;

/// An activation function, as users name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` if positive, `0.01 x` otherwise.
    LeakyRelu,
    /// `x` if positive, `exp(x) - 1` otherwise (Clevert et al., ICLR 2016).
    Elu,
    /// `x Phi(x)` (Hendrycks & Gimpel, 2016), with the error function.
    Gelu,
    /// `x sigmoid(x)` (Elfwing et al., 2018), also called swish.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

crate::choices!(Activation: Relu, LeakyRelu, Elu, Gelu, Silu, Tanh, Sigmoid);

/// A function and its slope, given both argument `x` and value `y`.
pub trait Pointwise: Copy {
    /// Whether the slope needs `x`, so that it must be kept.
    const KEEPS: bool;
    /// The value.
    fn value<T: Real>(x: T) -> T;
    /// The slope.
    fn slope<T: Real>(x: T, y: T) -> T;
}

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident, $keeps:literal, |$x:ident| $value:expr, |$sx:ident, $sy:ident| $slope:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
        impl Pointwise for $name {
            const KEEPS: bool = $keeps;
            #[inline(always)]
            fn value<T: Real>($x: T) -> T { $value }
            #[inline(always)]
            fn slope<T: Real>($sx: T, $sy: T) -> T { $slope }
        }
    };
}

shape!(/// No activation.
    Identity, false, |x| x, |_x, _y| T::ONE);
// What is not a number goes through, or nobody would hear of broken parameters.
shape!(/// See [`Activation::Relu`].
    Relu, false, |x| if x <= T::ZERO { T::ZERO } else { x }, |_x, y| if y > T::ZERO { T::ONE } else { T::ZERO });
shape!(/// See [`Activation::LeakyRelu`].
    LeakyRelu, false,
    |x| if x > T::ZERO { x } else { T::of(0.01) * x },
    |_x, y| if y > T::ZERO { T::ONE } else { T::of(0.01) });
shape!(/// See [`Activation::Elu`].
    Elu, false,
    |x| if x > T::ZERO { x } else { x.exp() - T::ONE },
    |_x, y| if y > T::ZERO { T::ONE } else { y + T::ONE });
shape!(/// See [`Activation::Gelu`].
    Gelu, true,
    |x| T::of(0.5) * x * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf()),
    |x, _y| T::of(0.5) * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
        + x * T::of(0.398_942_280_401_432_7) * (T::of(-0.5) * x * x).exp());
shape!(/// See [`Activation::Silu`].
    Silu, true, |x| x * x.sigmoid(), |x, y| x.sigmoid() + y * (T::ONE - x.sigmoid()));
shape!(/// See [`Activation::Tanh`].
    Tanh, false, |x| x.tanh(), |_x, y| T::ONE - y * y);
shape!(/// See [`Activation::Sigmoid`].
    Sigmoid, false, |x| x.sigmoid(), |_x, y| y * (T::ONE - y));

/// Calls `$body` with `$shape` bound to the type of an `Option<Activation>`, so that loops are compiled for each.
#[macro_export]
macro_rules! with_activation {
    ($activation:expr, $shape:ident => $body:expr) => {{
        use $crate::network::nodes::activation as act;
        macro_rules! run {
            ($t:ty) => {{
                type $shape = $t;
                $body
            }};
        }
        match $activation {
            None => run!(act::Identity),
            Some(act::Activation::Relu) => run!(act::Relu),
            Some(act::Activation::LeakyRelu) => run!(act::LeakyRelu),
            Some(act::Activation::Elu) => run!(act::Elu),
            Some(act::Activation::Gelu) => run!(act::Gelu),
            Some(act::Activation::Silu) => run!(act::Silu),
            Some(act::Activation::Tanh) => run!(act::Tanh),
            Some(act::Activation::Sigmoid) => run!(act::Sigmoid),
        }
    }};
}

impl Activation {
    /// As tensor algebra.
    pub fn formula(self, x: &Tensor) -> Tensor {
        match self {
            Activation::Relu => x.relu(),
            Activation::LeakyRelu => x.leaky_relu(),
            Activation::Elu => x.elu(),
            Activation::Gelu => x.gelu("none"),
            Activation::Silu => x.silu(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
        }
    }

    /// Whether the slope needs the argument.
    pub fn keeps(self) -> bool {
        with_activation!(Some(self), S => S::KEEPS)
    }
}

/// What an activation was given, and what it made of it.
#[derive(Debug, Clone, Copy)]
pub struct Activated<'a, T> {
    /// The arguments; read only where [`Pointwise::KEEPS`] says so.
    pub x: &'a [T],
    /// The values.
    pub y: &'a [T],
}

/// An activation between two values of one shape.
#[derive(Debug)]
pub struct Activate {
    /// What it reads.
    pub input: ValueId,
    /// What it fills.
    pub output: ValueId,
    /// Which.
    pub activation: Activation,
}

struct ActivateKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    activation: Option<Activation>,
    passes: PerPass<Option<(Buffer<T>, InputGradient<T>)>>,
}

impl Node for Activate {
    fn name(&self) -> &'static str {
        "Activation"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({"activation": self.activation}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        Ok(self.activation.formula(given.input(0)).into())
    }
}

impl<T: Real> Prepares<T> for Activate {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes =
            at.each_pass(|pass| Ok(at.leaving(0, pass).map(|leaving| (at.arriving(self.output, pass), leaving))))?;
        let x = at.value(self.input);
        let y = at.value(self.output);
        by_loops(ActivateKernel { x, y, activation: Some(self.activation), passes })
    }
}

impl<T: Real> Kernel for ActivateKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let x = self.x.slice();
        let y = self.y.slice_mut();
        with_activation!(self.activation, S => forward::<T, S>(x, y));
        Ok(())
    }

    fn backward(&mut self, _: &Step<'_>, pass: Pass) -> Result<()> {
        let activated = Activated { x: self.x.slice(), y: self.y.slice() };
        if let Some((dy, dx)) = self.passes.of(pass) {
            let to = dx.buffer.slice_mut();
            with_activation!(self.activation, S => backward::<T, S>(dy.layout, activated, dy.slice(), to, dx.mode));
        }
        Ok(())
    }
}

vectorised! {
fn forward<T: Real, S: Pointwise>(x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = S::value(x);
    }
}
}

vectorised! {
fn backward<T: Real, S: Pointwise>(layout: Layout, activated: Activated<'_, T>, dy: &[T], dx: &mut [T], mode: Mode) {
    let Activated { x, y } = activated;
    let Layout { lanes, width, .. } = layout;
    let keep = mode == Mode::Add;
    for (i, (dy, dx)) in dy.chunks_exact(width).zip(dx.chunks_exact_mut(width)).enumerate() {
        let at = i / lanes * width;
        let x = &x[at..at + width];
        let y = &y[at..at + width];
        for j in 0..width {
            dx[j] = if keep { dx[j] } else { T::ZERO } + dy[j] * S::slope(x[j], y[j]);
        }
    }
}
}
