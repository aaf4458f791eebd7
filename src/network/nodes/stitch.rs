//! Learned mixes of features across tasks, or across layers.

mod strips;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use self::strips::{Strip, StripPlace, add_times, add_up, product};
use super::segments::covers;
use crate::error::Result;
use crate::machine::buffer::Buffer;
use crate::machine::draws;
use crate::machine::product::Mode;
use crate::machine::random::Stream;
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::owner::Owner;
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};
use crate::network::{Network, ValueId};
use crate::parameters::ParamId;

/// Stream of sampled choices within a seed.
const CHOICE: u64 = 3;

/// `y[i] = sum_j a[i, j] x_j` over equal parts of the width; `x_j` are the parts of all groups of one value (`across`), or the
/// same part of the same group of several values.
#[derive(Debug)]
pub struct Stitch {
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// `[groups, parts * sources]`.
    pub weight: ParamId,
    /// What it fills.
    pub output: ValueId,
    /// Into how many equal parts the width is split.
    pub parts: usize,
    /// Whether it mixes the groups of one value.
    pub across: bool,
    /// How the mix follows from the weights.
    pub rule: MixRule,
}

/// What a [`Stitch`] is to be.
#[derive(Clone, Copy)]
pub struct Mixing<'a> {
    /// One value whose groups are mixed, or several values.
    pub inputs: &'a [ValueId],
    /// Whether groups are mixed.
    pub across: bool,
    /// Into how many equal parts the width is split.
    pub parts: usize,
    /// The weight from which each source `j` starts in each output part `i`: `start(i, j)`.
    pub start: &'a dyn Fn(usize, usize) -> f64,
    /// How the mix follows from the weights.
    pub rule: MixRule,
}

/// How the mix follows from the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MixRule {
    /// The weights are the mix.
    Plain,
    /// While training a sample of `softmax((w + Gumbel noise) / temperature)`, at a temperature that falls by a factor `decay` a
    /// batch down to `lowest`; the largest alone in evaluation.
    Sampled {
        /// The temperature of the first batch.
        temperature: f64,
        /// Its factor a batch.
        decay: f64,
        /// Where it stops.
        lowest: f64,
    },
}

impl MixRule {
    fn temperature(self, step: &Step<'_>) -> f64 {
        match self {
            MixRule::Plain => 1.0,
            MixRule::Sampled { temperature, decay, lowest } => {
                (temperature * decay.powf(step.number as f64)).max(lowest)
            }
        }
    }
}

/// Which parts are mixed.
#[derive(Debug, Clone, Copy)]
struct Wires {
    across: bool,
    parts: usize,
    /// Sources of one part of the output.
    sources: usize,
}

impl Wires {
    /// Input, group and part of source `j` of part `part` of group `group`.
    fn source(self, group: usize, part: usize, j: usize) -> (usize, usize, usize) {
        if self.across { (0, j / self.parts, j % self.parts) } else { (j, group, part) }
    }
}

/// Numbers of all groups that are worked on at once, so that they stay in the cache.
const BLOCK: usize = 1 << 15;

struct StitchKernel<T> {
    inputs: Vec<Buffer<T>>,
    y: Buffer<T>,
    weight: Buffer<T>,
    /// The mix of the last forward, `[groups * parts, sources]`.
    mix: Vec<T>,
    wires: Wires,
    rule: MixRule,
    node: u64,
    owner: Owner,
    /// Rows that are worked on at once.
    block: usize,
    /// Room for where strips start, and for one column of the mix.
    starts: Vec<usize>,
    column: Vec<T>,
    passes: PerPass<Backward<T>>,
}

struct Backward<T> {
    dy: Buffer<T>,
    weight: ParamGradient<T>,
    /// The gradient of the mix, `[groups, lanes, parts * sources]`.
    mix: Vec<T>,
    inputs: Vec<Option<InputGradient<T>>>,
}

impl Node for Stitch {
    fn name(&self) -> &'static str {
        "Stitch"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        let sampled = match self.rule {
            MixRule::Plain => Value::Null,
            MixRule::Sampled { temperature, decay, lowest } => json!([temperature, decay, lowest]),
        };
        Some(json!({"parts": self.parts, "across": self.across, "sampled": sampled}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let (groups, rows, width) = sizes(given.input(0));
        let parts = self.parts as i64;
        let part = width / parts;
        let sources = if self.across { groups * parts } else { given.inputs.len() as i64 };
        let mix = self.mix(given, given.grouped(0, &[-1, sources]));
        // `[groups, parts, ...]` of an input or of the output.
        let apart = |x: &Tensor| x.reshape([groups, rows, parts, part]).permute([0, 2, 1, 3]);
        let mixed = if self.across {
            mix.matmul(&apart(given.input(0)).reshape([sources, rows * part]))
        } else {
            let inputs: Vec<_> = given.inputs.iter().map(apart).collect();
            let weights =
                mix.reshape([groups, parts, sources]).permute([2, 0, 1]).reshape([sources, groups, parts, 1, 1]);
            (Tensor::stack(&inputs, 0) * weights).sum_dim_intlist(0_i64, false, given.kind())
        };
        let output = mixed.reshape([-1, parts, rows, part]).permute([0, 2, 1, 3]);
        Ok(output.reshape([-1, rows, width]).into())
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.weight]
    }

