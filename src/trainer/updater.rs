//! The end of a step: regularizers, clipping and the optimizer turn a gradient into new parameters.

use std::ops::Range;

use tch::Tensor;

use super::tables::Tables;
use super::tally::Tally;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout, strides};
use crate::machine::crossing::{Placed, fetch, launching};
use crate::machine::real::LANES;
use crate::machine::storage::{self, Backend, Storage};
use crate::model::Model;
use crate::network::Network;
use crate::optim::foreign::{Foreign, Parameter};
use crate::optim::matrices::Works;
use crate::optim::{Optimizer, SLOTS, TensorStep};
use crate::parameters::flat::Params;
use crate::parameters::touched::SparseGradient;
use crate::parameters::{Segment, Segments};
use crate::regularizer::{Relation, Term};
use crate::schedule::{Position, Schedule};
use crate::{bail, vectorised};

/// What changes the parameters, once their gradient is there.
#[derive(Debug)]
pub(super) struct Updater {
    pub optimizer: Box<dyn Optimizer>,
    pub schedule: Box<dyn Schedule>,
    pub regularizers: Vec<Term>,
    pub clip_norm: Option<f64>,
    /// The learning rate of the last step.
    pub lr: f64,
    /// Parameters by learning rate and decay; what is frozen has none.
    pub segments: Segments,
    /// The optimizer's state, one flat buffer a slot.
    pub slots: Vec<Storage<f32>>,
    pub tables: Tables,
    /// Where loops make steps on whole matrices; from the first step on.
    works: Option<Works>,
    /// What does not learn, in the flat parameters.
    frozen: Vec<Range<usize>>,
    /// The number of a step by formulas, then learning rate and decay of each segment.
    told: Placed,
    /// What an optimizer of the caller's own was tied to: the count of changes to what is frozen, and where that was.
    tied: Option<(u64, Backend)>,
}

impl Updater {
    /// With the optimizer's first state.
    ///
    /// # Errors
    /// Groups of learning rates or decays that match no parameter.
    pub fn new(
        net: &Network,
        optimizer: Box<dyn Optimizer>,
        schedule: Box<dyn Schedule>,
        regularizers: Vec<Term>,
        clip_norm: Option<f64>,
        backend: Backend,
    ) -> Result<Self> {
        if optimizer.is_foreign()
            && let Some(param) = net.params.iter().position(|param| param.sparse)
        {
            let table = net.entries.iter().find(|entry| entry.param == Some(param));
            let name = table.map(|entry| entry.name.to_string()).unwrap_or_default();
            bail!("`optimizer`: the sparse table {name} learns by one of pt.optim alone: use sparse=False");
        }
        let tables = Tables::new(net, optimizer.as_ref());
        let segments = Segments::new(optimizer.rates(), &net.blocks(), &tables.blocks())?;
        let slots = (0..optimizer.slots().len()).map(|slot| first(optimizer.as_ref(), slot, net.dense(), backend));
        let slots = slots.collect::<Result<_>>()?;
        let lr = 0.0;
        let (works, frozen) = (None, Vec::new());
        let told = Placed::default();
        let tied = None;
        let mut new = Self {
            optimizer,
            schedule,
            regularizers,
            clip_norm,
            lr,
            segments,
            slots,
            tables,
            works,
            frozen,
            told,
            tied,
        };
        new.freeze(net);
        new.lr = new.segments.at(1.0).0.first().map_or(0.0, |segment| segment.lr);
        Ok(new)
    }

    /// Takes notice of what is frozen; the optimizer's state stays.
    pub fn freeze(&mut self, net: &Network) {
        self.frozen = net.frozen();
        for term in &mut self.regularizers {
            term.freeze(&self.frozen);
        }
        self.segments = Segments::of(self.optimizer.rates(), &net.learning(), &self.tables.blocks());
        self.works = None;
    }

