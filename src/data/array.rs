//! An array somebody else owns: address, type, shape, strides.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::float16::Float16;
use super::rows::{Rows, each_row};
use crate::input::Codes;
use crate::vectorised;

/// Numbers that are converted at once when all are looked at.
const BLOCK: usize = 1024;

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
    F16,
    F32,
    F64,
}

impl Dtype {
    /// As NumPy calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Whether numbers of it may have a fraction, or be none at all.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }
}

/// Something that can be read out of foreign memory as a number.
pub trait Element: Copy {
    /// What it is called; booleans are read as `u8`, because foreign memory may hold any byte.
    const DTYPE: Dtype;
    /// As `f64`; integers beyond 2^53 lose digits.
    fn wide(self) -> f64;
    /// As `f32`.
    fn narrow(self) -> f32;
    /// As a whole number, without its fraction; what is none becomes 0.
    fn whole(self) -> i64;
    /// Whether it is one of the whole numbers `0..count`.
    fn is_code(self, count: usize) -> bool;
}

impl Codes {
    /// Whether a number is one of them.
    #[inline(always)]
    pub fn holds<T: Element>(self, x: T) -> bool {
        x.is_code(self.count) | (self.gaps & (x.wide() == -1.0))
    }
}

macro_rules! element {
    ($($t:ty, $dtype:ident, $x:ident, $count:ident => $is_code:expr;)+) => {$(
        impl Element for $t {
            const DTYPE: Dtype = Dtype::$dtype;
            #[inline(always)]
            #[allow(clippy::cast_lossless)]
            fn wide(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn narrow(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            #[allow(clippy::cast_lossless, clippy::unnecessary_cast)]
            fn whole(self) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn is_code(self, $count: usize) -> bool {
                let $x = self;
                $is_code
            }
        }
    )+};
}

// Negative integers become huge when cast; a float is whole if a cast there and back changes nothing.
element! {
    i8, I8, x, count => (x as u64) < count as u64;
    i16, I16, x, count => (x as u64) < count as u64;
    i32, I32, x, count => (x as u64) < count as u64;
    i64, I64, x, count => (x as u64) < count as u64;
    u8, U8, x, count => u64::from(x) < count as u64;
    u16, U16, x, count => u64::from(x) < count as u64;
    u32, U32, x, count => u64::from(x) < count as u64;
    u64, U64, x, count => x < count as u64;
    f32, F32, x, count => (x as u32) as f32 == x && (x as u64) < count as u64;
    f64, F64, x, count => (x as u32) as f64 == x && (x as u64) < count as u64;
}

impl Element for Float16 {
    const DTYPE: Dtype = Dtype::F16;
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self.widened())
    }
    #[inline(always)]
    fn narrow(self) -> f32 {
        self.widened()
    }
    #[inline(always)]
    fn whole(self) -> i64 {
        self.widened() as i64
    }
    #[inline(always)]
    fn is_code(self, count: usize) -> bool {
        self.widened().is_code(count)
    }
}

/// Runs `$body` with `$t` bound to the Rust type of a [`Dtype`].
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
            D::F16 => run!($crate::data::float16::Float16),
            D::F32 => run!(f32),
            D::F64 => run!(f64),
        }
    }};
}

pub(super) use with_dtype;

/// A borrowed array `[rows, ...]`, never copied as a whole and never a Rust slice: its owner may write to it. A row is
/// all that lies behind the first dimension, number by number.
#[derive(Clone)]
pub struct Array {
    address: *const u8,
    dtype: Dtype,
    rows: usize,
    columns: usize,
    shape: Arc<[usize]>,
    /// From row to row, and from number to number along a run.
    strides: [isize; 2],
    /// Numbers along which one stride leads: all of a row, unless there are outer axes.
    run: usize,
    /// The axes that lead from run to run within a row, the outermost first.
    outer: Arc<[Axis]>,
    _owner: Arc<dyn Any + Send + Sync>,
}

/// One axis of a row: how many steps of how many bytes.
#[derive(Clone, Copy)]
struct Axis {
    length: usize,
    stride: isize,
}

