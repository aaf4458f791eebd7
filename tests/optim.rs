//! Every optimizer against its published formula in `f64` and, where tch reaches it, against libtorch's own.

use polytask::optim::{self, TensorStep};
use polytask::parameters::path::Path;
use polytask::parameters::touched::SparseGradient;
use polytask::parameters::{PerGroup, Segment};
use serde_json::{Value, json};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const SIZE: usize = 37;
const STEPS: u64 = 100;

/// Parameters and gradients that look alike on every machine.
fn wave(seed: f64, step: u64) -> Vec<f32> {
    (0..SIZE).map(|i| ((i as f64 * 1.7 + seed + step as f64 * 0.31).sin() * (1.0 + i as f64 * 0.1)) as f32).collect()
}

/// The parameters after every step.
fn ours(description: &Value) -> Vec<Vec<f32>> {
    let optimizer = optim::build(description).unwrap();
    let rate = |per: &PerGroup| per.at(&Path::new("weight"), f64::NAN);
    let rates = optimizer.rates();
    let segments = [Segment { range: 0..SIZE, lr: rate(rates.lr), weight_decay: rate(rates.weight_decay) }];
    let mut buffers: Vec<_> = (0..optimizer.slots().len()).map(|slot| vec![optimizer.initial(slot); SIZE]).collect();
    let mut parameters = wave(0.5, 0);
    (1..=STEPS)
        .map(|step| {
            let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            optimizer.update(step, 1.0, &segments, &mut parameters, &wave(2.0, step), &mut state);
            parameters.clone()
        })
        .collect()
}

/// The same by the formula, in `f64` or `f32`.
fn by_formula(description: &Value, kind: Kind) -> Vec<Vec<f64>> {
    let optimizer = optim::build(description).unwrap();
    let number = |x: f64| Tensor::from(x);
    let rate = |per: &PerGroup| number(per.at(&Path::new("weight"), f64::NAN));
    let rates = optimizer.rates();
    let (lr, weight_decay) = (rate(rates.lr), rate(rates.weight_decay));
    let filled = |slot| Tensor::full([SIZE as i64], f64::from(optimizer.initial(slot)), (kind, Device::Cpu));
    let mut state: Vec<_> = (0..optimizer.slots().len()).map(filled).collect();
    let mut parameters = Tensor::from_slice(&wave(0.5, 0)).to_kind(kind);
    let mut steps = Vec::new();
    for step in 1..=STEPS {
        let gradients = Tensor::from_slice(&wave(2.0, step)).to_kind(kind);
        let number = number(step as f64);
        let (parameters_before, state_before) = (&parameters, &state[..]);
        let updated = optimizer.formula(&TensorStep {
            number: &number,
            lr: &lr,
            weight_decay: &weight_decay,
            parameters: parameters_before,
            gradients: &gradients,
            state: state_before,
        });
        assert!(
            updated
                .state
                .iter()
                .chain([&updated.parameters])
                .all(|new| new.kind() == kind && new.size() == [SIZE as i64])
        );
        (parameters, state) = (updated.parameters, updated.state);
        steps.push(Vec::try_from(parameters.to_kind(Kind::Double)).unwrap());
    }
    steps
}

/// The same by one parameter's rule: step, parameter, gradient, its own memory.
fn published(rule: impl Fn(f64, f64, f64, &mut [f64; 3]) -> f64, first: f64) -> Vec<Vec<f64>> {
    let mut memory = [[first, 0.0, 0.0]; SIZE];
    let mut parameters: Vec<f64> = wave(0.5, 0).into_iter().map(f64::from).collect();
    (1..=STEPS)
        .map(|step| {
            for ((w, g), memory) in parameters.iter_mut().zip(wave(2.0, step)).zip(&mut memory) {
                *w = rule(step as f64, *w, f64::from(g), memory);
            }
            parameters.clone()
        })
        .collect()
}

fn assert_follows(description: &Value, want: &[Vec<f64>]) {
    for (step, (got, want)) in ours(description).iter().zip(want).enumerate() {
        for (got, want) in got.iter().zip(want) {
            let error = (f64::from(*got) - want).abs();
            assert!(error <= 1e-5 * want.abs().max(1.0), "{description} step {step}: {got} {want}");
        }
    }
}

fn sgd(lr: f64, momentum: f64, dampening: f64, decay: f64, nesterov: bool) -> Vec<Vec<f64>> {
    let rule = |step: f64, w: f64, g: f64, memory: &mut [f64; 3]| {
        let g = g + decay * w;
        memory[0] = if step == 1.0 { g } else { momentum * memory[0] + (1.0 - dampening) * g };
        w - lr * if nesterov { g + momentum * memory[0] } else { memory[0] }
    };
    published(rule, 0.0)
}

