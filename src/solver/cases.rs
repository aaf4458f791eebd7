//! Gramians for tests: random, conflicting, of low rank, nearly dependent, with doubled, opposed and tiny rows.

use std::fmt;

use crate::machine::random::Stream;

/// A Gramian and what it is.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is.
    pub what: &'static str,
    /// Rows.
    pub n: usize,
    /// Scale of the gradients.
    pub scale: f64,
    /// `[n, n]`.
    pub gramian: Vec<f64>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} n={} scale={:e}", self.what, self.n, self.scale)
    }
}

/// Normal numbers `[rows, width]`.
pub fn normal(seed: u64, rows: usize, width: usize) -> Vec<f64> {
    let stream = Stream::new(seed, &[rows as u64, width as u64]);
    (0..rows * width).map(|i| stream.normal(i as u64)).collect()
}

/// The Gramian of a Jacobian with so many rows.
pub fn gramian(jacobian: &[f64], rows: usize) -> Vec<f64> {
    let width = jacobian.len() / rows.max(1);
    let row = |i: usize| &jacobian[i * width..(i + 1) * width];
    (0..rows * rows).map(|at| super::dot(row(at / rows), row(at % rows))).collect()
}

/// Takes the rows' mean away (times `share`), so that they conflict.
fn conflicting(seed: u64, n: usize, width: usize, share: f64) -> Vec<f64> {
    let mut jacobian = normal(seed, n, width);
    for column in 0..width {
        let mean = (0..n).map(|i| jacobian[i * width + column]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| jacobian[i * width + column] -= share * mean);
    }
    jacobian
}

/// Rows that differ by little.
fn near(seed: u64, n: usize, distance: f64) -> Vec<f64> {
    let shared = normal(seed, 1, 2 * n + 3);
    let own = normal(seed + 1, n, 2 * n + 3);
    own.iter().enumerate().map(|(at, x)| shared[at % (2 * n + 3)] + distance * x).collect()
}

/// Every second row is the one before it, times `factor`.
fn doubled(seed: u64, n: usize, factor: f64) -> Vec<f64> {
    let width = n + 3;
    let mut jacobian = normal(seed, n, width);
    for i in (1..n).step_by(2) {
        for column in 0..width {
            jacobian[i * width + column] = factor * jacobian[(i - 1) * width + column];
        }
    }
    jacobian
}

/// Row `i` times `10^-i`, at most `10^-8`.
fn graded(seed: u64, n: usize) -> Vec<f64> {
    let width = n + 3;
    let rows = normal(seed, n, width);
    rows.iter().enumerate().map(|(at, x)| x * 10f64.powi(-((at / width).min(8) as i32))).collect()
}

fn kinds(n: usize) -> Vec<(&'static str, Vec<f64>)> {
    let seed = 17 * n as u64;
    let mut zero = normal(seed, n, n + 3);
    zero[..n + 3].fill(0.0);
    vec![
        ("random", normal(seed, n, 3 * n + 2)),
        ("square", normal(seed + 1, n, n + 1)),
        ("conflicting", conflicting(seed + 2, n, 3 * n + 2, 0.9)),
        ("balanced", conflicting(seed + 3, n, 3 * n + 2, 1.0)),
        ("low rank", normal(seed + 4, n, n.div_ceil(3) + 1)),
        ("nearly dependent", near(seed + 5, n, 1e-4)),
        ("nearly the same", near(seed + 9, n, 1e-6)),
        ("doubled", doubled(seed + 6, n, 2.0)),
        ("opposed", doubled(seed + 7, n, -1.0)),
        ("graded", graded(seed + 8, n)),
        ("zero row", zero),
        ("zeros", vec![0.0; n * 4]),
    ]
}

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in [1, 2, 3, 8, 16, 40, 100] {
        for (what, jacobian) in kinds(n) {
            for scale in [1e-10, 1.0, 1e10] {
                let scaled: Vec<f64> = jacobian.iter().map(|x| x * scale).collect();
                cases.push(Case { what, n, scale, gramian: gramian(&scaled, n) });
            }
        }
    }
    cases
}

/// Rows that people's tasks have: doubled, opposed, on one line, of rank 1, some huge and some tiny, of mean 0; 2 to 64 of
/// them, of numbers in single precision.
pub fn degenerate(seed: u64) -> (usize, Vec<f64>) {
    let choice = Stream::new(seed, &[1]);
    let random = Stream::new(seed, &[2]);
    let any = |what: u64, of: &[usize]| of[(choice.bits(what) % of.len() as u64) as usize];
    let n = if seed.is_multiple_of(64) { any(0, &[20, 33, 64]) } else { any(0, &[2, 3, 4, 5, 6, 8, 10, 12]) };
    let width = any(1, &[1, 2, 6, 30, n + 3]);
    let kind = any(2, &[0, 1, 2, 3, 4, 5, 6, 7]);
    let mut rows: Vec<f64> = (0..n * width).map(|at| random.normal(at as u64)).collect();
    for i in 1..n {
        let factor = |what: u64| 0.1 + 4.0 * choice.uniform(1000 * what + i as u64);
        let chance = choice.bits(1000 + i as u64) % 3;
        let earlier = (choice.bits(2000 + i as u64) % i as u64) as usize;
        let (from, by, noise) = match kind {
            0 if i % 2 == 1 => (i - 1, 1.0, 0.0),
            1 if i % 2 == 1 => (i - 1, -factor(3), 0.0),
            2 if i + 1 < n => (0, if chance == 0 { -factor(3) } else { factor(3) }, 0.0),
            3 => (0, if chance == 0 { -factor(3) } else { factor(3) }, 0.0),
            4 if i == 1 => (0, -1e-8, 1e-8),
            5 if chance > 0 => (earlier, if chance == 1 { -factor(3) } else { factor(3) }, 0.0),
            6 if chance == 0 => (earlier, -factor(3), 1e-6),
            7 if i == 1 => (0, -factor(3), 0.0),
            _ => (i, 0.0, 1.0),
        };
        for k in 0..width {
            rows[i * width + k] = by * rows[from * width + k] + noise * rows[i * width + k];
        }
    }
    if kind == 4 {
        rows[..width].iter_mut().for_each(|x| *x *= 1e8);
    }
    if choice.bits(3).is_multiple_of(8) {
        for k in 0..width {
            let mean = (0..n).map(|i| rows[i * width + k]).sum::<f64>() / n as f64;
            (0..n).for_each(|i| rows[i * width + k] -= mean);
        }
    }
    rows.iter_mut().for_each(|x| *x = f64::from(*x as f32));
    (n, rows)
}
