//! `Data`: rows of features and labels, borrowed.

use std::sync::Mutex;

use numpy::PyUntypedArray;
use pyo3::prelude::*;

use super::arrays::borrow;
use crate::data::Data;
use crate::data::array::Array;
use crate::error::Result;
use crate::model::Model;
use crate::value_error;

/// Rows of features, labels and row weights, borrowed and never copied.
#[pyclass(frozen, name = "Data", module = "polytask._core")]
pub struct PyData {
    /// The arrays.
    pub data: Data,
    /// Models these rows were checked for, and whether for labels too.
    checked: Mutex<Vec<(usize, bool)>>,
}

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
    /// Checks the rows for a model, once.
    pub fn check(&self, model: &Model, labels: bool) -> Result<()> {
        let key = std::ptr::from_ref(model) as usize;
        let seen = |checked: &[(usize, bool)]| checked.iter().any(|&(k, with)| k == key && (with || !labels));
        let mut checked = self.checked.lock().map_err(|_| value_error!("these rows cannot be used any more"))?;
        if !seen(&checked) {
            model.check(&self.data, labels)?;
            checked.push((key, labels));
        }
        Ok(())
    }
}