    fn covers_input(&self, net: &Network) -> bool {
        // Without mixing groups, each group only fills the lane of its own task.
        self.across || covers(net, &self.inputs, self.output)
    }
}

impl Stitch {
    /// The mix of a step `[groups * parts, sources]`, from the weights.
    fn mix(&self, given: &Operands<'_>, weights: Tensor) -> Tensor {
        let MixRule::Sampled { temperature, decay, lowest } = self.rule else { return weights };
        if !given.training {
            let best = weights.argmax(1, true);
            return weights.zeros_like().detach().scatter_value(1, &best, 1.0);
        }
        let uniform = draws::uniform(&given.draws.key(CHOICE), weights.numel()).clamp(1e-12, 1.0 - 1e-12);
        let noise = -(-uniform.log()).log();
        let number = given.draws.number.to_kind(Kind::Double);
        let heat = (Tensor::pow_scalar(decay, &number) * temperature).clamp_min(lowest);
        let noisy = &weights + noise.view_as(&weights).to_kind(given.kind());
        (noisy / heat.to_kind(given.kind())).softmax(1, given.kind())
    }
}

impl<T: Real> Prepares<T> for Stitch {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let passes = at.each_pass(|pass| {
            let inputs = (0..self.inputs.len()).map(|k| at.leaving(k, pass)).collect();
            let weight = at.param_gradient(0, pass)?;
            Ok(Backward {
                dy: at.arriving(self.output, pass),
                mix: vec![T::ZERO; weight.buffer.layout.len()],
                weight,
                inputs,
            })
        })?;
        let inputs: Vec<_> = self.inputs.iter().map(|&x| at.value(x)).collect();
        let y = at.value(self.output);
        let weight = at.param(self.weight)?;
        let numbers: usize = inputs.iter().chain([&y]).map(|x| x.layout.groups * x.layout.width).sum();
        let sources = weight.layout.len() / (y.layout.groups * self.parts);
        by_loops(StitchKernel {
            inputs,
            mix: vec![T::ZERO; weight.layout.len()],
            wires: Wires { across: self.across, parts: self.parts, sources },
            rule: self.rule,
            node: at.node as u64,
            owner: at.net.owner(self.output),
            block: (BLOCK / numbers.max(1)).max(1),
            starts: Vec::new(),
            column: Vec::new(),
            y,
            weight,
            passes,
        })
    }
}

impl<T: Real> StitchKernel<T> {
    /// The mix of this step, from the weights.
    fn choose(&mut self, step: &Step<'_>) {
        self.mix.copy_from_slice(self.weight.slice());
        let MixRule::Sampled { .. } = self.rule else { return };
        let heat = T::of(self.rule.temperature(step));
        let sources = self.wires.sources;
        let stream = Stream::new(step.seed, &[CHOICE, step.number, self.node]);
        for (i, row) in self.mix.chunks_exact_mut(sources).enumerate() {
            if !step.training {
                let best = (0..sources).fold(0, |best, j| if row[j] > row[best] { j } else { best });
                row.fill(T::ZERO);
                row[best] = T::ONE;
                continue;
            }
            for (j, x) in row.iter_mut().enumerate() {
                let uniform = stream.uniform((i * sources + j) as u64).clamp(1e-12, 1.0 - 1e-12);
                *x = (*x - T::of((-uniform.ln()).ln())) / heat;
            }
            let top = row.iter().fold(T::LOWEST, |top, &x| top.max(x));
            row.iter_mut().for_each(|x| *x = (*x - top).exp());
            let sum = row.iter().fold(T::ZERO, |sum, &x| sum + x);
            row.iter_mut().for_each(|x| *x = *x / sum);
        }
    }
}

