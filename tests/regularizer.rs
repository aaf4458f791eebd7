//! Every regularizer's loops against its formula, and that against the same written out, by libtorch's autograd in `f64`.

use polytask::parameters::path::Path;
use polytask::regularizer::{self, Piece, Places, Regularizer};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// Tasks, and the shape of each one's head.
const TASKS: usize = 3;
const OUT: usize = 2;
const IN: usize = 5;
/// Where the tasks' heads begin: not in order, and not beside each other.
const HEADS: [usize; TASKS] = [60, 49, 80];
const SIZE: usize = 96;

/// A shared weight that does and a bias that does not decay, and a head a task.
fn places() -> Places {
    let piece = |path: &str, start, shape: &[usize], task, reads| Piece {
        path: Path::new(path),
        start,
        shape: shape.to_vec(),
        decays: !path.ends_with("bias"),
        task,
        reads: Some((reads, 0)),
    };
    let mut pieces = vec![
        piece("experts.shared.weight", 0, &[4, IN], None, 1),
        piece("experts.own.weight", 20, &[3, IN], Some(0), 1),
        piece("experts.own.bias", 40, &[3], Some(0), 1),
    ];
    let heads = ["a", "b", "c"].iter().zip(HEADS).enumerate();
    pieces
        .extend(heads.map(|(t, (name, start))| piece(&format!("heads.{name}.weight"), start, &[OUT, IN], Some(t), 2)));
    Places::of(pieces, &["a", "b", "c"])
}

fn parameters() -> Vec<f64> {
    (0..SIZE).map(|i| if i == 5 { 0.0 } else { (i as f64 * 1.7).sin() * 3.0 }).collect()
}

fn description(name: &str) -> Value {
    let mut description = json!({"name": name, "strength": 0.3});
    let more = match name {
        "graph_laplacian" => json!({"relation": [[0.0, 1.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.5, 9.0]]}),
        "trace_norm" | "tensor_trace_norm" => json!({"smoothing": 0.01}),
        "task_relation" => json!({"refresh": 1, "jitter": 0.01}),
        "clustered" => json!({"mean": 0.25, "between": 0.2, "within": 2.0}),
        "elastic_net" => json!({"ratio": 0.2}),
        _ => json!({}),
    };
    description.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    description
}

/// The weights alone, in one tensor.
fn weights(all: &Tensor) -> Tensor {
    let piece = |start: usize, size: usize| all.narrow(0, start as i64, size as i64);
    let heads = HEADS.map(|start| piece(start, OUT * IN));
    Tensor::cat(&[piece(0, 20), piece(20, 15), Tensor::cat(&heads, 0)], 0)
}

/// The heads `[tasks, out, in]`.
fn heads(all: &Tensor) -> Tensor {
    let head = |start: usize| all.narrow(0, start as i64, (OUT * IN) as i64).reshape([OUT as i64, IN as i64]);
    Tensor::stack(&HEADS.map(head), 0)
}

/// `sum sqrt(s^2 + smoothing)` over the singular values.
fn smoothed(matrix: &Tensor, smoothing: f64) -> Tensor {
    let (_, values, _) = matrix.svd(true, true);
    (values.square() + smoothing).sqrt().sum(Kind::Double)
}

/// `tr(W M W^T)` for columns of `W` that are the tasks'.
fn form(rows: &Tensor, matrix: &Tensor) -> Tensor {
    (matrix.matmul(rows) * rows).sum(Kind::Double)
}

fn matrix(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).reshape([TASKS as i64, TASKS as i64])
}

