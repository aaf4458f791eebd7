//! What sharing schemes mix by: gates, mixtures, stitches, funnels; and what of it there is to see.

use super::Builder;
use crate::bail;
use crate::error::Result;
use crate::network::nodes::{calibrate, dot, funnel, mixture, selectors, softmax, stitch};
use crate::network::{ROWS, Source, Value, ValueId, View};
use crate::parameters::{Init, Reach, Role};

impl Builder {
    /// Softmax over the width of each row.
    pub fn softmax(&mut self, x: ValueId) -> ValueId {
        let x = self.materialize(x);
        let output = self.like(x);
        self.push(softmax::Softmax { input: x, output })
    }

    /// `scale * <a, b>`, row by row: two values of one shape to a width of 1.
    ///
    /// # Errors
    /// Values of different shapes, or of reaches that cannot be joined.
    pub fn dot(&mut self, a: ValueId, b: ValueId, scale: f64) -> Result<ValueId> {
        let inputs = [self.materialize(a), self.materialize(b)];
        let (groups, reach) = self.meet(&inputs)?;
        let [width, other] = inputs.map(|x| self.value(x).width);
        if width != other {
            bail!("only values of one width have products; got {width} and {other}");
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, 1, reach, learns);
        Ok(self.push(dot::Dot { inputs, output, scale }))
    }

    /// The gate of DSelect-k: `k` selectors of one of `experts` each, from bits `z` and weights `w`; see
    /// [`selectors::Selectors`].
    ///
    /// # Errors
    /// Values of different groups or reaches, or of widths that do not fit.
    pub fn selectors(
        &mut self,
        z: ValueId,
        w: ValueId,
        k: usize,
        experts: usize,
        gamma: f64,
        entropy: f64,
    ) -> Result<ValueId> {
        let z = self.materialize(z);
        let w = self.materialize(w);
        let gate = selectors::Gate { selectors: k, experts, gamma, entropy };
        let of_z = self.value(z);
        let of_w = self.value(w);
        self.afford(&[k, experts])?;
        if k == 0 || experts < 2 || [of_z.width, of_w.width] != [k * gate.bits(), k] {
            bail!(
                "{k} selectors of {experts} experts, at least 1 of at least 2, need bits of width {} and weights of width \
                 {k}; got {} and {}",
                k * gate.bits(),
                of_z.width,
                of_w.width
            );
        }
        if (of_z.groups, of_z.reach) != (of_w.groups, of_w.reach) {
            bail!("bits and weights of selectors should have the same groups and reach; got {of_z:?} and {of_w:?}");
        }
        let groups = of_z.groups;
        let reach = of_z.reach;
        let learns = of_z.learns || of_w.learns;
        let output = self.fresh(groups, experts, reach, learns);
        Ok(self.push(selectors::Selectors { bits: z, mix: w, output, gate }))
    }

    /// The logit of both of two events, from logits `a` and, given the first, `b`; from here on for `reach`.
    ///
    /// # Errors
    /// Values of different groups or another width than 1, or that neither all tasks reach nor `reach` does.
    pub fn funnel(&mut self, a: ValueId, b: ValueId, reach: Reach) -> Result<ValueId> {
        let inputs = [self.materialize(a), self.materialize(b)];
        let groups = self.logits(inputs, reach)?;
        if let Some(&x) = inputs.iter().find(|&&x| ![Reach::All, reach].contains(&self.value(x).reach)) {
            bail!("a value that {:?} reaches cannot go on for {reach:?}", self.value(x).reach);
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, 1, reach, learns);
        Ok(self.push(funnel::Funnel { inputs, output }))
    }

    /// The logit `b`, from here on for `reach`, and a term of the objective that keeps it from being likelier than `a`; see
    /// [`calibrate::Calibrate`].
    ///
    /// # Errors
    /// Values of different groups or another width than 1; a `b` that neither all tasks reach nor `reach` does.
    pub fn calibrate(&mut self, a: ValueId, b: ValueId, strength: f64, reach: Reach) -> Result<ValueId> {
        let inputs = [self.materialize(b), self.materialize(a)];
        let groups = self.logits(inputs, reach)?;
        if ![Reach::All, reach].contains(&self.value(inputs[0]).reach) {
            bail!("a value that {:?} reaches cannot go on for {reach:?}", self.value(inputs[0]).reach);
        }
        let learns = inputs.iter().any(|&x| self.value(x).learns);
        let output = self.fresh(groups, 1, reach, learns);
        Ok(self.push(calibrate::Calibrate { inputs, output, strength }))
    }

