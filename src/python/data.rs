//! `Data`: rows of features and labels, borrowed.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use numpy::{PyArray1, PyArrayDyn, PyUntypedArray};
use pyo3::exceptions::{PyIndexError, PyKeyError, PyValueError};
use pyo3::prelude::*;

use super::arrays::{borrow, give};
use super::door::{self, Shared};
use crate::data::array::Array;
use crate::data::{Data, Field, Mix, Offsets, Order, Pace, Rows};
use crate::error::Result;
use crate::model::Model;

/// Rows of features, labels and row weights, borrowed and never copied.
#[pyclass(frozen, name = "Data", module = "polytask._core")]
pub struct PyData {
    /// The arrays.
    pub data: Data,
    /// Models these rows were checked for, whether for labels too, and the doubts. Weak references keep an address from
    /// being used again by another model.
    checked: Mutex<Vec<Checked>>,
}

type Checked = (Weak<Shared>, bool, Vec<String>);
/// Numbers of entries, and where each row's start.
type Numbers<'py> = (Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyArray1<i32>>);
type Given<'py> = Vec<Option<Bound<'py, PyUntypedArray>>>;

/// Values of rows; or of their positions, with offsets `[rows + 1]`.
#[derive(FromPyObject)]
enum Entries<'py> {
    Ragged(Bound<'py, PyUntypedArray>, Bound<'py, PyUntypedArray>),
    #[pyo3(transparent)]
    Plain(Bound<'py, PyUntypedArray>),
}

impl Entries<'_> {
    fn field(&self, name: &str) -> PyResult<Field> {
        match self {
            Self::Plain(values) => Ok(Field::plain(borrow(values, name)?)),
            Self::Ragged(values, starts) => {
                let offsets = borrow(starts, &format!("the offsets of {name}"))?;
                let values = borrow(values, name)?;
                door::run(starts.py(), || Field::ragged(values, offsets, name))
            }
        }
    }
}

/// Values and offsets of each task apart.
fn parts(fields: Vec<Option<Field>>) -> (Vec<Option<Array>>, Vec<Option<Offsets>>) {
    let each = fields.into_iter().map(|field| field.map(Field::parts));
    each.map(|parts| parts.map_or((None, None), |(values, offsets)| (Some(values), offsets))).unzip()
}

#[pymethods]
impl PyData {
    #[new]
    #[pyo3(signature = (rows, *, numeric=None, categorical=None, targets=Vec::new(), fields=Vec::new(), masks=Vec::new(), weights=Vec::new(), names=Vec::new()))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        rows: usize,
        numeric: Option<Bound<'_, PyUntypedArray>>,
        categorical: Option<Bound<'_, PyUntypedArray>>,
        targets: Vec<Option<Entries<'_>>>,
        fields: Vec<(String, Entries<'_>)>,
        masks: Given<'_>,
        weights: Given<'_>,
        names: Vec<String>,
    ) -> PyResult<Self> {
        let name = |index: usize, default: &str| match names.get(index) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => default.to_owned(),
        };
        let one = |array: Option<Bound<'_, PyUntypedArray>>, index: usize, default: &str| {
            array.map(|array| borrow(&array, &name(index, default))).transpose()
        };
        let all = |arrays: Given<'_>, first: usize, what: &str| -> PyResult<Vec<Option<Array>>> {
            arrays.into_iter().enumerate().map(|(j, array)| one(array, first + j, &format!("{what} {j}"))).collect()
        };
        let first_weight = 2 + targets.len();
        let target = |(j, entries): (usize, Option<Entries<'_>>)| {
            entries.map(|entries| entries.field(&name(2 + j, &format!("targets {j}")))).transpose()
        };
        let (targets, offsets) = parts(targets.into_iter().enumerate().map(target).collect::<PyResult<_>>()?);
        let field = |(name, entries): (String, Entries<'_>)| {
            let field = entries.field(&format!("`{name}`"))?;
            Ok((name, field))
        };
        let data = Data {
            rows,
            numeric: one(numeric, 0, "`x`")?,
            categorical: one(categorical, 1, "the categorical features")?,
            fields: fields.into_iter().map(field).collect::<PyResult<_>>()?,
            targets,
            offsets,
            masks: all(masks, 2, "mask")?,
            weights: all(weights, first_weight, "row weights")?,
            names,
        };
        Ok(Self { data, checked: Mutex::new(Vec::new()) })
    }

    fn __len__(&self) -> usize {
        self.data.rows
    }

    fn __repr__(&self) -> String {
        format!("Data({} rows)", self.data.rows)
    }

    /// The numbers of one of the `fields` in some rows, one entry after the other, and where each row's start.
    fn entries<'py>(&self, py: Python<'py>, name: &str, rows: Vec<u32>) -> PyResult<Numbers<'py>> {
        let field = self.data.field(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
        let rows = Rows::Index(&rows);
        if !rows.lie_within(field.rows()) {
            return Err(PyIndexError::new_err(format!("rows should be below {}", field.rows())));
        }
        let entries = field.entries();
        let count = entries.count(rows.clone());
        let mut values = vec![0.0; count * entries.width()];
        entries.numbers(rows.clone(), &mut values, 0.0);
        let mut starts: Vec<i32> = (0..=rows.len() as i32).collect();
        if let Some(offsets) = field.offsets() {
            offsets.starts(rows, &mut starts);
        }
        let shape = [&[count], entries.shape()].concat();
        Ok((give(py, values, &shape)?, PyArray1::from_vec(py, starts)))
    }
}

