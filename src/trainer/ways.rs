//! The ways of one step: by losses alone, by the tasks' gradients at shared parameters, or at the representation.

mod representation;

use super::Trainer;
use super::batches::MicroBatches;
use super::evidence::StepEvidence;
use super::finite::finite;
use super::probe::Probe;
use super::scratch::{Look, Scratch};
use crate::error::Result;
use crate::machine::gram::{add_products, combine};
use crate::machine::lent::Lent;
use crate::model::Model;
use crate::model::workspace::Workspace;
use crate::network::pass::{Pass, Purpose, Step};
use crate::parameters::TaskId;
use crate::value_error;
use crate::weighting::modes::At;
use crate::weighting::{Moment, Needs};

impl Trainer {
    /// By losses, or by weights that are remembered: one backward.
    pub(super) fn by_losses(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        look: &mut Look<'_>,
        remembered: bool,
    ) -> Result<()> {
        let ahead = parts.count() > 1 && self.weighting.looks() && !remembered;
        if ahead {
            // The weighting must see the losses of all micro-batches before the first backward.
            self.ahead(model, parts, Purpose::Train, |trainer, model, work, _| {
                work.add_losses(&model.tasks, None, &mut trainer.scratch.sums)?;
                finite(&model.tasks, &trainer.scratch.sums, work, trainer.steps, "at")
            })?;
            self.decide(model, parts)?;
            self.scratch.sums.fill(0.0);
        }
        for index in 0..parts.count() {
            let mut work = self.open(model, parts, index, Purpose::Train)?;
            let done = self.by_losses_in(model, parts, &mut work, index, !ahead && index == 0);
            self.close(model, work, done, index, look)?;
        }
        self.weigh_separate(model);
        Ok(())
    }

    fn by_losses_in(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        work: &mut Workspace,
        index: usize,
        decide: bool,
    ) -> Result<()> {
        let step = self.pass(parts, index);
        work.forward(step)?;
        work.add_losses(&model.tasks, Some((Pass::Summed, &self.scratch.scales)), &mut self.scratch.sums)?;
        finite(&model.tasks, &self.scratch.sums, work, self.steps, "at")?;
        if decide {
            self.decide(model, parts)?;
        }
        self.summed(work, step)
    }

    /// The outputs' gradients once more, for a summed pass; a look has summed the losses already.
    fn once_more(&mut self, model: &Model, work: &mut Workspace) -> Result<()> {
        let Scratch { scales, again, .. } = &mut self.scratch;
        again.fill(0.0);
        work.add_losses(&model.tasks, Some((Pass::Summed, scales)), again)
    }

    /// The summed backward with the weights that were decided on.
    fn summed(&mut self, work: &mut Workspace, step: Step<'_>) -> Result<()> {
        let Scratch { present, factors, boundary, .. } = &self.scratch;
        if present.is_empty() {
            return Ok(());
        }
        for (task, &factor) in factors.iter().enumerate().filter(|(_, factor)| **factor != 1.0) {
            work.scale_gradient(task, Pass::Summed, factor as f32);
        }
        let weights = if boundary.iter().all(|&weight| weight == 1.0) { &[][..] } else { boundary };
        work.backward(Step { weights, ..step }, Pass::Summed)
    }

    /// Where no value is shared, weights apply to the tasks' own encoders.
    fn weigh_separate(&self, model: &mut Model) {
        let flat = model.params.gradients.slice_mut();
        for piece in &self.requirements.shared {
            for (task, &weight) in self.scratch.boundary.iter().enumerate().filter(|(_, weight)| **weight != 1.0) {
                if let Some(own) = piece.own(task) {
                    flat[piece.flat.clone()][own].iter_mut().for_each(|x| *x *= weight as f32);
                }
            }
        }
    }

    /// By the tasks' gradients at all shared parameters.
    pub(super) fn by_gradients(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        look: &mut Look<'_>,
    ) -> Result<()> {
        self.scratch.jacobian.clear();
        for index in 0..parts.count() {
            let mut work = self.open(model, parts, index, self.requirements.purpose)?;
            let last = index + 1 == parts.count();
            let done = self.by_gradients_in(model, parts, &mut work, index, last);
            self.close(model, work, done, index, look)?;
        }
        Ok(())
    }