/// The same over all parameters, written out for these places and arguments; the relation at hand is taken as fixed.
fn written_out(description: &Value, all: &Tensor, regularizer: &dyn Regularizer) -> Option<Tensor> {
    let number = |key: &str| description[key].as_f64().unwrap();
    let (heads, weights) = (heads(all), weights(all));
    let rows = heads.reshape([TASKS as i64, -1]);
    let fixed = || matrix(regularizer.relation().unwrap());
    let value = match description["name"].as_str().unwrap() {
        "l1" => weights.abs().sum(Kind::Double),
        "l2" => weights.square().sum(Kind::Double),
        "elastic_net" => weights.abs().sum(Kind::Double) * 0.2 + weights.square().sum(Kind::Double) * 0.8,
        "group_lasso" => heads.square().sum_dim_intlist(&[0i64, 1][..], false, Kind::Double).sqrt().sum(Kind::Double),
        "trace_norm" => smoothed(&rows, number("smoothing")),
        "tensor_trace_norm" => {
            let unfold = |axes: [i64; 3]| {
                let turned = heads.permute(axes);
                turned.reshape([turned.size()[0], -1])
            };
            let all = [[0, 1, 2], [1, 0, 2], [2, 0, 1]].map(|axes| smoothed(&unfold(axes), number("smoothing")));
            &all[0] + &all[1] + &all[2]
        }
        "mean_regularized" => (&rows - rows.mean_dim(0, true, Kind::Double)).square().sum(Kind::Double),
        "pairwise" => form(&rows, &matrix(&[2.0, -1.0, -1.0, -1.0, 2.0, -1.0, -1.0, -1.0, 2.0])),
        "graph_laplacian" => form(&rows, &matrix(&[1.0, -1.0, 0.0, -1.0, 1.5, -0.5, 0.0, -0.5, 0.5])),
        "task_relation" => form(&rows, &fixed().inverse()),
        "clustered" => {
            // Two clusters: eigenvalues 1 / within, 1 / within and 1 / between in sum.
            let mean = rows.mean_dim(0, true, Kind::Double);
            let common = mean.square().sum(Kind::Double) * 0.25 * TASKS as f64;
            common + form(&(&rows - mean), &(fixed() * 6.0).inverse())
        }
        "orthogonality" => {
            let shared = all.narrow(0, 0, 20).reshape([4, IN as i64]);
            let own = all.narrow(0, 20, 15).reshape([3, IN as i64]);
            shared.matmul(&own.tr()).square().sum(Kind::Double)
        }
        _ => return None,
    };
    Some(value * number("strength"))
}

/// A value, and its gradient.
fn slopes(value: &Tensor, all: &Tensor) -> (f64, Tensor) {
    // What does not take part has zeros.
    let whole = value + all.sum(Kind::Double) * 0.0;
    (value.double_value(&[]), Tensor::run_backward(&[whole], &[all], true, false).remove(0))
}

#[test]
fn values_and_gradients_are_those_of_autograd() {
    for info in regularizer::infos() {
        let description = description(&info.name);
        let mut regularizer = regularizer::build(&description).unwrap();
        let places = regularizer.choose(&places()).unwrap();
        // What learns, learns from other parameters first.
        for shift in [0.0, 0.1] {
            let before: Vec<f64> = parameters().iter().map(|w| w + shift).collect();
            regularizer.add(&places, &before, Some(&mut [0.0; SIZE]));
        }
        let mut gradient = vec![1.0; SIZE];
        let value = regularizer.add(&places, &parameters(), Some(&mut gradient));
        let all = Tensor::from_slice(&parameters()).set_requires_grad(true);
        let formula = regularizer.formula(&places, &all);
        if let Some(known) = written_out(&description, &all, &*regularizer) {
            let (known, found) = (slopes(&known, &all), slopes(&formula, &all));
            assert!((known.0 - found.0).abs() < 1e-9 * known.0.abs().max(1.0), "{description}: {known:?} {found:?}");
            assert!((known.1 - found.1).abs().max().double_value(&[]) < 1e-9, "{description}");
        }
        formula.backward();
        let want = formula.double_value(&[]);
        assert!((value - want).abs() < 1e-9, "{description}: {value} {want}");
        assert_eq!(value, regularizer.add(&places, &parameters(), None::<&mut [f64]>), "{description}");
        for (i, (got, want)) in gradient.iter().zip(Vec::<f64>::try_from(all.grad()).unwrap()).enumerate() {
            assert!((got - 1.0 - want).abs() < 1e-9, "{description} {i}: {got} {want}");
        }
    }
}

