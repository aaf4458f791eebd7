//! Every regularizer against libtorch's autograd in `f64`.

use polytask::optim::Block;
use polytask::regularizer;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// Two blocks that decay, one that does not.
fn blocks() -> Vec<Block> {
    let block = |path: &str, range, decays| Block { path: path.into(), range, decays, task: None };
    vec![
        block("encoder.0.weight", 0..40, true),
        block("encoder.0.bias", 40..47, false),
        block("heads.a.weight", 47..60, true),
    ]
}

fn parameters() -> Vec<f64> {
    (0..60).map(|i| if i == 5 { 0.0 } else { (f64::from(i) * 1.7).sin() * 3.0 }).collect()
}

/// The weights alone, in one tensor.
fn weights(all: &Tensor) -> Tensor {
    Tensor::cat(&[all.narrow(0, 0, 40), all.narrow(0, 47, 13)], 0)
}

fn reference(description: &Value, all: &Tensor) -> Tensor {
    let strength = description["strength"].as_f64().unwrap();
    match description["name"].as_str().unwrap() {
        "l1" => weights(all).abs().sum(Kind::Double) * strength,
        "l2" => weights(all).square().sum(Kind::Double) * strength,
        other => panic!("`{other}` has no reference here: add its formula"),
    }
}

#[test]
fn values_and_gradients_are_those_of_autograd() {
    for info in regularizer::infos() {
        let description = json!({"name": info.name, "strength": 0.3});
        let regularizer = regularizer::build(&description).unwrap();
        let mut gradient = vec![1.0; 60];
        let value = regularizer.add(&blocks(), &parameters(), Some(&mut gradient));
        let all = Tensor::from_slice(&parameters()).set_requires_grad(true);
        let want = reference(&description, &all);
        want.backward();
        assert!((value - want.double_value(&[])).abs() < 1e-9, "{description}");
        assert_eq!(value, regularizer.add(&blocks(), &parameters(), None::<&mut [f64]>), "{description}");
        for (got, want) in gradient.iter().zip(Vec::<f64>::try_from(all.grad()).unwrap()) {
            assert!((got - 1.0 - want).abs() < 1e-9, "{description} {got} {want}");
        }
    }
}

#[test]
fn single_precision_follows_double() {
    for info in regularizer::infos() {
        let regularizer = regularizer::build(&json!(info.name)).unwrap();
        let narrow: Vec<f32> = parameters().iter().map(|w| *w as f32).collect();
        let (mut single, mut double) = (vec![0.0_f32; 60], vec![0.0_f64; 60]);
        let value = regularizer.add(&blocks(), &narrow, Some(&mut single));
        let want = regularizer.add(&blocks(), &parameters(), Some(&mut double));
        assert!((value - want).abs() < 1e-6 * want, "{}", info.name);
        assert!(single.iter().zip(&double).all(|(s, d)| (f64::from(*s) - d).abs() < 1e-8), "{}", info.name);
    }
}
