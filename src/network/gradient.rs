//! Who writes and who adds to each gradient, settled once; and the per-task slabs with their Gramian.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::pass::{BUDGET, Pass, Store};
use super::{Network, ValueId};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::crossing::constant;
use crate::machine::gram::{self, Square, combine};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::machine::storage::{Backend, Storage};
use crate::parameters::{ParamId, Reach};

/// How contributions to value gradients combine in one pass.
#[derive(Debug)]
pub struct Contributions {
    /// Values whose gradient starts from zero because its contributions do not tile it.
    pub clear: Vec<ValueId>,
    /// For each node and each of its inputs, whether it writes or adds.
    pub inputs: Vec<Vec<Mode>>,
    /// For each node and each of its parameters, whether it writes or adds.
    pub params: Vec<Vec<Mode>>,
}

impl Contributions {
    /// Walks the network backwards once.
    pub fn new(net: &Network, pass: Pass) -> Self {
        let mut all = Self {
            clear: Vec::new(),
            inputs: net.ops.iter().map(|op| vec![Mode::Add; op.inputs().len()]).collect(),
            params: net.ops.iter().map(|op| vec![Mode::Add; op.params().len()]).collect(),
        };
        for value in (0..net.values.len()).filter(|&v| net.values[v].learns) {
            all.settle(net, pass, value);
        }
        let mut written = vec![false; net.params.len()];
        for (op, modes) in net.ops.iter().zip(&mut all.params).rev() {
            for (param, mode) in op.params().into_iter().zip(modes) {
                if !std::mem::replace(&mut written[param], true) {
                    *mode = Mode::Write;
                }
            }
        }
        all
    }