    /// The groups of two logits for `reach`.
    pub(super) fn logits(&self, inputs: [ValueId; 2], reach: Reach) -> Result<usize> {
        let [first, second] = inputs.map(|x| self.value(x));
        let fits = first.groups == second.groups && [first.width, second.width] == [1, 1];
        let columns = [first.reach, second.reach, reach].contains(&Reach::Columns);
        if !fits || columns {
            bail!("logits should have the same groups, a width of 1 and tasks by groups; got {first:?} and {second:?}");
        }
        Ok(first.groups)
    }

    /// Sums of experts weighed by gates `[groups, rows, experts]`, row by row: one for each group of the gates.
    ///
    /// # Errors
    /// Gates and experts that do not correspond.
    pub fn mixture(&mut self, gates: ValueId, experts: &[mixture::Experts], reach: Reach) -> Result<ValueId> {
        let mut gates = self.materialize(gates);
        let experts: Vec<_> =
            experts.iter().map(|e| mixture::Experts { value: self.materialize(e.value), ..*e }).collect();
        // Members of an ensemble are weighed alike by gates that look at rows.
        if let Some(members) = experts.first().map(|e| e.value).filter(|&x| self.members_of(x).is_some()) {
            let axis = self.value(members).axis;
            if self.value(gates).axis == ROWS {
                gates = self.spread(gates, axis)?;
            }
        }
        let groups = self.value(gates).groups;
        let columns = self.value(gates).width;
        let Some(first) = experts.first() else { bail!("a mixture needs an expert") };
        let width = self.value(first.value).width;
        let mut count = 0;
        for e in &experts {
            let Value { groups: own, width: given, .. } = *self.value(e.value);
            let fits = given == width && (e.common || own % groups == 0);
            if !fits {
                bail!("experts {:?} do not fit {groups} groups of gates", self.value(e.value));
            }
            count += if e.common { own } else { own / groups };
        }
        if count != columns {
            bail!("{columns} gates do not fit {count} experts");
        }
        let output = self.fresh(groups, width, reach, true);
        Ok(self.push(mixture::Mixture { gates, experts, output }))
    }

    /// A learned mix of the groups of `x`, or of the same group of several values: see [`stitch::Stitch`].
    ///
    /// # Errors
    /// Values of different shapes, or parts that do not divide their width.
    pub fn stitch(&mut self, paths: &[String], stitch: stitch::Mixing<'_>, reach: Reach) -> Result<ValueId> {
        let inputs = self.all_materialized(stitch.inputs);
        let Value { groups, width, .. } = *self.value(inputs[0]);
        let one_shape = inputs.iter().all(|&x| (self.value(x).groups, self.value(x).width) == (groups, width));
        if !one_shape || (stitch.across && inputs.len() > 1) {
            bail!("only values of one shape can be mixed");
        }
        if stitch.parts == 0 || width % stitch.parts != 0 {
            bail!("a width of {width} cannot be split into {} equal parts", stitch.parts);
        }
        let parts = stitch.parts;
        let outputs = paths.len();
        let sources = if stitch.across { groups.saturating_mul(parts) } else { inputs.len() };
        self.afford(&[outputs, parts, sources])?;
        let start = (0..outputs * parts).flat_map(|to| (0..sources).map(move |from| (stitch.start)(to, from)));
        let start = Init::Given(start.collect());
        let shape: &[usize] = if parts == 1 { &[sources] } else { &[parts, sources] };
        let weight = self.grouped(paths, "weight", outputs, shape, Role::Norm, start);
        let output = self.fresh(outputs, width, reach, true);
        let across = stitch.across;
        let rule = stitch.rule;
        self.mix = Some(match rule {
            stitch::MixRule::Plain => Source::Mix(weight),
            stitch::MixRule::Sampled { .. } => Source::Choice(weight),
        });
        Ok(self.push(stitch::Stitch { inputs, weight, output, parts, across, rule }))
    }

    /// Lets users see a value of gates, `[groups, rows, columns]`, of which the first `own` columns are each group's own.
    pub fn show_gates(&mut self, name: String, value: ValueId, [rows, columns]: [Vec<String>; 2], own: usize) {
        self.net.views.push(View { name, source: Source::Value(value), rows, columns, own });
    }

    /// Lets users see the weights of the stitch that was added last.
    pub fn show_stitch(&mut self, name: String, rows: Vec<String>, columns: Vec<String>) {
        if let Some(source) = self.mix {
            self.net.views.push(View { name, source, rows, columns, own: 0 });
        }
    }
}
