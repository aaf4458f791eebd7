//! Gates that select few experts and can be differentiated.

use tch::{Kind, Tensor};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::machine::buffer::Buffer;
use crate::machine::crossing::constant;
use crate::machine::product::Mode;
use crate::machine::real::{LANES, Real};
use crate::network::ValueId;
use crate::network::formula::{Computed, Operands, sizes};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, Terms, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, Prepare};
use crate::parameters::Reach;
use crate::vectorised;

/// Keeps logarithms of selections that are exactly 0 finite, as the authors' code does.
const EPSILON: f64 = 1e-6;
/// Sum of a selector's weights of experts below which its penalty goes on along its tangent.
const FEW: f64 = 0.1;

/// The gate of DSelect-k (Hazimeh et al., NeurIPS 2021): `y = sum_s softmax(w)_s r_s`, where selector `s` weighs expert `j` by
/// `r_s[j] = product over bits b of (S(z_b) if bit b of j is set, else 1 - S(z_b))`, the lowest bit first, and
/// `S(z) = v^2 (3 - 2 v)` with `v = z / gamma + 1/2`, held within 0 and 1, is the smooth step.
///
/// Terms of the objective, means over rows of sums over groups and selectors (the authors' code sums over rows):
///
/// * `entropy` times `-sum_j r_s[j] ln(r_s[j] + 1e-6)`;
/// * where the number of experts is no power of 2, `1 / t - 1`, `t = sum_j r_s[j]`, against codes of no expert. Weights are not
///   normalised, as in the authors' code, which has `1 / t`; below `t = 0.1` its tangent takes over, since it overflows
///   where `S` is flat.
#[derive(Debug)]
pub struct Selectors {
    /// `z`, `[groups, rows, selectors * bits]`.
    pub bits: ValueId,
    /// `w`, `[groups, rows, selectors]`.
    pub mix: ValueId,
    /// What it fills, `[groups, rows, experts]`.
    pub output: ValueId,
    /// Sizes and strengths.
    pub gate: Gate,
}

/// Sizes and strengths of [`Selectors`].
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// How many selectors, each of one expert.
    pub selectors: usize,
    /// How many experts.
    pub experts: usize,
    /// Width of the smooth step.
    pub gamma: f64,
    /// Strength of the entropy term.
    pub entropy: f64,
}

struct SelectorsKernel<T> {
    z: Buffer<T>,
    w: Buffer<T>,
    y: Buffer<T>,
    gate: Gate,
    room: Room<T>,
    terms: Vec<f64>,
    /// All tasks, if they reach the gate.
    shared: Option<usize>,
    passes: PerPass<Option<Backward<T>>>,
}

struct Backward<T> {
    dy: Buffer<T>,
    z: Option<InputGradient<T>>,
    w: Option<InputGradient<T>>,
}

impl Gate {
    /// Bits that tell the experts apart.
    pub fn bits(self) -> usize {
        self.experts.next_power_of_two().trailing_zeros() as usize
    }

    fn has_spare_codes(self) -> bool {
        !self.experts.is_power_of_two()
    }

    /// Whether a row has terms.
    fn has_terms(self) -> bool {
        self.entropy > 0.0 || self.has_spare_codes()
    }
}

/// A number for each of the rows that are treated at once.
type Rows<T> = [T; LANES];

/// What one block of rows needs.
struct Room<T> {
    /// `S(z)`, `1 - S(z)` and the slope, of each bit of each selector.
    steps: Vec<[Rows<T>; 3]>,
    /// `softmax(w)`.
    mix: Vec<Rows<T>>,
    /// A tree a selector: node `2^b + j` is the weight of code `j` of the first `b` bits.
    trees: Vec<Rows<T>>,
    /// Slopes of the terms at each selector's weights.
    terms: Vec<Rows<T>>,
    /// A tree of slopes.
    slopes: Vec<Rows<T>>,
    /// Slopes at the gate, and at each `softmax(w)`.
    dy: Vec<Rows<T>>,
    means: Vec<Rows<T>>,
}

impl<T: Real> Room<T> {
    fn new(gate: Gate) -> Self {
        let Gate { selectors, experts, .. } = gate;
        let bits = gate.bits();
        Self {
            steps: vec![[[T::ZERO; LANES]; 3]; selectors * bits],
            mix: rows(selectors),
            trees: rows(selectors << (bits + 1)),
            terms: rows(selectors * experts),
            slopes: rows(1 << (bits + 1)),
            dy: rows(experts),
            means: rows(selectors),
        }
    }
}

fn rows<T: Real>(count: usize) -> Vec<Rows<T>> {
    vec![[T::ZERO; LANES]; count]
}

