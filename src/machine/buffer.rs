//! A tensor of the plan together with its address and layout, for loops of our own.

use tch::{Device, Tensor};

use crate::bail;
use crate::error::Result;
use crate::machine::memory;
use crate::machine::real::Real;

/// How a buffer is laid out: element `(g, r, l, c)` stands at `((g * rows + r) * lanes + l) * width + c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Equal networks side by side; 1 for an ordinary value.
    pub groups: usize,
    /// Rows of the batch.
    pub rows: usize,
    /// Gradients carried at once: 1, or one a task.
    pub lanes: usize,
    /// Numbers a row.
    pub width: usize,
}

/// Numbers as libtorch takes them.
pub fn as_i64(numbers: &[usize]) -> Vec<i64> {
    numbers.iter().map(|&number| number as i64).collect()
}

impl Layout {
    /// Elements in all.
    pub fn len(&self) -> usize {
        self.groups * self.rows * self.lanes * self.width
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Memory of libtorch that a kernel reads and writes through its address.
///
/// Several handles may name the same memory. The kernels of one plan run one after another, each with `&mut self`, and
/// the buffers one node uses never overlap; that is what makes [`Buffer::slice_mut`] sound.
#[derive(Debug)]
pub struct Buffer<T> {
    storage: Tensor,
    base: usize,
    address: *mut T,
    /// The layout of the whole buffer.
    pub layout: Layout,
}

// SAFETY: the memory belongs to the tensor, which is `Send`; a plan and its kernels move between threads together.
unsafe impl<T: Real> Send for Buffer<T> {}
// SAFETY: through a shared reference a buffer is only read, and libtorch counts its handles atomically. Who writes, through
// `&mut` of this handle or of another, has the model to itself, or the plan whose buffers they are.
unsafe impl<T: Real> Sync for Buffer<T> {}

/// Memory that libtorch can see in any shape.
pub trait Memory {
    /// A tensor of the given shape and strides (in elements) over this memory, `offset` elements in.
    ///
    /// # Errors
    /// A view that leaves the memory.
    fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor>;
}

impl<T: Real> Memory for Buffer<T> {
    fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        self.view(shape, strides, offset)
    }
}

impl<T: Real> Buffer<T> {
    /// New memory, zeroed.
    pub fn zeros(layout: Layout) -> Result<Self> {
        let mut storage = Tensor::f_empty([layout.len() as i64], (T::KIND, Device::Cpu))?;
        // A tensor without elements has no address, which a slice must have.
        let address = if layout.is_empty() { std::ptr::dangling_mut() } else { storage.data_ptr().cast() };
        memory::huge_pages(address, layout.len());
        let _ = storage.f_zero_()?;
        Ok(Self { storage, base: 0, address, layout })
    }

    /// Another handle on `layout.len()` elements of this memory, `offset` elements in.
    pub fn part(&self, offset: usize, layout: Layout) -> Result<Self> {
        if offset + layout.len() > self.layout.len() {
            bail!("a part of {layout:?} at {offset} leaves its buffer of {} elements", self.layout.len());
        }
        // SAFETY: checked just above to stay inside the allocation.
        let address = unsafe { self.address.add(offset) };
        Ok(Self { storage: self.storage.shallow_clone(), base: self.base + offset, address, layout })
    }

    /// Another handle on the same memory.
    pub fn share(&self) -> Self {
        Self { storage: self.storage.shallow_clone(), ..*self }
    }

    /// A tensor of the given shape and strides (in elements) over this memory, `offset` elements in.
    pub fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        let last: usize = shape.iter().zip(strides).map(|(&n, &s)| n.saturating_sub(1) * s).sum();
        if offset + last >= self.layout.len().max(1) && !shape.contains(&0) {
            bail!("a view of {shape:?} by {strides:?} at {offset} leaves its buffer of {} elements", self.layout.len());
        }
        Ok(self.storage.f_as_strided(as_i64(shape), as_i64(strides), (self.base + offset) as i64)?)
    }

    /// A contiguous tensor of the given shape over the whole buffer.
    pub fn shaped(&self, shape: &[usize]) -> Result<Tensor> {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        if shape.iter().product::<usize>() != self.layout.len() {
            bail!("a buffer of {} elements cannot be seen as {shape:?}", self.layout.len());
        }
        self.view(shape, &strides, 0)
    }

    /// The address of the first element.
    pub fn address(&self) -> *mut T {
        self.address
    }

    /// The elements.
    pub fn slice(&self) -> &[T] {
        // SAFETY: the constructors checked that the memory holds this many elements of `T`; nothing writes while a kernel reads.
        unsafe { std::slice::from_raw_parts(self.address, self.layout.len()) }
    }

    /// The elements, to write.
    pub fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: as `slice`; no other buffer of the running kernel overlaps this one.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.layout.len()) }
    }
}
