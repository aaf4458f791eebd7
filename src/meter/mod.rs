//! Metrics that are counted batch by batch on raw outputs, which need not be kept for them.

pub mod column;
pub mod metric;
pub mod metrics;

use serde::Deserialize;
use serde_json::Value;

pub use self::metric::Metric;

use self::column::{Column, sort};
use crate::error::Result;
use crate::label::{Kind, Labels, Targets};
use crate::loss::Batch;
use crate::task::Task;
use crate::{bail, value_error};

/// What is wanted of one task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Wanted {
    #[serde(deserialize_with = "metrics::read")]
    metrics: Vec<&'static Metric>,
    /// Whether raw outputs are wanted too, for other metrics.
    pub keep: bool,
    /// The scale in which its numbers train, where that is not their own.
    #[serde(default)]
    scale: Option<Scale>,
}

impl Wanted {
    /// Whether a metric needs scores in order.
    fn ranks(&self) -> bool {
        self.metrics.iter().any(|metric| metric.ranks)
    }

    /// Whether its scale, if there is one, is of so many columns.
    fn has_scale_of(&self, columns: usize) -> bool {
        let scale = self.scale.as_ref();
        scale.is_none_or(|scale| scale.centers.len() == columns && scale.spreads.len() == columns)
    }
}

/// How numbers come back into units of their own: `center + spread x`, and with `log` its exponential less 1.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Scale {
    centers: Vec<f64>,
    spreads: Vec<f64>,
    log: bool,
}

impl Scale {
    fn inverse(&self, column: usize, x: f64) -> f64 {
        let value = self.centers[column] + self.spreads[column] * x;
        if self.log { value.exp_m1() } else { value }
    }
}

/// Counts of one task.
#[derive(Debug, Default)]
pub struct Meter {
    /// That of the labels, once they are known.
    kind: Option<Kind>,
    wanted: Option<Wanted>,
    columns: Vec<Column>,
    /// Whether the epoch began before anything was counted.
    partial: bool,
    /// Raw outputs and predictions of a batch.
    raw: Vec<f32>,
    linked: Vec<f32>,
    /// Room to sort in.
    room: Vec<u32>,
}

/// Reads what is wanted of each task: `[{"metrics", "keep", "scale"}, ...]` as JSON.
///
/// # Errors
/// Something else.
pub fn read(wanted: &Value) -> Result<Vec<Wanted>> {
    Vec::deserialize(wanted).map_err(|error| value_error!("what to measure: {error}"))
}

impl Meter {
    /// Counts what is wanted from here on; what was counted stays if it is of the same columns.
    pub fn want(&mut self, wanted: Option<&Wanted>, task: &Task) {
        let columns = match (wanted, task.labels) {
            (None, _) => self.columns.len(),
            (Some(wanted), Labels::Classes(classes)) if classes > 2 && wanted.ranks() => classes,
            (Some(_), labels) => labels.columns().unwrap_or(1),
        };
        if columns != self.columns.len() {
            self.columns = vec![Column::default(); columns];
        }
        self.kind = Some(task.labels.kind());
        // A scale of other columns is none of this task's.
        self.wanted = wanted.filter(|wanted| wanted.has_scale_of(columns)).cloned();
    }

    /// One that begins when part of the epoch is over.
    pub fn partial() -> Self {
        Self { partial: true, ..Self::default() }
    }

    /// Begins again.
    pub fn clear(&mut self) {
        self.partial = false;
        self.columns.iter_mut().for_each(Column::clear);
    }

    /// Makes room for so many rows.
    pub fn reserve(&mut self, rows: usize) {
        if self.ranks() {
            self.columns.iter_mut().for_each(|column| column.scores.reserve(rows.saturating_sub(column.scores.len())));
        }
    }

    /// Whether scores are kept.
    fn ranks(&self) -> bool {
        self.wanted.as_ref().is_some_and(Wanted::ranks)
    }

