//! Who writes and who adds to each gradient, settled once; and the per-task slabs with their Gramian.

use super::buffer::{Buffer, Layout};
use super::product::{Mode, Product};
use super::{Network, ParamId, Reach, ValueId};
use crate::error::Result;
use crate::real::Real;

/// Elements of the largest Jacobian that is kept whole: 64 MiB of `f32`.
pub const BUDGET: usize = 16 << 20;

/// The two forms of the backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// One lane: the gradient of the weighted sum.
    Summed,
    /// One lane a task: the Jacobian of the shared parameters, or its Gramian.
    PerTask,
}

/// One thing for each pass that was prepared.
#[derive(Debug)]
pub struct PerPass<V>(pub [Option<V>; 2]);

impl<V> PerPass<V> {
    /// What was prepared for this pass.
    #[inline]
    pub fn of(&mut self, pass: Pass) -> &mut V {
        self.0[pass as usize].as_mut().expect("a plan runs only the passes it was made for")
    }
}

/// How contributions to value gradients combine in one pass.
#[derive(Debug)]
pub struct Modes {
    /// Values whose gradient starts from zero because its contributions do not tile it.
    pub clear: Vec<ValueId>,
    /// For each node and each of its inputs, whether it writes or adds.
    pub inputs: Vec<Vec<Mode>>,
    /// For each node and each of its parameters, whether it writes or adds.
    pub params: Vec<Vec<Mode>>,
}

impl Modes {
    /// Walks the network backwards once.
    pub fn new(net: &Network, pass: Pass) -> Self {
        let mut modes = Self {
            clear: Vec::new(),
            inputs: net.ops.iter().map(|op| vec![Mode::Add; op.inputs().len()]).collect(),
            params: net.ops.iter().map(|op| vec![Mode::Add; op.params().len()]).collect(),
        };
        for value in (0..net.values.len()).filter(|&v| net.values[v].learns) {
            modes.settle(net, pass, value);
        }
        let mut written = vec![false; net.params.len()];
        for (op, modes) in net.ops.iter().zip(&mut modes.params).rev() {
            for (param, mode) in op.params().into_iter().zip(modes) {
                if !std::mem::replace(&mut written[param], true) {
                    *mode = Mode::Write;
                }
            }
        }
        modes
    }

    /// First contribution to each lane writes, later ones add; where that does not tile the gradient, it is cleared
    /// first and all add.
    fn settle(&mut self, net: &Network, pass: Pass, value: ValueId) {
        let lanes = lanes(net, value, pass);
        let mut written = vec![false; lanes];
        let mut tiles = true;
        if net.outputs.iter().any(|o| o.value == value) {
            let covered: usize = net.outputs.iter().filter(|o| o.value == value).map(|o| o.columns.len()).sum();
            tiles = lanes == 1 && covered == net.values[value].width * net.values[value].groups;
            written.fill(true);
        }
        for (i, op) in net.ops.iter().enumerate().rev() {
            for (k, _) in op.inputs().into_iter().enumerate().filter(|&(_, x)| x == value) {
                let touched = match net.values[op.output()].reach {
                    Reach::One(task) if lanes > 1 => task..task + 1,
                    _ => 0..lanes,
                };
                let before = written[touched.clone()].iter().filter(|&&w| w).count();
                tiles &= op.covers_input(net) && (before == 0 || before == touched.len());
                if before == 0 {
                    self.inputs[i][k] = Mode::Write;
                }
                written[touched].fill(true);
            }
        }
        if !tiles || written.contains(&false) {
            self.clear.push(value);
            for (op, modes) in net.ops.iter().zip(&mut self.inputs) {
                for (_, mode) in op.inputs().into_iter().zip(modes).filter(|(x, _)| *x == value) {
                    *mode = Mode::Add;
                }
            }
        }
    }
}

/// Lanes of a value's gradient.
pub fn lanes(net: &Network, value: ValueId, pass: Pass) -> usize {
    match (pass, net.values[value].reach) {
        (Pass::PerTask, Reach::All) => net.tasks(),
        _ => 1,
    }
}

/// The per-task gradients of shared parameters: one slab `[groups, tasks, size of a group]` a parameter.
///
/// While the whole fits a budget it is kept, and is the Jacobian. Beyond that parameters used once share one slab, which
/// goes into the Gramian as soon as it is complete.
#[derive(Debug)]
pub struct Slabs<T> {
    tasks: usize,
    kept: bool,
    slabs: Vec<Option<Slab<T>>>,
    gramian: Vec<f64>,
}

