//! Every check of rows at the door: what is wrong with which argument.

use super::array::Element;
use super::check_field::check_shape;
use super::{Along, Asked, Data, Entries, Field, check_lengths, of};
use crate::bail;
use crate::error::{Result, brief};
use crate::input::{ArrayInput, Codes, Inputs, PositionInputs, columns};
use crate::label::{Kind, Labels};

impl Data {
    /// Checks features, and with `require_labels` that there is at least one label; targets and weights that are there
    /// are checked in any case.
    ///
    /// Gives doubts: what may be right in some rows, such as a batch, and is somebody's mistake in a whole data set.
    ///
    /// # Errors
    /// Which argument is wrong, what was expected and what came.
    pub fn check(&self, inputs: &Inputs, tasks: &[Asked], require_labels: bool) -> Result<Vec<String>> {
        // note: nothing can be trained on or measured by no rows, but the answer to none is none.
        if self.rows == 0 && (require_labels || !self.targets.is_empty()) {
            bail!("{} has no rows", self.name(0, "`x`"));
        }
        if self.rows > u32::MAX as usize {
            bail!("{} has {} rows; at most {} are possible", self.name(0, "`x`"), self.rows, u32::MAX);
        }
        let arrays = [("targets", &self.targets), ("masks", &self.masks), ("row weights", &self.weights)];
        let counts = arrays.map(|(what, given)| (what, given.len()));
        for (what, given) in counts.into_iter().chain([("offsets", self.offsets.len())]) {
            if given > tasks.len() {
                bail!("{what} should be one a task, {} in all; got {given}", tasks.len());
            }
        }
        for (name, field) in &self.fields {
            if field.rows() != self.rows {
                bail!("`{name}` should have {} rows; got {}", self.rows, field.rows());
            }
        }
        self.check_numeric(inputs.numeric)?;
        self.check_codes(&inputs.columns())?;
        inputs.arrays.iter().try_for_each(|array| self.check_array(array))?;
        inputs.positions.iter().try_for_each(|positions| self.check_positions(positions))?;
        let mut labelled = false;
        let mut doubts = Vec::new();
        for (task, asked) in tasks.iter().enumerate() {
            labelled |= self.check_targets(task, asked, &mut doubts)?;
            self.check_weights(task, tasks.len(), &asked.name)?;
        }
        if require_labels && !labelled {
            bail!("no row has a label for any task; at least one is needed");
        }
        Ok(doubts)
    }

    fn name(&self, index: usize, default: &str) -> String {
        self.names.get(index).filter(|name| !name.is_empty()).map_or_else(|| default.to_owned(), Clone::clone)
    }

    fn check_numeric(&self, width: usize) -> Result<()> {
        let name = self.name(0, "`x`");
        let Some(array) = &self.numeric else {
            if width > 0 {
                bail!("{name} should have {width} numeric features; got none");
            }
            return Ok(());
        };
        check_shape(&name, array, self.rows, Some(width))?;
        Entries::of(array).check_numbers(&name)
    }

    fn check_codes(&self, columns: &[Codes]) -> Result<()> {
        let name = self.name(1, "the categorical features");
        let Some(array) = &self.categorical else {
            if !columns.is_empty() {
                bail!("{name} should have {} columns; got none", columns.len());
            }
            return Ok(());
        };
        check_shape(&name, array, self.rows, Some(columns.len()))?;
        Entries::of(array).check_codes(&name, columns)
    }

    fn check_array(&self, array: &ArrayInput) -> Result<()> {
        let called = format!("`x` of {}", array.name);
        let Some(field) = self.field(&array.name) else { bail!("{called} is missing") };
        field.check_numbers(&called, self.rows, Along::Rows, &array.shape)?;
        field.entries().check_held(&called, array.holds)
    }

    /// Checks the features of positions, which are of the same ones.
    fn check_positions(&self, inputs: &PositionInputs) -> Result<()> {
        let mut first: Option<(String, &Field)> = None;
        let columns = columns(&inputs.categorical);
        let fields = [(inputs.numbers(), inputs.numeric), (inputs.codes(), columns.len())];
        for (name, width) in fields.into_iter().filter(|(_, width)| *width > 0) {
            let called = format!("`x` of {name}");
            let Some(field) = self.field(&name) else { bail!("{called} is missing") };
            if name == inputs.codes() {
                field.check_columns(&called, self.rows, &columns)?;
            } else {
                field.check_numbers(&called, self.rows, Along::Positions, &[width])?;
            }
            match &first {
                None => first = Some((called, field)),
                Some((other, known)) => {
                    let [ours, theirs] = [field, known].map(|field| field.offsets().expect("it was checked"));
                    check_lengths(&called, ours, other, theirs)?;
                }
            }
        }
        Ok(())
    }

