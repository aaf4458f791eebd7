//! Memory of bfloat16 numbers, for products of the per-task backward at half the width.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::machine::buffer::{Memory, as_i64, check_view};
use crate::machine::level::{Level, level};
use crate::machine::parallel::{Disjoint, split, threads};
use crate::machine::product::Mode;
use crate::machine::real::{LANES, Real};
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
    level() == Level::Avx512Bf16
}

impl Memory for Halves {
    fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        check_view(shape, strides, offset, self.len)?;
        Ok(self.storage.f_as_strided(as_i64(shape), as_i64(strides), offset as i64)?)
    }
}

impl Halves {
    /// New memory, zeroed.
    pub fn zeros(len: usize) -> Result<Self> {
        let storage = Tensor::f_zeros([len as i64], (Kind::BFloat16, Device::Cpu))?;
        // A tensor without elements has no address, which a slice must have.
        let address = if len == 0 { std::ptr::dangling_mut() } else { storage.data_ptr().cast() };
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
    let units = to.len();
    let places = Disjoint::new(to);
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
    let units = to.len();
    let places = Disjoint::new(to);
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

/// Columns of a slab whose products are summed in single precision.
const BLOCK: usize = 2048;

/// Adds the products of a rounded slab `[tasks, width]` with itself to `gramian` `[tasks, tasks]`: single precision within a
/// block of columns, double beyond.
pub fn add_rounded_products(slab: &[u16], tasks: usize, room: &mut Vec<f64>, gramian: &mut [f64]) {
    let width = slab.len() / tasks.max(1);
    let size = tasks * tasks;
    room.clear();
    room.resize(threads(slab.len()) * size, 0.0);
    let rows = RoundedSlab { numbers: slab, tasks, width };
    let blocks = width.div_ceil(BLOCK);
    let places = Disjoint::new(room);
    split(blocks, slab.len(), &|thread, range| {
        // SAFETY: every thread has sums of its own.
        let sums = unsafe { places.part(thread * size..(thread + 1) * size) };
        for block in range {
            let columns = block * BLOCK..width.min((block + 1) * BLOCK);
            for i in (0..tasks).step_by(TILE) {
                for j in (0..=i).step_by(TILE) {
                    add_tile(rows, Corner { row: i, column: j }, columns.clone(), sums);
                }
            }
        }
    });
    for sums in room.chunks_exact(size.max(1)) {
        for (at, sum) in sums.iter().enumerate() {
            gramian[at] += sum;
        }
    }
}

/// RoundedSlab and columns of products that are kept in registers.
const TILE: usize = 4;

/// A rounded slab `[tasks, width]`.
#[derive(Clone, Copy)]
struct RoundedSlab<'a> {
    numbers: &'a [u16],
    tasks: usize,
    width: usize,
}

/// Where a tile of products begins.
#[derive(Clone, Copy)]
struct Corner {
    row: usize,
    column: usize,
}

/// The products of up to four rows with up to four rows, into both triangles.
fn add_tile(slab: RoundedSlab<'_>, corner: Corner, columns: std::ops::Range<usize>, to: &mut [f64]) {
    let RoundedSlab { numbers, tasks, width } = slab;
    let Corner { row: i, column: j } = corner;
    // Beyond the last row the last one stands in, and what comes of it is left out.
    let row = |task: usize| &numbers[task.min(tasks - 1) * width..][columns.clone()];
    let a = std::array::from_fn(|r| row(i + r));
    let b = std::array::from_fn(|c| row(j + c));
    let products = dots(a, b);
    for (r, products) in products.iter().enumerate().filter(|(r, _)| i + r < tasks) {
        for (c, &product) in products.iter().enumerate().filter(|(c, _)| j + c <= i + r) {
            to[(i + r) * tasks + j + c] += product;
            if j + c < i + r {
                to[(j + c) * tasks + i + r] += product;
            }
        }
    }
}

fn dots(a: [&[u16]; TILE], b: [&[u16]; TILE]) -> [[f64; TILE]; TILE] {
    let mut products = [[0.0; TILE]; TILE];
    #[allow(unused_mut)]
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if supported() {
        done = a[0].len() / 32 * 32;
        // SAFETY: the processor has the instructions, and all rows have at least `done` numbers.
        products = unsafe { wide_dots(a, b, done) }.map(|row| row.map(f64::from));
    }
    add_dots(a.map(|row| &row[done..]), b.map(|row| &row[done..]), &mut products);
    products
}

vectorised! {
/// Without instructions for such numbers: as many sums side by side as those have, so that each stays short.
fn add_dots(a: [&[u16]; TILE], b: [&[u16]; TILE], products: &mut [[f64; TILE]; TILE]) {
    for r in 0..TILE {
        for c in 0..TILE {
            let mut sums = [0.0f32; LANES];
            let (x, x_rest) = a[r].as_chunks::<LANES>();
            let (y, y_rest) = b[c].as_chunks::<LANES>();
            for (x, y) in x.iter().zip(y) {
                for l in 0..LANES {
                    sums[l] += wide::<f32>(x[l]) * wide::<f32>(y[l]);
                }
            }
            for (l, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
                sums[l] += wide::<f32>(x) * wide::<f32>(y);
            }
            products[r][c] += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        }
    }
}
}

/// Over the first `size` numbers of each row, a multiple of 32.
///
/// # Safety
/// The processor has AVX512-BF16, and no row is shorter than `size`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn wide_dots(a: [&[u16]; TILE], b: [&[u16]; TILE], size: usize) -> [[f32; TILE]; TILE] {
    use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_reduce_add_ps, _mm512_setzero_ps};
    let mut sums = [[_mm512_setzero_ps(); TILE]; TILE];
    for at in (0..size).step_by(32) {
        // SAFETY: 32 numbers from `at` on lie within each row; the bits of a register are what they are under either type.
        let load = |row: &[u16]| unsafe {
            std::mem::transmute::<std::arch::x86_64::__m512i, __m512bh>(_mm512_loadu_si512(row.as_ptr().add(at).cast()))
        };
        let x = a.map(load);
        let y = b.map(load);
        for r in 0..TILE {
            for c in 0..TILE {
                sums[r][c] = _mm512_dpbf16_ps(sums[r][c], x[r], y[c]);
            }
        }
    }
    sums.map(|row| row.map(|sum| _mm512_reduce_add_ps(sum)))
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

    #[test]
    fn rounded_products_are_those_of_the_rounded_numbers() {
        let stream = crate::machine::random::Stream::new(1, &[2]);
        for (tasks, width) in [(1, 5), (2, 64), (3, 100), (5, 4500), (9, 33), (40, 7000)] {
            let numbers: Vec<f32> = (0..tasks * width).map(|i| stream.normal(i as u64) as f32).collect();
            let mut slab = vec![0; numbers.len()];
            round(&numbers, &mut slab);
            let mut gramian = vec![0.5; tasks * tasks];
            add_rounded_products(&slab, tasks, &mut Vec::new(), &mut gramian);
            let row = |t: usize| slab[t * width..(t + 1) * width].iter().map(|&x| wide::<f64>(x));
            for (at, got) in gramian.iter().enumerate() {
                let want: f64 = row(at / tasks).zip(row(at % tasks)).map(|(x, y)| x * y).sum();
                assert!((got - 0.5 - want).abs() < 1e-6 * width as f64, "{tasks} {width}: {got} {want}");
            }
        }
    }

    #[test]
    fn products_without_instructions_for_them_are_as_exact() {
        let stream = crate::machine::random::Stream::new(3, &[4]);
        for size in [0, 1, 15, 16, 33, 2048] {
            let mut numbers = vec![0; 2 * TILE * size];
            let drawn: Vec<f32> = (0..numbers.len()).map(|i| stream.normal(i as u64) as f32).collect();
            round(&drawn, &mut numbers);
            let row = |r: usize| &numbers[r * size..(r + 1) * size];
            let a = std::array::from_fn(row);
            let b = std::array::from_fn(|c| row(TILE + c));
            let mut products = [[0.0; TILE]; TILE];
            add_dots(a, b, &mut products);
            for (r, products) in products.iter().enumerate() {
                for (c, got) in products.iter().enumerate() {
                    let terms = a[r].iter().zip(b[c]).map(|(&x, &y)| wide::<f64>(x) * wide::<f64>(y));
                    let (want, sizes) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    // A chain of `size` sums instead of `size / LANES` would leave some 1e-6.
                    assert!((got - want).abs() <= 2e-7 * sizes, "{size}: {got} {want}");
                }
            }
        }
    }
}