    fn by_gradients_in(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        work: &mut Workspace,
        index: usize,
        last: bool,
    ) -> Result<()> {
        let step = self.pass(parts, index);
        work.forward(step)?;
        work.add_losses(&model.tasks, Some((Pass::PerTask, &self.scratch.scales)), &mut self.scratch.sums)?;
        finite(&model.tasks, &self.scratch.sums, work, self.steps, "at")?;
        if self.scratch.present.is_empty() {
            return Ok(());
        }
        work.backward(step, Pass::PerTask)?;
        let gathers = self.requirements.gathers || parts.count() > 1;
        if gathers {
            self.gather(work);
        }
        if !last {
            return Ok(());
        }
        self.take_gramian(model, work, gathers);
        self.decide(model, parts)?;
        let kept = gathers || work.plan().slabs().is_some_and(|slabs| slabs.kept());
        match kept {
            true => self.combine(model, work, gathers),
            false => {
                // Only the Gramian was kept: a summed pass with the weights follows.
                self.once_more(model, work)?;
                self.summed(work, step)?;
                self.weigh_separate(model);
                Ok(())
            }
        }
    }

    /// Adds this micro-batch's slabs to the Jacobian `[rows, width]`.
    fn gather(&mut self, work: &Workspace) {
        let (Scratch { present, jacobian, .. }, width) = (&mut self.scratch, self.requirements.width);
        jacobian.resize(present.len() * width, 0.0);
        for (&task, row) in present.iter().zip(jacobian.chunks_exact_mut(width.max(1))) {
            for piece in self.requirements.shared.iter().filter(|piece| piece.parts.is_none()) {
                work.add_row(piece.param, task, &mut row[piece.row()]);
            }
        }
    }

    /// The Gramian `[rows, rows]` and, if wanted, those of the layers.
    fn take_gramian(&mut self, model: &Model, work: &mut Workspace, gathered: bool) {
        let (tasks, requirements) = (model.tasks.len(), &self.requirements);
        let Scratch { present, gramian, layers, jacobian, whole, room, .. } = &mut self.scratch;
        let (rows, gradients) = (present.len(), model.params.gradients.slice());
        // Where every task has parameters of its own alone, these count.
        let own = |task: TaskId, layer: Option<usize>| -> f64 {
            let pieces = requirements.shared.iter().filter(|piece| layer.is_none_or(|layer| piece.layer == layer));
            let parts = pieces.filter_map(|piece| Some(&gradients[piece.flat.clone()][piece.own(task)?]));
            parts.flatten().map(|&x| f64::from(x).powi(2)).sum()
        };
        for (row, &task) in present.iter().enumerate().filter(|_| gathered) {
            let row = &mut jacobian[row * requirements.width..(row + 1) * requirements.width];
            for (piece, own) in requirements.shared.iter().filter_map(|piece| Some((piece, piece.own(task)?))) {
                let from = &gradients[piece.flat.clone()][own.clone()];
                row[piece.row()][own].copy_from_slice(from);
            }
        }
        let mut fill = |layer: Option<usize>, gramian: &mut Vec<f64>| {
            gramian.clear();
            gramian.resize(rows * rows, 0.0);
            if gathered && layer.is_none() {
                return add_products(jacobian, rows, gramian);
            }
            whole.clear();
            whole.resize(tasks * tasks, 0.0);
            let in_layer =
                |param| requirements.shared.iter().any(|p| p.param == param && layer.is_none_or(|l| p.layer == l));
            match work.plan().slabs().filter(|_| !gathered) {
                Some(slabs) => slabs.add_gramian(in_layer, whole),
                None => {
                    for piece in requirements.shared.iter().filter(|p| layer.is_none_or(|layer| p.layer == layer)) {
                        room.clear();
                        jacobian
                            .chunks_exact(requirements.width)
                            .for_each(|row| room.extend_from_slice(&row[piece.row()]));
                        add_products(room, rows, gramian);
                    }
                    return;
                }
            }
            for (i, &s) in present.iter().enumerate() {
                for (j, &t) in present.iter().enumerate() {
                    gramian[i * rows + j] = whole[s * tasks + t];
                }
                gramian[i * rows + i] += own(s, layer);
            }
        };
        fill(None, gramian);
        layers.resize_with(if requirements.per_layer { requirements.layers } else { 0 }, Vec::new);
        layers.iter_mut().enumerate().for_each(|(layer, gramian)| fill(Some(layer), gramian));
    }

