//! Matrix products into memory that exists: the one door to libtorch's `*_out` functions.
//!
//! libtorch silently resizes an output of the wrong shape, over whatever lies behind it in a flat buffer; so shapes are
//! checked when a product is made, and only then.

use std::ops::Range;

use tch::Tensor;

use super::buffer::Buffer;
use super::real::Cell;
use crate::bail;
use crate::error::Result;

/// Whether a result replaces what is there or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Replaces.
    Write,
    /// Adds.
    Add,
}

/// `out = a b` or `out += a b`, for matrices or batches of them.
#[derive(Debug)]
pub struct Product {
    out: Tensor,
    a: Tensor,
    b: Tensor,
}

impl Product {
    /// Checks the shapes: `[m, k] [k, n] -> [m, n]`, or all three with a leading batch dimension.
    pub fn new(out: Tensor, a: Tensor, b: Tensor) -> Result<Self> {
        let o = out.size();
        let l = a.size();
        let r = b.size();
        let agree = match (o.as_slice(), l.as_slice(), r.as_slice()) {
            ([m, n], [p, k], [q, s]) => m == p && k == q && n == s,
            ([c, m, n], [d, p, k], [e, q, s]) => c == d && d == e && m == p && k == q && n == s,
            _ => false,
        };
        if !agree {
            bail!("a product of {l:?} and {r:?} does not fit {o:?}");
        }
        Ok(Self { out, a, b })
    }

    /// Computes it.
    #[inline]
    pub fn run(&self, mode: Mode) -> Result<()> {
        run(&self.out, &self.a, &self.b, mode)
    }
}

/// Products over a part of the rows of matrices that stay where they are, which part being said in each run.
#[derive(Debug)]
pub struct PartialProduct {
    out: Tensor,
    a: Tensor,
    b: Tensor,
}

impl PartialProduct {
    /// Checks the shapes: rows of `[m, k]`, times `[k, n]`, are rows of `[p, n]`; see [`PartialProduct::rows`].
    pub fn of_rows(out: Tensor, a: Tensor, b: Tensor) -> Result<Self> {
        Self::checked(out, a, b, |o, l, r| l[1] == r[0] && r[1] == o[1])
    }

    /// Checks the shapes: `[m, k] [k, n] -> [m, n]` over a part of `k`; see [`PartialProduct::within`].
    pub fn of_sums(out: Tensor, a: Tensor, b: Tensor) -> Result<Self> {
        Self::checked(out, a, b, |o, l, r| l[0] == o[0] && l[1] == r[0] && r[1] == o[1])
    }

    fn checked(out: Tensor, a: Tensor, b: Tensor, agree: impl Fn(&[i64], &[i64], &[i64]) -> bool) -> Result<Self> {
        let (o, l, r) = (out.size(), a.size(), b.size());
        if [o.len(), l.len(), r.len()] != [2; 3] || !agree(&o, &l, &r) {
            bail!("a product of parts of {l:?} and {r:?} does not fit {o:?}");
        }
        Ok(Self { out, a, b })
    }

    /// So many rows of `out`, from `to` on, by as many of `a`, from `from` on.
    ///
    /// # Errors
    /// Rows that are not there.
    #[inline]
    pub fn rows(&self, to: usize, from: usize, count: usize, mode: Mode) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let out = self.out.f_narrow(0, to as i64, count as i64)?;
        let a = self.a.f_narrow(0, from as i64, count as i64)?;
        run(&out, &a, &self.b, mode)
    }

    /// All of `out`, by a part of the columns of `a` and as many rows of `b`.
    ///
    /// # Errors
    /// A part that is not there.
    pub fn within(&self, part: Range<usize>, mode: Mode) -> Result<()> {
        if part.is_empty() {
            if mode == Mode::Write {
                let _ = self.out.shallow_clone().f_zero_()?;
            }
            return Ok(());
        }
        let [start, count] = [part.start, part.len()].map(|number| number as i64);
        run(&self.out, &self.a.f_narrow(1, start, count)?, &self.b.f_narrow(0, start, count)?, mode)
    }
}

/// A matrix within flat memory.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Where its first number is.
    pub start: usize,
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// Numbers from a row to the next, and from a column to the next.
    pub strides: [usize; 2],
}

impl Cut {
    /// Rows that lie one after the other.
    pub fn rows(start: usize, rows: usize, columns: usize) -> Self {
        Self { start, rows, columns, strides: [columns, 1] }
    }

    /// Its transpose.
    pub fn turned(self) -> Self {
        let Self { start, rows, columns, strides: [of_rows, of_columns] } = self;
        Self { start, rows: columns, columns: rows, strides: [of_columns, of_rows] }
    }

    fn of<T: Cell>(self, memory: &Buffer<T>) -> Result<Tensor> {
        memory.matrix([self.rows, self.columns], self.strides, self.start)
    }
}

/// `out = a b` or `out += a b` of matrices that are said anew each time.
///
/// # Errors
/// Shapes that do not fit each other, or leave their memory.
pub(crate) fn cut_product<T: Cell>(
    out: (&Buffer<T>, Cut),
    a: (&Buffer<T>, Cut),
    b: (&Buffer<T>, Cut),
    mode: Mode,
) -> Result<()> {
    let [o, l, r] = [out.1, a.1, b.1];
    if (o.rows, o.columns, l.columns) != (l.rows, r.columns, r.rows) {
        bail!("a product of {l:?} and {r:?} does not fit {o:?}");
    }
    run(&o.of(out.0)?, &l.of(a.0)?, &r.of(b.0)?, mode)
}

fn run(out: &Tensor, a: &Tensor, b: &Tensor, mode: Mode) -> Result<()> {
    let _ = match (mode, out.dim() == 2) {
        (Mode::Write, true) => a.f_mm_out(out, b)?,
        (Mode::Write, false) => a.f_bmm_out(out, b)?,
        (Mode::Add, true) => out.f_addmm_out(out, a, b)?,
        (Mode::Add, false) => out.f_baddbmm_out(out, a, b)?,
    };
    Ok(())
}
