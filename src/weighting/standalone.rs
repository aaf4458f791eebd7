//! A weighting by itself, on losses and gradients that the caller has.

use std::cell::Cell;

use serde_json::{Value, json};

use super::{Combination, Evidence, Given, Moment, Needs, Notice, State, Weighting, build, class};
use crate::error::Result;
use crate::machine::rows::{combine, long_dot};
use crate::task::About;
use crate::{bail, value_error};

/// How far, relative to the rows' lengths, a Gramian may be from symmetric and from products of gradients, whatever it is
/// said to be rounded to.
const ROUNDING: f64 = 1e-3;
/// Tasks of the largest state that is read.
const MOST: u64 = 1 << 20;

/// Numbers in rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matrix {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Row by row.
    pub values: Vec<f64>,
}

impl Matrix {
    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.shape[1]..(row + 1) * self.shape[1]]
    }

    /// The rows of these tasks; of a Gramian, the columns too.
    fn of(self, tasks: &[usize], square: bool) -> Self {
        if tasks.len() == self.shape[0] {
            return self;
        }
        let columns = if square { tasks.len() } else { self.shape[1] };
        let mut values = Vec::with_capacity(tasks.len() * columns);
        for &task in tasks {
            if square {
                values.extend(tasks.iter().map(|&other| self.row(task)[other]));
            } else {
                values.extend_from_slice(self.row(task));
            }
        }
        Self { shape: [tasks.len(), columns], values }
    }

    fn check_finite(&self, name: &str, tasks: &[usize]) -> Result<()> {
        match self.values.iter().position(|x| !x.is_finite()) {
            Some(at) => {
                let row = at / self.shape[1];
                let column = at % self.shape[1];
                bail!(
                    "`{name}` should hold finite numbers; got {} in the row of task {}, column {column}",
                    self.values[at],
                    tasks[row]
                )
            }
            None => Ok(()),
        }
    }

    /// Refuses what cannot be products of rows with each other, and averages what rounding made different.
    ///
    /// `rounding` is how far off its cosines may be: two such cosines differ by twice that.
    fn symmetric(mut self, rounding: f64) -> Result<Self> {
        let rows = self.shape[0];
        let rounding = ROUNDING.max(2.0 * rounding);
        if let Some(i) = (0..rows).find(|&i| self.row(i)[i] < 0.0) {
            bail!("`gramian` should have squared lengths on its diagonal; got {} at [{i}, {i}]", self.row(i)[i]);
        }
        for i in 0..rows {
            for j in 0..i {
                let one = self.row(i)[j];
                let other = self.row(j)[i];
                let most = self.row(i)[i].sqrt() * self.row(j)[j].sqrt();
                if (one - other).abs() > rounding * most {
                    bail!("`gramian` should be symmetric; got {one} at [{i}, {j}] and {other} at [{j}, {i}]");
                }
                if one.abs() > (1.0 + rounding) * most {
                    bail!(
                        "`gramian` should hold the products of gradients, none larger than the product of their \
                           lengths; got {one} at [{i}, {j}], where the lengths allow {most}"
                    );
                }
                let mean = 0.5 * one + 0.5 * other;
                self.values[i * rows + j] = mean;
                self.values[j * rows + i] = mean;
            }
        }
        Ok(self)
    }

    /// The weighted sum of the rows.
    fn combine(&self, weights: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.shape[1]];
        combine(weights, |row| self.row(row), &mut sum);
        sum
    }

    /// Products of the rows with each other.
    fn gramian(&self) -> Result<Vec<f64>> {
        let rows = self.shape[0];
        let mut products = vec![0.0; rows * rows];
        for i in 0..rows {
            for j in 0..=i {
                let product = long_dot(self.row(i), self.row(j));
                products[i * rows + j] = product;
                products[j * rows + i] = product;
            }
        }
        if !products.iter().all(|x| x.is_finite()) {
            bail!("`jacobian` should hold numbers whose products float64 can hold");
        }
        Ok(products)
    }
}