    /// The flat gradient from the Jacobian and what was decided.
    fn combine(&mut self, model: &mut Model, work: &mut Workspace, gathered: bool) -> Result<()> {
        let Scratch { present, factors, boundary, jacobian, room, .. } = &mut self.scratch;
        let (rows, flat) = (present.len(), model.params.gradients.slice_mut());
        let layers = &self.combination.layers;
        for piece in &self.requirements.shared {
            let out = &mut flat[piece.flat.clone()];
            let layered = layers.get(piece.layer * rows..(piece.layer + 1) * rows).filter(|_| !layers.is_empty());
            // The weight at shared parameters is what applies to the whole loss, times what applies where it enters.
            let weight = |row: usize| layered.map_or(factors[present[row]] * boundary[present[row]], |w| w[row]);
            if !self.combination.direction.is_empty() {
                out.copy_from_slice(&self.combination.direction[piece.row()]);
            } else if piece.parts.is_some() {
                for (row, &task) in present.iter().enumerate() {
                    let own = piece.own(task).expect("just asked");
                    out[own].iter_mut().for_each(|x| *x *= weight(row) as f32);
                }
            } else if gathered {
                let weights: Lent<f64> = (0..rows).map(weight).collect();
                room.clear();
                jacobian
                    .chunks_exact(self.requirements.width)
                    .for_each(|row| room.extend_from_slice(&row[piece.row()]));
                combine(room, &weights, out);
            } else if let Some(slabs) = work.plan().slabs() {
                let mut weights = Lent::zeros(factors.len());
                present.iter().enumerate().for_each(|(row, &task)| weights[task] = weight(row));
                slabs.combine(piece.param, &weights, out);
            }
        }
        // A table has no layers and no direction of its own: it takes the mean of the layers' weights, or the tasks' own.
        let mut of_tables = Lent::zeros(factors.len());
        for (row, &task) in present.iter().enumerate() {
            let each = layers.iter().skip(row).step_by(rows);
            of_tables[task] = match layers.len() / rows.max(1) {
                0 => factors[task] * boundary[task],
                count => each.sum::<f64>() / count as f64,
            };
        }
        self.tables.combine(&model.params.tables, &of_tables);
        for block in &self.blocks {
            let Some(factor) = block.task.map(|task| factors[task]).filter(|&factor| factor != 1.0) else { continue };
            if !self.requirements.shared.iter().any(|piece| piece.flat.contains(&block.range.start)) {
                flat[block.range.clone()].iter_mut().for_each(|x| *x *= factor as f32);
            }
        }
        Ok(())
    }

    /// Runs all micro-batches forward, without leaving a trace in batch statistics.
    fn ahead(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        purpose: Purpose,
        mut visit: impl FnMut(&mut Self, &Model, &mut Workspace, Step<'_>) -> Result<()>,
    ) -> Result<()> {
        for index in 0..parts.count() {
            let mut work = self.open(model, parts, index, purpose)?;
            let step = self.pass(parts, index);
            let done = work.forward(step).and_then(|()| visit(self, model, &mut work, step));
            model.give_back(work);
            done?;
        }
        model.params.state.slice_mut().copy_from_slice(&self.scratch.state);
        Ok(())
    }

    /// A workspace filled with a micro-batch; label weights are known afterwards.
    fn open(
        &mut self,
        model: &mut Model,
        parts: &dyn MicroBatches,
        index: usize,
        purpose: Purpose,
    ) -> Result<Workspace> {
        let (data, rows) = parts.part(index);
        let mut work = model.workspace(rows.len(), purpose)?;
        work.load(data, rows, true);
        if !self.scratch.counted {
            work.add_weights(&model.tasks, &mut self.scratch.weights);
            self.scratch.settle(&model.tasks);
        }
        Ok(work)
    }

    fn close(
        &mut self,
        model: &mut Model,
        work: Workspace,
        done: Result<()>,
        index: usize,
        look: &mut Look<'_>,
    ) -> Result<()> {
        if done.is_ok() {
            work.add_terms(&mut self.scratch.terms);
            let meters = self.meters.iter_mut().zip(&model.tasks);
            meters.enumerate().for_each(|(j, (meter, task))| work.measure(j, task, meter));
            look(&work, index);
        }
        model.give_back(work);
        done
    }

    /// The passes over micro-batch `index`. Without any label nothing may change, not even batch statistics.
    fn pass(&self, parts: &dyn MicroBatches, index: usize) -> Step<'static> {
        let number = self.steps * self.accumulate as u64 + index as u64;
        let training = !self.scratch.present.is_empty();
        let rows = |index| parts.part(index).1.len() as f64;
        let share = rows(index) / (0..parts.count()).map(rows).sum::<f64>();
        Step { codes: &[], seed: self.seed, number, training, accumulate: index > 0, weights: &[], share }
    }