impl Node for Selectors {
    fn name(&self) -> &'static str {
        "Selectors"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.bits, self.mix]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        let Gate { selectors, experts, gamma, entropy } = self.gate;
        let spare = self.gate.has_spare_codes();
        Some(json!({"selectors": selectors, "experts": experts, "bits": self.gate.bits(), "gamma": gamma,
                    "entropy": entropy, "epsilon": EPSILON, "spare": spare, "few": FEW}))
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let Gate { selectors, experts, gamma, entropy } = self.gate;
        let (groups, rows, _) = sizes(given.input(0));
        let bits = self.gate.bits();
        let t = (given.input(0) / gamma).clamp(-0.5, 0.5).reshape([groups, rows, selectors as i64, bits as i64]);
        let smooth = |v: Tensor| v.square() * (&v * -2.0 + 3.0);
        // From each end by itself, so that small weights keep their digits.
        let steps = Tensor::stack(&[smooth(&t * -1.0 + 0.5), smooth(t + 0.5)], 4);
        let of_bit = |bit: usize| {
            let codes: Vec<_> = (0..experts).map(|j| (j >> bit & 1) as f64).collect();
            let codes = constant(&codes, Kind::Int64, steps.device())?;
            Ok::<_, Error>(steps.select(3, bit as i64).index_select(3, &codes))
        };
        let one = given.input(0).ones_like().narrow(2, 0, 1).unsqueeze(3);
        let chosen = (0..bits).try_fold(one, |product, bit| Ok::<_, Error>(product * of_bit(bit)?))?;
        let mix = given.input(1).softmax(2, given.kind()).unsqueeze(3);
        let output = (mix * &chosen).sum_dim_intlist(2_i64, false, given.kind());
        let mean = |of_selectors: Tensor| {
            let sums = of_selectors.sum_dim_intlist(2_i64, true, given.kind());
            given.mean_of_rows(&sums).reshape([-1]) * given.shared(1.0)
        };
        let mut terms = Vec::new();
        if entropy > 0.0 {
            let each = &chosen * (&chosen + EPSILON).log();
            terms.push(mean(each.sum_dim_intlist(3_i64, false, given.kind())) * -entropy);
        }
        if self.gate.has_spare_codes() {
            let reached = chosen.sum_dim_intlist(3_i64, false, given.kind());
            let held = reached.clamp_min(FEW);
            let slope = held.detach().square().reciprocal() * -1.0;
            terms.push(mean(held.reciprocal() - 1.0 + slope * (reached - &held)));
        }
        Ok(Computed { terms, ..output.into() })
    }

    fn terms(&self) -> Vec<&'static str> {
        let gate = self.gate;
        let mut terms = Vec::new();
        if gate.entropy > 0.0 {
            terms.push("entropy");
        }
        if gate.has_spare_codes() {
            terms.push("spare_codes");
        }
        terms
    }
}

impl<T: Real> Prepares<T> for Selectors {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        if at.is_of_positions(self.output) && self.gate.has_terms() {
            return Ok(None);
        }
        let learns = at.net.values[self.output].learns;
        let backward =
            |pass| Backward { dy: at.arriving(self.output, pass), z: at.leaving(0, pass), w: at.leaving(1, pass) };
        by_loops(SelectorsKernel {
            z: at.value(self.bits),
            w: at.value(self.mix),
            y: at.value(self.output),
            gate: self.gate,
            room: Room::new(self.gate),
            terms: vec![0.0; self.terms().len()],
            shared: (at.net.values[self.output].reach == Reach::All).then(|| at.net.tasks()),
            passes: at.each_pass(|pass| Ok(learns.then(|| backward(pass))))?,
        })
    }
}