    /// Brings the optimizer's state to another backend.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn move_to(&mut self, backend: Backend) -> Result<()> {
        for slot in &mut self.slots {
            *slot = slot.seen_by(backend)?;
        }
        Ok(())
    }

    /// Its optimizer once more, if that is code of the caller's own, which no description says.
    ///
    /// # Errors
    /// None: its description was read before.
    pub fn again(&self) -> Result<Option<Box<dyn Optimizer>>> {
        let Some(code) = self.optimizer.foreign() else { return Ok(None) };
        Ok(Some(Box::new(Foreign::of(&self.optimizer.describe(), Some(code.clone()))?)))
    }

    /// Shows an optimizer of the caller's own the parameters, where it has not seen them as they are.
    ///
    /// # Errors
    /// What that code raises.
    pub fn tie(&mut self, model: &Model) -> Result<()> {
        let now = Some((model.net.freezes, model.backend()));
        if self.tied == now || !self.optimizer.is_foreign() {
            return Ok(());
        }
        let Some(code) = self.optimizer.foreign() else {
            bail!("the optimizer was code of your own, which no file holds: pass it again, `optimizer=`");
        };
        let params = &model.params;
        let mut each = Vec::new();
        for entry in model.net.entries.iter().filter(|entry| entry.param.is_some()) {
            let shaped = |flat: &Storage<f32>| flat.view(&entry.shape, &strides(&entry.shape), entry.range.start);
            let value = shaped(&params.values)?;
            let gradient = shaped(&params.gradients)?;
            each.push(Parameter { name: entry.name.to_string(), value, gradient, learns: !entry.frozen });
        }
        self.lr = code.tie(&each)?;
        self.tied = now;
        Ok(())
    }

    /// Makes a step by loops against the gradient in `model`; gives the value of the regularizers.
    ///
    /// # Errors
    /// A gradient whose norm is not finite, a schedule that does not know its length; nothing has changed then.
    pub fn update(&mut self, model: &mut Model, position: Position) -> Result<f64> {
        let step = position.step + 1;
        let factor = self.schedule.factor(position)?;
        self.tie(model)?;
        let dense = model.net.dense();
        let params = &mut model.params;
        let (Storage::Host(values), Storage::Host(gradients)) = (&mut params.values, &mut params.gradients) else {
            bail!("loops make steps in the host's memory");
        };
        let mut added = 0.0;
        for term in &mut self.regularizers {
            added += term.add(&values.slice()[..dense], gradients.slice_mut());
        }
        for range in self.frozen.iter().filter(|_| !self.regularizers.is_empty()) {
            gradients.slice_mut()[range.clone()].fill(0.0);
        }
        let scale = match self.clip_norm {
            Some(limit) => {
                let norm = norm(gradients.slice(), &params.tables);
                check_norm(norm, step)?;
                (limit / (norm + LEAST)).min(1.0) as f32
            }
            None => 1.0,
        };
        if let Some(code) = self.optimizer.foreign() {
            if scale != 1.0 {
                gradients.slice_mut().iter_mut().for_each(|x| *x *= scale);
            }
            self.lr = code.step(factor)?;
            return Ok(added);
        }
        if self.works.is_none() && !self.segments.matrices().is_empty() {
            self.works = Some(Works::new(self.segments.matrices())?);
        }
        let matrices = self.segments.matrices().len();
        let (segments, of_tables) = self.segments.at(factor);
        self.lr = segments.first().map_or(0.0, |segment| segment.lr);
        let (of_matrices, segments) = segments.split_at(matrices);
        let count = self.slots.len();
        let mut slots = self.slots.iter_mut().filter_map(Storage::host_mut);
        let mut state: [&mut [f32]; SLOTS] =
            std::array::from_fn(|_| slots.next().map_or(&mut [][..], Buffer::slice_mut));
        let values_of = &mut values.slice_mut()[..dense];
        let state = &mut state[..count];
        if let (Some(works), Some(rule)) = (&mut self.works, self.optimizer.of_matrices()) {
            works.update(rule, scale, of_matrices, values_of, gradients.slice(), state)?;
        }
        self.optimizer.update(step, scale, segments, values_of, gradients.slice(), state);
        self.tables.update(self.optimizer.as_ref(), step, scale, of_tables, values, &params.tables);
        Ok(added)
    }

    /// Whether a step by formulas leaves numbers in its tally that the host has to know.
    pub fn leaves_numbers(&self) -> bool {
        self.clip_norm.is_some() || !self.regularizers.is_empty()
    }

    /// Sends what a step by formulas will be told: its number, learning rates and decays. Gives the learning rate.
    ///
    /// # Errors
    /// As [`Updater::update`].
    pub fn feed(&mut self, model: &Model, position: Position) -> Result<f64> {
        let factor = self.schedule.factor(position)?;
        let (segments, _) = self.segments.at(factor);
        let number = (position.step + 1) as f64;
        let of_segments = segments.iter().flat_map(|segment| [segment.lr, segment.weight_decay]);
        let told: Vec<_> = std::iter::once(number).chain(of_segments).collect();
        let _ = self.told.holding(&told, model.params.values.range(&(0..0))?.device())?;
        Ok(segments.first().map_or(0.0, |segment| segment.lr))
    }

    /// Makes a step by formulas against the gradient in `model`, unless `tally` has a loss, or will have a norm, that is
    /// not finite; values of regularizers and the norm stay there.
    ///
    /// # Errors
    /// As [`Updater::update`]; what libtorch refuses.
    pub fn update_there(&mut self, model: &mut Model, position: Position, tally: &Tally) -> Result<()> {
        let lr = self.feed(model, position)?;
        self.tie(model)?;
        let code = self.optimizer.foreign().cloned();
        if code.is_none() {
            self.lr = lr;
        }
        let dense = model.net.dense();
        let params = &mut model.params;
        for term in &mut self.regularizers {
            term.learn(&params.values, dense)?;
        }
        let good = launching(|| {
            let _guard = tch::no_grad_guard();
            let values = tally.regularizers()?;
            for (index, term) in self.regularizers.iter().enumerate() {
                let value = term.add_there(&params.values, dense, &params.gradients)?;
                values.f_select(0, index as i64)?.f_copy_(&value)?;
            }
            for range in self.frozen.iter().filter(|_| !self.regularizers.is_empty()) {
                params.gradients.clear(range.clone())?;
            }
            let scale = self.clip_norm.map(|limit| scale_there(params, limit, tally)).transpose()?;
            let good = tally.check()?;
            if code.is_some() {
                if let Some(scale) = &scale {
                    let mut all = params.gradients.range(&(0..params.gradients.layout().len()))?;
                    let _ = all.f_mul_(scale)?;
                }
                return Ok(good);
            }
            by_formula(
                self.optimizer.as_ref(),
                &self.told.held()?,
                &good,
                scale.as_ref(),
                &self.segments,
                params,
                &self.slots,
            )?;
            Ok(good)
        })?;
        // A step that is not finite is the next look's error; code of the caller's own is not shown it.
        if let Some(code) = code
            && fetch::<f64>(&good)? != [0.0]
        {
            self.lr = code.step(self.schedule.factor(position)?)?;
        }
        Ok(())
    }

    /// Shows the model what regularizers learned of its tasks' relation; the last of them counts.
    pub fn relate(&self, model: &mut Model) {
        let learned = self.regularizers.iter().filter_map(|term| term.regularizer.relation());
        for matrix in learned {
            match &mut model.relation {
                Some(relation) if relation.matrix.len() == matrix.len() => relation.matrix.copy_from_slice(matrix),
                relation => {
                    let tasks = model.tasks.iter().map(|task| task.name.clone()).collect();
                    *relation = Some(Relation { tasks, matrix: matrix.to_vec() });
                }
            }
        }
    }
}

