//! NumPy arrays in and out.

use std::sync::Arc;

use numpy::ndarray::{ArrayViewD, IxDyn};
use numpy::{
    PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::data::array::{Array, Dtype};

/// Borrows a NumPy array of one or more dimensions, keeping it alive; nothing is copied.
pub fn borrow(array: &Bound<'_, PyUntypedArray>, name: &str) -> PyResult<Array> {
    let Some(dtype) = dtype(array) else {
        return Err(PyTypeError::new_err(format!("{name} should hold numbers; got dtype {}", array.dtype())));
    };
    let shape = array.shape().to_vec();
    let strides = if shape.is_empty() { Vec::new() } else { array.strides().to_vec() };
    // SAFETY: a NumPy array's own address, shape and strides stay within memory that the array keeps alive.
    let borrowed = unsafe {
        let address = (*array.as_array_ptr()).fields.data as *const u8;
        Array::borrow(address, dtype, &shape, &strides, Arc::new(array.clone().unbind()))
    };
    borrowed.ok_or_else(|| PyValueError::new_err(format!("{name} should have rows; got shape {shape:?}")))
}

fn dtype(array: &Bound<'_, PyUntypedArray>) -> Option<Dtype> {
    let dtype = array.dtype();
    if dtype.is_native_byteorder() == Some(false) {
        return None;
    }
    Some(match (dtype.kind(), dtype.itemsize()) {
        (b'b', 1) => Dtype::Bool,
        (b'i', 1) => Dtype::I8,
        (b'i', 2) => Dtype::I16,
        (b'i', 4) => Dtype::I32,
        (b'i', 8) => Dtype::I64,
        (b'u', 1) => Dtype::U8,
        (b'u', 2) => Dtype::U16,
        (b'u', 4) => Dtype::U32,
        (b'u', 8) => Dtype::U64,
        (b'f', 2) => Dtype::F16,
        (b'f', 4) => Dtype::F32,
        (b'f', 8) => Dtype::F64,
        _ => return None,
    })
}

/// The shape and the numbers of a float32 or float64 array of so many dimensions, row by row.
pub fn floats<const D: usize>(array: &Bound<'_, PyAny>, name: &str) -> PyResult<([usize; D], Vec<f64>)> {
    let (shape, values): (Vec<usize>, Vec<f64>) = if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, f64>>() {
        (array.shape().to_vec(), array.as_array().iter().copied().collect())
    } else if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, f32>>() {
        (array.shape().to_vec(), array.as_array().iter().map(|&x| f64::from(x)).collect())
    } else {
        let got = match array.cast::<PyUntypedArray>() {
            Ok(array) => array.dtype().to_string(),
            Err(_) => array.get_type().to_string(),
        };
        return Err(PyTypeError::new_err(format!("`{name}` should be an array of float32 or float64; got {got}")));
    };
    match shape.clone().try_into() {
        Ok(shape) => Ok((shape, values)),
        Err(_) => Err(PyValueError::new_err(format!("`{name}` should have {D} dimension(s); got shape {shape:?}"))),
    }
}

/// A new array of the given shape.
pub fn give<'py>(py: Python<'py>, values: Vec<f32>, shape: &[usize]) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    PyArray1::from_vec(py, values).reshape(shape.to_vec())
}

/// A live, writable view of memory that `owner` keeps.
///
/// # Safety
/// The memory must hold an array of this shape and stay in place as long as `owner` lives.
pub unsafe fn view<'py>(owner: Bound<'py, PyAny>, address: *const f32, shape: &[usize]) -> Bound<'py, PyArrayDyn<f32>> {
    // SAFETY: the caller's promise.
    unsafe {
        let view = ArrayViewD::from_shape_ptr(IxDyn(shape), address);
        PyArrayDyn::borrow_from_array(&view, owner)
    }
}
