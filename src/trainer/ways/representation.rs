//! The way of a step by the tasks' gradients at the representation.

use crate::error::Result;
use crate::machine::buffer::Layout;
use crate::machine::lent::Lent;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Purpose, Step};
use crate::trainer::Trainer;
use crate::trainer::scratch::{Scratch, TaskGradients};
use crate::trainer::step::Turn;
use crate::weighting::{Decision, Needs};

/// Lanes at the representation, which leave the outputs' gradients there a task each.
const LANES: Purpose = Purpose::Representation { lanes: true };

impl Trainer {
    /// Adds a micro-batch's losses and the tasks' gradients at the representation.
    pub(in crate::trainer) fn see_representation(
        &mut self,
        model: &Model,
        work: &mut Workspace,
        step: Step<'_>,
    ) -> Result<()> {
        let lanes = self.decider.requirements.purpose == LANES;
        let pass = if lanes { Pass::PerTask } else { Pass::Summed };
        self.add_losses(model, work, Some(pass))?;
        if lanes {
            let behind = model.net.behind()..model.net.ops.len();
            work.backward_over(model, Step { accumulate: false, ..step }, pass, behind)?;
        }
        let Scratch { labels, gradients, .. } = &mut self.scratch;
        if self.decider.requirements.claims.needs == Needs::Jacobian {
            let gradient = work.plan().gradient(model.net.representation, pass).expect("it learns");
            let Layout { lanes, width, .. } = gradient.layout();
            let gradient = gradient.all()?;
            let mut rows = Lent::with_capacity(labels.rows.len() * gradient.len() / lanes);
            for &task in &labels.rows {
                for row in gradient.chunks_exact(lanes * width) {
                    rows.extend_from_slice(&row[task * width..][..width]);
                }
            }
            gradients.pieces.push(rows);
        }
        gradients.of_all.resize(model.tasks.len() * model.tasks.len(), 0.0);
        work.plan().add_gramian_at_representation(model.tasks.len(), &mut gradients.of_all)
    }

    /// What follows from the gradients of all micro-batches.
    pub(in crate::trainer) fn settle_representation(&mut self) {
        let Scratch { labels, gradients, .. } = &mut self.scratch;
        let TaskGradients { gramian, layers, jacobian, of_all, pieces, .. } = gradients;
        let rows = &labels.rows;
        let tasks = labels.weights.len();
        layers.clear();
        gramian.clear();
        for &s in rows {
            gramian.extend(rows.iter().map(|&t| of_all[s * tasks + t]));
        }
        for row in 0..rows.len() {
            for piece in pieces.iter() {
                let size = piece.len() / rows.len();
                jacobian.extend_from_slice(&piece[row * size..][..size]);
            }
        }
        pieces.clear();
        of_all.clear();
    }

    /// The backward of one micro-batch, with the weights or the direction that were decided on.
    pub(in crate::trainer) fn backward_from_representation(
        &mut self,
        model: &mut Model,
        work: &mut Workspace,
        step: Step<'_>,
        turn: Turn,
    ) -> Result<()> {
        if turn.decided || self.decider.requirements.purpose == LANES {
            // The look did not leave the outputs' gradients as the losses gave them.
            self.once_more(model, work)?;
        }
        let Decision::Direction { direction, .. } = self.decider.decision() else {
            return self.backward(model, work, step, turn.last);
        };
        // Heads learn from their own gradients, everything before the representation from the direction.
        work.scale_gradients(Pass::Summed, &self.scratch.factors.outputs)?;
        let behind = model.net.behind();
        work.backward_over(model, step, Pass::Summed, behind..model.net.ops.len())?;
        let gradient = work.plan().gradient(model.net.representation, Pass::Summed).expect("it learns");
        let count = gradient.layout().len();
        let used = if turn.index == 0 { 0 } else { self.scratch.gradients.used };
        gradient.put(0, &direction[used..][..count])?;
        self.scratch.gradients.used = used + count;
        work.backward_over(model, step, Pass::Summed, 0..behind)
    }
}