/// A slot of an optimizer's state before the first step.
fn first(optimizer: &dyn Optimizer, slot: usize, len: usize, backend: Backend) -> Result<Storage<f32>> {
    match optimizer.initial(slot) {
        0.0 => Storage::zeros(Layout::flat(len), backend),
        initial => Storage::of(&vec![initial; len], backend),
    }
}

/// Added to a norm before anything is divided by it.
const LEAST: f64 = 1e-6;

/// The norm of a gradient, with that of sparse tables.
fn norm(gradients: &[f32], tables: &[Option<SparseGradient<f32>>]) -> f64 {
    let norm_by = |squares: fn(&[f32]) -> f64| {
        let of_tables = tables.iter().flatten().map(|table| squares(table.open().rows()));
        (squares(gradients) + of_tables.sum::<f64>()).sqrt()
    };
    let quick = norm_by(square_sum);
    // Squares of single precision end where clipping is wanted most.
    let wide = || norm_by(|gradients| gradients.iter().map(|&x| f64::from(x).powi(2)).sum());
    if quick.is_finite() { quick } else { wide() }
}

/// Refuses a norm that is no number.
pub(super) fn check_norm(norm: f64, step: u64) -> Result<()> {
    if !norm.is_finite() {
        bail!("the gradient's norm is {norm} at step {step}: try a smaller learning rate");
    }
    Ok(())
}