#[test]
fn single_precision_follows_double() {
    for info in regularizer::infos() {
        let build = || regularizer::build(&description(&info.name)).unwrap();
        let (mut narrower, mut wider) = (build(), build());
        let places = narrower.choose(&places()).unwrap();
        assert_eq!(wider.choose(&self::places()).unwrap(), places);
        let narrow: Vec<f32> = parameters().iter().map(|w| *w as f32).collect();
        let wide: Vec<f64> = narrow.iter().map(|w| f64::from(*w)).collect();
        let (mut single, mut double) = (vec![0.0_f32; SIZE], vec![0.0_f64; SIZE]);
        let value = narrower.add(&places, &narrow, Some(&mut single));
        let all = Tensor::from_slice(&narrow).set_requires_grad(true);
        let formula = narrower.formula(&places, &all);
        assert_eq!((formula.kind(), formula.size()), (Kind::Float, Vec::new()), "{}", info.name);
        formula.backward();
        let slopes = Vec::<f32>::try_from(all.grad()).unwrap();
        let want = wider.add(&places, &wide, Some(&mut double));
        assert!((value - want).abs() < 1e-6 * want, "{}: {value} {want}", info.name);
        let largest = double.iter().fold(0.0_f64, |most, d| most.max(d.abs()));
        let by_formula = formula.double_value(&[]);
        assert!((by_formula - want).abs() < 1e-6 * want, "{} by its formula: {by_formula} {want}", info.name);
        for (way, single) in [("loops", &single), ("formula", &slopes)] {
            let worst = single.iter().zip(&double).fold(0.0_f64, |most, (s, d)| most.max((f64::from(*s) - d).abs()));
            assert!(worst < 5e-6 * largest, "{} by its {way}: {worst} of {largest}", info.name);
        }
    }
}

#[test]
fn long_rows_are_summed_like_short_ones() {
    let (out, inputs) = (3, 1033);
    let piece = |task: usize| Piece {
        path: Path::new(&format!("heads.t{task}.weight")),
        start: task * 3200,
        shape: vec![out, inputs],
        decays: true,
        task: Some(task),
        reads: Some((0, 0)),
    };
    let tasks: Vec<String> = (0..9).map(|task| format!("t{task}")).collect();
    let all = Places::of((0..9).map(piece).collect(), &tasks.iter().map(String::as_str).collect::<Vec<_>>());
    let parameters: Vec<f64> = (0..9 * 3200).map(|i| (f64::from(i) * 0.7).sin()).collect();
    let tensor = Tensor::from_slice(&parameters).set_requires_grad(true);
    let rows = tensor.reshape([9, 3200]).narrow(1, 0, (out * inputs) as i64);
    let mean = (&rows - rows.mean_dim(0, true, Kind::Double)).square().sum(Kind::Double);
    let want = [
        ("mean_regularized", mean.shallow_clone()),
        ("pairwise", &mean * 9.0),
        ("graph_laplacian", &mean * 9.0),
        ("task_relation", rows.square().sum(Kind::Double) * 9.0),
    ];
    for (name, want) in want {
        let mut regularizer = regularizer::build(&json!({"name": name, "strength": 0.5})).unwrap();
        let places = regularizer.choose(&all).unwrap();
        let mut gradient = vec![0.0; parameters.len()];
        let value = regularizer.add(&places, &parameters, Some(&mut gradient));
        let slopes = Tensor::run_backward(&[&want], &[&tensor], true, false).remove(0) * 0.5;
        assert!((value - 0.5 * want.double_value(&[])).abs() < 1e-9 * value, "{name}");
        let worst = (Tensor::from_slice(&gradient) - slopes).abs().max().double_value(&[]);
        assert!(worst < 1e-10, "{name}: {worst}");
    }
}