impl<T: Real> Kernel for SelectorsKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let Self { z, w, y, gate, room, terms, .. } = self;
        let scale = step.share / y.layout.rows as f64;
        let measured = step.training && gate.has_terms();
        let mut entropy = 0.0;
        let mut spare = 0.0;
        let blocks = z.slice().chunks(LANES * z.layout.width).zip(w.slice().chunks(LANES * w.layout.width));
        for ((z, w), y) in blocks.zip(y.slice_mut().chunks_mut(LANES * gate.experts)) {
            select(*gate, z, w, room);
            mix(*gate, room, y);
            if measured {
                let [e, s] = measure(*gate, w.len() / gate.selectors, scale, room);
                entropy += e;
                spare += s;
            }
        }
        // As `Node::terms` names them.
        let mut places = terms.iter_mut();
        if gate.entropy > 0.0 {
            *places.next().expect("a place for each term") = entropy;
        }
        if gate.has_spare_codes() {
            *places.next().expect("a place for each term") = spare;
        }
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Self { z, w, gate, room, shared, passes, .. } = self;
        let Some(Backward { dy, z: to_z, w: to_w }) = passes.of(pass) else { return Ok(()) };
        let lanes = dy.layout.lanes;
        let wide = z.layout.width;
        let scale = if step.training { step.share / dy.layout.rows as f64 } else { 0.0 };
        let part = shared.map_or(T::ONE, |tasks| step.part(tasks, pass));
        let blocks = z.slice().chunks(LANES * wide).zip(w.slice().chunks(LANES * gate.selectors)).enumerate();
        for (block, (z, w)) in blocks {
            select(*gate, z, w, room);
            let count = w.len() / gate.selectors;
            if gate.has_terms() {
                measure(*gate, count, scale, room);
            }
            let first = block * LANES * lanes;
            let count = count * lanes;
            let dy = &dy.slice()[first * gate.experts..][..count * gate.experts];
            for lane in 0..lanes {
                slopes(*gate, (lane, lanes), dy, room);
                if let Some(InputGradient { buffer, mode, .. }) = to_w {
                    let to = &mut buffer.slice_mut()[first * gate.selectors..][..count * gate.selectors];
                    give_mix(*gate, (lane, lanes), room, to, *mode == Mode::Add);
                }
                if let Some(InputGradient { buffer, mode, .. }) = to_z {
                    let to = &mut buffer.slice_mut()[first * wide..][..count * wide];
                    give_bits(*gate, (lane, lanes), part, room, to, *mode == Mode::Add);
                }
            }
        }
        Ok(())
    }

    fn terms(&self) -> Terms<'_> {
        Terms::Numbers(&self.terms)
    }
}

vectorised! {
/// Bits, weights of selectors and trees of up to [`LANES`] rows.
fn select<T: Real>(gate: Gate, z: &[T], w: &[T], room: &mut Room<T>) {
    let Gate { selectors, .. } = gate;
    let bits = gate.bits();
    let count = w.len() / selectors;
    let half = T::of(0.5);
    let inverse = T::of(1.0 / gate.gamma);
    for (i, [set, clear, slope]) in room.steps.iter_mut().enumerate() {
        for l in 0..count {
            set[l] = z[l * selectors * bits + i];
        }
        for l in 0..LANES {
            // From each end by itself, so that small weights keep their digits.
            let t = set[l] * inverse;
            // What is not a number goes through.
            let t = if t <= T::ZERO - half { T::ZERO - half } else { t };
            let t = if t >= half { half } else { t };
            let v = half + t;
            let u = half - t;
            set[l] = v * v * (T::of(3.0) - (v + v));
            clear[l] = u * u * (T::of(3.0) - (u + u));
            slope[l] = T::of(6.0) * inverse * u * v;
        }
    }
    let mut top = [T::LOWEST; LANES];
    let mut sum = [T::ZERO; LANES];
    for (s, mix) in room.mix.iter_mut().enumerate() {
        for l in 0..count {
            mix[l] = w[l * selectors + s];
        }
        for l in 0..LANES {
            top[l] = top[l].max(mix[l]);
        }
    }
    for mix in &mut room.mix {
        for l in 0..LANES {
            mix[l] = (mix[l] - top[l]).exp();
            sum[l] += mix[l];
        }
    }
    for mix in &mut room.mix {
        for l in 0..LANES {
            mix[l] = mix[l] / sum[l];
        }
    }
    for (tree, steps) in room.trees.chunks_exact_mut(2 << bits).zip(room.steps.chunks_exact(bits)) {
        tree[1] = [T::ONE; LANES];
        for (b, [set, clear, _]) in steps.iter().enumerate() {
            for j in 0..1 << b {
                let parent = tree[(1 << b) + j];
                let first = (2 << b) + j;
                for l in 0..LANES {
                    tree[first][l] = parent[l] * clear[l];
                    tree[first + (1 << b)][l] = parent[l] * set[l];
                }
            }
        }
    }
}
}

vectorised! {
/// `y = sum_s softmax(w)_s r_s`.
fn mix<T: Real>(gate: Gate, room: &Room<T>, y: &mut [T]) {
    let experts = gate.experts;
    let bits = gate.bits();
    for j in 0..experts {
        let mut sum = [T::ZERO; LANES];
        for (tree, mix) in room.trees.chunks_exact(2 << bits).zip(&room.mix) {
            let chosen = &tree[(1 << bits) + j];
            for l in 0..LANES {
                sum[l] += mix[l] * chosen[l];
            }
        }
        for (y, sum) in y.chunks_exact_mut(experts).zip(sum) {
            y[j] = sum;
        }
    }
}
}

