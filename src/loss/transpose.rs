//! Blocks of rows as columns: `[rows, width]` to `[width][block]` and back.

use super::cells::BLOCK;
use crate::machine::real::Real;

/// The logits of a block, transposed. A row is read at once; the transposition is left to vector shuffles.
#[inline(always)]
pub(super) fn load<T: Real, const W: usize>(from: &[T], stride: usize, count: usize, scratch: &mut [[T; BLOCK]]) {
    if W == 0 {
        return load_any(from, stride, count, scratch);
    }
    let mut packed = [[T::ZERO; W]; BLOCK];
    for (l, row) in packed[..count].iter_mut().enumerate() {
        debug_assert!(l * stride + W <= from.len());
        // SAFETY: `Batch::assert_fits` bounds `rows` and `width`, and an array of numbers is aligned as a number.
        *row = unsafe { *from.as_ptr().add(l * stride).cast::<[T; W]>() };
    }
    for (k, column) in scratch.iter_mut().enumerate() {
        for l in 0..BLOCK {
            column[l] = packed[l][k];
        }
    }
}

/// Writes where [`load`] reads.
#[inline(always)]
pub(super) fn store<T: Real, const W: usize>(to: &mut [T], stride: usize, count: usize, scratch: &[[T; BLOCK]]) {
    if W == 0 {
        return store_any(to, stride, count, scratch);
    }
    let mut packed = [[T::ZERO; W]; BLOCK];
    for (k, column) in scratch.iter().enumerate() {
        for l in 0..BLOCK {
            packed[l][k] = column[l];
        }
    }
    for (l, row) in packed[..count].iter().enumerate() {
        debug_assert!(l * stride + W <= to.len());
        // SAFETY: as in `load`.
        unsafe { *to.as_mut_ptr().add(l * stride).cast::<[T; W]>() = *row };
    }
}

/// [`load`] for any width.
#[inline(always)]
fn load_any<T: Real>(from: &[T], stride: usize, count: usize, scratch: &mut [[T; BLOCK]]) {
    for l in 0..count {
        let row = &from[l * stride..l * stride + scratch.len()];
        for (column, z) in scratch.iter_mut().zip(row) {
            column[l] = *z;
        }
    }
}

/// [`store`] for any width.
#[inline(always)]
fn store_any<T: Real>(to: &mut [T], stride: usize, count: usize, scratch: &[[T; BLOCK]]) {
    for l in 0..count {
        let row = &mut to[l * stride..l * stride + scratch.len()];
        for (column, slope) in scratch.iter().zip(row) {
            *slope = column[l];
        }
    }
}