    /// First contribution to each lane writes, later ones add; where that does not tile the gradient, it is cleared
    /// first and all add.
    fn settle(&mut self, net: &Network, pass: Pass, value: ValueId) {
        let lanes = lanes(net, value, pass);
        let mut written = vec![false; lanes];
        let mut tiles = true;
        if net.judged.iter().any(|o| o.value == value) {
            let covered: usize = net.judged.iter().filter(|o| o.value == value).map(|o| o.columns.len()).sum();
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

/// Most elements of one tile of a Jacobian that is not kept; fewer with a smaller budget.
const TILE: usize = 1 << 20;

/// The per-task gradients of shared parameters: one slab `[groups, tasks, size of a group]` a parameter, which together
/// are the Jacobian. Where it is not kept, linear and embedding nodes work through their weights' slabs in tiles, which go
/// into the Gramian one after the other; the other parameters' slabs are small, or of parameters that are frozen in parts.
#[derive(Debug)]
pub struct Slabs<T> {
    tasks: usize,
    kept: bool,
    halves: bool,
    /// Elements of a tile.
    tile: usize,
    slabs: Vec<Option<Slab<T>>>,
    /// One a parameter.
    gramians: Storage<f64>,
}

#[derive(Debug)]
struct Slab<T> {
    /// None for a parameter whose node works in tiles.
    memory: Option<Storage<T>>,
    /// Its frozen pieces, which stay zero: group, and columns within that.
    frozen: Vec<(usize, Range<usize>)>,
    /// Its products, a group at a time, where it is the host's.
    squares: Vec<Square<T>>,
    last: usize,
}

/// Where a node that works in tiles adds products, and how large tiles may be.
#[derive(Debug)]
pub(crate) struct Tiled<B = Buffer<f64>> {
    /// The parameter's Gramian `[tasks, tasks]`.
    pub gramian: B,
    /// Most elements of a tile.
    pub size: usize,
    /// Whether products are to run in bfloat16.
    pub halves: bool,
}

impl<T: Real> Slab<T> {
    /// Zeroes the gradients of frozen pieces, in all lanes.
    fn zero_frozen(&mut self) -> Result<()> {
        let Some(memory) = &mut self.memory else { return Ok(()) };
        let Layout { lanes, width, .. } = memory.layout();
        for (group, columns) in &self.frozen {
            for lane in 0..lanes {
                let start = (group * lanes + lane) * width;
                memory.clear(start + columns.start..start + columns.end)?;
            }
        }
        Ok(())
    }

    /// Adds its products to `gramian` `[tasks, tasks]`, a tensor of its device.
    fn add_by_formula(&self, mut gramian: Tensor) -> Result<()> {
        if let Some(memory) = &self.memory {
            let Layout { groups, lanes, width, .. } = memory.layout();
            let rows = memory.shaped(&[groups, lanes, width])?.f_transpose(0, 1)?.f_reshape([lanes as i64, -1])?;
            let _ = gramian.f_add_(&gram::formula(&rows)?)?;
        }
        Ok(())
    }
}

impl<T: Real> Slabs<T> {
    /// Memory for all shared parameters of a network.
    pub fn new(net: &Network, store: Store, backend: Backend) -> Result<Self> {
        let tasks = net.tasks();
        let shared: Vec<ParamId> = net.shared().into_iter().filter(|&p| net.params[p].reach == Reach::All).collect();
        let total: usize = shared.iter().map(|&p| tasks * net.params[p].range.len()).sum();
        let (kept, tile) = match store {
            Store::Whole => (true, TILE),
            Store::Within(budget) => (total <= budget, TILE.min(budget.max(1))),
            // Products of whole parameters, since libtorch copies the operands of others.
            Store::Halves => (false, BUDGET),
        };
        let mut slabs: Vec<_> = (0..net.params.len()).map(|_| None).collect();
        let mut users = vec![Vec::new(); net.params.len()];
        for (i, op) in net.ops.iter().enumerate() {
            for param in op.params() {
                users[param].push(i);
            }
        }
        for &p in &shared {
            let last = *users[p].first().expect("every parameter is some node's");
            let groups = net.params[p].groups;
            let layout = Layout { groups, rows: 1, lanes: tasks, width: net.params[p].range.len() / groups };
            let mut frozen = Vec::new();
            for range in net.frozen_pieces(p) {
                let at = range.start - net.params[p].range.start;
                let first = at % layout.width;
                frozen.push((at / layout.width, first..first + range.len()));
            }
            let tiled = !kept && frozen.is_empty() && users[p].len() == 1 && net.ops[last].tiles(p);
            let memory = (!tiled).then(|| Storage::zeros(layout, backend)).transpose()?;
            let squares = match memory.as_ref().and_then(Storage::host) {
                Some(buffer) => {
                    let group = Layout { groups: 1, ..layout };
                    let parts = (0..groups).map(|g| buffer.part(g * group.len(), group));
                    parts.map(|part| Square::new(part?, tasks)).collect::<Result<_>>()?
                }
                None => Vec::new(),
            };
            slabs[p] = Some(Slab { memory, frozen, squares, last });
        }
        let layout = Layout { groups: slabs.len(), rows: 1, lanes: tasks, width: tasks };
        let gramians = Storage::zeros(layout, backend)?;
        Ok(Self { tasks, kept, halves: store == Store::Halves, tile, slabs, gramians })
    }

    /// A parameter's slab, if all tasks reach it and its node does not work in tiles.
    pub(crate) fn of(&self, param: ParamId) -> Option<Storage<T>> {
        self.slabs[param].as_ref()?.memory.as_ref().map(Storage::share)
    }

    /// What a node needs to work through a parameter's slab in tiles, if it should.
    pub(crate) fn tiled(&self, param: ParamId) -> Result<Option<Tiled<Storage<f64>>>> {
        match &self.slabs[param] {
            Some(Slab { memory: None, .. }) => {
                let layout = Layout { groups: 1, ..self.gramians.layout() };
                let gramian = self.gramians.part(param * layout.len(), layout)?;
                Ok(Some(Tiled { gramian, size: self.tile, halves: self.halves }))
            }
            _ => Ok(None),
        }
    }

    /// Whether the Jacobian is kept.
    pub fn kept(&self) -> bool {
        self.kept
    }

    /// Starts a new Gramian.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn clear(&mut self) -> Result<()> {
        self.gramians.clear_all()
    }

    /// Adds what is complete once node `op` has run its backward.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn after(&mut self, op: usize) -> Result<()> {
        let Self { tasks, slabs, gramians, .. } = self;
        for (param, slab) in slabs.iter_mut().enumerate() {
            let Some(slab) = slab.as_mut().filter(|slab| slab.last == op) else { continue };
            slab.zero_frozen()?;
            let own = param * *tasks * *tasks;
            match gramians {
                Storage::Host(gramians) => {
                    let gramian = &mut gramians.slice_mut()[own..][..*tasks * *tasks];
                    slab.squares.iter().try_for_each(|square| square.add(gramian))?;
                }
                Storage::Away(_) => slab.add_by_formula(gramians.view(&[*tasks, *tasks], &[*tasks, 1], own)?)?,
            }
        }
        Ok(())
    }

    /// Adds the Gramian `[tasks, tasks]` of the parameters of which `wanted` says so; of all that all tasks reach.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_gramian(&self, wanted: impl Fn(ParamId) -> bool, into: &mut [f64]) -> Result<()> {
        let gramians = self.gramians.all()?;
        let each = gramians.chunks_exact(self.tasks * self.tasks).enumerate();
        for (_, gramian) in each.filter(|(param, _)| self.slabs[*param].is_some() && wanted(*param)) {
            for (sum, x) in into.iter_mut().zip(gramian) {
                *sum += x;
            }
        }
        Ok(())
    }

