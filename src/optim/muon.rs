//! Muon.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::adam::{Moments, moments};
use super::adamw::{decoupled, shrunk};
use super::matrices::{MatrixRule, QUINTIC, SHORTEST, Work};
use super::rows::sweep_rows;
use super::{Optimizer, TensorStep, Updated, sweep};
use crate::error::Result;
use crate::parameters::touched::Touched;
use crate::parameters::{MatrixRates, PerGroup, Rates, Segment};
use crate::vectorised;

/// What the learning rate of a matrix is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjust {
    /// `sqrt(max(1, rows / columns))`.
    Original,
    /// `0.2 sqrt(max(rows, columns))`.
    MatchRmsAdamw,
}

crate::choices!(Adjust: Original, MatchRmsAdamw);

crate::component! {
    /// Muon (Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, Muon: An optimizer for hidden layers in neural networks,
    /// 2024): momentum whose singular values are all brought to about 1, for weight matrices of hidden layers.
    ///
    /// `M = momentum M + (1 - momentum) G`, `X = (1 - momentum) G + momentum M` (or `M` without `nesterov`), divided by its
    /// length, then `ns_steps` times `X = a X + (b A + c A^2) X` with `A = X X^T`, `a = 3.4445`, `b = -4.7750`,
    /// `c = 2.0315`, and `W = (1 - lr weight_decay) W - lr ratio X`. All else learns as under `pt.optim.AdamW`.
    ///
    /// A weight matrix of a hidden layer is each `[rows, columns]` of a layer within encoder, experts, gates and heads; of
    /// networks, experts, towers or members side by side each its own. Not among them, as in the authors' code, are
    /// embeddings, biases, norms, mixes and scales, and of heads the last layer (of a head of your own all layers). Of an encoder
    /// of your own it is every parameter of two dimensions, no kernels of convolutions; `exclude` names what is none.
    ///
    /// The steps are those of `torch.optim.Muon` and `torch.optim.AdamW` side by side, but that the iteration, which torch and
    /// the authors compute in bfloat16, is in single precision here. Defaults are the authors' for matrices, whose `lr`
    /// torch has at 1e-3 and `weight_decay` at 0.1, and `pt.optim.AdamW`'s for all else. Keys of `lr` name matrices, those
    /// of `adamw_lr` other parameters.
    pub struct Muon = "Muon" {
        /// Learning rate of weight matrices of hidden layers, or learning rates by group.
        lr: PerGroup = PerGroup::All(0.02), in 0.0..;
        /// How much of the momentum is kept.
        momentum: f64 = 0.95, in 0.0..1.0;
        /// Whether to look ahead along the momentum.
        nesterov: bool = true;
        /// Steps of the Newton-Schulz iteration.
        ns_steps: usize = 5, in 1.0..100.0;
        /// Weight decay, or weight decays by group, of all that decays.
        weight_decay: PerGroup = PerGroup::All(0.0), in 0.0..;
        /// `"original"`: a matrix learns `sqrt(max(1, rows / columns))` times as fast as `lr` says. `"match_rms_adamw"`:
        /// `0.2 sqrt(max(rows, columns))` times, which makes steps about as long as AdamW's (Liu et al., Muon is Scalable
        /// for LLM Training, 2025).
        adjust_lr_fn: Adjust = Adjust::Original;
        /// Learning rate of all other parameters, or learning rates by group.
        adamw_lr: PerGroup = PerGroup::All(1e-3), in 0.0..;
        /// Decay rates of their two moments.
        adamw_betas: [f64; 2] = [0.9, 0.999], in 0.0..1.0;
        /// Added to the denominator of their steps.
        adamw_eps: f64 = 1e-8, in 0.0..;
        /// Beginnings of paths of matrices that learn like all other parameters, as tables of embeddings in a module of
        /// your own do.
        exclude: Vec<String> = Vec::new();
    }
}

impl Muon {
    fn rule(&self, step: u64, scale: f32, segment: &Segment) -> Moments {
        decoupled(step, scale, self.adamw_betas, self.adamw_eps, segment)
    }