fn adam(lr: f64, b1: f64, b2: f64, eps: f64, decay: f64, decoupled: bool) -> Vec<Vec<f64>> {
    let rule = |step: f64, w: f64, g: f64, memory: &mut [f64; 3]| {
        let (g, w) = if decoupled { (g, w - lr * decay * w) } else { (g + decay * w, w) };
        memory[0] = b1 * memory[0] + (1.0 - b1) * g;
        memory[1] = b2 * memory[1] + (1.0 - b2) * g * g;
        let (m, v) = (memory[0] / (1.0 - b1.powf(step)), memory[1] / (1.0 - b2.powf(step)));
        w - lr * m / (v.sqrt() + eps)
    };
    published(rule, 0.0)
}

fn rmsprop(lr: f64, alpha: f64, eps: f64, decay: f64, momentum: f64, centered: bool) -> Vec<Vec<f64>> {
    let rule = |_: f64, w: f64, g: f64, memory: &mut [f64; 3]| {
        let g = g + decay * w;
        memory[0] = alpha * memory[0] + (1.0 - alpha) * g * g;
        memory[1] = alpha * memory[1] + (1.0 - alpha) * g;
        let spread = if centered { memory[0] - memory[1] * memory[1] } else { memory[0] };
        memory[2] = momentum * memory[2] + g / (spread.sqrt() + eps);
        w - lr * memory[2]
    };
    published(rule, 0.0)
}

fn adagrad(lr: f64, fall: f64, decay: f64, first: f64, eps: f64) -> Vec<Vec<f64>> {
    let rule = |step: f64, w: f64, g: f64, memory: &mut [f64; 3]| {
        let g = g + decay * w;
        memory[0] += g * g;
        w - lr / (1.0 + (step - 1.0) * fall) * g / (memory[0].sqrt() + eps)
    };
    published(rule, first)
}

