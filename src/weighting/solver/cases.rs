//! Gramians for tests: random, conflicting, of low rank, nearly dependent, with doubled, opposed and tiny rows.

use std::fmt;

use crate::network::random::Stream;

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
    /// Whether its rows depend on each other, so that the origin or weights are not unique.
    pub singular: bool,
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
    let (shared, own) = (normal(seed, 1, 2 * n + 3), normal(seed + 1, n, 2 * n + 3));
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

fn kinds(n: usize) -> Vec<(&'static str, bool, Vec<f64>)> {
    let seed = 17 * n as u64;
    let mut zero = normal(seed, n, n + 3);
    zero[..n + 3].fill(0.0);
    vec![
        ("random", false, normal(seed, n, 3 * n + 2)),
        ("square", false, normal(seed + 1, n, n + 1)),
        ("conflicting", false, conflicting(seed + 2, n, 3 * n + 2, 0.9)),
        ("balanced", true, conflicting(seed + 3, n, 3 * n + 2, 1.0)),
        ("low rank", n > 2, normal(seed + 4, n, n.div_ceil(3) + 1)),
        ("nearly dependent", false, near(seed + 5, n, 1e-4)),
        ("doubled", n > 1, doubled(seed + 6, n, 2.0)),
        ("opposed", n > 1, doubled(seed + 7, n, -1.0)),
        ("graded", false, graded(seed + 8, n)),
        ("zero row", true, zero),
        ("zeros", true, vec![0.0; n * 4]),
    ]
}

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in [1, 2, 3, 8, 16, 40, 100] {
        for (what, singular, jacobian) in kinds(n) {
            for scale in [1e-10, 1.0, 1e10] {
                let scaled: Vec<f64> = jacobian.iter().map(|x| x * scale).collect();
                cases.push(Case { what, n, scale, gramian: gramian(&scaled, n), singular });
            }
        }
    }
    cases
}