vectorised! {
/// The terms of so many rows, entropy and spare codes, and their slopes, all times `scale`.
fn measure<T: Real>(gate: Gate, count: usize, scale: f64, room: &mut Room<T>) -> [f64; 2] {
    let experts = gate.experts;
    let bits = gate.bits();
    let few = T::of(FEW);
    let small = T::of(EPSILON);
    let strength = T::of(gate.entropy);
    let penalty = T::of(if gate.has_spare_codes() { 1.0 } else { 0.0 });
    let factor = T::of(scale);
    let mut entropy = [T::ZERO; LANES];
    let mut spare = [T::ZERO; LANES];
    for (tree, terms) in room.trees.chunks_exact(2 << bits).zip(room.terms.chunks_exact_mut(experts)) {
        let mut reached = [T::ZERO; LANES];
        for r in &tree[1 << bits..][..experts] {
            for l in 0..LANES {
                reached[l] += r[l];
            }
        }
        let mut steep = [T::ZERO; LANES];
        for l in 0..LANES {
            let held = reached[l].max(few);
            let slope = (T::ZERO - T::ONE) / (held * held);
            steep[l] = penalty * slope;
            spare[l] += T::ONE / held - T::ONE + slope * (reached[l] - held);
        }
        for (r, term) in tree[1 << bits..].iter().zip(terms) {
            for l in 0..LANES {
                let raised = r[l] + small;
                let log = (r[l] + small).ln();
                entropy[l] += T::ZERO - r[l] * log;
                term[l] = factor * (steep[l] - strength * (log + r[l] / raised));
            }
        }
    }
    let total = |rows: Rows<T>| rows[..count].iter().map(|x| x.wide()).sum::<f64>();
    [scale * gate.entropy * total(entropy), scale * total(spare)]
}
}

vectorised! {
/// Brings one lane of the gate's gradient to hand, and the slopes at `softmax(w)`.
fn slopes<T: Real>(gate: Gate, (lane, lanes): (usize, usize), dy: &[T], room: &mut Room<T>) {
    let experts = gate.experts;
    let bits = gate.bits();
    for (j, to) in room.dy.iter_mut().enumerate() {
        for (l, row) in dy.chunks_exact(lanes * experts).enumerate() {
            to[l] = row[lane * experts + j];
        }
    }
    for (tree, mean) in room.trees.chunks_exact(2 << bits).zip(&mut room.means) {
        *mean = [T::ZERO; LANES];
        for (r, dy) in tree[1 << bits..].iter().zip(&room.dy) {
            for l in 0..LANES {
                mean[l] += r[l] * dy[l];
            }
        }
    }
}
}

vectorised! {
/// The gradient of the selectors' weights in one lane.
fn give_mix<T: Real>(gate: Gate, (lane, lanes): (usize, usize), room: &Room<T>, to: &mut [T], add: bool) {
    let mut whole = [T::ZERO; LANES];
    for (mix, mean) in room.mix.iter().zip(&room.means) {
        for l in 0..LANES {
            whole[l] += mix[l] * mean[l];
        }
    }
    for (s, (mix, mean)) in room.mix.iter().zip(&room.means).enumerate() {
        for (l, row) in to.chunks_exact_mut(lanes * gate.selectors).enumerate() {
            let d = mix[l] * (mean[l] - whole[l]);
            let to = &mut row[lane * gate.selectors + s];
            *to = if add { *to + d } else { d };
        }
    }
}
}

vectorised! {
/// The gradient of the bits in one lane, `part` of the terms' with it: down each tree, from codes to bits.
fn give_bits<T: Real>(gate: Gate, (lane, lanes): (usize, usize), part: T, room: &mut Room<T>, to: &mut [T], add: bool) {
    let Gate { selectors, experts, .. } = gate;
    let bits = gate.bits();
    let Room { steps, mix, trees, terms, slopes: d, dy, .. } = room;
    for s in 0..selectors {
        let tree = &trees[s * (2 << bits)..][..2 << bits];
        let terms = &terms[s * experts..][..experts];
        let mix = &mix[s];
        d[1 << bits..].fill([T::ZERO; LANES]);
        for (j, d) in d[1 << bits..][..experts].iter_mut().enumerate() {
            for l in 0..LANES {
                d[l] = mix[l] * dy[j][l] + part * terms[j][l];
            }
        }
        for b in (0..bits).rev() {
            let [set, clear, slope] = &steps[s * bits + b];
            let mut of_step = [T::ZERO; LANES];
            for j in 0..1 << b {
                let without = d[(2 << b) + j];
                let with = d[(3 << b) + j];
                let parent = &tree[(1 << b) + j];
                let into = &mut d[(1 << b) + j];
                for l in 0..LANES {
                    of_step[l] += parent[l] * (with[l] - without[l]);
                    into[l] = clear[l] * without[l] + set[l] * with[l];
                }
            }
            for (l, row) in to.chunks_exact_mut(lanes * selectors * bits).enumerate() {
                let given = slope[l] * of_step[l];
                let to = &mut row[(lane * selectors + s) * bits + b];
                *to = if add { *to + given } else { given };
            }
        }
    }
}
}
