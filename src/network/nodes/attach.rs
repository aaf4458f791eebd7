//! To which position of its row each position is attached, and how.

use serde_json::{Value, json};
use tch::Tensor;

use super::pairwise::PairPlaces;
use super::segments::take;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::parallel::{Disjoint, split};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::axis::Link;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::positions::Places;
use crate::network::prepare::{InputGradient, Prepare};
use crate::vectorised;

/// Logarithms of probabilities of pairs `(i, j)`: that `i` is not attached to `j`, `1 - p(j | i)`, then of each kind that it is
/// so attached, `p(j | i) p(k | i, j)`. The first is the softmax of scores of arcs over all `j` of the row, the second one of
/// scores of kinds (Dozat & Manning, Deep Biaffine Attention for Neural Dependency Parsing, ICLR 2017).
#[derive(Debug)]
pub struct Attach {
    /// Scores of arcs, of width 1, and of kinds.
    pub inputs: [ValueId; 2],
    /// What it fills, wider by 1 than the kinds.
    pub output: ValueId,
    /// Of positions, and of their pairs, to rows.
    pub links: [Link; 2],
}

/// The least probability that is told from none.
const TINY: f64 = 1e-30;

struct AttachKernel<T> {
    arcs: Buffer<T>,
    kinds: Buffer<T>,
    y: Buffer<T>,
    places: Places,
    /// Of each pair the logarithm of `p(j | i)`.
    log_p: Vec<T>,
    /// Gradients at arcs and kinds of a position's pairs.
    own: Vec<T>,
    passes: PerPass<Option<Backward<T>>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    arcs: Option<InputGradient<T>>,
    kinds: Option<InputGradient<T>>,
}

impl Node for Attach {
    fn name(&self) -> &'static str {
        "Attach"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.to_vec()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn along(&self) -> Vec<Link> {
        self.links.to_vec()
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let arcs = given.input(0).reshape([-1]);
        let PairPlaces { row, numbers: [first, _], starts, there } =
            PairPlaces::new(&given.places[0], &given.places[1]);
        let of = starts.index_select(0, &row) + first;
        let positions = given.places[0].there().size()[0].max(1);
        let of = of.clamp(0, positions - 1);
        let arcs = arcs.where_self(&there, &arcs.zeros_like());
        let least = Tensor::full([positions], f64::NEG_INFINITY, (arcs.kind(), arcs.device()));
        let outside = arcs.masked_fill(&there.logical_not(), f64::NEG_INFINITY);
        let top = least.internal_scatter_reduce(0, &of, &outside.detach(), "amax", true).index_select(0, &of);
        let top = top.where_self(&there, &top.zeros_like());
        let each = (&arcs - &top).exp();
        let each = each.where_self(&there, &each.zeros_like());
        let sum = Tensor::zeros([positions], (arcs.kind(), arcs.device())).index_add(0, &of, &each);
        let sum = sum.index_select(0, &of).where_self(&there, &each.ones_like());
        let attached = &arcs - &top - sum.log();
        // Of all others of the position together, without the difference to 1.
        let others = ((&sum - &each) / &sum).clamp_min(TINY).log();
        let kinds = given.input(1).squeeze_dim(0).log_softmax(1, given.kind()) + attached.unsqueeze(1);
        let y = Tensor::cat(&[others.unsqueeze(1), kinds], 1).unsqueeze(0);
        Ok(y.where_self(&there.reshape([1, -1, 1]), &y.zeros_like()).into())
    }
}

impl<T: Real> Prepares<T> for Attach {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let y = at.value(self.output);
        let passes = at.each_pass(|pass| {
            let [arcs, kinds] = [at.leaving(0, pass), at.leaving(1, pass)];
            if arcs.is_none() && kinds.is_none() {
                return Ok(None);
            }
            Ok(Some(Backward { dy: at.arriving(self.output, pass), arcs, kinds }))
        })?;
        by_loops(AttachKernel {
            arcs: at.value(self.inputs[0]),
            kinds: at.value(self.inputs[1]),
            log_p: vec![T::ZERO; y.layout.rows],
            y,
            places: at.places(self.links[0]),
            own: Vec::new(),
            passes,
        })
    }
}

/// Where the pairs of rows before this one end.
fn begin(counts: &[i32], row: usize) -> usize {
    counts[..row].iter().map(|&count| count as usize * count as usize).sum()
}

