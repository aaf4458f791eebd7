//! Microseconds of the loops of losses, optimizers and regularizers: `cargo run --release --example kernels`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use polytask::label::Targets;
use polytask::loss::{Batch, Loss};
use polytask::optim::Optimizer;
use polytask::parameters::Segment;
use polytask::parameters::path::Path;
use polytask::regularizer::{self, Piece, Places};
use polytask::{loss, optim};
use serde_json::json;

/// Longest time for one number.
const PATIENCE: Duration = Duration::from_secs(2);

/// Best of many repetitions, in microseconds.
fn measure(mut body: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let begun = Instant::now();
    for _ in 0..200 {
        if begun.elapsed() > PATIENCE {
            break;
        }
        let start = Instant::now();
        for _ in 0..10 {
            body();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e5);
    }
    best
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1000) as f32 / 250.0 - 2.0).collect()
}

/// Value and gradient of so many heads side by side.
fn heads(loss: &dyn Loss, rows: usize, heads: usize, width: usize, targets: Targets<'_, f32>) -> f64 {
    let outputs = numbers(rows * heads * width);
    let mut gradient = vec![0.0; outputs.len()];
    measure(|| {
        for head in 0..heads {
            let total = loss.evaluate(Batch {
                rows,
                width,
                outputs: &outputs[head * width..],
                gradient: Some(&mut gradient[head * width..]),
                stride: heads * width,
                targets,
                weights: None,
                scale: 0.01,
            });
            black_box(total);
        }
    })
}

/// One step on so many parameters.
fn step(optimizer: &dyn Optimizer, count: usize) -> f64 {
    let mut parameters = numbers(count);
    let gradients = numbers(count);
    let mut buffers = vec![vec![0.1; count]; optimizer.slots().len()];
    let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    let segments = [Segment { range: 0..count, lr: 1e-6, weight_decay: 0.0 }];
    let mut steps = 0;
    measure(|| {
        steps += 1;
        optimizer.update(steps, 1.0, &segments, &mut parameters, &gradients, &mut state);
    })
}

/// One step's part of a regularizer over a weight of so many numbers a task.
fn penalty(name: &str, tasks: usize, shape: [usize; 2]) -> f64 {
    let size = shape[0] * shape[1];
    let piece = |task: usize| Piece {
        path: Path::new(&format!("heads.t{task}.weight")),
        start: task * size,
        shape: shape.to_vec(),
        decays: true,
        task: Some(task),
        reads: Some((0, 0)),
    };
    let names: Vec<_> = (0..tasks).map(|task| format!("t{task}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let all = Places::of((0..tasks).map(piece).collect(), &names);
    let mut description = json!({"name": name});
    if name == "orthogonality" {
        description = json!({"name": name, "shared": "heads", "private": "heads"});
    }
    let mut regularizer = regularizer::build(&description).expect("a regularizer");
    let places = regularizer.choose(&all).expect("weights that correspond");
    let (parameters, mut gradient) = (numbers(tasks * size), vec![0.0; tasks * size]);
    measure(|| {
        black_box(regularizer.add(&places, &parameters, Some(&mut gradient)));
    })
}

fn main() {
    for name in regularizer::infos().iter().map(|info| &info.name) {
        for (tasks, shape) in [(8, [40, 250]), (32, [40, 250]), (40, [1, 64])] {
            let time = penalty(name, tasks, shape);
            println!("{name:21} {tasks:2} tasks of {shape:?}: {time:9.2} us");
        }
    }
    for info in optim::infos() {
        let optimizer = optim::build(&json!({"name": info.name})).expect("an optimizer");
        for count in [340, 37_000, 650_000] {
            println!("{:21} {count:6} parameters: {:17.2} us", info.name, step(&*optimizer, count));
        }
    }
    let classes = |rows: usize, k: i32| (0..rows as i32).map(|i| i * 31 % k).collect::<Vec<_>>();
    for (rows, count, k) in [(256, 40, 2), (256, 8, 2), (32, 3, 3), (1024, 4, 10), (256, 1, 1000)] {
        let loss = loss::build(&json!("cross_entropy")).expect("a loss");
        let time = heads(&*loss, rows, count, k, Targets::Classes(&classes(rows, k as i32)));
        println!("cross_entropy         {rows:5} x {count:2} heads of {k:4}: {time:8.2} us");
    }
    for name in loss::infos().iter().map(|info| info.name.clone()).skip(1) {
        let loss = loss::build(&json!(name)).expect("a loss");
        let labels = |n: usize| (0..n).map(|i| (i * 31 % 2) as f32).collect::<Vec<_>>();
        for (rows, count, columns) in [(256, 40, 1), (65536, 1, 1), (1024, 1, 14)] {
            let width = loss.width(None, columns);
            let time = heads(&*loss, rows, count, width, Targets::Values(&labels(rows * columns)));
            println!("{name:21} {rows:5} x {count:2} heads of {width:4}: {time:8.2} us");
        }
    }
}
