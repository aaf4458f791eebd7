//! A tensor of the plan together with its address and layout, for loops of our own.

use tch::{Device, Tensor};

use crate::bail;
use crate::error::Result;
use crate::machine::memory;
use crate::machine::real::Cell;

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

/// Refuses a view of this shape and strides (in elements), `offset` elements in, that leaves memory of so many.
pub(crate) fn check_view(shape: &[usize], strides: &[usize], offset: usize, len: usize) -> Result<()> {
    let reach = |(&n, &s): (&usize, &usize)| n.saturating_sub(1).saturating_mul(s);
    let last = shape.iter().zip(strides).map(reach).fold(offset, usize::saturating_add);
    match last >= len.max(1) && !shape.contains(&0) {
        true => bail!("a view of {shape:?} by {strides:?} at {offset} leaves its memory of {len} elements"),
        false => Ok(()),
    }
}

/// The strides of contiguous memory of a shape.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

impl Layout {
    /// So many numbers one after the other.
    pub fn flat(width: usize) -> Self {
        Self { groups: 1, rows: 1, lanes: 1, width }
    }

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
/// Within the crate several handles may name the same memory: a plan's kernels share values, gradients and parameters. They
/// run one after another, each with `&mut self`, and each writes through one handle at a time to memory that no other slice
/// of it names; who holds a slice of the parameters has them alone, by `&mut` of the model or by the promise that
/// [`Plan::new`](crate::network::plan::Plan::new) asks for. That is what makes [`Buffer::slice_mut`] sound. From outside no
/// second handle can be made, nor a longer slice than there is memory:
///
/// ```compile_fail,E0624
/// # use polytask::machine::buffer::{Buffer, Layout};
/// let mut one = Buffer::<f32>::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: 4 }).unwrap();
/// let mut other = one.share();
/// ```
///
/// ```compile_fail,E0624
/// # use polytask::machine::buffer::{Buffer, Layout};
/// let mut whole = Buffer::<f32>::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: 4 }).unwrap();
/// let mut part = whole.part(1, Layout { groups: 1, rows: 1, lanes: 1, width: 2 }).unwrap();
/// ```
///
/// ```compile_fail,E0624
/// # use polytask::machine::buffer::{Buffer, Layout};
/// let whole = Buffer::<f32>::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: 4 }).unwrap();
/// let tensor = whole.shaped(&[4]).unwrap();
/// ```
///
/// ```compile_fail,E0616
/// # use polytask::machine::buffer::{Buffer, Layout};
/// let mut short = Buffer::<f32>::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: 4 }).unwrap();
/// short.layout.width = 1000;
/// ```
///
/// ```compile_fail,E0499
/// # use polytask::machine::buffer::{Buffer, Layout};
/// let mut buffer = Buffer::<f32>::zeros(Layout { groups: 1, rows: 1, lanes: 1, width: 4 }).unwrap();
/// let (one, other) = (buffer.slice_mut(), buffer.slice_mut());
/// one[0] = other[0];
/// ```
#[derive(Debug)]
pub struct Buffer<T> {
    storage: Tensor,
    base: usize,
    address: *mut T,
    /// Elements there.
    len: usize,
    /// The layout of the whole buffer.
    pub(crate) layout: Layout,
}

// SAFETY: the memory belongs to the tensor, which is `Send`; a plan and its kernels move between threads together.
unsafe impl<T: Cell> Send for Buffer<T> {}
// SAFETY: through a shared reference a buffer is only read, and libtorch counts its handles atomically. Who writes, through
// `&mut` of this handle or of another, has the model to itself, or the plan whose buffers they are.
unsafe impl<T: Cell> Sync for Buffer<T> {}

/// Memory that libtorch can see in any shape.
pub(crate) trait Memory {
    /// A tensor of the given shape and strides (in elements) over this memory, `offset` elements in.
    ///
    /// # Errors
    /// A view that leaves the memory.
    fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor>;
}

impl<T: Cell> Memory for Buffer<T> {
    fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        self.view(shape, strides, offset)
    }
}

impl<T: Cell> Buffer<T> {
    /// New memory, zeroed.
    pub fn zeros(layout: Layout) -> Result<Self> {
        let len = layout.len();
        let mut storage = Tensor::f_empty([len as i64], (T::KIND, Device::Cpu))?;
        // A tensor without elements has no address, which a slice must have.
        let address = if len == 0 { std::ptr::dangling_mut() } else { storage.data_ptr().cast() };
        memory::huge_pages(address, len);
        memory::take(len * size_of::<T>());
        let _ = storage.f_zero_()?;
        Ok(Self { storage, base: 0, address, len, layout })
    }

    /// Another handle on `layout.len()` elements of this memory, `offset` elements in.
    pub(crate) fn part(&self, offset: usize, layout: Layout) -> Result<Self> {
        let len = layout.len();
        if offset.saturating_add(len) > self.len {
            bail!("a part of {layout:?} at {offset} leaves its buffer of {} elements", self.len);
        }
        // SAFETY: checked just above to stay inside the allocation.
        let address = unsafe { self.address.add(offset) };
        Ok(Self { storage: self.storage.shallow_clone(), base: self.base + offset, address, len, layout })
    }