/// The fewest axes that visit the same numbers in the same order; the last one is within a run.
fn merged(shape: &[usize], strides: &[isize]) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::with_capacity(shape.len());
    for (&length, &stride) in shape.iter().zip(strides).filter(|(length, _)| **length != 1) {
        match axes.last_mut() {
            Some(last) if last.stride == stride.wrapping_mul(length as isize) => {
                *last = Axis { length: last.length * length, stride }
            }
            _ => axes.push(Axis { length, stride }),
        }
    }
    axes
}

/// Reads numbers one after the other into `out`.
///
/// # Safety
/// As many numbers of this type as there are in `out` must lie from `start` on, `stride` bytes apart.
#[inline(always)]
unsafe fn read_run<O, T: Element>(start: *const u8, stride: isize, out: &mut [O], convert: impl Fn(T) -> O) {
    if stride == size_of::<T>() as isize {
        let start = start.cast::<T>();
        // SAFETY: the caller's promise.
        let at = |j| unsafe { start.add(j).read_unaligned() };
        return out.iter_mut().enumerate().for_each(|(j, out)| *out = convert(at(j)));
    }
    // SAFETY: the caller's promise.
    let at = |j| unsafe { start.offset(j as isize * stride).cast::<T>().read_unaligned() };
    out.iter_mut().enumerate().for_each(|(j, out)| *out = convert(at(j)));
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
    /// An array over foreign memory; strides are in bytes. None if it has no dimension, or more numbers a row than can
    /// be counted.
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
        let (&rows, each) = shape.split_first()?;
        let (&down, inner) = strides.split_first()?;
        let columns = each.iter().try_fold(1_usize, |all, &length| all.checked_mul(length))?;
        let mut outer = if columns == 0 { Vec::new() } else { merged(each, inner) };
        let last = outer.pop().unwrap_or(Axis { length: columns, stride: 0 });
        let strides = [down, last.stride];
        let (shape, outer) = (shape.into(), outer.into());
        Some(Self { address, dtype, rows, columns, shape, strides, run: last.length, outer, _owner: owner })
    }

    /// An array that owns its memory, row by row; one column makes it one-dimensional.
    pub fn own<T: Element + Send + Sync + 'static>(values: Vec<T>, columns: usize) -> Self {
        let rows = values.len() / columns.max(1);
        let shape = if columns == 1 { vec![rows] } else { vec![rows, columns] };
        Self::of(values, &shape)
    }

    /// An array of this shape that owns its memory, whose numbers lie in their order.
    ///
    /// # Panics
    /// If there are fewer numbers than the shape says, or it has no dimension.
    pub fn of<T: Element + Send + Sync + 'static>(values: Vec<T>, shape: &[usize]) -> Self {
        let needed = shape.iter().try_fold(1_usize, |all, &length| all.checked_mul(length));
        let there = values.len();
        assert!(needed.is_some_and(|needed| needed <= there), "{there} numbers for an array of shape {shape:?}");
        let mut strides = vec![size_of::<T>() as isize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis] as isize;
        }
        let owner = Arc::new(values);
        // SAFETY: asserted above; the owner never touches the numbers again.
        let array = unsafe { Self::borrow(owner.as_ptr().cast(), T::DTYPE, shape, &strides, owner) };
        array.expect("an array has a dimension")
    }

    /// A copy that does not depend on the owner's memory.
    pub fn detach(&self) -> Self {
        self.detach_rows(0..self.rows)
    }

    /// A copy of neighbouring rows.
    pub fn detach_rows(&self, rows: Range<usize>) -> Self {
        let mut shape = self.shape.to_vec();
        shape[0] = rows.len();
        with_dtype!(self.dtype, T => {
            let mut values = vec![T::default(); rows.len() * self.columns];
            self.gather(Rows::Range(rows), &mut values, |x: T| x);
            Self::of(values, &shape)
        })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers a row, in all its dimensions; 1 for a one-dimensional array.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The shape as the owner sees it.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Copies rows, converted, into `out` `[rows, columns]`; `T` must be the type of [`Array::dtype`].
    #[inline]
    pub fn gather<O: Copy, T: Element>(&self, rows: Rows<'_>, out: &mut [O], convert: impl Fn(T) -> O) {
        self.assert_reads::<T>(&rows);
        if self.columns == 1 {
            // SAFETY: asserted above.
            let at = |row| convert(unsafe { self.element::<T>(row, 0) });
            return each_row!(rows, rows => rows.zip(out).for_each(|(row, out)| *out = at(row)));
        }
        if !self.outer.is_empty() {
            return self.gather_runs(rows, out, convert);
        }
        let lines = out.chunks_exact_mut(self.columns.max(1));
        if self.strides[1] != size_of::<T>() as isize {
            // SAFETY: asserted above, and `line` is no longer than a row.
            let at = |row, j| convert(unsafe { self.element::<T>(row, j) });
            let fill = |row, line: &mut [O]| line.iter_mut().enumerate().for_each(|(j, out)| *out = at(row, j));
            return each_row!(rows, rows => rows.zip(lines).for_each(|(row, line)| fill(row, line)));
        }
        let fill = |row: usize, line: &mut [O]| {
            // SAFETY: asserted above; the elements of this row lie side by side.
            let start = unsafe { self.address.offset(row as isize * self.strides[0]).cast::<T>() };
            // SAFETY: `line` is no longer than the row.
            line.iter_mut().enumerate().for_each(|(j, out)| *out = convert(unsafe { start.add(j).read_unaligned() }));
        };
        each_row!(rows, rows => rows.zip(lines).for_each(|(row, line)| fill(row, line)));
    }

    /// Copies rows as [`Array::gather`], run by run, after its assertion.
    fn gather_runs<O: Copy, T: Element>(&self, rows: Rows<'_>, out: &mut [O], convert: impl Fn(T) -> O) {
        let fill = |row: usize, line: &mut [O]| {
            for (index, run) in line.chunks_exact_mut(self.run).enumerate() {
                let start = self.address.wrapping_offset(row as isize * self.strides[0] + self.run_offset(index));
                // SAFETY: asserted by the caller, and `line` is a row, of whole runs.
                unsafe { read_run(start, self.strides[1], run, &convert) };
            }
        };
        each_row!(rows, rows => rows.zip(out.chunks_exact_mut(self.columns)).for_each(|(row, line)| fill(row, line)));
    }

    /// Where a run begins, in bytes from the start of its row.
    fn run_offset(&self, mut index: usize) -> isize {
        let mut offset = 0;
        for axis in self.outer.iter().rev() {
            offset += (index % axis.length) as isize * axis.stride;
            index /= axis.length;
        }
        offset
    }

    /// Whether each row is `f32` numbers side by side, so that it can be copied as it is.
    pub fn is_plain(&self) -> bool {
        let beside = self.columns > 1 && self.outer.is_empty() && self.strides[1] == size_of::<f32>() as isize;
        beside && self.dtype == Dtype::F32
    }

    /// Copies rows of an array that [`Array::is_plain`].
    pub fn copy(&self, rows: Rows<'_>, out: &mut [f32]) {
        assert!(self.is_plain(), "only plain rows can be copied as they are");
        self.assert_reads::<f32>(&rows);
        let copy = |(row, line): (usize, &mut [f32])| {
            // SAFETY: asserted above, for `columns` numbers side by side; bytes need no alignment.
            unsafe {
                let from = self.address.offset(row as isize * self.strides[0]);
                from.copy_to_nonoverlapping(line.as_mut_ptr().cast(), size_of_val(line));
            }
        };
        each_row!(rows, rows => rows.zip(out.chunks_exact_mut(self.columns)).for_each(copy));
    }

    /// One element as `f64`.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        assert!(row < self.rows && column < self.columns, "an element outside of its array");
        // SAFETY: asserted above; the type is that of the array.
        with_dtype!(self.dtype, T => unsafe { self.number::<T>(row, column) }.wide())
    }

    /// The only number of a row of a one-dimensional array, as it is; `T` must be the type of [`Array::dtype`].
    #[inline(always)]
    pub(super) fn entry<T: Element>(&self, row: usize) -> T {
        assert!(row < self.rows && self.columns == 1, "an entry outside of its array");
        assert!(self.dtype == T::DTYPE, "an array of {self:?}");
        // SAFETY: asserted above.
        unsafe { self.element::<T>(row, 0) }
    }

    /// Overwrites `out` `[rows, columns]` with `value` where these rows are not zero.
    pub fn overwrite<O: Copy>(&self, rows: Rows<'_>, out: &mut [O], value: O) {
        with_dtype!(self.dtype, T => self.overwrite_as::<O, T>(rows, out, value));
    }

    fn overwrite_as<O: Copy, T: Element>(&self, rows: Rows<'_>, out: &mut [O], value: O) {
        self.assert_reads::<T>(&rows);
        let lines = out.chunks_exact_mut(self.columns.max(1));
        let fill = |row, line: &mut [O]| {
            for (j, out) in line.iter_mut().enumerate() {
                // SAFETY: asserted above, and `line` is no longer than a row.
                let set = unsafe { self.number::<T>(row, j) }.wide() != 0.0;
                *out = if set { value } else { *out };
            }
        };
        each_row!(rows, rows => rows.zip(lines).for_each(|(row, line)| fill(row, line)));
    }

    /// Whether each column of some neighbouring rows holds nothing but its codes.
    pub fn holds_codes(&self, rows: Range<usize>, columns: &[Codes]) -> bool {
        assert_eq!(columns.len(), self.columns, "one kind of codes a column");
        columns.is_empty() || with_dtype!(self.dtype, T => self.holds_codes_as::<T>(rows, columns))
    }

    fn holds_codes_as<T: Element + Default>(&self, rows: Range<usize>, columns: &[Codes]) -> bool {
        let size = BLOCK.div_ceil(self.columns.max(1));
        let mut block = vec![T::default(); size * self.columns];
        let end = rows.end;
        rows.step_by(size).all(|first| {
            let rows = first..end.min(first + size);
            let block = &mut block[..rows.len() * self.columns];
            self.gather(Rows::Range(rows), block, |x: T| x);
            are_codes(block, columns)
        })
    }

    /// Visits every number of some neighbouring rows as `f64` with its row and column, until `look` gives something.
    pub fn find<R>(&self, rows: Range<usize>, mut look: impl FnMut(usize, usize, f64) -> Option<R>) -> Option<R> {
        let columns = self.columns.max(1);
        let size = BLOCK.div_ceil(columns);
        let mut block = vec![0.0; size * self.columns];
        let end = rows.end;
        rows.step_by(size).find_map(|first| {
            let rows = Rows::Range(first..end.min(first + size));
            let count = rows.len();
            with_dtype!(self.dtype, T => self.gather::<f64, T>(rows, &mut block, Element::wide));
            let mut lines = block.chunks_exact(columns).take(count).zip(first..);
            lines.find_map(|(line, row)| line.iter().enumerate().find_map(|(j, &value)| look(row, j, value)))
        })
    }

    /// # Safety
    /// `row` and `column` must lie within the array, which must have no outer axes, and `T` must be its type.
    #[inline(always)]
    unsafe fn element<T: Element>(&self, row: usize, column: usize) -> T {
        let [down, right] = self.strides;
        // SAFETY: the caller's promise and `borrow`'s.
        unsafe { self.address.offset(row as isize * down + column as isize * right).cast::<T>().read_unaligned() }
    }

    /// As [`Array::element`], whichever run the number is in.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn number<T: Element>(&self, row: usize, column: usize) -> T {
        if self.outer.is_empty() {
            // SAFETY: the caller's promise.
            return unsafe { self.element(row, column) };
        }
        let offset = row as isize * self.strides[0] + self.run_offset(column / self.run);
        let offset = offset + (column % self.run) as isize * self.strides[1];
        // SAFETY: the caller's promise and `borrow`'s.
        unsafe { self.address.offset(offset).cast::<T>().read_unaligned() }
    }

    fn assert_reads<T: Element>(&self, rows: &Rows<'_>) {
        assert!(self.dtype == T::DTYPE || (self.dtype == Dtype::Bool && T::DTYPE == Dtype::U8), "an array of {self:?}");
        assert!(rows.lie_within(self.rows), "rows outside of {self:?}");
    }
}

vectorised! {
fn are_codes<T: Element>(block: &[T], columns: &[Codes]) -> bool {
    let mut wrong = false;
    for row in block.chunks_exact(columns.len()) {
        for (x, codes) in row.iter().zip(columns) {
            wrong |= !codes.holds(*x);
        }
    }
    !wrong
}
}
