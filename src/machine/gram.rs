//! Products of the tasks' gradients with each other and with weights, over slabs `[tasks, width]`.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::{Mode, Product};
use crate::machine::real::{LANES, Real};
use crate::machine::rows;
use crate::vectorised;

/// Columns that are treated at once, so that all tasks' parts stay in the second cache level.
const BLOCK: usize = 512;
/// Rows and columns of products that are kept in registers.
const TILE: usize = 4;

/// Adds `slab slab^T` to `gramian` `[tasks, tasks]`; each block of columns is summed in `T`, the blocks in `f64`.
pub fn add_products<T: Real>(slab: &[T], tasks: usize, gramian: &mut [f64]) {
    let width = slab.len() / tasks.max(1);
    for start in (0..width).step_by(BLOCK) {
        let columns = ColumnBlock { width, start, count: (width - start).min(BLOCK) };
        block_products(slab, columns, tasks, gramian);
    }
}

/// Elements of a slab from which on libtorch's product is faster than loops of our own.
const LARGE: usize = 1 << 13;
/// Columns that libtorch sums in single precision: it adds them up one after the other, so that of a million little is
/// left of the last digits.
pub(crate) const SUMMED: i64 = 1 << 10;

/// The products of a slab that stays in place with itself; each block of columns is summed in `T`, the blocks in `f64`.
#[derive(Debug)]
pub struct Square<T> {
    slab: Buffer<T>,
    tasks: usize,
    /// Of whole blocks, `[blocks, tasks, tasks]`, and of the columns behind them.
    products: Vec<(Product, Buffer<T>)>,
}

impl<T: Real> Square<T> {
    /// For a slab `[tasks, width]`.
    pub fn new(slab: Buffer<T>, tasks: usize) -> Result<Self> {
        let width = slab.layout.len() / tasks.max(1);
        let mut products = Vec::new();
        if slab.layout.len() >= LARGE {
            let all = slab.shaped(&[tasks, width])?;
            let block = SUMMED as usize;
            let end = width / block * block;
            for (from, to, size) in [(0, end, block), (end, width, width - end)].into_iter().filter(|(a, b, _)| a < b) {
                let groups = (to - from) / size;
                let part = all.f_narrow(1, from as i64, (to - from) as i64)?;
                let blocks = part.f_view([tasks as i64, groups as i64, size as i64])?.f_transpose(0, 1)?;
                let out = Buffer::zeros(Layout { groups, rows: 1, lanes: tasks, width: tasks })?;
                let into = out.shaped(&[groups, tasks, tasks])?;
                products.push((Product::new(into, blocks.shallow_clone(), blocks.f_transpose(1, 2)?)?, out));
            }
        }
        Ok(Self { tasks, products, slab })
    }

    /// Adds the products to `gramian` `[tasks, tasks]`.
    pub fn add(&self, gramian: &mut [f64]) -> Result<()> {
        if self.products.is_empty() {
            add_products(self.slab.slice(), self.tasks, gramian);
        }
        for (product, out) in &self.products {
            product.run(Mode::Write)?;
            for block in out.slice().chunks_exact(gramian.len()) {
                gramian.iter_mut().zip(block).for_each(|(sum, x)| *sum += x.wide());
            }
        }
        Ok(())
    }
}

/// Some columns of rows of a width.
#[derive(Clone, Copy)]
struct ColumnBlock {
    width: usize,
    start: usize,
    count: usize,
}

vectorised! {
/// The products over one block of columns.
fn block_products<T: Real>(slab: &[T], columns: ColumnBlock, tasks: usize, gramian: &mut [f64]) {
    let ColumnBlock { width, start, count } = columns;
    let row = |task: usize| &slab[task * width + start..][..count];
    for i in (0..tasks).step_by(TILE) {
        for j in (0..=i).step_by(TILE) {
            if i + TILE <= tasks {
                let a = std::array::from_fn(|r| row(i + r));
                let b = std::array::from_fn(|c| row(j + c));
                // Lanes of double precision take twice the registers.
                let wide = size_of::<T>() > 4;
                let tile = if wide { dots::<T, TILE, TILE, { LANES / 2 }>(a, b) } else { dots::<T, TILE, TILE, LANES>(a, b) };
                for (r, products) in tile.iter().enumerate() {
                    for (c, &product) in products.iter().enumerate() {
                        add(gramian, tasks, [i + r, j + c], product);
                    }
                }
            } else {
                for r in i..tasks {
                    for c in (j..tasks.min(j + TILE)).filter(|&c| c <= r) {
                        let [[product]] = dots::<T, 1, 1, LANES>([row(r)], [row(c)]);
                        add(gramian, tasks, [r, c], product);
                    }
                }
            }
        }
    }
}
}

/// Adds a product to both triangles, once.
#[inline(always)]
fn add<T: Real>(gramian: &mut [f64], tasks: usize, [r, c]: [usize; 2], product: T) {
    if c <= r {
        gramian[r * tasks + c] += product.wide();
        if c < r {
            gramian[c * tasks + r] += product.wide();
        }
    }
}

/// All products of `R` with `C` rows, each in lanes.
#[inline(always)]
fn dots<T: Real, const R: usize, const C: usize, const L: usize>(a: [&[T]; R], b: [&[T]; C]) -> [[T; C]; R] {
    let size = a[0].len();
    let whole = size / L * L;
    let mut lanes = [[[T::ZERO; L]; C]; R];
    let mut at = 0;
    while at < whole {
        for r in 0..R {
            for c in 0..C {
                for l in 0..L {
                    lanes[r][c][l] += a[r][at + l] * b[c][at + l];
                }
            }
        }
        at += L;
    }
    let mut sums = [[T::ZERO; C]; R];
    for r in 0..R {
        for c in 0..C {
            for lane in lanes[r][c] {
                sums[r][c] += lane;
            }
            for k in whole..size {
                sums[r][c] += a[r][k] * b[c][k];
            }
        }
    }
    sums
}

