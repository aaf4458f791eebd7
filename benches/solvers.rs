//! Microseconds of the solvers behind weightings from gradients: `cargo run --release --example solvers`.

use std::hint::black_box;
use std::time::Instant;

use polytask::machine::random::Stream;
use polytask::solver::{cone, conflict_averse, dot, eigen, fair, hull};

/// Rounding of cosines in training.
const SINGLE: f64 = polytask::weighting::evidence::SINGLE;

/// Best of many repetitions, in microseconds.
fn measure(mut body: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let start = Instant::now();
        body();
        best = best.min(start.elapsed().as_secs_f64() * 1e6);
    }
    best
}

fn normal(rows: usize, width: usize) -> Vec<f64> {
    let stream = Stream::new(1, &[rows as u64, width as u64]);
    (0..rows * width).map(|i| stream.normal(i as u64)).collect()
}

/// Of normal numbers of which `share` of the rows' mean is taken away; all of it leaves no common descent direction.
fn gramian(rows: usize, width: usize, share: f64) -> Vec<f64> {
    let mut jacobian = normal(rows, width);
    for column in 0..width {
        let mean = (0..rows).map(|i| jacobian[i * width + column]).sum::<f64>() / rows as f64;
        (0..rows).for_each(|i| jacobian[i * width + column] -= share * mean);
    }
    let row = |i: usize| &jacobian[i * width..][..width];
    (0..rows * rows).map(|at| dot(row(at / rows), row(at % rows))).collect()
}

fn main() {
    println!("tasks  gradients      hull   UPGrad DualProj   CAGrad     Nash FairGrad(2)  eigen");
    for n in [2, 8, 40, 100] {
        let ones = vec![1.0; n];
        let kinds = [
            ("random", 3 * n, 0.0),
            ("conflicting", 3 * n, 0.9),
            ("balanced", 3 * n, 1.0),
            ("low rank", n / 4 + 1, 0.9),
        ];
        for (what, width, share) in kinds {
            let g = gramian(n, width, share);
            let times = [
                measure(|| drop(black_box(hull::min_norm(&g, n, SINGLE)))),
                measure(|| drop(black_box(cone::project_each(&g, &ones, SINGLE)))),
                measure(|| drop(black_box(cone::project(&g, &ones, SINGLE)))),
                measure(|| drop(black_box(conflict_averse::weights(&g, n, 0.5, SINGLE)))),
                measure(|| drop(black_box(fair::fixed_point(&g, &ones, 1.0, SINGLE)))),
                measure(|| drop(black_box(fair::fixed_point(&g, &ones, 2.0, SINGLE)))),
                measure(|| drop(black_box(eigen::Eigen::of(&g, n)))),
            ];
            let columns: Vec<String> = times.iter().map(|time| format!("{time:8.1}")).collect();
            println!("{n:5}  {what:11} {}", columns.join(" "));
        }
    }
}
