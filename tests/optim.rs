//! Every optimizer against its published formula in `f64` and, where tch reaches it, against libtorch's own.

use polytask::optim::matrices::Works;
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
        // Of all that is no matrix.
        (
            json!({"name": "muon", "adamw_lr": 0.01, "adamw_betas": [0.8, 0.95], "adamw_eps": 1e-3, "weight_decay": 0.5}),
            adam(0.01, 0.8, 0.95, 1e-3, 0.5, true),
        ),
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

/// A matrix as rows of numbers.
type Matrix = Vec<Vec<f64>>;

fn times(a: &Matrix, b: &Matrix) -> Matrix {
    let columns = 0..b[0].len();
    a.iter().map(|row| columns.clone().map(|j| row.iter().zip(b).map(|(x, b)| x * b[j]).sum()).collect()).collect()
}

fn turned(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

fn each(a: &Matrix, b: &Matrix, of: impl Fn(f64, f64) -> f64) -> Matrix {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| of(a, b)).collect()).collect()
}

/// A step of Muon on one matrix, as it is written down: momentum, then parameters.
fn muon([w, g, momentum]: [&Matrix; 3], description: &Value) -> [Matrix; 2] {
    let number = |name: &str| description[name].as_f64().unwrap();
    let keep = number("momentum");
    let momentum = each(momentum, g, |m, g| keep * m + (1.0 - keep) * g);
    let ahead = match description["nesterov"].as_bool().unwrap() {
        true => each(g, &momentum, |g, m| (1.0 - keep) * g + keep * m),
        false => momentum.clone(),
    };
    let (rows, columns) = (w.len(), w[0].len());
    let mut x = if rows > columns { turned(&ahead) } else { ahead };
    let length = x.iter().flatten().map(|x| x * x).sum::<f64>().sqrt().max(1e-7);
    x = each(&x, &x, |x, _| x / length);
    for _ in 0..number("ns_steps") as usize {
        let a = times(&x, &turned(&x));
        let b = each(&a, &times(&a, &a), |a, square| -4.7750 * a + 2.0315 * square);
        x = each(&x, &times(&b, &x), |x, more| 3.4445 * x + more);
    }
    let x = if rows > columns { turned(&x) } else { x };
    let (rows, columns) = (rows as f64, columns as f64);
    let ratio = match description["adjust_lr_fn"].as_str().unwrap() {
        "original" => (rows / columns).max(1.0).sqrt(),
        _ => 0.2 * rows.max(columns).sqrt(),
    };
    let w = each(w, &x, |w, x| w * (1.0 - number("lr") * number("weight_decay")) - number("lr") * ratio * x);
    [momentum, w]
}

/// Muons and shapes of matrices to try.
fn matrices() -> impl Iterator<Item = (Value, [usize; 3])> {
    let muon = |nesterov: bool, ns_steps: usize, adjust: &str| {
        json!({"name": "muon", "lr": 0.05, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov,
               "ns_steps": ns_steps, "adjust_lr_fn": adjust})
    };
    let all = [muon(true, 5, "original"), muon(false, 5, "match_rms_adamw"), muon(true, 2, "match_rms_adamw")];
    let shapes = [[1, 4, 9], [1, 9, 4], [3, 3, 4], [2, 6, 3], [4, 1, 7], [5, 7, 1], [1, 6, 6]];
    all.into_iter().flat_map(move |muon| shapes.map(|shape| (muon.clone(), shape)))
}

const MATRIX_STEPS: u64 = 6;

/// The matrices of a step's parameters or gradients.
fn stacked(shape: [usize; 3], seed: f64, step: u64) -> Vec<f32> {
    let count = shape.iter().product();
    (0..count).map(|i| ((i as f64 * 1.7 + (i * i) as f64 * 0.3 + seed + step as f64).sin()) as f32).collect()
}

/// All matrices, and the momentum, after every step as it is written down.
fn muons(description: &Value, shape: [usize; 3]) -> Vec<[Vec<f64>; 2]> {
    let [_, rows, columns] = shape;
    let split = |numbers: &[f32]| -> Vec<Matrix> {
        let row = |row: &[f32]| row.iter().copied().map(f64::from).collect();
        numbers.chunks(rows * columns).map(|matrix| matrix.chunks(columns).map(row).collect()).collect()
    };
    let flat = |all: &[Matrix]| all.iter().flatten().flatten().copied().collect::<Vec<_>>();
    let mut parameters = split(&stacked(shape, 0.5, 0));
    let mut momenta = split(&vec![0.0; shape.iter().product()]);
    (1..=MATRIX_STEPS)
        .map(|step| {
            let gradients = split(&stacked(shape, 2.0, step));
            for ((w, g), m) in parameters.iter_mut().zip(&gradients).zip(&mut momenta) {
                [*m, *w] = muon([w, g, m], description);
            }
            [flat(&parameters), flat(&momenta)]
        })
        .collect()
}