/// Every optimizer with several sets of arguments, beside its formula.
fn formulas() -> Vec<(Value, Vec<Vec<f64>>)> {
    vec![
        (json!({"name": "sgd"}), sgd(1e-3, 0.0, 0.0, 0.0, false)),
        (json!({"name": "sgd", "lr": 0.01, "weight_decay": 0.1}), sgd(0.01, 0.0, 0.0, 0.1, false)),
        (
            json!({"name": "sgd", "lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
            sgd(0.01, 0.9, 0.3, 0.1, false),
        ),
        (json!({"name": "sgd", "lr": 0.01, "momentum": 0.8, "nesterov": true}), sgd(0.01, 0.8, 0.0, 0.0, true)),
        (json!({"name": "adam"}), adam(1e-3, 0.9, 0.999, 1e-8, 0.0, false)),
        (
            json!({"name": "adam", "lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
            adam(0.01, 0.8, 0.95, 1e-3, 0.1, false),
        ),
        (json!({"name": "adamw"}), adam(1e-3, 0.9, 0.999, 1e-8, 1e-2, true)),
        (json!({"name": "adamw", "lr": 0.01, "weight_decay": 0.5}), adam(0.01, 0.9, 0.999, 1e-8, 0.5, true)),
        (json!({"name": "rmsprop"}), rmsprop(1e-2, 0.99, 1e-8, 0.0, 0.0, false)),
        (
            json!({"name": "rmsprop", "lr": 1e-3, "alpha": 0.9, "momentum": 0.5, "centered": true, "weight_decay": 0.1}),
            rmsprop(1e-3, 0.9, 1e-8, 0.1, 0.5, true),
        ),
        (json!({"name": "adagrad"}), adagrad(1e-2, 0.0, 0.0, 0.0, 1e-10)),
        (
            json!({"name": "adagrad", "lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
            adagrad(0.1, 0.1, 0.1, 0.5, 1e-10),
        ),
    ]
}

#[test]
fn steps_follow_the_published_formulas() {
    for (description, want) in formulas() {
        assert_follows(&description, &want);
        for (got, want) in by_formula(&description, Kind::Double).iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{description} by its formula: {got} {want}");
        }
    }
}

#[test]
fn loops_and_formula_agree_in_single_precision() {
    for (description, _) in formulas() {
        let (loops, formula) = (ours(&description), by_formula(&description, Kind::Float));
        for (step, (got, want)) in loops.iter().zip(&formula).enumerate().take(20) {
            for (got, want) in got.iter().zip(want) {
                let error = (f64::from(*got) - want).abs();
                assert!(error <= 1e-6 * want.abs().max(1.0), "{description} step {step}: {got} {want}");
            }
        }
    }
}

#[test]
fn every_optimizer_has_a_formula() {
    for info in optim::infos() {
        assert!(formulas().iter().any(|(d, _)| d["name"] == info.name.as_str()), "{} is not checked", info.name);
    }
}

/// The parameters after every step of libtorch's optimizer.
fn libtorch(config: impl OptimizerConfig, lr: f64) -> Vec<Vec<f64>> {
    let store = nn::VarStore::new(Device::Cpu);
    let mut parameters = store.root().zeros("weight", &[SIZE as i64]);
    tch::no_grad(|| parameters.copy_(&Tensor::from_slice(&wave(0.5, 0))));
    let mut optimizer = config.build(&store, lr).unwrap();
    (1..=STEPS)
        .map(|step| {
            let gradient = Tensor::from_slice(&wave(2.0, step));
            optimizer.backward_step(&(&parameters * gradient).sum(tch::Kind::Float));
            let now = Vec::<f32>::try_from(&parameters).unwrap();
            now.into_iter().map(f64::from).collect()
        })
        .collect()
}

#[test]
fn steps_follow_libtorch() {
    assert_follows(&json!({"name": "sgd", "lr": 0.01}), &libtorch(nn::sgd(0.0, 0.0, 0.0, false), 0.01));
    let heavy = json!({"name": "sgd", "lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1});
    assert_follows(&heavy, &libtorch(nn::sgd(0.9, 0.3, 0.1, false), 0.01));
    let ahead = json!({"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": true});
    assert_follows(&ahead, &libtorch(nn::sgd(0.9, 0.0, 0.0, true), 0.01));
    assert_follows(&json!({"name": "adam", "lr": 0.01}), &libtorch(nn::adam(0.9, 0.999, 0.0), 0.01));
    let pulled = json!({"name": "adam", "lr": 0.01, "weight_decay": 0.1});
    assert_follows(&pulled, &libtorch(nn::adam(0.9, 0.999, 0.1), 0.01));
    let shrunk = json!({"name": "adamw", "lr": 0.01, "weight_decay": 0.1});
    assert_follows(&shrunk, &libtorch(nn::adamw(0.9, 0.999, 0.1), 0.01));
    let means = json!({"name": "rmsprop", "lr": 0.01, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1});
    assert_follows(&means, &libtorch(nn::rms_prop(0.9, 1e-8, 0.1, 0.5, false), 0.01));
}

#[test]
fn gradients_can_be_scaled_and_segments_leave_the_rest_alone() {
    for info in optim::infos() {
        let optimizer = optim::build(&json!({"name": info.name})).unwrap();
        let run = |scale: f32, gradients: &[f32]| {
            let segments = [
                Segment { range: 3..9, lr: 0.1, weight_decay: 0.1 },
                Segment { range: 20..SIZE, lr: 0.2, weight_decay: 0.0 },
            ];
            let slots = optimizer.slots().len();
            let mut buffers: Vec<_> = (0..slots).map(|slot| vec![optimizer.initial(slot); SIZE]).collect();
            let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            let mut parameters = wave(0.5, 0);
            optimizer.update(1, scale, &segments, &mut parameters, gradients, &mut state);
            parameters
        };
        let half: Vec<f32> = wave(2.0, 1).iter().map(|g| g * 0.5).collect();
        let stepped = run(0.5, &wave(2.0, 1));
        assert_eq!(stepped, run(1.0, &half), "{}", info.name);
        for (i, (before, after)) in wave(0.5, 0).iter().zip(&stepped).enumerate() {
            let inside = (3..9).contains(&i) || i >= 20;
            assert_eq!(before != after, inside, "{} parameter {i}", info.name);
        }
    }
}

const WIDTH: usize = 3;
const ROWS: usize = 5;

/// The touched rows of a step: row 3 in each, row 1 in every other, row 4 never.
fn touched(step: u64) -> SparseGradient<f32> {
    let gradient = SparseGradient::new(WIDTH);
    let mut touched = gradient.open();
    touched.begin(1, ROWS, false);
    let codes = [3, 1, 0, 2].into_iter().take(if step.is_multiple_of(2) { 1 } else { 4 });
    for code in codes {
        touched.row(code).copy_from_slice(&wave(2.0, step)[code as usize * WIDTH..][..WIDTH]);
    }
    drop(touched);
    gradient
}

/// A table and its state after so many steps.
fn table(description: &Value, steps: u64, touched: impl Fn(u64) -> SparseGradient<f32>) -> (Vec<f32>, Vec<Vec<f32>>) {
    let optimizer = optim::build(description).unwrap();
    let segment = Segment { range: 0..ROWS * WIDTH, lr: 0.1, weight_decay: 0.05 };
    let slot = |slot| vec![optimizer.initial(slot); ROWS * optimizer.row_state(slot, WIDTH)];
    let mut buffers: Vec<_> = (0..optimizer.slots().len()).map(slot).collect();
    let mut parameters = wave(0.5, 0)[..ROWS * WIDTH].to_vec();
    for step in 1..=steps {
        let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
        optimizer.update_rows(step, 0.5, &segment, &mut parameters, &touched(step).open(), &mut state);
    }
    (parameters, buffers)
}

/// Optimizers, with momentum where that is an argument.
fn described() -> impl Iterator<Item = Value> {
    let names = optim::infos().into_iter().map(|info| json!({"name": info.name}));
    let more = [json!({"name": "sgd", "momentum": 0.9}), json!({"name": "rmsprop", "momentum": 0.5, "centered": true})];
    names.chain(more)
}

#[test]
fn rows_that_are_not_touched_keep_their_bits_and_their_state() {
    for description in described() {
        let ((one, first), (two, second)) = (table(&description, 1, touched), table(&description, 2, touched));
        let start = &wave(0.5, 0)[..ROWS * WIDTH];
        assert_eq!(one[4 * WIDTH..], start[4 * WIDTH..], "{description}: a row that is never touched");
        assert!(one[..4 * WIDTH].iter().zip(start).all(|(now, before)| now != before), "{description}");
        for row in 0..ROWS {
            let own = row * WIDTH..(row + 1) * WIDTH;
            assert_eq!(one[own.clone()] == two[own], row != 3, "{description} row {row}");
            for (first, second) in first.iter().zip(&second) {
                let per = first.len() / ROWS;
                let own = row * per..(row + 1) * per;
                let still = first[own.clone()] == second[own];
                assert!(still || row == 3, "{description}: state of row {row}");
            }
        }
    }
}

#[test]
fn a_table_that_is_touched_as_a_whole_learns_as_other_parameters() {
    let all = |step| {
        let gradient = SparseGradient::new(WIDTH);
        let mut touched = gradient.open();
        touched.begin(1, ROWS, false);
        for code in [4, 2, 0, 1, 3] {
            touched.row(code).copy_from_slice(&wave(2.0, step)[code as usize * WIDTH..][..WIDTH]);
        }
        drop(touched);
        gradient
    };
    for description in described().filter(|description| description["name"] != "adagrad") {
        let optimizer = optim::build(&description).unwrap();
        let segment = [Segment { range: 0..ROWS * WIDTH, lr: 0.1, weight_decay: 0.05 }];
        let mut buffers: Vec<_> = optimizer.slots().iter().map(|_| vec![0.0; ROWS * WIDTH]).collect();
        let mut dense = wave(0.5, 0)[..ROWS * WIDTH].to_vec();
        for step in 1..=9 {
            let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
            optimizer.update(step, 0.5, &segment, &mut dense, &wave(2.0, step)[..ROWS * WIDTH], &mut state);
        }
        let (sparse, _) = table(&description, 9, all);
        for (sparse, dense) in sparse.iter().zip(&dense) {
            assert!((sparse - dense).abs() < 1e-6, "{description}: {sparse} {dense}");
        }
    }
}

#[test]
fn adagrad_has_one_sum_a_row() {
    // A row [1, 2, 2] with gradient [3, 0, 4]: the mean square is 25/3, after a second step twice that.
    let optimizer = optim::build(&json!({"name": "adagrad", "lr": 0.5})).unwrap();
    let gradient = SparseGradient::new(WIDTH);
    gradient.open().begin(1, 1, false);
    gradient.open().row(0).copy_from_slice(&[3.0, 0.0, 4.0]);
    let segment = Segment { range: 0..3, lr: 0.5, weight_decay: 0.0 };
    let (mut row, mut sum) = ([1.0, 2.0, 2.0], [0.0]);
    for step in 1..=2 {
        optimizer.update_rows(step, 1.0, &segment, &mut row, &gradient.open(), &mut [&mut sum]);
    }
    assert!((sum[0] - 50.0 / 3.0).abs() < 1e-5);
    let reach = 0.5 * (1.0 / (25.0_f32 / 3.0).sqrt() + 1.0 / (50.0_f32 / 3.0).sqrt());
    for (got, want) in row.iter().zip([1.0 - 3.0 * reach, 2.0, 2.0 - 4.0 * reach]) {
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let cases = [
        (json!({"name": "adam", "lr": -1.0}), "`lr`"),
        (json!({"name": "adam", "lr": {"encoder": -1.0}}), "`lr`"),
        (json!({"name": "adam", "betas": [0.9, 1.0]}), "`betas`"),
        (json!({"name": "adam", "betas": 0.9}), "`betas`"),
        (json!({"name": "sgd", "nesterov": true}), "`nesterov`"),
        (json!({"name": "sgd", "momentum": "big"}), "`momentum`"),
        (json!({"name": "adamax"}), "\"adamax\""),
    ];
    for (description, expected) in cases {
        let message = optim::build(&description).unwrap_err().to_string();
        assert!(message.contains(expected), "{description}: {message}");
    }
}
