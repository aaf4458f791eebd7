//! The way of a step by the tasks' gradients at the representation.

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Purpose, Step};
use crate::trainer::Trainer;
use crate::trainer::batches::MicroBatches;
use crate::trainer::finite::finite;
use crate::trainer::scratch::{Look, Scratch};
use crate::weighting::Needs;

impl Trainer {
    /// By the tasks' gradients at the representation.
    pub(in crate::trainer) fn by_representation(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        look: &mut Look<'_>,
    ) -> Result<()> {
        let tasks = model.tasks.len();
        self.scratch.whole.clear();
        self.scratch.whole.resize(tasks * tasks, 0.0);
        self.scratch.pieces.clear();
        let several = parts.count() > 1;
        if several {
            self.ahead(model, parts, self.requirements.purpose, Self::look_at_representation)?;
            self.decide_at_representation(model, parts)?;
        }
        let mut first = 0;
        for index in 0..parts.count() {
            let mut work = self.open(model, parts, index, self.requirements.purpose)?;
            let done = self.by_representation_in(model, parts, &mut work, index, &mut first, several);
            self.close(model, work, done, index, look)?;
        }
        Ok(())
    }

    fn by_representation_in(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        work: &mut Workspace,
        index: usize,
        first: &mut usize,
        decided: bool,
    ) -> Result<()> {
        let step = self.pass(parts, index);
        work.forward(step)?;
        if !decided {
            self.look_at_representation(model, work, step)?;
            self.decide_at_representation(model, parts)?;
        }
        if decided || self.requirements.purpose != (Purpose::Representation { lanes: false }) {
            // The look did not leave the outputs' gradients as the losses gave them.
            self.once_more(model, work)?;
        }
        if self.combination.direction.is_empty() {
            return self.summed(work, step);
        }
        // Heads learn from their own gradients, everything before the representation from the direction.
        let (behind, representation) = (model.net.behind(), model.net.representation);
        for (task, &factor) in self.scratch.factors.iter().enumerate().filter(|(_, factor)| **factor != 1.0) {
            work.scale_gradient(task, Pass::Summed, factor as f32);
        }
        work.backward_over(step, Pass::Summed, behind..model.net.ops.len())?;
        let gradient = work.plan().gradient(representation, Pass::Summed).expect("it learns").slice_mut();
        gradient.copy_from_slice(&self.combination.direction[*first..*first + gradient.len()]);
        *first += gradient.len();
        work.backward_over(step, Pass::Summed, 0..behind)
    }

    /// Takes up one micro-batch's gradients at the representation.
    fn look_at_representation(&mut self, model: &Model, work: &mut Workspace, step: Step<'_>) -> Result<()> {
        let lanes = self.requirements.purpose == Purpose::Representation { lanes: true };
        let pass = if lanes { Pass::PerTask } else { Pass::Summed };
        work.add_losses(&model.tasks, Some((pass, &self.scratch.scales)), &mut self.scratch.sums)?;
        finite(&model.tasks, &self.scratch.sums, work, self.steps, "at")?;
        let step = Step { accumulate: false, ..step };
        if lanes {
            work.backward_over(step, pass, model.net.behind()..model.net.ops.len())?;
        }
        if self.requirements.needs == Needs::Jacobian {
            let gradient = work.plan().gradient(model.net.representation, pass).expect("it learns");
            let (layout, gradient) = (gradient.layout, gradient.slice());
            let (stride, width) = (layout.lanes * layout.width, layout.width);
            let mut rows = Lent::with_capacity(self.scratch.present.len() * gradient.len() / layout.lanes);
            for &task in &self.scratch.present {
                gradient.chunks_exact(stride).for_each(|row| rows.extend_from_slice(&row[task * width..][..width]));
            }
            self.scratch.pieces.push(rows);
        }
        work.plan().add_gramian_at_representation(model.tasks.len(), &mut self.scratch.whole)
    }

    fn decide_at_representation(&mut self, model: &mut Model, parts: &dyn MicroBatches) -> Result<()> {
        let tasks = model.tasks.len();
        let Scratch { present, gramian, whole, jacobian, pieces, layers, .. } = &mut self.scratch;
        gramian.clear();
        gramian.extend(
            present.iter().flat_map(|&s| present.iter().map(move |&t| (s, t))).map(|(s, t)| whole[s * tasks + t]),
        );
        jacobian.clear();
        for row in 0..present.len() {
            for piece in pieces.iter() {
                let size = piece.len() / present.len();
                jacobian.extend_from_slice(&piece[row * size..][..size]);
            }
        }
        layers.clear();
        self.decide(model, parts)
    }
}