    /// Whether raw outputs are wanted.
    pub fn keeps(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.keep)
    }

    /// Whether anything is counted.
    pub fn counts(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| !wanted.metrics.is_empty())
    }

    /// Counts a batch: raw outputs and labels, but for rows of weight 0.
    pub fn add(&mut self, task: &Task, batch: &Batch<'_, f32>) {
        let Some(wanted) = self.wanted.take() else { return };
        if !wanted.metrics.is_empty() {
            match batch.targets {
                Targets::Classes(classes) => self.add_classes(task, &wanted, batch, classes),
                Targets::Values(values) => self.add_values(task, &wanted, batch, values),
            }
        }
        self.wanted = Some(wanted);
    }

    fn add_classes(&mut self, task: &Task, wanted: &Wanted, batch: &Batch<'_, f32>, classes: &[i32]) {
        let weighs = |row: usize| batch.weights.is_none_or(|w| w[row] != 0.0);
        let by_raw = task.loss.link(task.labels).keeps_order();
        if !by_raw || wanted.ranks() {
            self.link(task, batch);
        }
        let width = self.linked.len() / batch.rows.max(1);
        let mut count = 0;
        let mut right = 0;
        for (row, &class) in classes[..batch.rows].iter().enumerate() {
            // note: without branches, since which class is the largest cannot be foreseen.
            let labelled = (class >= 0) & weighs(row);
            let raw = || &batch.outputs[row * batch.stride..][..batch.width];
            let best = largest(if by_raw { raw() } else { &self.linked[row * width..][..width] });
            right += u64::from(labelled & (best == class as usize));
            count += u64::from(labelled);
        }
        self.columns[0].right += right;
        self.columns.iter_mut().for_each(|column| column.rows += count);
        if !wanted.ranks() {
            return;
        }
        for row in (0..batch.rows).filter(|&row| classes[row] >= 0 && weighs(row)) {
            rank(&mut self.columns, &self.linked[row * width..][..width], classes[row] as usize);
        }
    }

    fn add_values(&mut self, task: &Task, wanted: &Wanted, batch: &Batch<'_, f32>, values: &[f32]) {
        self.link(task, batch);
        let columns = self.columns.len();
        let width = self.linked.len() / batch.rows.max(1);
        // One number an output: the mean of mean and variance, the middle one of several quantiles.
        let each = width / columns.max(1);
        let middle = each.saturating_sub(1) / 2;
        let linked = &self.linked;
        for (k, column) in self.columns.iter_mut().enumerate() {
            let cell = |row: usize| {
                let predicted = linked[row * width + k * each + middle];
                let known = values[row * columns + k];
                let weighs = batch.weights.is_none_or(|w| w[row] != 0.0);
                (f64::from(predicted), f64::from(known), !known.is_nan() & weighs)
            };
            match (self.kind, &wanted.scale) {
                (Some(Kind::Values), None) => column.errors(batch.rows, cell),
                (Some(Kind::Values), Some(scale)) => column.errors(batch.rows, |row| {
                    let (p, y, there) = cell(row);
                    (scale.inverse(k, p), scale.inverse(k, y), there)
                }),
                _ => column.decide(batch.rows, (0..batch.rows).map(cell), wanted.ranks()),
            }
        }
    }

    /// One that is given predictions so wide instead of raw outputs.
    pub fn of_predictions(kind: Kind, metric: &'static Metric, width: usize) -> Self {
        let columns = if kind == Kind::Classes && width == 2 { 1 } else { width.max(1) };
        let wanted = Wanted { metrics: vec![metric], keep: false, scale: None };
        Self { kind: Some(kind), wanted: Some(wanted), columns: vec![Column::default(); columns], ..Self::default() }
    }

    /// Counts predictions `[rows, width]`: probabilities of classes, with classes `[rows]`, -1 where they are missing, or
    /// probabilities or numbers, with labels `[rows, width]`, NaN where they are missing.
    ///
    /// # Errors
    /// Labels of other rows.
    pub fn add_predictions<T: Copy + PartialOrd + Into<f64>>(
        &mut self,
        predicted: &[T],
        known: &[f64],
        width: usize,
    ) -> Result<()> {
        let Some(wanted) = &self.wanted else { return Ok(()) };
        let classes = self.kind == Some(Kind::Classes);
        let ranks = wanted.ranks();
        let fits = [width, if width == 2 { 1 } else { width }][usize::from(classes)] == self.columns.len();
        if width == 0 || !fits || predicted.len() != known.len() * if classes { width } else { 1 } {
            bail!("metrics: {} predictions of width {width} do not fit {} labels", predicted.len(), known.len());
        }
        if classes {
            for (p, &class) in predicted.chunks_exact(width).zip(known).filter(|(_, class)| **class >= 0.0) {
                self.columns.iter_mut().for_each(|column| column.rows += 1);
                self.columns[0].right += u64::from(largest(p) == class as usize);
                if ranks {
                    rank(&mut self.columns, p, class as usize);
                }
            }
            return Ok(());
        }
        for (k, column) in self.columns.iter_mut().enumerate() {
            let rows = known.len() / width;
            let cell = |row: usize| {
                let p = predicted[row * width + k].into();
                let y = known[row * width + k];
                (p, y, !y.is_nan())
            };
            match self.kind {
                Some(Kind::Values) => column.errors(rows, cell),
                _ => column.decide(rows, (0..rows).map(cell), ranks),
            }
        }
        Ok(())
    }

    /// Predictions of a batch, row by row.
    fn link(&mut self, task: &Task, batch: &Batch<'_, f32>) {
        self.raw.resize(batch.rows * batch.width, 0.0);
        let rows = batch.outputs.chunks(batch.stride.max(1)).take(batch.rows);
        match batch.width {
            1 => {
                for (to, from) in self.raw.iter_mut().zip(rows) {
                    *to = from[0];
                }
            }
            width => {
                for (to, from) in self.raw.chunks_exact_mut(width).zip(rows) {
                    to.copy_from_slice(&from[..width]);
                }
            }
        }
        self.linked.resize(batch.rows * task.predicted_width(), 0.0);
        task.loss.link(task.labels).apply(&self.raw, &mut self.linked);
    }

    /// The wanted metrics, means over the columns where they are defined; NaN where they are nowhere.
    pub fn values(&mut self) -> Vec<f64> {
        let metrics = self.wanted.as_ref().map_or(Vec::new(), |wanted| wanted.metrics.clone());
        let classes = self.kind == Some(Kind::Classes);
        self.columns.iter_mut().for_each(|column| sort(&mut column.scores, &mut self.room));
        let mut values = Vec::with_capacity(metrics.len());
        for metric in metrics {
            // What is decided of all classes together is in the first column.
            let count = if classes && !metric.ranks { 1 } else { self.columns.len() };
            let columns = self.columns[..count].iter().filter(|_| !self.partial);
            let each: Vec<f64> = columns.filter_map(|column| metric.of(column)).collect();
            values.push(if each.is_empty() { f64::NAN } else { each.iter().sum::<f64>() / each.len() as f64 });
        }
        values
    }

    /// What a checkpoint keeps of it beside [`Meter::scores`].
    pub fn state(&self) -> Value {
        serde_json::to_value(&self.columns).unwrap_or_default()
    }

    /// The scores of each column, as the numbers that have their bits, which are finite.
    pub fn scores(&self) -> Vec<Vec<f32>> {
        let mut scores = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            scores.push(column.scores.iter().map(|&bits| f32::from_bits(bits)).collect());
        }
        scores
    }

    /// Goes on from what [`Meter::state`] and [`Meter::scores`] gave.
    ///
    /// # Errors
    /// It gave something else.
    pub fn restore(value: &Value, scores: impl Fn(usize) -> Vec<f32>) -> Result<Self> {
        let mut columns: Vec<Column> = Deserialize::deserialize(value)
            .map_err(|error| value_error!("checkpoint: not the state of metrics: {error}"))?;
        for (k, column) in columns.iter_mut().enumerate() {
            column.scores = scores(k).into_iter().map(f32::to_bits).collect();
        }
        Ok(Self { columns, ..Self::default() })
    }
}

