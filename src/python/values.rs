//! Descriptions, settings and reports as Python's own dicts, lists, numbers and strings: what JSON has, without its text.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple};
use serde_json::{Map, Number, Value};

/// How deep lists and dicts may lie in each other, as in files.
const DEPTH: usize = 127;

/// What the caller describes. Whole numbers beyond 64 bits are read as floating-point numbers.
pub fn read(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Value> {
    within(value, what, DEPTH)
}

fn within(value: &Bound<'_, PyAny>, what: &str, depth: usize) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::from(text.to_str()?));
    }
    if value.is_instance_of::<PyInt>() {
        if let Ok(number) = value.extract::<i64>() {
            return Ok(number.into());
        }
        if let Ok(number) = value.extract::<u64>() {
            return Ok(number.into());
        }
    }
    if value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>() {
        let number = value.extract().ok().and_then(Number::from_f64);
        return number.map(Value::Number).ok_or_else(|| PyValueError::new_err(format!("{what}: number out of range")));
    }
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(PyValueError::new_err(format!("{what}: lists and dicts lie too deep in each other")));
    };
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut read = Map::new();
        for (key, item) in dict {
            read.insert(key.extract()?, within(&item, what, deeper)?);
        }
        return Ok(Value::Object(read));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let items = value.try_iter()?.map(|item| within(&item?, what, deeper));
        return Ok(Value::Array(items.collect::<PyResult<_>>()?));
    }
    let name = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("{what} should have numbers, strings, lists and dicts alone; got {name}")))
}

/// What goes back to the caller; NaN and what is not there are None.
pub fn give<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(PyNone::get(py).to_owned().into_any()),
        Value::Bool(flag) => flag.into_bound_py_any(py),
        Value::String(text) => text.into_bound_py_any(py),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => whole.into_bound_py_any(py),
            (_, Some(whole)) => whole.into_bound_py_any(py),
            _ => number.as_f64().into_bound_py_any(py),
        },
        Value::Array(items) => {
            let given = PyList::empty(py);
            for item in items {
                given.append(give(py, item)?)?;
            }
            Ok(given.into_any())
        }
        Value::Object(entries) => {
            let given = PyDict::new(py);
            for (key, item) in entries {
                given.set_item(key, give(py, item)?)?;
            }
            Ok(given.into_any())
        }
    }
}
