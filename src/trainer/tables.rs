//! Sparse tables in a step: what combines their gradients, the optimizer's state of their rows, their update.

use crate::error::Result;
use crate::file::Contents;
use crate::machine::buffer::Buffer;
use crate::machine::memory::filled;
use crate::network::Network;
use crate::optim::{Optimizer, SLOTS};
use crate::parameters::touched::SparseGradient;
use crate::parameters::{Block, ParamId, Segment};

/// The sparse tables of a model.
#[derive(Debug)]
pub(super) struct Tables(Vec<Table>);

#[derive(Debug)]
struct Table {
    param: ParamId,
    block: Block,
    rows: usize,
    /// Name, numbers a row, and buffer of each slot of the optimizer. Memory that no step touched takes no room.
    state: Vec<(&'static str, usize, Vec<f32>)>,
}

impl Tables {
    /// With the optimizer's first state.
    pub fn new(net: &Network, optimizer: &dyn Optimizer) -> Self {
        let table = |param: ParamId| {
            let &[rows, width] = net.params[param].shape.as_slice() else { return None };
            let entry = net.entries.iter().find(|entry| entry.param == Some(param))?;
            let (path, range) = (entry.name.clone(), entry.range.clone());
            let block = Block { path, range, decays: true, task: None, matrices: None };
            let slot = |(slot, &name): (usize, &&'static str)| {
                let numbers = optimizer.row_state(slot, width);
                (name, numbers, filled(optimizer.initial(slot), rows * numbers))
            };
            let state = optimizer.slots().iter().enumerate().map(slot).collect();
            Some(Table { param, block, rows, state })
        };
        Self((0..net.params.len()).filter(|&param| net.params[param].sparse).filter_map(table).collect())
    }

    /// Named parts of the flat parameters.
    pub fn blocks(&self) -> Vec<Block> {
        self.0.iter().map(|table| table.block.clone()).collect()
    }

    /// Makes one gradient of the tasks' gradients, with a weight a task.
    pub fn combine(&self, gradients: &[Option<SparseGradient<f32>>], weights: &[f64]) {
        self.0.iter().filter_map(|table| gradients[table.param].as_ref()).for_each(|g| g.open().combine(weights));
    }

    /// Step number `step` of the optimizer, one segment a table.
    pub fn update(
        &mut self,
        optimizer: &dyn Optimizer,
        step: u64,
        scale: f32,
        segments: &[Segment],
        values: &mut Buffer<f32>,
        gradients: &[Option<SparseGradient<f32>>],
    ) {
        for (table, segment) in self.0.iter_mut().zip(segments) {
            let Some(gradient) = &gradients[table.param] else { continue };
            let values = &mut values.slice_mut()[table.block.range.clone()];
            let mut slots = table.state.iter_mut();
            let mut state: [&mut [f32]; SLOTS] =
                std::array::from_fn(|_| slots.next().map_or(&mut [][..], |(_, _, slot)| slot));
            let count = optimizer.slots().len();
            optimizer.update_rows(step, scale, segment, values, &gradient.open(), &mut state[..count]);
        }
    }

    /// Adds the state to a file.
    pub fn store<'a>(&'a self, contents: &mut Contents<'a>) {
        for (table, (name, numbers, slot)) in self.slots() {
            contents.tensor(&table.name(name), &[table.rows, *numbers], slot);
        }
    }

    /// Whether a file has all of the state.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn check(&self, contents: &Contents<'_>) -> Result<()> {
        self.slots().try_for_each(|(table, (name, numbers, _))| {
            contents.get_tensor(&table.name(name), &[table.rows, *numbers]).map(drop)
        })
    }

    /// Takes over the state of a file that was checked.
    pub fn restore(&mut self, contents: &Contents<'_>) {
        for table in &mut self.0 {
            for slot in 0..table.state.len() {
                let name = table.name(table.state[slot].0);
                if let Some(stored) = contents.find_tensor(&name) {
                    table.state[slot].2.copy_from_slice(stored);
                }
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = (&Table, &(&'static str, usize, Vec<f32>))> {
        self.0.iter().flat_map(|table| table.state.iter().map(move |slot| (table, slot)))
    }
}

impl Table {
    fn name(&self, slot: &str) -> String {
        format!("optimizer/{slot}/{}", self.block.path)
    }
}