/// One class against the rest, a column each; of two classes the second one alone.
fn rank<T: Copy + Into<f64>>(columns: &mut [Column], p: &[T], class: usize) {
    match columns {
        [column] => column.score(p[1].into(), class == 1),
        _ => columns.iter_mut().enumerate().for_each(|(k, column)| column.score(p[k].into(), class == k)),
    }
}

/// The index of the largest number, the first of several.
fn largest<T: PartialOrd + Copy>(numbers: &[T]) -> usize {
    let mut best = 0;
    let mut most = numbers[0];
    for (k, &x) in numbers.iter().enumerate().skip(1) {
        let better = x > most;
        best = if better { k } else { best };
        most = if better { x } else { most };
    }
    best
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meter(task: Value, wanted: Value) -> (Task, Meter) {
        let task = Task::read(&task, None).unwrap();
        let mut meter = Meter::default();
        meter.want(Some(&serde_json::from_value(wanted).unwrap()), &task);
        (task, meter)
    }

    fn batch<'a>(
        outputs: &'a [f32],
        width: usize,
        targets: Targets<'a, f32>,
        weights: Option<&'a [f32]>,
    ) -> Batch<'a, f32> {
        Batch {
            rows: outputs.len() / width,
            width,
            outputs,
            gradient: None,
            stride: width,
            targets,
            weights,
            scale: 0.0,
        }
    }

    fn near(got: &[f64], expected: &[f64]) {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6 || (a.is_nan() && b.is_nan());
        assert!(got.len() == expected.len() && got.iter().zip(expected).all(close), "{got:?} is not {expected:?}");
    }

    // sklearn.metrics.r2_score([1, 2, 4, 9], [2, 2, 3, 9]) == 0.947...; the third row weighs nothing.
    #[test]
    fn errors_of_parts_are_those_of_the_whole() {
        let wanted = json!({"metrics": ["mae", "mse", "rmse", "r2"], "keep": false});
        let (task, mut meter) = meter(json!({"name": "a", "loss": "mean_squared"}), wanted);
        let weights = [1.0, 2.0, 0.0];
        meter.add(&task, &batch(&[2.0, 2.0, 50.0], 1, Targets::Values(&[1.0, 2.0, 7.0]), Some(&weights)));
        meter.add(&task, &batch(&[3.0, 9.0, 1.0], 1, Targets::Values(&[4.0, 9.0, f32::NAN]), None));
        near(&meter.values(), &[0.5, 0.5, 0.5_f64.sqrt(), 1.0 - 2.0 / 38.0]);
        meter.clear();
        near(&meter.values(), &[f64::NAN; 4]);
        meter.add(&task, &batch(&[3.0, 9.0], 1, Targets::Values(&[4.0, 4.0]), None));
        near(&meter.values(), &[3.0, 13.0, 13.0_f64.sqrt(), f64::NAN]);
    }

    // sklearn.metrics.r2_score([1e8 + 8, 1e8 + 16, 1e8 + 24], [1e8 + 8, 1e8 + 16, 1e8 + 32]) == 0.5
    #[test]
    fn large_targets_do_not_lose_their_variance() {
        let wanted = json!({"metrics": ["r2"], "keep": false});
        let (task, mut meter) = meter(json!({"name": "a", "loss": "mean_squared"}), wanted);
        for (p, y) in [(1e8 + 8.0, 1e8 + 8.0), (1e8 + 16.0, 1e8 + 16.0), (1e8 + 32.0, 1e8 + 24.0)] {
            meter.add(&task, &batch(&[p], 1, Targets::Values(&[y]), None));
        }
        near(&meter.values(), &[0.5]);
    }

    // sklearn.metrics: roc_auc_score([1, 0, 1, 0, 0], [3, 1, 1, 1, 0]) == 5/6; average_precision_score == 0.75
    #[test]
    fn equal_scores_count_half() {
        let wanted = json!({"metrics": ["auroc", "average_precision", "accuracy"], "keep": false});
        let (task, mut meter) = meter(json!({"name": "a", "loss": "binary_cross_entropy"}), wanted);
        meter.add(&task, &batch(&[3.0, 1.0, 1.0], 1, Targets::Values(&[1.0, 0.0, 1.0]), None));
        meter.add(&task, &batch(&[1.0, 0.0, 9.0], 1, Targets::Values(&[0.0, 0.0, f32::NAN]), None));
        near(&meter.values(), &[5.0 / 6.0, 0.75, 3.0 / 5.0]);
        let state = meter.state();
        let scores = meter.scores();
        let mut resumed = Meter::restore(&state, |column| scores[column].clone()).unwrap();
        resumed.want(meter.wanted.as_ref(), &task);
        near(&resumed.values(), &[5.0 / 6.0, 0.75, 3.0 / 5.0]);
    }

    #[test]
    fn one_side_has_no_curve_and_half_an_epoch_no_metric() {
        let wanted: Wanted = serde_json::from_value(json!({"metrics": ["auroc", "accuracy"], "keep": true})).unwrap();
        let task = Task::read(&json!({"name": "a", "loss": "cross_entropy", "classes": 2}), None).unwrap();
        for (mut meter, expected) in [(Meter::default(), [f64::NAN, 0.5]), (Meter::partial(), [f64::NAN; 2])] {
            meter.want(Some(&wanted), &task);
            assert!(meter.keeps());
            meter.add(&task, &batch(&[0.0, 1.0, 1.0, 0.0, 5.0, 5.0], 2, Targets::Classes(&[1, 1, -1]), None));
            near(&meter.values(), &expected);
            meter.clear();
            meter.add(&task, &batch(&[0.0, 1.0, 1.0, 0.0], 2, Targets::Classes(&[1, 0]), None));
            near(&meter.values(), &[1.0, 1.0]);
        }
    }
}
