//! The end of a step: regularizers, clipping and the optimizer turn a gradient into new parameters.

use std::ops::Range;

use super::tables::Tables;
use crate::error::Result;
use crate::machine::real::LANES;
use crate::model::Model;
use crate::network::Network;
use crate::optim::{Optimizer, SLOTS};
use crate::parameters::Segments;
use crate::parameters::flat::Params;
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
    pub slots: Vec<Vec<f32>>,
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
    ) -> Result<Self> {
        let tables = Tables::new(net, optimizer.as_ref());
        let segments = Segments::new(optimizer.rates(), &net.blocks(), &tables.blocks())?;
        let slot = |slot| vec![optimizer.initial(slot); net.dense()];
        let slots = (0..optimizer.slots().len()).map(slot).collect();
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

    /// Makes a step against the gradient in `model`; gives the value of the regularizers.
    ///
    /// # Errors
    /// A gradient whose norm is not finite, a schedule that does not know its length; nothing has changed then.
    pub fn update(&mut self, model: &mut Model, position: Position) -> Result<f64> {
        let step = position.step + 1;
        let factor = self.schedule.factor(position)?;
        let dense = model.net.dense();
        let added = self.regularize(&mut model.params, dense);
        let scale = self.clip(&model.params, step)?;
        let (segments, of_tables) = self.segments.at(factor);
        self.lr = segments.first().map_or(0.0, |segment| segment.lr);
        let params = &mut model.params;
        self.tables.update(self.optimizer.as_ref(), step, scale, of_tables, params);
        let values = &mut params.values.slice_mut()[..dense];
        let gradients = params.gradients.slice();
        let count = self.slots.len();
        let mut slots = self.slots.iter_mut();
        let mut state: [&mut [f32]; SLOTS] = std::array::from_fn(|_| slots.next().map_or(&mut [][..], |slot| slot));
        self.optimizer.update(step, scale, segments, values, gradients, &mut state[..count]);
        Ok(added)
    }

    /// Adds the regularizers to the gradient; gives their value.
    fn regularize(&mut self, params: &mut Params<f32>, dense: usize) -> f64 {
        if self.regularizers.is_empty() {
            return 0.0;
        }
        let mut value = 0.0;
        for term in &mut self.regularizers {
            value += term.add(&params.values.slice()[..dense], params.gradients.slice_mut());
        }
        for range in &self.frozen {
            params.gradients.slice_mut()[range.clone()].fill(0.0);
        }
        value
    }

    /// The factor that brings the gradient's norm down to `clip_norm`.
    fn clip(&self, params: &Params<f32>, step: u64) -> Result<f32> {
        let Some(limit) = self.clip_norm else { return Ok(1.0) };
        let norm_by = |squares: fn(&[f32]) -> f64| {
            let of_tables = params.tables.iter().flatten().map(|table| squares(table.open().rows()));
            (squares(params.gradients.slice()) + of_tables.sum::<f64>()).sqrt()
        };
        let quick = norm_by(square_sum);
        // Squares of single precision end where clipping is wanted most.
        let wide = || norm_by(|gradients| gradients.iter().map(|&x| f64::from(x).powi(2)).sum());
        let norm = if quick.is_finite() { quick } else { wide() };
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
