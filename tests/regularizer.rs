//! Every regularizer against libtorch's autograd in `f64`.

use polytask::parameters::path::Path;
use polytask::regularizer::{self, Piece, Places};
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
        let want = regularizer.formula(&places, &all);
        want.backward();
        let want = want.double_value(&[]);
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
        let want = wider.add(&places, &wide, Some(&mut double));
        assert!((value - want).abs() < 1e-6 * want, "{}: {value} {want}", info.name);
        let largest = double.iter().fold(0.0_f64, |most, d| most.max(d.abs()));
        let worst = single.iter().zip(&double).fold(0.0_f64, |most, (s, d)| most.max((f64::from(*s) - d).abs()));
        assert!(worst < 5e-6 * largest, "{}: {worst} of {largest}", info.name);
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
