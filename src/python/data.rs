//! `Data`: rows of features and labels, borrowed.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use numpy::{PyArray1, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::borrow;
use super::door::{self, Shared};
use crate::data::array::Array;
use crate::data::{Data, Mix, Order, Pace};
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
type Given<'py> = Vec<Option<Bound<'py, PyUntypedArray>>>;

#[pymethods]
impl PyData {
    #[new]
    #[pyo3(signature = (rows, *, numeric=None, categorical=None, targets=Vec::new(), masks=Vec::new(), weights=Vec::new(), names=Vec::new()))]
    fn new(
        rows: usize,
        numeric: Option<Bound<'_, PyUntypedArray>>,
        categorical: Option<Bound<'_, PyUntypedArray>>,
        targets: Given<'_>,
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
        let data = Data {
            rows,
            numeric: one(numeric, 0, "`x`")?,
            categorical: one(categorical, 1, "the categorical features")?,
            targets: all(targets, 2, "targets")?,
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
        let pace = Pace { size: batch_size, shuffle, drop_last: false };
        order.fill_mixed(seed, epoch, &rows, &Mix { counts, in_turn }, pace);
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