/// What is known of the tasks, one entry or row a task. A loss that is NaN says that its task has no label: its row
/// (and column of a Gramian) is not looked at.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// `[tasks]`.
    pub losses: Option<Vec<f64>>,
    /// `[tasks, tasks]`.
    pub gramian: Option<Matrix>,
    /// `[tasks, parameters]`.
    pub jacobian: Option<Matrix>,
    /// Complete epochs so far; every call is one if this is not said.
    pub epoch: Option<u64>,
    /// The tasks' names, if they have some.
    pub names: Option<Vec<String>>,
    /// For what depends on chance.
    pub seed: u64,
    /// How far off the Gramian's cosines may be, if it was rounded to less than double precision.
    pub rounding: Option<f64>,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// `[tasks]`, 0 for tasks without a label; `None` if only the direction says it.
    pub weights: Option<Vec<f64>>,
    /// `[parameters]`, where a Jacobian was given.
    pub direction: Option<Vec<f64>>,
    /// The factor on the gradient of each task's own parameters, `[tasks]`: 1 for most, 0 for tasks without a label.
    pub own: Vec<f64>,
}

/// A weighting with what it has learned over its calls.
#[derive(Debug)]
pub struct Standalone {
    class: String,
    weighting: Box<dyn Weighting>,
    /// How many tasks, since the first call.
    tasks: Option<usize>,
    /// Their names.
    names: Vec<String>,
    /// What it knew before it learned anything of them.
    fresh: State,
    notice: Notice,
    calls: u64,
    combination: Combination,
}

impl Standalone {
    /// Builds the weighting of a description.
    ///
    /// # Errors
    /// As for [`build`]; a weighting that needs more than gradients of one batch.
    pub fn new(description: &Value) -> Result<Self> {
        Self::of(build(description)?)
    }

    /// The same of a weighting that is there.
    ///
    /// # Errors
    /// One that needs more than gradients of one batch.
    pub fn of(weighting: Box<dyn Weighting>) -> Result<Self> {
        let class = class(weighting.as_ref());
        if weighting.claims().validates {
            bail!("{class} looks at validation data in each step; it works in a Trainer only");
        }
        if weighting.claims().parts > 1 {
            bail!("{class} looks at {} parts of each batch; it works in a Trainer only", weighting.claims().parts);
        }
        Ok(Self {
            class,
            weighting,
            tasks: None,
            names: Vec::new(),
            fresh: State::default(),
            notice: Notice::default(),
            calls: 0,
            combination: Combination::default(),
        })
    }

    /// What it looks at.
    pub fn needs(&self) -> Needs {
        self.weighting.claims().needs
    }

    /// Whether it looks at anything at all; if not, its weights are its constants.
    pub fn looks(&self) -> bool {
        self.weighting.claims().looks
    }

    /// Whether it learns from the losses after the step, in [`Standalone::look_back`].
    pub fn looks_back(&self) -> bool {
        self.weighting.claims().looks_back
    }

    /// Decides, and learns from what it was shown. A call counts as a step.
    ///
    /// # Errors
    /// Numbers or shapes that cannot be, something that this weighting needs and was not given, and what the weighting
    /// itself refuses.
    pub fn weigh(&mut self, mut known: Known) -> Result<Answer> {
        let tasks = self.count(&known)?;
        let names = known.names.take();
        let (rows, mut shown) = self.show(tasks, known)?;
        self.prepare(tasks, names)?;
        let width = shown.wide.as_ref().map(|jacobian| jacobian.shape[1]);
        if rows.is_empty() {
            let none = vec![0.0; tasks];
            return Ok(Answer { weights: Some(none.clone()), direction: width.map(|w| vec![0.0; w]), own: none });
        }
        let before = shown.asked.is_some().then(|| self.weighting.state());
        self.combination.clear(rows.len());
        let done = self.weighting.weigh(&mut shown, &mut self.combination);
        if let (Some(before), Some(true)) = (before, shown.asked.as_ref().map(Cell::get)) {
            self.weighting.restore(&before)?;
            bail!("{} looks at the losses: pass `losses` too", self.class);
        }
        done?;
        let gramian = shown.given.gramian.as_deref().unwrap_or_default();
        self.notice.look(self.weighting.as_ref(), &self.combination, |_| gramian);
        self.calls += 1;
        let Combination { weights, direction, own: factors, .. } = &self.combination;
        let factors = if self.needs() == Needs::Losses { weights } else { factors };
        let own = direction.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let said = !own.is_empty();
        Ok(Answer {
            direction: shown.wide.map(|jacobian| if said { own } else { jacobian.combine(weights) }),
            weights: (!said).then(|| spread(tasks, &rows, weights)),
            own: spread(tasks, &rows, factors),
        })
    }