impl<T: Real> Kernel for AttachKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        let wide = self.y.layout.width;
        let counts = self.places.counts.slice();
        let end = begin(counts, counts.len());
        self.y.slice_mut()[end * wide..].fill(T::ZERO);
        let (arcs, kinds) = (self.arcs.slice(), self.kinds.slice());
        let y = Disjoint::new(self.y.slice_mut());
        let log_p = Disjoint::new(&mut self.log_p);
        split(counts.len(), end * wide, &|_, rows| {
            let mut first = begin(counts, rows.start);
            for &count in &counts[rows] {
                let count = count as usize;
                for _ in 0..count {
                    let pairs = first..first + count;
                    // SAFETY: pairs of a row are one thread's.
                    let (y, log_p) =
                        unsafe { (y.part(pairs.start * wide..pairs.end * wide), log_p.part(pairs.clone())) };
                    attach(wide - 1, &arcs[pairs.clone()], &kinds[pairs.start * (wide - 1)..], log_p, y);
                    first = pairs.end;
                }
            }
        });
        Ok(())
    }

    fn backward(&mut self, _: &Step<'_>, pass: Pass) -> Result<()> {
        let Some(Backward { dy, arcs, kinds }) = self.passes.of(pass) else { return Ok(()) };
        let Layout { width: wide, .. } = dy.layout;
        let counts = self.places.counts.slice();
        let end = begin(counts, counts.len());
        let most = counts.iter().fold(0, |most, &count| most.max(count as usize));
        self.own.resize(most * wide, T::ZERO);
        let (y, log_p, dy) = (self.y.slice(), &self.log_p, dy.slice());
        let (of_arcs, of_kinds) = self.own.split_at_mut(most);
        let mut first = 0;
        for &count in counts {
            let count = count as usize;
            for _ in 0..count {
                let pairs = first..first + count;
                let each = pairs.start * wide..pairs.end * wide;
                let (of_arcs, of_kinds) = (&mut of_arcs[..count], &mut of_kinds[..count * (wide - 1)]);
                give_back(wide - 1, &log_p[pairs.clone()], &y[each.clone()], &dy[each], of_arcs, of_kinds);
                if let Some(arcs) = arcs {
                    take(&mut arcs.buffer.slice_mut()[pairs.clone()], of_arcs, arcs.mode == Mode::Add);
                }
                if let Some(kinds) = kinds {
                    let each = pairs.start * (wide - 1)..pairs.end * (wide - 1);
                    take(&mut kinds.buffer.slice_mut()[each], of_kinds, kinds.mode == Mode::Add);
                }
                first = pairs.end;
            }
        }
        for (gradient, width) in [(arcs, 1), (kinds, wide - 1)] {
            if let Some(InputGradient { buffer, mode: Mode::Write, .. }) = gradient {
                buffer.slice_mut()[end * width..].fill(T::ZERO);
            }
        }
        Ok(())
    }
}

vectorised! {
/// Logarithms of probabilities of one position's pairs, and that of `p(j | i)`.
fn attach<T: Real>(width: usize, arcs: &[T], kinds: &[T], log_p: &mut [T], y: &mut [T]) {
    let mut top = T::LOWEST;
    for &arc in arcs {
        top = top.max(arc);
    }
    let mut sum = T::ZERO;
    for (log_p, &arc) in log_p.iter_mut().zip(arcs) {
        *log_p = (arc - top).exp();
        sum += *log_p;
    }
    let log = top + sum.ln();
    let least = T::of(TINY);
    let pairs = arcs.iter().zip(kinds.chunks_exact(width)).zip(y.chunks_exact_mut(width + 1));
    for (log_p, ((&arc, kinds), y)) in log_p.iter_mut().zip(pairs) {
        y[0] = ((sum - *log_p) / sum).max(least).ln();
        *log_p = arc - log;
        let mut most = T::LOWEST;
        for &kind in kinds {
            most = most.max(kind);
        }
        let mut all = T::ZERO;
        for &kind in kinds {
            all += (kind - most).exp();
        }
        let shift = *log_p - most - all.ln();
        for (y, &kind) in y[1..].iter_mut().zip(kinds) {
            *y = kind + shift;
        }
    }
}
}

vectorised! {
/// What arrives at one position's pairs, at the scores of their arcs and kinds. Most pairs have no label, and no gradient.
fn give_back<T: Real>(width: usize, log_p: &[T], y: &[T], dy: &[T], arcs: &mut [T], kinds: &mut [T]) {
    let least = T::of(2.0 * TINY);
    let mut sum = T::ZERO;
    let mut others = T::ZERO;
    let pairs = y.chunks_exact(width + 1).zip(dy.chunks_exact(width + 1)).zip(kinds.chunks_exact_mut(width));
    for (j, ((y, dy), kinds)) in pairs.enumerate() {
        arcs[j] = T::ZERO;
        kinds.fill(T::ZERO);
        if dy.iter().all(|&dy| dy == T::ZERO) {
            continue;
        }
        let mut own = T::ZERO;
        for &dy in &dy[1..] {
            own += dy;
        }
        // Of what is not attached: p_m p_j / (1 - p_j) at the arcs m of others, -p_j at its own.
        let p = log_p[j].exp();
        let rest = y[0].exp();
        let lost = if rest > least { dy[0] } else { T::ZERO };
        let with = lost * p / rest;
        arcs[j] = own - lost * p - with * p;
        sum += own;
        others += with;
        for ((kind, &y), &dy) in kinds.iter_mut().zip(&y[1..]).zip(&dy[1..]) {
            *kind = dy - own * (y - log_p[j]).exp();
        }
    }
    for (arc, &log_p) in arcs.iter_mut().zip(log_p) {
        *arc += log_p.exp() * (others - sum);
    }
}
}