/// The factor that brings the gradient's norm down to a limit, without dimensions; the norm goes into the tally.
fn scale_there(params: &Params<f32>, limit: f64, tally: &Tally) -> Result<Tensor> {
    let all = params.gradients.range(&(0..params.gradients.layout().len()))?;
    let mut norm = tally.norm()?;
    norm.f_copy_(&storage::square_sum(&all)?.f_sqrt()?)?;
    let scale = norm.f_add_scalar(LEAST)?.f_reciprocal()?.f_mul_scalar(limit)?;
    Ok(scale.f_clamp_max(1.0)?.f_to_kind(all.kind())?)
}

/// A step by the optimizer's formula, told its number, then learning rate and decay of each segment; where `good` is false
/// nothing changes.
fn by_formula(
    optimizer: &dyn Optimizer,
    told: &Tensor,
    good: &Tensor,
    scale: Option<&Tensor>,
    segments: &Segments,
    params: &Params<f32>,
    slots: &[Storage<f32>],
) -> Result<()> {
    let scalar = |at: usize| told.f_select(0, at as i64);
    let keep = |mut old: Tensor, new: &Tensor| old.f_copy_(&new.f_where_self(good, &old)?);
    for (index, Segment { range, .. }) in segments.now().iter().enumerate() {
        let rule = optimizer.of_matrices().zip(segments.matrices().get(index));
        let seen = |flat: &Storage<f32>| match rule {
            Some((_, shape)) => flat.view(shape, &strides(shape), range.start),
            None => flat.range(range),
        };
        let values = seen(&params.values)?;
        let gradients = seen(&params.gradients)?;
        let state = slots.iter().map(seen).collect::<Result<Vec<_>>>()?;
        let step = TensorStep {
            number: &scalar(0)?,
            lr: &scalar(1 + 2 * index)?,
            weight_decay: &scalar(2 + 2 * index)?,
            parameters: &values,
            gradients: &scale.map_or(Ok(gradients.shallow_clone()), |scale| gradients.f_mul(scale))?,
            state: &state,
        };
        let updated = rule.map_or_else(|| optimizer.formula(&step), |(rule, _)| rule.formula(&step));
        keep(values, &updated.parameters)?;
        for (slot, new) in state.into_iter().zip(&updated.state) {
            keep(slot, new)?;
        }
    }
    Ok(())
}

vectorised! {
/// The sum of squares, in lanes that vectorise, each lane's part widened before it can lose digits.
fn square_sum(values: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(LANES * 64) {
        let mut lanes = [0.0_f32; LANES];
        for row in block.chunks(LANES) {
            for (lane, &x) in lanes.iter_mut().zip(row) {
                *lane += x * x;
            }
        }
        for lane in lanes {
            total += f64::from(lane);
        }
    }
    total
}
}