    /// Another handle on the same memory.
    pub(crate) fn share(&self) -> Self {
        Self { storage: self.storage.shallow_clone(), ..*self }
    }

    /// A tensor of the given shape and strides (in elements) over this memory, `offset` elements in.
    pub(crate) fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        check_view(shape, strides, offset, self.len)?;
        Ok(self.storage.f_as_strided(as_i64(shape), as_i64(strides), (self.base + offset) as i64)?)
    }

    /// A matrix of the given sizes and strides, `offset` elements in, made without an allocation of ours.
    pub(crate) fn matrix(&self, sizes: [usize; 2], strides: [usize; 2], offset: usize) -> Result<Tensor> {
        check_view(&sizes, &strides, offset, self.len)?;
        let [sizes, strides] = [sizes, strides].map(|each| each.map(|number| number as i64));
        Ok(self.storage.f_as_strided(sizes.as_slice(), strides.as_slice(), (self.base + offset) as i64)?)
    }

    /// A contiguous tensor of the given shape over the whole buffer.
    pub(crate) fn shaped(&self, shape: &[usize]) -> Result<Tensor> {
        if shape.iter().product::<usize>() != self.len {
            bail!("a buffer of {} elements cannot be seen as {shape:?}", self.len);
        }
        self.view(shape, &strides(shape), 0)
    }

    /// The elements.
    pub fn slice(&self) -> &[T] {
        // SAFETY: the constructors checked that the memory holds this many elements of `T`, all of them written by libtorch or
        // by us; whoever writes through another handle has no slice at the same time, see `Buffer`.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }

    /// The elements, to write.
    pub fn slice_mut(&mut self) -> &mut [T] {
        // SAFETY: as `slice`; nobody has another slice of this memory at the same time, see `Buffer`.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.len) }
    }
}

/// Numbers of 32 bits as codes, which may have all of them.
pub fn codes(numbers: &[i32]) -> &[u32] {
    // SAFETY: the same memory; `i32` and `u32` have one size and alignment, and all their bits mean something.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len()) }
}

/// The same, to write.
pub fn codes_mut(numbers: &mut [i32]) -> &mut [u32] {
    // SAFETY: as `codes`; the borrow of the numbers goes on.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), numbers.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Layout = Layout { groups: 1, rows: 2, lanes: 1, width: 2 };

    #[test]
    fn parts_and_views_that_leave_the_memory_are_refused_however_large_the_numbers() {
        let whole = Buffer::<f32>::zeros(FOUR).unwrap();
        let huge = Layout { groups: usize::MAX, rows: 1, lanes: 1, width: 1 };
        for (offset, layout) in [(1, FOUR), (usize::MAX, FOUR), (usize::MAX - 3, FOUR), (0, huge), (2, huge)] {
            assert!(whole.part(offset, layout).is_err(), "{offset} {layout:?}");
        }
        for (shape, strides, offset) in [
            ([2, 2], [2, 1], 1),
            ([2, 2], [usize::MAX, 1], 0),
            ([usize::MAX, 2], [2, 1], 0),
            ([1, 1], [1, 1], usize::MAX),
        ] {
            assert!(whole.view(&shape, &strides, offset).is_err(), "{shape:?} {strides:?} {offset}");
        }
        assert!(Buffer::<f32>::zeros(huge).is_err());
        assert!(whole.part(2, Layout { rows: 1, ..FOUR }).is_ok() && whole.view(&[2, 2], &[1, 2], 0).is_ok());
    }

    #[test]
    fn handles_of_one_memory_see_what_another_wrote() {
        let whole = Buffer::<f64>::zeros(FOUR).unwrap();
        let mut part = whole.part(1, Layout { rows: 1, ..FOUR }).unwrap();
        part.slice_mut().copy_from_slice(&[2.0, 3.0]);
        assert_eq!(whole.slice(), [0.0, 2.0, 3.0, 0.0]);
        whole.share().slice_mut()[2] = 5.0;
        assert_eq!(
            (part.slice(), Vec::<f64>::try_from(whole.shaped(&[4]).unwrap()).unwrap()[2]),
            (&[2.0, 5.0][..], 5.0)
        );
        assert!(Buffer::<f32>::zeros(Layout { rows: 0, ..FOUR }).unwrap().slice_mut().is_empty());
    }

    #[test]
    fn codes_have_all_bits() {
        let mut memory = Buffer::<i32>::zeros(Layout::flat(3)).unwrap();
        codes_mut(memory.slice_mut()).copy_from_slice(&[7, u32::MAX, 1 << 31]);
        assert_eq!((memory.slice(), codes(memory.slice())), (&[7, -1, i32::MIN][..], &[7, u32::MAX, 1 << 31][..]));
    }
}