    /// When the running step is.
    pub(super) fn moment(&self) -> Moment {
        Moment { seed: self.seed, step: self.steps, epoch: self.epochs, lr: self.lr }
    }

    /// Lets the weighting decide on what was seen.
    fn decide(&mut self, model: &mut Model, parts: &dyn MicroBatches) -> Result<()> {
        let moment = self.moment();
        let scratch = &mut self.scratch;
        scratch.take_losses();
        self.combination.clear(scratch.present.len());
        if scratch.present.is_empty() {
            return Ok(());
        }
        let beside = self.weighting.parts() > 1 || self.weighting.validates();
        let probe = beside.then_some(Probe {
            model,
            parts,
            requirements: &self.requirements,
            blocks: &self.blocks,
            validation: self.validation.as_ref(),
            moment,
            number: self.steps * self.accumulate as u64,
        });
        let Scratch { present, losses, gramian, layers, jacobian, .. } = scratch;
        let rounding = self.requirements.rounding;
        let (gramian, layers): (&[f64], &[Vec<f64>]) = (gramian, layers);
        let mut seen = StepEvidence {
            tasks: present,
            losses,
            moment,
            rounding,
            gramian,
            layers,
            jacobian,
            probe,
            part: Lent::default(),
        };
        self.weighting.weigh(&mut seen, &mut self.combination)?;
        check(&self.combination, self.steps)?;
        self.notice.look(self.weighting.as_ref(), &self.combination, |layer| match layer {
            None => gramian,
            Some(at) => &layers[at],
        });
        scratch.decided(&self.combination, self.requirements.needs == Needs::Losses);
        self.observed.add(scratch, &self.combination);
        Ok(())
    }

    /// The losses of the batch after the step, for a weighting that looks back.
    pub(super) fn look_back(&mut self, model: &mut Model, parts: &dyn MicroBatches) -> Result<()> {
        let before = Lent::from(&self.scratch.losses[..]);
        let state = Lent::from(model.params.state.slice());
        self.scratch.again.fill(0.0);
        for index in 0..parts.count() {
            let mut work = self.open(model, parts, index, Purpose::Train)?;
            let done = work.forward(self.pass(parts, index));
            let done = done.and_then(|()| work.add_losses(&model.tasks, None, &mut self.scratch.again));
            model.give_back(work);
            done?;
        }
        model.params.state.slice_mut().copy_from_slice(&state);
        let Scratch { present, again, weights, .. } = &self.scratch;
        let after: Lent<f64> = present.iter().map(|&j| model.tasks[j].weight * again[j] / weights[j]).collect();
        // A step that broke the model is the next step's error; there is nothing to learn from it.
        if after.iter().any(|loss| !loss.is_finite()) {
            return Ok(());
        }
        self.weighting.look_back(present, &before, &after)
    }

    /// Which way this step goes.
    pub(super) fn go(&mut self, model: &mut Model, parts: &dyn MicroBatches, look: &mut Look<'_>) -> Result<()> {
        let by_gradients = self.requirements.needs > Needs::Losses || self.observed.gradients;
        let remembered = !self.weighting.due(self.moment());
        match self.requirements.at {
            _ if !by_gradients || (remembered && !self.observed.gradients) => {
                self.by_losses(model, parts, look, remembered)
            }
            At::Shared => self.by_gradients(model, parts, look),
            At::Representation => self.by_representation(model, parts, look),
        }
    }
}

/// Stops before weights that are no numbers reach the parameters.
fn check(combination: &crate::weighting::Combination, steps: u64) -> Result<()> {
    let all = combination.weights.iter().chain(&combination.own).chain(&combination.layers);
    // The model computes in single precision.
    let wrong = all.copied().find(|weight| !(*weight as f32).is_finite());
    if let Some(weight) = wrong {
        return Err(value_error!(
            "the weighting gave a weight of {weight} at step {}: are the tasks' losses or gradients of extreme size?",
            steps + 1
        ));
    }
    match combination.direction.iter().any(|x| !x.is_finite()) {
        true => Err(value_error!("the weighting gave a direction that is not finite at step {}", steps + 1)),
        false => Ok(()),
    }
}