    /// Shows the losses `[tasks]` before and after the step that was made with the last weights; NaN without a label.
    ///
    /// # Errors
    /// Losses that cannot be, or of another number of tasks.
    pub fn look_back(&mut self, before: &[f64], after: &[f64]) -> Result<()> {
        let Some(tasks) = self.tasks else {
            bail!("there is no step to look back at: weigh first");
        };
        for (name, losses) in [("before", before), ("after", after)] {
            if losses.len() != tasks {
                bail!("`{name}` should hold a loss a task, {tasks}; got {}", losses.len());
            }
            no_infinity(name, losses)?;
        }
        let rows: Vec<usize> = (0..tasks).filter(|&j| !before[j].is_nan() && !after[j].is_nan()).collect();
        let before: Vec<f64> = rows.iter().map(|&row| before[row]).collect();
        let after: Vec<f64> = rows.iter().map(|&row| after[row]).collect();
        self.weighting.look_back(&rows, &before, &after)
    }

    /// What is to be said of the calls so far, once.
    pub fn warning(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// Forgets all calls.
    pub fn reset(&mut self) {
        self.weighting.reset();
        self.tasks = None;
        self.calls = 0;
    }

    /// What it has learned, and how far it is.
    pub fn state(&self) -> State {
        let State { value, arrays } = self.weighting.state();
        State { value: json!({"tasks": self.tasks, "calls": self.calls, "weighting": value}), arrays }
    }

    /// Continues from what [`Standalone::state`] gave.
    ///
    /// # Errors
    /// It is not a state of this weighting; nothing is remembered then.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let foreign = || value_error!("`state` should be what the state of a weighting gave; got {}", state.value);
        let calls = state.value["calls"].as_u64().ok_or_else(foreign)?;
        self.reset();
        let Some(tasks) = state.value["tasks"].as_u64() else { return Ok(()) };
        if tasks > MOST {
            return Err(foreign());
        }
        self.prepare(tasks as usize, None)?;
        let inner = State { value: state.value["weighting"].clone(), arrays: state.arrays.clone() };
        if let Err(error) = self.weighting.restore(&inner) {
            self.reset();
            return Err(error);
        }
        self.calls = calls;
        Ok(())
    }

    /// Introduces the tasks, if it does not know them yet, by these names or by numbers.
    fn prepare(&mut self, tasks: usize, names: Option<Vec<String>>) -> Result<()> {
        let others = self.tasks != Some(tasks);
        if !others && names.as_ref().is_none_or(|names| *names == self.names) {
            return Ok(());
        }
        // Another number of tasks gets so far only if nothing was learned of the ones before.
        let fresh = others || self.weighting.state() == self.fresh;
        if others {
            self.weighting.reset();
            self.tasks = None;
        }
        let names = names.unwrap_or_else(|| (1..=tasks).map(|number| format!("task{number}")).collect());
        self.weighting.prepare(&About::named(&names.iter().map(String::as_str).collect::<Vec<_>>()))?;
        self.names = names;
        self.tasks = Some(tasks);
        if fresh {
            self.fresh = self.weighting.state();
        }
        Ok(())
    }

    /// How many tasks there are, if all that is known agrees.
    fn count(&self, known: &Known) -> Result<usize> {
        let Known { losses, gramian, jacobian, .. } = known;
        if gramian.is_some() && jacobian.is_some() {
            bail!("`gramian` follows from `jacobian`: give one of them");
        }
        if let Some([rows, columns]) = gramian.as_ref().map(|gramian| gramian.shape).filter(|[r, c]| r != c) {
            bail!("`gramian` should have shape [tasks, tasks]; got [{rows}, {columns}]");
        }
        let counts = [
            ("jacobian", jacobian.as_ref().map(|jacobian| jacobian.shape[0])),
            ("gramian", gramian.as_ref().map(|gramian| gramian.shape[0])),
            ("losses", losses.as_ref().map(Vec::len)),
        ];
        let mut counts = counts.into_iter().filter_map(|(name, count)| Some((name, count?)));
        let Some((first, tasks)) = counts.next() else { bail!("give `losses`, `gramian` or `jacobian`") };
        if tasks == 0 {
            bail!("`{first}` should have at least one task; got none");
        }
        if let Some(names) = known.names.as_ref().filter(|names| names.len() != tasks) {
            bail!("`{first}` should have as many tasks as there are names, {}; got {tasks}", names.len());
        }
        if let Some((name, count)) = counts.find(|(_, count)| *count != tasks) {
            bail!("`{name}` should have as many tasks as `{first}`, {tasks}; got {count}");
        }
        match self.tasks {
            Some(before) if before != tasks && self.weighting.state() != self.fresh => {
                bail!(
                    "`{first}` should have {before} tasks, as in the calls before; got {tasks}. Another problem \
                       starts with reset()"
                )
            }
            _ => Ok(tasks),
        }
    }

