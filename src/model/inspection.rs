//! A look inside a model: gates for given rows, and how tasks' features are mixed.

use crate::data::{Data, Rows};
use crate::error::Result;
use crate::model::{Look, Model};
use crate::network::pass::{Purpose, Step};
use crate::network::{Source, View};

/// What a view shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What it is.
    pub view: View,
    /// `[groups, rows of the data, columns]` for gates, or positions end to end; `[groups, columns]` for mixes.
    pub values: Vec<f32>,
}

impl Model {
    /// Gates for all rows, in evaluation mode, and learned mixes. `look` is called after each batch, and may stop it.
    ///
    /// # Errors
    /// What libtorch refuses, and what `look` returns.
    pub fn inspect(&self, data: &Data, batch: usize, look: Look<'_>) -> Result<Vec<Shown>> {
        let rows = data.rows();
        let mut shown: Vec<_> =
            self.net.views.iter().map(|view| Shown { view: view.clone(), values: Vec::new() }).collect();
        let mut gates: Vec<Vec<Vec<f32>>> =
            self.net.views.iter().map(|view| vec![Vec::new(); view.rows.len()]).collect();
        let mut end = 0;
        while end < rows {
            let range = self.part(data, end, batch);
            end = range.end;
            let mut work = self.workspace(self.extents(data, Rows::Range(range.clone()))?, Purpose::Evaluate)?;
            work.load(data, Rows::Range(range), false)?;
            work.forward(self, Step::EVALUATION)?;
            for (view, groups) in self.net.views.iter().zip(&mut gates) {
                let Source::Value(value) = view.source else { continue };
                let width = view.columns.len();
                let there = work.plan().count(self.net.values[value].axis) * width;
                let room = work.plan().value(value).layout().rows * width;
                let numbers = work.plan().value(value).all()?;
                for (of_group, numbers) in groups.iter_mut().zip(numbers.chunks_exact(room.max(1))) {
                    of_group.extend_from_slice(&numbers[..there]);
                }
            }
            self.give_back(work);
            look()?;
        }
        shown.iter_mut().zip(gates).for_each(|(shown, groups)| shown.values = groups.concat());
        for Shown { view, values } in &mut shown {
            if let Source::Mix(param) | Source::Choice(param) = view.source {
                values.extend_from_slice(&self.params.values.numbers(self.net.params[param].range.clone())?);
            }
            if let Source::Choice(_) = view.source {
                values.chunks_exact_mut(view.columns.len()).for_each(softmax);
            }
        }
        Ok(shown)
    }
}

fn softmax(row: &mut [f32]) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = (*x - top).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}
