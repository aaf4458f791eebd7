//! Memory of bfloat16 numbers, for products of the per-task backward at half the width.

use tch::{Device, Kind, Tensor};

use crate::bail;
use crate::error::Result;
use crate::network::buffer::Memory;
use crate::network::parallel::{Places, split};
use crate::network::product::Mode;
use crate::real::Real;
use crate::vectorised;

/// A buffer of bfloat16 numbers, as libtorch and as loops of our own see it.
#[derive(Debug)]
pub struct Halves {
    storage: Tensor,
    address: *mut u16,
    len: usize,
}

// SAFETY: the memory belongs to the tensor, which is `Send`; a plan and its kernels move between threads together.
unsafe impl Send for Halves {}

/// Whether the processor multiplies bfloat16 numbers; where it does not, single precision is faster and better.
pub fn supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

impl Memory for Halves {
    fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        let last: usize = shape.iter().zip(strides).map(|(&n, &s)| n.saturating_sub(1) * s).sum();
        if offset + last >= self.len.max(1) {
            bail!("a view of {shape:?} by {strides:?} at {offset} leaves its buffer of {} elements", self.len);
        }
        let wide = |numbers: &[usize]| numbers.iter().map(|&n| n as i64).collect::<Vec<_>>();
        Ok(self.storage.f_as_strided(wide(shape), wide(strides), offset as i64)?)
    }
}

impl Halves {
    /// New memory, zeroed.
    pub fn zeros(len: usize) -> Result<Self> {
        let storage = Tensor::f_zeros([len as i64], (Kind::BFloat16, Device::Cpu))?;
        let address = storage.data_ptr().cast();
        Ok(Self { storage, address, len })
    }

    /// The bits.
    pub fn slice(&self) -> &[u16] {
        // SAFETY: the memory holds `len` elements of two bytes; nothing writes while a kernel reads.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }

    /// The bits, to write.
    pub fn slice_mut(&mut self) -> &mut [u16] {
        // SAFETY: as `slice`; a kernel's own buffer, which nothing else names.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.len) }
    }
}

/// The nearest bfloat16, ties to even.
#[inline(always)]
pub fn narrow<T: Real>(x: T) -> u16 {
    let bits = (x.wide() as f32).to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The value of a bfloat16.
#[inline(always)]
pub fn wide<T: Real>(bits: u16) -> T {
    T::of(f64::from(f32::from_bits(u32::from(bits) << 16)))
}

/// Rounds every number.
pub fn round<T: Real>(from: &[T], to: &mut [u16]) {
    let (units, places) = (to.len(), Places::new(to));
    split(units, units, &|_, range| {
        // SAFETY: ranges of different threads do not overlap.
        round_part(&from[range.clone()], unsafe { places.part(range) });
    });
}

vectorised! {
fn round_part<T: Real>(from: &[T], to: &mut [u16]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = narrow(from);
    }
}
}

/// Writes or adds every number.
pub fn unround<T: Real>(from: &[u16], to: &mut [T], mode: Mode) {
    let (units, places) = (to.len(), Places::new(to));
    split(units, units, &|_, range| {
        // SAFETY: ranges of different threads do not overlap.
        unround_part(&from[range.clone()], unsafe { places.part(range) }, mode);
    });
}

vectorised! {
fn unround_part<T: Real>(from: &[u16], to: &mut [T], mode: Mode) {
    if mode == Mode::Write {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = wide(from));
        return;
    }
    to.iter_mut().zip(from).for_each(|(to, &from)| *to += wide(from));
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_libtorch() {
        let numbers: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) * 1.003_7f32.powi(i)).collect();
        let mut ours = Halves::zeros(1000).unwrap();
        round(&numbers, ours.slice_mut());
        let theirs = Tensor::from_slice(&numbers).to_kind(Kind::BFloat16);
        assert!(ours.view(&[1000], &[1], 0).unwrap().equal(&theirs));
        let mut back = vec![0.0f32; 1000];
        unround(ours.slice(), &mut back, Mode::Write);
        unround(ours.slice(), &mut back, Mode::Add);
        assert!(back.iter().zip(&numbers).all(|(b, n)| (b - 2.0 * n).abs() <= n.abs() / 128.0));
    }
}