    /// How much faster a matrix learns.
    fn ratio(&self, [rows, columns]: [usize; 2]) -> f64 {
        let [rows, columns] = [rows as f64, columns.max(1) as f64];
        match self.adjust_lr_fn {
            Adjust::Original => (rows / columns).max(1.0).sqrt(),
            Adjust::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

impl Optimizer for Muon {
    fn rates(&self) -> Rates<'_> {
        let own = Self::default();
        let rest = |group: &PerGroup| group.rest(f64::NAN);
        Rates {
            lr: &self.adamw_lr,
            weight_decay: &self.weight_decay,
            defaults: [rest(&own.adamw_lr), rest(&own.weight_decay)],
            of_matrices: Some(MatrixRates {
                lr: &self.lr,
                default: rest(&own.lr),
                rest: "adamw_lr",
                exclude: &self.exclude,
            }),
        }
    }

    fn slots(&self) -> &'static [&'static str] {
        &["momentum", "second_moment"]
    }

    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        moments(step, step.gradients, self.adamw_betas, self.adamw_eps, &shrunk(step))
    }

    fn update(
        &self,
        step: u64,
        gradient_scale: f32,
        segments: &[Segment],
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    ) {
        sweep(segments, parameters, gradients, state, |segment| self.rule(step, gradient_scale, segment));
    }

    fn update_rows(
        &self,
        step: u64,
        gradient_scale: f32,
        segment: &Segment,
        table: &mut [f32],
        touched: &Touched<f32>,
        state: &mut [&mut [f32]],
    ) {
        sweep_rows(&self.rule(step, gradient_scale, segment), table, touched, state);
    }

    fn of_matrices(&self) -> Option<&dyn MatrixRule> {
        Some(self)
    }
}

impl MatrixRule for Muon {
    fn formula(&self, step: &TensorStep<'_>) -> Updated {
        let fresh = step.gradients * (1.0 - self.momentum);
        let momentum = &step.state[0] * self.momentum + &fresh;
        let ahead = if self.nesterov { fresh + &momentum * self.momentum } else { momentum.shallow_clone() };
        let size = step.parameters.size();
        let tall = size[1] > size[2];
        let turned = |x: Tensor| if tall { x.transpose(1, 2) } else { x };
        let x = turned(ahead);
        let lengths = x.square().sum_dim_intlist([1_i64, 2].as_slice(), true, x.kind()).sqrt().clamp_min(SHORTEST);
        let [a, b, c] = QUINTIC;
        let x = (0..self.ns_steps).fold(x / lengths, |x, _| {
            let gram = x.matmul(&x.transpose(1, 2));
            let polynomial = &gram * b + gram.matmul(&gram) * c;
            &x * a + polynomial.matmul(&x)
        });
        let ratio = self.ratio([size[1], size[2]].map(|side| side as usize));
        let parameters = shrunk(step) - step.rate() * ratio * turned(x);
        Updated { parameters, state: vec![momentum] }
    }

    fn update(
        &self,
        gradient_scale: f32,
        segment: &Segment,
        work: &mut Work,
        parameters: &mut [f32],
        gradients: &[f32],
        state: &mut [&mut [f32]],
    ) -> Result<()> {
        let range = segment.range.clone();
        let mix = Mix {
            keep: self.momentum as f32,
            add: (1.0 - self.momentum) as f32 * gradient_scale,
            nesterov: self.nesterov,
        };
        blend(mix, &gradients[range.clone()], &mut state[0][range.clone()], work.given());
        let rate = (segment.lr * self.ratio(work.sides())) as f32;
        let left = (1.0 - segment.lr * segment.weight_decay) as f32;
        go(left, rate, work.orthogonalised(self.ns_steps)?, &mut parameters[range]);
        Ok(())
    }
}

/// How momentum and gradient make a direction.
#[derive(Clone, Copy)]
struct Mix {
    keep: f32,
    add: f32,
    nesterov: bool,
}

vectorised! {
/// Updates the momentum, and gives what is to be orthogonalised.
fn blend(mix: Mix, gradients: &[f32], momentum: &mut [f32], ahead: &mut [f32]) {
    let Mix { keep, add, nesterov } = mix;
    for ((ahead, momentum), &gradient) in ahead.iter_mut().zip(momentum).zip(gradients) {
        let fresh = add * gradient;
        *momentum = keep * *momentum + fresh;
        *ahead = if nesterov { fresh + keep * *momentum } else { *momentum };
    }
}
}

vectorised! {
/// Shrinks parameters and goes against a direction.
fn go(left: f32, rate: f32, direction: &[f32], parameters: &mut [f32]) {
    for (parameter, &x) in parameters.iter_mut().zip(direction) {
        *parameter = left * *parameter - rate * x;
    }
}
}