    /// The tasks that have labels, and the evidence of them.
    fn show(&self, tasks: usize, known: Known) -> Result<(Vec<usize>, Shown)> {
        let Known { losses, gramian, jacobian, epoch, seed, rounding, .. } = known;
        match self.needs() {
            Needs::Gramian if gramian.is_none() && jacobian.is_none() => {
                bail!("{} needs the products of the tasks' gradients: give `gramian` or `jacobian`", self.class)
            }
            Needs::Jacobian if jacobian.is_none() => {
                bail!("{} needs the tasks' gradients themselves: give `jacobian`", self.class)
            }
            _ => {}
        }
        no_infinity("losses", losses.as_deref().unwrap_or_default())?;
        let asked = losses.is_none().then(|| Cell::new(false));
        let losses = losses.unwrap_or_else(|| vec![1.0; tasks]);
        let rows: Vec<usize> = (0..tasks).filter(|&task| !losses[task].is_nan()).collect();
        let gramian = gramian.map(|gramian| {
            let gramian = gramian.of(&rows, true);
            gramian.check_finite("gramian", &rows)?;
            gramian.symmetric(rounding.unwrap_or(0.0))
        });
        let wide = jacobian.map(|jacobian| {
            let jacobian = jacobian.of(&rows, false);
            jacobian.check_finite("jacobian", &rows).map(|()| jacobian)
        });
        let gramian = gramian.transpose()?;
        let wide = wide.transpose()?;
        let given = Given {
            losses: rows.iter().map(|&task| losses[task]).collect(),
            gramian: match (gramian, &wide) {
                (Some(gramian), _) => Some(gramian.values),
                (None, Some(jacobian)) if self.needs() > Needs::Losses => Some(jacobian.gramian()?),
                _ => None,
            },
            jacobian: match &wide {
                Some(jacobian) if self.needs() == Needs::Jacobian => Some(narrow(&jacobian.values)?),
                _ => None,
            },
            // Products of as many numbers as a row has, added up in double precision.
            rounding: match &wide {
                Some(jacobian) => Some(f64::EPSILON * (jacobian.shape[1] as f64).sqrt().max(1.0)),
                None => rounding,
            },
            moment: Moment { seed, step: self.calls, epoch: epoch.unwrap_or(self.calls), lr: 0.0 },
            tasks: rows.clone(),
            ..Given::default()
        };
        Ok((rows, Shown { given, wide, asked }))
    }
}

/// What was given, and whether losses were looked at that were not.
struct Shown {
    given: Given,
    wide: Option<Matrix>,
    asked: Option<Cell<bool>>,
}

impl Evidence for Shown {
    fn tasks(&self) -> &[usize] {
        self.given.tasks()
    }

    fn losses(&self) -> &[f64] {
        if let Some(asked) = &self.asked {
            asked.set(true);
        }
        self.given.losses()
    }

    fn moment(&self) -> Moment {
        self.given.moment()
    }

    fn gramian(&mut self) -> Result<&[f64]> {
        self.given.gramian()
    }

    fn rounding(&self) -> f64 {
        self.given.rounding()
    }

    fn jacobian(&mut self) -> Result<&[f32]> {
        self.given.jacobian()
    }
}

fn no_infinity(name: &str, losses: &[f64]) -> Result<()> {
    match losses.iter().position(|loss| loss.is_infinite()) {
        Some(j) => Err(value_error!(
            "`{name}` should hold finite numbers, or NaN for a task without a label; got {} for task {j}",
            losses[j]
        )),
        None => Ok(()),
    }
}

fn narrow(values: &[f64]) -> Result<Vec<f32>> {
    match values.iter().find(|x| x.abs() > f64::from(f32::MAX)) {
        Some(x) => Err(value_error!("`jacobian` should hold numbers that float32 can hold; got {x}")),
        None => Ok(values.iter().map(|&x| x as f32).collect()),
    }
}

fn spread(tasks: usize, rows: &[usize], weights: &[f64]) -> Vec<f64> {
    let mut all = vec![0.0; tasks];
    for (&row, &weight) in rows.iter().zip(weights) {
        all[row] = weight;
    }
    all
}