#[derive(Debug)]
struct Slab<T> {
    buffer: Buffer<T>,
    square: Buffer<T>,
    product: Product,
    last: usize,
}

impl<T: Real> Slabs<T> {
    /// Memory for all shared parameters of a network, with a budget in elements.
    pub fn new(net: &Network, budget: usize) -> Result<Self> {
        let tasks = net.tasks();
        let shared: Vec<ParamId> = net.shared().into_iter().filter(|&p| net.params[p].reach == Reach::All).collect();
        let size = |p: ParamId| tasks * net.params[p].range.len();
        let total: usize = shared.iter().map(|&p| size(p)).sum();
        let kept = total <= budget;
        let uses = |p: ParamId| (0..net.ops.len()).filter(move |&i| net.ops[i].params().contains(&p));
        // Parameters of one node are complete together, so they need places of their own.
        let of_node = |i: usize| shared.iter().filter(|&&p| uses(p).eq([i])).map(|&p| size(p)).sum::<usize>();
        let room = if kept { total } else { (0..net.ops.len()).map(of_node).max().unwrap_or(0) };
        let common = Buffer::<T>::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: room })?;
        let (mut slabs, mut offset, mut node) = ((0..net.params.len()).map(|_| None).collect::<Vec<_>>(), 0, 0);
        for &p in &shared {
            let first = uses(p).next().expect("every parameter is some node's");
            if !kept && std::mem::replace(&mut node, first) != first {
                offset = 0;
            }
            let groups = net.params[p].groups;
            let layout = Layout { groups, rows: 1, lanes: tasks, width: net.params[p].range.len() / groups };
            let common_place = kept || uses(p).count() == 1;
            let buffer = if common_place { common.part(offset, layout)? } else { Buffer::zeros(layout)? };
            offset += if common_place { layout.len() } else { 0 };
            slabs[p] = Some(Slab::new(buffer, first)?);
        }
        Ok(Self { tasks, kept, slabs, gramian: vec![0.0; tasks * tasks] })
    }

    /// A parameter's slab, if all tasks reach it.
    pub fn of(&self, param: ParamId) -> Option<Buffer<T>> {
        self.slabs[param].as_ref().map(|slab| slab.buffer.share())
    }

    /// Starts a new Gramian.
    pub fn clear(&mut self) {
        self.gramian.fill(0.0);
    }

    /// Adds what is complete once node `op` has run its backward.
    pub fn after(&mut self, op: usize) -> Result<()> {
        for slab in self.slabs.iter_mut().flatten().filter(|slab| slab.last == op) {
            slab.product.run(Mode::Write)?;
            for square in slab.square.slice().chunks_exact(self.tasks * self.tasks) {
                self.gramian.iter_mut().zip(square).for_each(|(sum, &x)| *sum += x.wide());
            }
        }
        Ok(())
    }

    /// `[tasks, tasks]`, of the parameters all tasks reach.
    pub fn gramian(&self) -> &[f64] {
        &self.gramian
    }

    /// Row `task` of a parameter's part of the Jacobian, in the parameter's own order; none if it was not kept.
    pub fn row(&self, param: ParamId, task: usize) -> Option<Vec<T>> {
        let slab = self.slabs[param].as_ref().filter(|_| self.kept)?;
        let Layout { groups, lanes, width, .. } = slab.buffer.layout;
        let at = |g: usize| (g * lanes + task) * width;
        Some((0..groups).flat_map(|g| slab.buffer.slice()[at(g)..at(g) + width].iter().copied()).collect())
    }
}

impl<T: Real> Slab<T> {
    fn new(buffer: Buffer<T>, last: usize) -> Result<Self> {
        let Layout { groups, lanes, width, .. } = buffer.layout;
        let square = Buffer::zeros(Layout { groups, rows: 1, lanes, width: lanes })?;
        let slab = buffer.shaped(&[groups, lanes, width])?;
        let product =
            Product::new(square.shaped(&[groups, lanes, lanes])?, slab.shallow_clone(), slab.f_transpose(1, 2)?)?;
        Ok(Self { buffer, square, product, last })
    }
}
