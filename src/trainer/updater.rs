//! The end of a step: regularizers, clipping and the optimizer turn a gradient into new parameters.

use std::ops::Range;

use tch::Tensor;

use super::tables::Tables;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::real::LANES;
use crate::machine::storage::{Backend, Storage};
use crate::model::Model;
use crate::network::Network;
use crate::optim::{Optimizer, SLOTS, TensorStep};
use crate::parameters::flat::Params;
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
    /// What does not learn, in the flat parameters.
    frozen: Vec<Range<usize>>,
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
        let tables = Tables::new(net, optimizer.as_ref());
        let segments = Segments::new(optimizer.rates(), &net.blocks(), &tables.blocks())?;
        let slots = (0..optimizer.slots().len()).map(|slot| first(optimizer.as_ref(), slot, net.dense(), backend));
        let slots = slots.collect::<Result<_>>()?;
        let lr = 0.0;
        let frozen = Vec::new();
        let mut new = Self { optimizer, schedule, regularizers, clip_norm, lr, segments, slots, tables, frozen };
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

    /// Makes a step against the gradient in `model`; gives the value of the regularizers.
    ///
    /// # Errors
    /// A gradient whose norm is not finite, a schedule that does not know its length; nothing has changed then.
    pub fn update(&mut self, model: &mut Model, position: Position) -> Result<f64> {
        let step = position.step + 1;
        let factor = self.schedule.factor(position)?;
        let dense = model.net.dense();
        let added = self.regularize(&mut model.params, dense)?;
        let scale = self.clip(&model.params, step)?;
        let (segments, of_tables) = self.segments.at(factor);
        self.lr = segments.first().map_or(0.0, |segment| segment.lr);
        let params = &mut model.params;
        let (Storage::Host(values), Storage::Host(gradients)) = (&mut params.values, &params.gradients) else {
            by_formula(self.optimizer.as_ref(), step, scale, segments, params, &self.slots)?;
            return Ok(added);
        };
        let count = self.slots.len();
        let mut slots = self.slots.iter_mut().filter_map(Storage::host_mut);
        let mut state: [&mut [f32]; SLOTS] =
            std::array::from_fn(|_| slots.next().map_or(&mut [][..], Buffer::slice_mut));
        let values_of = &mut values.slice_mut()[..dense];
        self.optimizer.update(step, scale, segments, values_of, gradients.slice(), &mut state[..count]);
        self.tables.update(self.optimizer.as_ref(), step, scale, of_tables, values, &params.tables);
        Ok(added)
    }

    /// Adds the regularizers to the gradient; gives their value.
    fn regularize(&mut self, params: &mut Params<f32>, dense: usize) -> Result<f64> {
        if self.regularizers.is_empty() {
            return Ok(0.0);
        }
        let mut value = 0.0;
        for term in &mut self.regularizers {
            value += term.add(&params.values, dense, &mut params.gradients)?;
        }
        for range in &self.frozen {
            params.gradients.clear(range.clone())?;
        }
        Ok(value)
    }

    /// The factor that brings the gradient's norm down to `clip_norm`.
    fn clip(&self, params: &Params<f32>, step: u64) -> Result<f32> {
        let Some(limit) = self.clip_norm else { return Ok(1.0) };
        let norm = match params.gradients.host() {
            Some(gradients) => {
                let norm_by = |squares: fn(&[f32]) -> f64| {
                    let of_tables = params.tables.iter().flatten().map(|table| squares(table.open().rows()));
                    (squares(gradients.slice()) + of_tables.sum::<f64>()).sqrt()
                };
                let quick = norm_by(square_sum);
                // Squares of single precision end where clipping is wanted most.
                let wide = || norm_by(|gradients| gradients.iter().map(|&x| f64::from(x).powi(2)).sum());
                if quick.is_finite() { quick } else { wide() }
            }
            None => params.gradients.add_squares(0..params.gradients.layout().len(), 0.0)?.sqrt(),
        };
        if !norm.is_finite() {
            bail!("the gradient's norm is {norm} at step {step}: try a smaller learning rate");
        }
        Ok((limit / (norm + 1e-6)).min(1.0) as f32)
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

/// A step by the optimizer's formula; gradients count `scale` times.
fn by_formula(
    optimizer: &dyn Optimizer,
    step: u64,
    scale: f32,
    segments: &[Segment],
    params: &Params<f32>,
    slots: &[Storage<f32>],
) -> Result<()> {
    let _guard = tch::no_grad_guard();
    for Segment { range, lr, weight_decay } in segments {
        let mut values = params.values.range(range)?;
        let device = values.device();
        let scalar = |number: f64| Tensor::from(number).f_to_device(device);
        let mut state = slots.iter().map(|slot| slot.range(range)).collect::<Result<Vec<_>>>()?;
        let updated = optimizer.formula(&TensorStep {
            number: &scalar(step as f64)?,
            lr: &scalar(*lr)?,
            weight_decay: &scalar(*weight_decay)?,
            parameters: &values,
            gradients: &params.gradients.range(range)?.f_mul_scalar(f64::from(scale))?,
            state: &state,
        });
        values.f_copy_(&updated.parameters)?;
        for (slot, new) in state.iter_mut().zip(&updated.state) {
            slot.f_copy_(new)?;
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
