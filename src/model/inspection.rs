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
    /// `[groups, rows of the data, columns]` for gates, `[groups, columns]` for mixes.
    pub values: Vec<f32>,
}

impl Model {
    /// Gates for all rows, in evaluation mode, and learned mixes. `look` is called after each batch, and may stop it.
    ///
    /// # Errors
    /// What libtorch refuses, and what `look` returns.
    pub fn inspect(&self, data: &Data, batch: usize, look: Look<'_>) -> Result<Vec<Shown>> {
        let views = self.net.views.clone();
        let rows = data.rows();
        let size = |view: &View| match view.source {
            Source::Value(_) => view.rows.len() * rows * view.columns.len(),
            Source::Mix(_) | Source::Choice(_) => 0,
        };
        let empty = |view: View| Shown { values: vec![0.0; size(&view)], view };
        let mut shown: Vec<_> = views.into_iter().map(empty).collect();
        for first in (0..rows).step_by(batch.max(1)) {
            let range = first..rows.min(first + batch.max(1));
            let mut work = self.workspace(self.extents(data, Rows::Range(range.clone()))?, Purpose::Evaluate)?;
            work.load(data, Rows::Range(range.clone()), false)?;
            work.forward(self, Step::EVALUATION)?;
            for Shown { view, values } in &mut shown {
                let Source::Value(value) = view.source else { continue };
                let width = view.columns.len();
                let gates = work.plan().value(value).all()?;
                for (to, from) in values.chunks_exact_mut(rows * width).zip(gates.chunks_exact(range.len() * width)) {
                    to[range.start * width..range.end * width].copy_from_slice(from);
                }
            }
            self.give_back(work);
            look()?;
        }
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