impl<T: Real> Kernel for StitchKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        self.choose(step);
        let layout = self.y.layout;
        let wires = self.wires;
        let parts = wires.parts;
        let sources = wires.sources;
        let y = self.y.slice_mut();
        for first in (0..layout.rows).step_by(self.block) {
            let rows = self.block.min(layout.rows - first);
            for (i, mix) in self.mix.chunks_exact(sources).enumerate() {
                let group = i / parts;
                let part = i % parts;
                let to = Strip::new(layout, StripPlace { group, lane: 0, part, parts, first });
                if wires.across {
                    let x = &self.inputs[0];
                    self.starts.clear();
                    for j in 0..sources {
                        self.starts.push(
                            Strip::new(
                                x.layout,
                                StripPlace { group: j / parts, lane: 0, part: j % parts, parts, first },
                            )
                            .start,
                        );
                    }
                    let from = Strip::new(x.layout, StripPlace { group: 0, lane: 0, part: 0, parts, first });
                    add_up(to.pair(from, rows), y, x.slice(), &self.starts, mix, false);
                    continue;
                }
                for (k, &a) in mix.iter().enumerate() {
                    let x = &self.inputs[k];
                    let from = Strip::new(x.layout, StripPlace { group, lane: 0, part, parts, first });
                    add_times(to.pair(from, rows), y, x.slice(), a, k > 0);
                }
            }
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Backward { dy, weight, mix, inputs } = self.passes.of(pass);
        let layout = dy.layout;
        let wires = self.wires;
        let owner = self.owner;
        let parts = wires.parts;
        let sources = wires.sources;
        mix.fill(T::ZERO);
        for first in (0..layout.rows).step_by(self.block) {
            let rows = self.block.min(layout.rows - first);
            for (i, j) in (0..layout.groups * parts).flat_map(|i| (0..sources).map(move |j| (i, j))) {
                let group = i / parts;
                let part = i % parts;
                let (k, of, piece) = wires.source(group, part, j);
                let x = &self.inputs[k];
                let task = owner.task(group);
                let from = Strip::new(x.layout, StripPlace { group: of, lane: 0, part: piece, parts, first });
                for lane in 0..layout.lanes {
                    let d = Strip::new(layout, StripPlace { group, lane, part, parts, first });
                    let slot = (group * layout.lanes + lane) * parts * sources + part * sources + j;
                    mix[slot] += product(d.pair(from, rows), dy.slice(), x.slice());
                    let Some(dx) = &mut inputs[k] else { continue };
                    let to = dx.buffer.layout;
                    let apart = to.lanes != layout.lanes;
                    if wires.across && !apart {
                        continue;
                    }
                    // The first contribution to a lane of a source writes, later ones add.
                    let begins = group == 0 || owner.task(group - 1) != task;
                    let add = dx.mode == Mode::Add || (wires.across && !(begins && part == 0));
                    let factor = self.mix[i * sources + j] * dx.weight::<T>(step, task);
                    let into = Strip::new(
                        to,
                        StripPlace { group: of, lane: if apart { task } else { lane }, part: piece, parts, first },
                    );
                    add_times(into.pair(d, rows), dx.buffer.slice_mut(), dy.slice(), factor, add);
                }
            }
            let Some(dx) = inputs[0].as_mut().filter(|_| wires.across) else { continue };
            if dx.buffer.layout.lanes != layout.lanes {
                continue;
            }
            for (lane, j) in (0..layout.lanes).flat_map(|lane| (0..sources).map(move |j| (lane, j))) {
                let outputs = layout.groups * parts;
                self.column.clear();
                self.starts.clear();
                for i in 0..outputs {
                    let weight: T = dx.weight(step, owner.task(i / parts));
                    self.column.push(weight * self.mix[i * sources + j]);
                    self.starts.push(
                        Strip::new(layout, StripPlace { group: i / parts, lane, part: i % parts, parts, first }).start,
                    );
                }
                let from = Strip::new(layout, StripPlace { group: 0, lane, part: 0, parts, first });
                let into = dx.buffer.layout;
                let add = dx.mode == Mode::Add;
                let into = Strip::new(into, StripPlace { group: j / parts, lane, part: j % parts, parts, first });
                let to = dx.buffer.slice_mut();
                add_up(into.pair(from, rows), to, dy.slice(), &self.starts, &self.column, add);
            }
        }
        let add = weight.mode(step) == Mode::Add;
        let heat = T::of(self.rule.temperature(step));
        let slabs = weight.buffer.slice_mut().chunks_exact_mut(sources).zip(mix.chunks_exact(sources));
        for (at, (to, d)) in slabs.enumerate() {
            // Slabs are `[groups, lanes, parts]` rows, the mix `[groups, parts]`.
            let group = at / (parts * layout.lanes);
            let part = at % parts;
            let chosen = &self.mix[(group * parts + part) * sources..][..sources];
            let mean = (0..sources).fold(T::ZERO, |sum, j| sum + chosen[j] * d[j]);
            for j in 0..sources {
                let slope = match self.rule {
                    MixRule::Plain => d[j],
                    MixRule::Sampled { .. } if !step.training => T::ZERO,
                    MixRule::Sampled { .. } => chosen[j] * (d[j] - mean) / heat,
                };
                to[j] = if add { to[j] + slope } else { slope };
            }
        }
        Ok(())
    }
}
