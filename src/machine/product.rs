//! Matrix products into memory that exists: the one door to libtorch's `*_out` functions.
//!
//! libtorch silently resizes an output of the wrong shape, over whatever lies behind it in a flat buffer; so shapes are
//! checked when a product is made, and only then.

use tch::Tensor;

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
        let Self { out, a, b } = self;
        let _ = match (mode, out.dim() == 2) {
            (Mode::Write, true) => a.f_mm_out(out, b)?,
            (Mode::Write, false) => a.f_bmm_out(out, b)?,
            (Mode::Add, true) => out.f_addmm_out(out, a, b)?,
            (Mode::Add, false) => out.f_baddbmm_out(out, a, b)?,
        };
        Ok(())
    }
}