/// Columns that the formula widens at once.
const WIDENED: i64 = 1 << 20;

/// The products of rows `[tasks, width]` with each other, `[tasks, tasks]` in double precision, on any device.
///
/// # Errors
/// What libtorch refuses.
pub fn formula(rows: &Tensor) -> Result<Tensor> {
    let (tasks, width) = rows.size2()?;
    let mut sum = Tensor::f_zeros([tasks, tasks], (Kind::Double, rows.device()))?;
    for start in (0..width).step_by(WIDENED as usize) {
        let block = rows.f_narrow(1, start, WIDENED.min(width - start))?.f_to_kind(Kind::Double)?;
        let _ = sum.f_add_(&block.f_matmul(&block.f_tr()?)?)?;
    }
    Ok(sum)
}

/// `out = sum over tasks of weights[task] * slab[task]`.
pub fn combine<T: Real>(slab: &[T], weights: &[f64], out: &mut [T]) {
    let width = out.len();
    rows::combine(weights, |task| &slab[task * width..][..width], out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::random::Stream;
    use crate::weighting::evidence::SINGLE;

    fn slab(tasks: usize, width: usize) -> Vec<f64> {
        let stream = Stream::new(3, &[tasks as u64, width as u64]);
        (0..tasks * width).map(|i| stream.normal(i as u64)).collect()
    }

    #[test]
    fn a_large_slab_gives_what_a_small_one_does() {
        for (tasks, width) in [(3, 4000), (3, 4096), (9, 1000), (2, 1 << 14)] {
            let numbers = slab(tasks, width);
            let mut buffer = Buffer::<f64>::zeros(Layout { groups: 1, rows: 1, lanes: tasks, width }).unwrap();
            buffer.slice_mut().copy_from_slice(&numbers);
            let mut loops = vec![0.0; tasks * tasks];
            let mut product = vec![0.0; tasks * tasks];
            add_products(&numbers, tasks, &mut loops);
            let square = Square::new(buffer, tasks).unwrap();
            assert!(!square.products.is_empty());
            square.add(&mut product).unwrap();
            assert!(loops.iter().zip(&product).all(|(a, b)| (a - b).abs() < 1e-8), "{tasks} {width}");
        }
    }

    #[test]
    fn cosines_of_long_rows_are_known_to_single_precision() {
        // A row, its opposite and another, of numbers of one sign: sums that only grow lose most.
        let tasks = 3;
        let width = 1_000_500;
        let stream = Stream::new(4, &[]);
        let row = |factor: f64, from: u64| (0..width as u64).map(move |k| factor * (0.5 + stream.uniform(from + k)));
        let numbers: Vec<f32> = row(1.0, 0).chain(row(-1.37, 0)).chain(row(0.6, 1 << 40)).map(|x| x as f32).collect();
        let mut buffer = Buffer::<f32>::zeros(Layout { groups: 1, rows: 1, lanes: tasks, width }).unwrap();
        buffer.slice_mut().copy_from_slice(&numbers);
        let mut exact = vec![0.0; 9];
        let mut loops = vec![0.0; 9];
        let mut product = vec![0.0; 9];
        add_products(&numbers.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), tasks, &mut exact);
        add_products(&numbers, tasks, &mut loops);
        Square::new(buffer, tasks).unwrap().add(&mut product).unwrap();
        let cosines = |gramian: &[f64]| {
            let length = |i: usize| gramian[i * (tasks + 1)].sqrt();
            (0..9).map(|at| gramian[at] / length(at / tasks) / length(at % tasks)).collect::<Vec<f64>>()
        };
        for (got, want) in [loops, product].iter().flat_map(|got| cosines(got).into_iter().zip(cosines(&exact))) {
            assert!((got - want).abs() <= SINGLE, "{got} {want}: {:e}", (got - want).abs());
        }
    }

    #[test]
    fn products_are_those_of_plain_loops() {
        for (tasks, width) in [(1, 1), (2, 17), (3, 512), (5, 1030), (9, 31), (16, 700)] {
            let slab = slab(tasks, width);
            let row = |t: usize| &slab[t * width..(t + 1) * width];
            let want = |i: usize| row(i / tasks).iter().zip(row(i % tasks)).map(|(a, b)| a * b).sum::<f64>();
            let mut exact = vec![1.0; tasks * tasks];
            add_products(&slab, tasks, &mut exact);
            let single: Vec<f32> = slab.iter().map(|&x| x as f32).collect();
            let mut near = vec![1.0; tasks * tasks];
            add_products(&single, tasks, &mut near);
            for i in 0..tasks * tasks {
                assert!((exact[i] - 1.0 - want(i)).abs() < 1e-10 * width as f64, "{tasks} {width}");
                assert!((near[i] - 1.0 - want(i)).abs() < 2e-6 * width as f64, "{tasks} {width}");
            }
        }
    }

    #[test]
    fn a_combination_is_the_weighted_sum() {
        let tasks = 3;
        let width = 1100;
        let slab = slab(tasks, width);
        let weights = [0.5, 0.0, -2.0];
        let mut out = vec![f64::NAN; width];
        combine(&slab, &weights, &mut out);
        for k in 0..width {
            let want: f64 = (0..tasks).map(|t| weights[t] * slab[t * width + k]).sum();
            assert!((out[k] - want).abs() < 1e-12);
        }
    }
}