    /// Checks that labels are of rows, or of the positions of a field.
    fn check_along(&self, called: &str, targets: &Entries<'_>, per: Option<&str>) -> Result<()> {
        let of_positions = per.map(|per| (per, self.field(per).and_then(Field::offsets)));
        match (of_positions, targets.offsets) {
            (None, None) => Ok(()),
            (None, Some(_)) => bail!("{called} should be one a row; got labels of positions"),
            (Some((per, _)), None) => bail!("{called} should be labels of the positions of {per}; got one a row"),
            (Some((per, Some(known))), Some(offsets)) => {
                check_lengths(called, offsets, &format!("`x` of {per}"), known)
            }
            (Some((per, None)), Some(_)) => bail!("`x` of {per} is missing"),
        }
    }

    /// Checks a task's targets and mask; gives whether there is any label.
    fn check_targets(&self, task: usize, asked: &Asked, doubts: &mut Vec<String>) -> Result<bool> {
        let Asked { name, labels, per, pairing } = asked;
        let labels = *labels;
        let called = self.name(2 + task, &format!("the targets of task `{name}`"));
        let Some(targets) = self.targets(task) else { return Ok(false) };
        if pairing.is_some() {
            let Some(pairs) = self.pairs(task, asked) else {
                bail!("{called} should be triples of each row's positions; got one label a row");
            };
            return pairs.check(&called, asked);
        }
        self.check_along(&called, &targets, per.as_deref())?;
        let array = targets.values;
        let flat = array.shape().len() == 1;
        let entries = targets.check_rows(&called, self.rows)?;
        check_shape(&called, array, entries, labels.columns().filter(|&columns| columns > 1 || !flat))?;
        if let Some(mask) = targets.mask.filter(|mask| mask.shape() != array.shape()) {
            bail!("the mask of {called} should have shape {:?}; got {:?}", array.shape(), mask.shape());
        }
        let mut seen = Seen::default();
        let wrong = targets.find(|entry, column, x| {
            let hidden = targets.mask.is_some_and(|mask| mask.at(entry, column) != 0.0);
            (!hidden && !seen.fits(labels, x)).then_some((entry, x))
        });
        if let Some((entry, x)) = wrong {
            let advice = counted_from_one(labels, x);
            bail!("{called} should be {}; got {} at {}{advice}", labels.words(), brief(x), targets.place(entry));
        }
        if labels.kind() == Kind::Binary && seen.minus_one && seen.one && !seen.zero {
            doubts.push(format!(
                "{called} hold -1 and 1 but no 0: binary labels are 0 and 1, and -1 means missing \
                 (where nothing but 1 is known, mark what is missing by NaN)"
            ));
        }
        Ok(seen.label)
    }

    fn check_weights(&self, task: usize, tasks: usize, name: &str) -> Result<()> {
        let called = self.name(2 + tasks + task, &format!("the row weights of task `{name}`"));
        let Some(array) = of(&self.weights, task) else { return Ok(()) };
        check_shape(&called, array, self.rows, None)?;
        match array.find(0..self.rows, |row, _, x| (!(x >= 0.0 && (x as f32).is_finite())).then_some((row, x))) {
            Some((row, x)) => bail!("{called} should be finite and at least 0; got {} at row {row}", brief(x)),
            None => Ok(()),
        }
    }
}

/// Advice, if a class that is too high may be one of classes that count from 1 or have names that are numbers.
fn counted_from_one(labels: Labels, x: f64) -> String {
    match labels {
        Labels::Classes(k) if x >= k as f64 && x.fract() == 0.0 => {
            let between = ["", "2, ", "2, ..., "][(k - 2).min(2)];
            format!("; classes count from 0 (other labels are listed as they are: classes=[1, {between}{k}])")
        }
        _ => String::new(),
    }
}

/// What a pass over targets has met.
#[derive(Default)]
struct Seen {
    label: bool,
    minus_one: bool,
    zero: bool,
    one: bool,
}

impl Seen {
    /// Notes one target; gives whether it is a label or says that there is none.
    fn fits(&mut self, labels: Labels, x: f64) -> bool {
        if x.is_nan() {
            return true;
        }
        let missing = x == -1.0 && labels.minus_one_is_missing();
        self.minus_one |= missing;
        self.zero |= x == 0.0;
        self.one |= x == 1.0;
        self.label |= !missing;
        missing || is_label(labels, x)
    }
}

/// Whether a number is one of these labels, in `f32` too.
fn is_label(labels: Labels, x: f64) -> bool {
    match labels {
        Labels::Classes(k) => x.is_code(k),
        _ => labels.bounds().contains(&x) && (x as f32).is_finite(),
    }
}