/// The same by Muon's formula, in `f64` or `f32`.
fn muons_by_formula(description: &Value, shape: [usize; 3], kind: Kind) -> Vec<[Vec<f64>; 2]> {
    let optimizer = optim::build(description).unwrap();
    let rule = optimizer.of_matrices().unwrap();
    let tensor = |numbers: &[f32]| Tensor::from_slice(numbers).view(shape.map(|n| n as i64)).to_kind(kind);
    let numbers = |tensor: &Tensor| Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let (lr, weight_decay) = (Tensor::from(0.05_f64), Tensor::from(0.1_f64));
    let mut parameters = tensor(&stacked(shape, 0.5, 0));
    let mut state = [parameters.zeros_like(), parameters.zeros_like()];
    (1..=MATRIX_STEPS)
        .map(|step| {
            let gradients = tensor(&stacked(shape, 2.0, step));
            let mut updated = rule.formula(&TensorStep {
                number: &Tensor::from(step as f64),
                lr: &lr,
                weight_decay: &weight_decay,
                parameters: &parameters,
                gradients: &gradients,
                state: &state,
            });
            (parameters, state[0]) = (updated.parameters, updated.state.remove(0));
            [numbers(&parameters), numbers(&state[0])]
        })
        .collect()
}

/// The same by loops, beside numbers that are none of the matrices'.
fn muons_by_loops(description: &Value, shape: [usize; 3]) -> Vec<[Vec<f64>; 2]> {
    let optimizer = optim::build(description).unwrap();
    let rule = optimizer.of_matrices().unwrap();
    // Another batch works in the same memory before.
    let (own, other) = (shape.iter().product::<usize>(), [2, 5, 8]);
    let segment = |range| Segment { range, lr: 0.05, weight_decay: 0.1 };
    let segments = [segment(own + 16..own + 96), segment(5..5 + own)];
    let mut works = Works::new(&[other, shape]).unwrap();
    let around = |own: Vec<f32>| [vec![7.0; 5], own, vec![7.0; 11], stacked(other, 1.0, 0)].concat();
    let mut parameters = around(stacked(shape, 0.5, 0));
    let mut buffers = [vec![0.0; own + 96], vec![0.0; own + 96]];
    (1..=MATRIX_STEPS)
        .map(|step| {
            let mut state = buffers.each_mut().map(Vec::as_mut_slice);
            // Gradients that clipping halves.
            let gradients = around(stacked(shape, 2.0, step).into_iter().map(|x| 2.0 * x).collect());
            works.update(rule, 0.5, &segments, &mut parameters, &gradients, &mut state).unwrap();
            assert!(parameters[..5].iter().chain(&parameters[5 + own..own + 16]).all(|&x| x == 7.0));
            [&parameters, &buffers[0]].map(|all| all[5..5 + own].iter().copied().map(f64::from).collect())
        })
        .collect()
}

#[test]
fn matrices_learn_as_muon_is_written_down() {
    let far = |got: &[[Vec<f64>; 2]], want: &[[Vec<f64>; 2]]| {
        let pairs = got.iter().flatten().flatten().zip(want.iter().flatten().flatten());
        assert_eq!(got.len(), want.len());
        pairs.map(|(got, want)| (got - want).abs()).fold(0.0, f64::max)
    };
    for (description, shape) in matrices() {
        let want = muons(&description, shape);
        let by_formula = muons_by_formula(&description, shape, Kind::Double);
        assert!(far(&by_formula, &want) <= 1e-9, "{description} {shape:?}: {}", far(&by_formula, &want));
        let single = muons_by_formula(&description, shape, Kind::Float);
        let loops = muons_by_loops(&description, shape);
        assert!(far(&single, &want) <= 2e-5, "{description} {shape:?}: {}", far(&single, &want));
        assert!(far(&loops, &want) <= 2e-5, "{description} {shape:?}: {}", far(&loops, &want));
        assert!(far(&loops, &single) <= 2e-5, "{description} {shape:?}: {}", far(&loops, &single));
    }
}

#[test]
fn a_matrix_without_a_gradient_stays_and_a_long_one_goes_no_further() {
    let optimizer = optim::build(&json!({"name": "muon"})).unwrap();
    let rule = optimizer.of_matrices().unwrap();
    let went = |gradient: f32| {
        let mut parameters = vec![1.0; 12];
        let (mut first, mut second) = (vec![0.0; 12], vec![0.0; 12]);
        let segment = [Segment { range: 0..12, lr: 0.1, weight_decay: 0.0 }];
        let mut works = Works::new(&[[1, 3, 4]]).unwrap();
        works.update(rule, 1.0, &segment, &mut parameters, &[gradient; 12], &mut [&mut first, &mut second]).unwrap();
        parameters
    };
    assert_eq!(went(0.0), vec![1.0; 12]);
    let usual = went(1.0);
    for gradient in [1e-3, 1e3, 1e30] {
        for (got, want) in went(gradient).iter().zip(&usual) {
            assert!((got - want).abs() < 1e-5 && *got < 1.0, "{gradient}: {got} {want}");
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
