//! An array somebody else owns: address, type, shape, strides.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Element types that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

/// Something that can be read out of foreign memory as a number.
pub trait Element: Copy {
    /// As `f64`; integers beyond 2^53 lose digits.
    fn wide(self) -> f64;
    /// As `f32`.
    fn narrow(self) -> f32 {
        self.wide() as f32
    }
}

macro_rules! element {
    ($($t:ty),+) => {$(
        impl Element for $t {
            #[inline(always)]
            #[allow(clippy::cast_lossless)]
            fn wide(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn narrow(self) -> f32 {
                self as f32
            }
        }
    )+};
}

element!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);

/// Runs `$body` with `$t` bound to the Rust type of a [`Dtype`]; booleans are read as bytes.
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {{
        use $crate::data::array::Dtype as D;
        macro_rules! run {
            ($type:ty) => {{
                type $t = $type;
                $body
            }};
        }
        match $dtype {
            D::Bool | D::U8 => run!(u8),
            D::I8 => run!(i8),
            D::I16 => run!(i16),
            D::I32 => run!(i32),
            D::I64 => run!(i64),
            D::U16 => run!(u16),
            D::U32 => run!(u32),
            D::U64 => run!(u64),
            D::F32 => run!(f32),
            D::F64 => run!(f64),
        }
    }};
}

/// A borrowed array of one or two dimensions, never copied as a whole and never a Rust slice: its owner may write to it.
#[derive(Clone)]
pub struct Array {
    address: *const u8,
    dtype: Dtype,
    rows: usize,
    columns: usize,
    flat: bool,
    strides: [isize; 2],
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the memory is kept alive by the owner, which is `Send` and `Sync`; it is only read, element by element.
unsafe impl Send for Array {}
// SAFETY: as above.
unsafe impl Sync for Array {}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({:?}, {:?})", self.dtype, self.shape())
    }
}

impl Array {
    /// An array over foreign memory; strides are in bytes.
    ///
    /// # Safety
    /// Every element the shape and strides reach must lie in memory that `owner` keeps alive.
    pub unsafe fn borrow(
        address: *const u8,
        dtype: Dtype,
        shape: &[usize],
        strides: &[isize],
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Option<Self> {
        let (rows, columns, strides) = match (shape, strides) {
            (&[rows], &[step]) => (rows, 1, [step, 0]),
            (&[rows, columns], &[down, right]) => (rows, columns, [down, right]),
            _ => return None,
        };
        Some(Self { address, dtype, rows, columns, flat: shape.len() == 1, strides, _owner: owner })
    }

    /// An array that owns its memory, row by row; one column makes it one-dimensional.
    pub fn own<T: Element + Send + Sync + 'static>(dtype: Dtype, values: Vec<T>, columns: usize) -> Self {
        let size = size_of::<T>();
        let rows = values.len() / columns.max(1);
        let owner = Arc::new(values);
        let strides = [(columns * size) as isize, size as isize];
        let address = owner.as_ptr().cast();
        Self { address, dtype, rows, columns, flat: columns == 1, strides, _owner: owner }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers a row; 1 for a one-dimensional array.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The shape as the owner sees it.
    pub fn shape(&self) -> Vec<usize> {
        if self.flat { vec![self.rows] } else { vec![self.rows, self.columns] }
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Copies rows, converted, into `out` `[rows, columns]`.
    #[inline]
    pub fn gather<O: Copy, T: Element>(
        &self,
        rows: impl Iterator<Item = usize>,
        out: &mut [O],
        convert: impl Fn(T) -> O,
    ) {
        let [down, right] = self.strides;
        // SAFETY: `borrow`'s promise; rows were checked against the length before.
        let element = |row: usize, j: usize| unsafe {
            self.address.offset(row as isize * down + j as isize * right).cast::<T>().read_unaligned()
        };
        if self.columns == 1 {
            rows.zip(out).for_each(|(row, out)| *out = convert(element(row, 0)));
            return;
        }
        let dense = right == size_of::<T>() as isize;
        for (row, out) in rows.zip(out.chunks_exact_mut(self.columns.max(1))) {
            if dense {
                // SAFETY: `borrow`'s promise; the elements of this row lie side by side.
                let start = unsafe { self.address.offset(row as isize * down).cast::<T>() };
                // SAFETY: as above.
                out.iter_mut()
                    .enumerate()
                    .for_each(|(j, out)| *out = convert(unsafe { start.add(j).read_unaligned() }));
            } else {
                out.iter_mut().enumerate().for_each(|(j, out)| *out = convert(element(row, j)));
            }
        }
    }

    /// Whether each row is `f32` numbers side by side, so that it can be copied as it is.
    pub fn is_plain(&self) -> bool {
        self.dtype == Dtype::F32 && self.columns > 1 && self.strides[1] == size_of::<f32>() as isize
    }

    /// Copies rows of an array that [`Array::is_plain`].
    pub fn copy(&self, rows: impl Iterator<Item = usize>, out: &mut [f32]) {
        assert!(self.is_plain(), "only plain rows can be copied as they are");
        for (row, out) in rows.zip(out.chunks_exact_mut(self.columns)) {
            // SAFETY: `borrow`'s promise, for `columns` numbers side by side; bytes need no alignment.
            unsafe {
                let from = self.address.offset(row as isize * self.strides[0]);
                from.copy_to_nonoverlapping(out.as_mut_ptr().cast(), self.columns * size_of::<f32>());
            }
        }
    }

    /// One element as `f64`.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        let mut out = [0.0];
        let shifted = Self {
            // SAFETY: `borrow`'s promise.
            address: unsafe { self.address.offset(column as isize * self.strides[1]) },
            columns: 1,
            ..self.clone()
        };
        with_dtype!(self.dtype, T => shifted.gather::<f64, T>(std::iter::once(row), &mut out, Element::wide));
        out[0]
    }

    /// Visits every element as `f64` with its row and column, until `look` gives something.
    #[inline]
    pub fn find<R>(&self, mut look: impl FnMut(usize, usize, f64) -> Option<R>) -> Option<R> {
        with_dtype!(self.dtype, T => self.find_as::<T, R>(&mut look))
    }

    #[inline]
    fn find_as<T: Element, R>(&self, look: &mut impl FnMut(usize, usize, f64) -> Option<R>) -> Option<R> {
        let [down, right] = self.strides;
        for row in 0..self.rows {
            // SAFETY: `borrow`'s promise.
            let start = unsafe { self.address.offset(row as isize * down) };
            for column in 0..self.columns {
                // SAFETY: as above.
                let element = unsafe { start.offset(column as isize * right).cast::<T>().read_unaligned() };
                let found = look(row, column, element.wide());
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}
