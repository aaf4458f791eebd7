//! Memory of the core's tensors as NumPy and torch see it: nothing is copied either way.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tch::{Device, Kind, Tensor};

use crate::machine::foreign::Received;

/// A tensor's memory, kept for as long as somebody has an array over it.
#[pyclass(frozen, name = "Memory", module = "polytask._core")]
pub struct PyMemory {
    tensor: Shared,
}

/// A tensor that is looked at and no more.
struct Shared(Tensor);

// SAFETY: only its address, sizes and strides are read, which nobody changes, and libtorch counts handles atomically.
unsafe impl Sync for Shared {}

impl PyMemory {
    /// Of a tensor, which keeps it.
    pub fn lend<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, Self>> {
        Bound::new(py, Self { tensor: Shared(tensor.shallow_clone()) })
    }

    /// Of several.
    pub fn lend_all<'py>(py: Python<'py>, tensors: &[Tensor]) -> PyResult<Vec<Bound<'py, Self>>> {
        tensors.iter().map(|tensor| Self::lend(py, tensor)).collect()
    }

    /// What the array interface of NumPy and that of CUDA have in common, for memory of one kind of device.
    fn interface<'py>(&self, py: Python<'py>, on_card: bool) -> PyResult<Bound<'py, PyDict>> {
        let Shared(tensor) = &self.tensor;
        if matches!(tensor.device(), Device::Cuda(_)) != on_card {
            return Err(PyAttributeError::new_err(format!("the memory is that of {:?}", tensor.device())));
        }
        let kind = match tensor.kind() {
            Kind::Float => "<f4",
            Kind::Double => "<f8",
            Kind::Int64 => "<i8",
            Kind::Int => "<i4",
            other => return Err(PyTypeError::new_err(format!("memory of {other:?} cannot be lent"))),
        };
        let size = tensor.kind().elt_size_in_bytes() as i64;
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", kind)?;
        interface.set_item("shape", pyo3::types::PyTuple::new(py, tensor.size())?)?;
        let strides = tensor.stride().into_iter().map(|stride| stride * size);
        interface.set_item("strides", pyo3::types::PyTuple::new(py, strides.collect::<Vec<_>>())?)?;
        interface.set_item("data", (tensor.data_ptr() as usize, false))?;
        Ok(interface)
    }
}

#[pymethods]
impl PyMemory {
    /// How NumPy, and through it torch, sees memory of the processor.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.interface(py, false)
    }

    /// How torch sees memory of a card.
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.interface(py, true)
    }
}

/// A float32 tensor of Python's with its address, sizes and strides, as Rust receives it.
pub type Sent = (Py<PyAny>, usize, Vec<i64>, Vec<i64>);

/// A tensor over the memory of one of Python's on the device of `like`, which is kept with it.
///
/// # Errors
/// What libtorch refuses.
pub fn receive(sent: Sent, like: &Tensor) -> crate::error::Result<Received> {
    let (owner, address, sizes, strides) = sent;
    // SAFETY: `polytask.model.foreign` gives a float32 tensor of this device with its own address, sizes and strides, and its
    // memory stays as long as the tensor, which is kept.
    let tensor = unsafe { Tensor::f_from_blob(address as *const u8, &sizes, &strides, Kind::Float, like.device()) }?;
    Ok(Received::of(tensor, Box::new(owner)))
}