    /// `[tasks, tasks]`, of the parameters all tasks reach.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn gramian(&self) -> Result<Vec<f64>> {
        let mut gramian = vec![0.0; self.tasks * self.tasks];
        self.add_gramian(|_| true, &mut gramian)?;
        Ok(gramian)
    }

    /// The same of these parameters, where it is.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn gramian_there(&self, params: impl Iterator<Item = ParamId>) -> Result<Tensor> {
        let tasks = self.tasks;
        let all = self.gramians.shaped(&[self.slabs.len(), tasks, tasks])?;
        let known = params.filter(|&param| self.slabs[param].is_some()).map(|param| param as f64);
        let wanted = constant(&known.collect::<Vec<_>>(), Kind::Int64, all.device())?;
        Ok(all.f_index_select(0, &wanted)?.f_sum_dim_intlist(0_i64, false, Kind::Double)?)
    }

    /// Makes a parameter's place in the flat gradient the sum of its rows with one weight a task, by loops; only of a Jacobian
    /// that was kept.
    pub fn combine(&self, param: ParamId, weights: &[f64], gradient: &mut [T]) {
        let memory = self.slabs[param].as_ref().and_then(|slab| slab.memory.as_ref());
        if let Some(Storage::Host(buffer)) = memory {
            let Layout { lanes, width, .. } = buffer.layout;
            let out = gradient.chunks_exact_mut(width);
            for (slab, out) in buffer.slice().chunks_exact(lanes * width).zip(out) {
                combine(slab, weights, out);
            }
        }
    }

    /// The same by a formula, with weights `[tasks]`.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn combine_there(
        &self,
        param: ParamId,
        weights: &Tensor,
        gradient: &Storage<T>,
        flat: &Range<usize>,
    ) -> Result<()> {
        let Some(rows) = self.rows_there(param)? else { return Ok(()) };
        let sum = weights.f_to_kind(T::KIND)?.f_reshape([1, 1, -1])?.f_matmul(&rows)?;
        gradient.range(flat)?.f_copy_(&sum.f_reshape([-1])?)?;
        Ok(())
    }

    /// Adds a parameter's rows to a Jacobian `[tasks, width]` beside it, from a column on.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn add_rows_there(&self, param: ParamId, jacobian: &Storage<T>, column: usize) -> Result<()> {
        let Some(rows) = self.rows_there(param)? else { return Ok(()) };
        let (groups, lanes, width) = rows.size3()?;
        let [groups, lanes, width] = [groups, lanes, width].map(|size| size as usize);
        let mut to = jacobian.view(&[groups, lanes, width], &[width, jacobian.layout().width, 1], column)?;
        let _ = to.f_add_(&rows)?;
        Ok(())
    }

    /// A parameter's rows, `[groups, tasks, size of a group]`, of a Jacobian that was kept.
    fn rows_there(&self, param: ParamId) -> Result<Option<Tensor>> {
        let Some(Slab { memory: Some(memory), .. }) = &self.slabs[param] else { return Ok(None) };
        let Layout { groups, lanes, width, .. } = memory.layout();
        memory.shaped(&[groups, lanes, width]).map(Some)
    }

    /// Adds row `task` of a parameter's part of the Jacobian, in the parameter's own order; only of a Jacobian that was kept.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_row(&self, param: ParamId, task: usize, into: &mut [T]) -> Result<()> {
        let Some(Slab { memory: Some(memory), .. }) = &self.slabs[param] else { return Ok(()) };
        let Layout { groups, lanes, width, .. } = memory.layout();
        for (group, into) in (0..groups).zip(into.chunks_exact_mut(width)) {
            let start = (group * lanes + task) * width;
            for (sum, &x) in into.iter_mut().zip(memory.numbers(start..start + width)?.iter()) {
                *sum += x;
            }
        }
        Ok(())
    }

    /// Row `task` of a parameter's part of the Jacobian, in the parameter's own order; none if it was not kept.
    pub fn row(&self, param: ParamId, task: usize) -> Result<Option<Vec<T>>> {
        let Some(memory) = self.slabs[param].as_ref().filter(|_| self.kept).and_then(|slab| slab.memory.as_ref())
        else {
            return Ok(None);
        };
        let Layout { groups, width, .. } = memory.layout();
        let mut row = vec![T::ZERO; groups * width];
        self.add_row(param, task, &mut row)?;
        Ok(Some(row))
    }
}