impl PyData {
    /// Checks the rows for a model, once; gives doubts, see [`Data::check`].
    pub fn check(&self, shared: &Arc<Shared>, model: &Model, labels: bool) -> Result<Vec<String>> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(seen, with, _): &&Checked| seen.as_ptr() == Arc::as_ptr(shared) && (*with || !labels);
        if let Some((_, _, doubts)) = checked.iter().find(known) {
            return Ok(doubts.clone());
        }
        let doubts = model.check(&self.data, labels)?;
        checked.push((Arc::downgrade(shared), labels, doubts.clone()));
        Ok(doubts)
    }
}

/// Several data sets, and how many batches of each make an epoch.
#[pyclass(frozen, name = "Mix", module = "polytask._core")]
pub struct PyMix {
    sets: Vec<Py<PyData>>,
    mix: Mix,
}

#[pymethods]
impl PyMix {
    #[new]
    fn new(sets: Vec<Py<PyData>>, counts: Vec<usize>, in_turn: bool) -> PyResult<Self> {
        if sets.len() != counts.len() || counts.contains(&0) {
            return Err(PyValueError::new_err(format!(
                "`counts` should be at least 1 for each of {} data sets; got {counts:?}",
                sets.len()
            )));
        }
        Ok(Self { sets, mix: Mix { counts, in_turn } })
    }

    fn __len__(&self) -> usize {
        self.sets.iter().map(|set| set.get().data.rows).sum()
    }
}

/// The data set of each batch of an epoch, and its rows there; a data set of 0 rows is somebody else's to go through.
#[pyfunction]
#[pyo3(signature = (rows, counts, in_turn, *, batch_size, shuffle, seed, epoch))]
#[allow(clippy::too_many_arguments)]
pub fn course<'py>(
    py: Python<'py>,
    rows: Vec<usize>,
    counts: Vec<usize>,
    in_turn: bool,
    batch_size: usize,
    shuffle: bool,
    seed: u64,
    epoch: u64,
) -> PyResult<Vec<(usize, Bound<'py, PyArray1<u32>>)>> {
    let order = door::run(py, || {
        if rows.len() != counts.len() || batch_size == 0 {
            crate::bail!("`course` takes a count for each of {} data sets, and batches of rows", rows.len());
        }
        let mut order = Order::default();
        let pace = Pace { size: batch_size, shuffle, drop_last: false, group_by_length: false };
        order.fill_mixed(seed, epoch, &rows, &Mix { counts, in_turn }, pace, |_, _| 0);
        Ok(order)
    })?;
    let batches = (0..order.batches()).map(|index| order.batch(index));
    Ok(batches.map(|(set, rows)| (set, PyArray1::from_slice(py, rows))).collect())
}

/// What an epoch goes through.
#[derive(FromPyObject)]
pub enum DataSets<'py> {
    /// One data set.
    One(Bound<'py, PyData>),
    /// Several.
    Several(Bound<'py, PyMix>),
}

impl DataSets<'_> {
    /// The data sets, and how they are mixed.
    pub fn parts(&self) -> (Vec<&PyData>, Option<Mix>) {
        match self {
            Self::One(data) => (vec![data.get()], None),
            Self::Several(mix) => (mix.get().sets.iter().map(Py::get).collect(), Some(mix.get().mix.clone())),
        }
    }
}
