//! Every loss: its loops against its formula in tensor algebra, whose gradient is libtorch's, in `f64`.

use polytask::label::{Counts, Labels, Targets};
use polytask::loss;
use polytask::loss::{Batch, Loss, Sums, TensorBatch};
use serde_json::{Value, json};
use tch::{IndexOp, Kind, Reduction, Tensor};

/// A generator of its own: the same cases on every machine.
struct Dice(u64);

impl Dice {
    /// The next number of `0..below`.
    fn index(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    /// The next number of `from..to`.
    fn number(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.index(1 << 24) as f64 / f64::from(1 << 24)
    }

    fn numbers(&mut self, count: usize, from: f64, to: f64) -> Vec<f64> {
        (0..count).map(|_| self.number(from, to)).collect()
    }
}

/// A task's labels in both forms.
enum Truth {
    Classes(Vec<i32>),
    Values(Vec<f64>),
}

/// One batch of one task.
struct Case {
    outputs: usize,
    rows: usize,
    width: usize,
    stride: usize,
    raw: Vec<f64>,
    truth: Truth,
    weights: Option<Vec<f64>>,
    scale: f64,
}

impl Case {
    fn new(dice: &mut Dice, loss: &dyn Loss, classes: Option<usize>, outputs: usize, rows: usize) -> Self {
        let width = loss.width(classes, outputs);
        let stride = width + dice.index(3);
        let truth = match loss.labels(classes, outputs).unwrap() {
            Labels::Classes(k) => Truth::Classes((0..rows).map(|_| dice.index(k + 1) as i32 - 1).collect()),
            labels => Truth::Values(values(dice, rows * outputs, labels)),
        };
        let weights = (dice.index(2) == 0).then(|| dice.numbers(rows, 0.0, 2.0));
        let raw = dice.numbers(rows * stride, -4.0, 4.0);
        Case { outputs, rows, width, stride, raw, truth, weights, scale: dice.number(0.1, 2.0) }
    }

    /// Sum, gradient and weight of the kernel under test; the gradient's buffer comes full of rubbish.
    fn kernel(&self, loss: &dyn Loss) -> (f64, Vec<f64>, f64) {
        let mut gradient = vec![7.0; self.raw.len()];
        let targets = match &self.truth {
            Truth::Classes(classes) => Targets::Classes(classes),
            Truth::Values(values) => Targets::Values(values),
        };
        let sum = loss.evaluate(Batch {
            rows: self.rows,
            width: self.width,
            outputs: &self.raw,
            gradient: Some(&mut gradient),
            stride: self.stride,
            targets,
            weights: self.weights.as_deref(),
            scale: self.scale,
        });
        (sum, gradient, loss.weight(targets, self.weights.as_deref()))
    }

    /// The same in single precision.
    fn single(&self, loss: &dyn Loss) -> (f64, Vec<f32>, f64) {
        let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
        let (raw, weights) = (narrow(&self.raw), self.weights.as_deref().map(narrow));
        let mut gradient = vec![7.0; raw.len()];
        let values = if let Truth::Values(values) = &self.truth { narrow(values) } else { Vec::new() };
        let targets = match &self.truth {
            Truth::Classes(classes) => Targets::Classes(classes),
            Truth::Values(_) => Targets::Values(&values),
        };
        let sum = loss.evaluate(Batch {
            rows: self.rows,
            width: self.width,
            outputs: &raw,
            gradient: Some(&mut gradient),
            stride: self.stride,
            targets,
            weights: weights.as_deref(),
            scale: self.scale as f32,
        });
        (sum, gradient, loss.weight(targets, weights.as_deref()))
    }

    /// What the reference sees: raw outputs `[rows, width]` that want a gradient.
    fn tensors(&self) -> (Tensor, Tensor, Option<Tensor>) {
        let all = Tensor::from_slice(&self.raw).view([self.rows as i64, self.stride as i64]).set_requires_grad(true);
        let truth = match &self.truth {
            Truth::Classes(classes) => Tensor::from_slice(classes).to_kind(Kind::Int64),
            Truth::Values(values) => Tensor::from_slice(values).view([self.rows as i64, self.outputs as i64]),
        };
        (all, truth, self.weights.as_deref().map(Tensor::from_slice))
    }

    /// Sum, gradient and weight by the formula and autograd.
    fn reference(&self, loss: &dyn Loss) -> (f64, Vec<f64>, f64) {
        self.reference_in(loss, Kind::Double)
    }

    /// The same of numbers of a kind, in which everything must stay.
    fn reference_in(&self, loss: &dyn Loss, kind: Kind) -> (f64, Vec<f64>, f64) {
        let (all, labels, weights) = self.tensors();
        let all = all.detach().to_kind(kind).set_requires_grad(true);
        let labels = if labels.kind() == Kind::Int64 { labels } else { labels.to_kind(kind) };
        let weights = weights.map(|weights| weights.to_kind(kind));
        let raw = all.narrow(1, 0, self.width as i64);
        let Sums { loss, weight } = loss.sums(&TensorBatch { raw: &raw, labels: &labels, weights: weights.as_ref() });
        for sum in [&loss, &weight] {
            assert_eq!((sum.kind(), sum.size()), (kind, Vec::new()));
        }
        (&loss * self.scale).backward();
        let gradient = Vec::<f64>::try_from(all.grad().to_kind(Kind::Double).view(-1)).unwrap();
        (loss.double_value(&[]), gradient, weight.double_value(&[]))
    }

    /// The same by functions of libtorch.
    fn libtorch(&self, description: &Value) -> Option<(f64, Vec<f64>, f64)> {
        let (all, labels, weights) = self.tensors();
        let raw = all.narrow(1, 0, self.width as i64);
        let weights = weights.unwrap_or_else(|| Tensor::ones([self.rows as i64], (Kind::Double, tch::Device::Cpu)));
        let (sum, weight) = match &self.truth {
            Truth::Classes(_) => of_classes(description, &raw, &labels, &weights),
            Truth::Values(_) => of_values(description, &raw, &labels, &weights),
        }?;
        (&sum * self.scale).backward();
        let gradient = Vec::<f64>::try_from(all.grad().view(-1)).unwrap();
        Some((sum.double_value(&[]), gradient, weight.double_value(&[])))
    }
}

/// Labels within bounds, some of them missing, some of them at the bounds.
fn values(dice: &mut Dice, count: usize, labels: Labels) -> Vec<f64> {
    let (low, high) = (labels.bounds().start().max(-5.0), labels.bounds().end().min(5.0));
    let whole = matches!(labels, Labels::Binary { .. } | Labels::Counts { .. }) && dice.index(3) > 0;
    (0..count)
        .map(|_| if dice.index(4) == 0 { f64::NAN } else { dice.number(low, high) })
        .map(|y| if whole { y.round() } else { y })
        .collect()
}

/// A list of numbers in a description.
fn list(value: &Value) -> Tensor {
    Tensor::from_slice(&value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>())
}

/// Sum of weighted losses and sum of weights, over rows whose label is a class, by functions of libtorch; none of a loss that
/// has nothing there.
fn of_classes(description: &Value, raw: &Tensor, truth: &Tensor, weights: &Tensor) -> Option<(Tensor, Tensor)> {
    let ordinal = description["name"] == "ordinal";
    let classes = raw.size()[1] + i64::from(ordinal);
    let own = |name: &str| match &description[name] {
        Value::Array(_) => list(&description[name]),
        _ => Tensor::ones([classes], (Kind::Double, tch::Device::Cpu)),
    };
    let kept = truth.ge(0);
    let (raw, truth, weights) = (raw.index(&[Some(&kept)]), truth.index(&[Some(&kept)]), weights.index(&[Some(&kept)]));
    let log = raw.log_softmax(1, Kind::Double);
    match description["name"].as_str().unwrap() {
        "cross_entropy" => {
            let own = own("class_weights");
            let smoothing = description["label_smoothing"].as_f64().unwrap();
            let losses = log.cross_entropy_loss(&truth, Some(&own), Reduction::None, -100, smoothing);
            Some(((&weights * losses).sum(Kind::Double), (&weights * own.index(&[Some(&truth)])).sum(Kind::Double)))
        }
        "ordinal" => {
            // By the classes' probabilities.
            let on = raw.sigmoid().cumprod(1, Kind::Double);
            let one = Tensor::ones([raw.size()[0], 1], (Kind::Double, tch::Device::Cpu));
            let p = Tensor::cat(&[&one, &on], 1) * Tensor::cat(&[(-&raw).sigmoid(), one.shallow_clone()], 1);
            let own = own("class_weights").index(&[Some(&truth)]);
            let losses = -p.gather(1, &truth.unsqueeze(1), false).squeeze_dim(1).log() * &own;
            Some(((&weights * losses).sum(Kind::Double), (&weights * own).sum(Kind::Double)))
        }
        "crf" => {
            let losses = log.cross_entropy_loss::<Tensor>(&truth, None, Reduction::None, -100, 0.0);
            Some(((&weights * losses).sum(Kind::Double), weights.sum(Kind::Double)))
        }
        "focal" => {
            let log = log.gather(1, &truth.unsqueeze(1), false).squeeze_dim(1);
            let modulation = (log.exp() * -1.0 + 1.0).pow_tensor_scalar(description["gamma"].as_f64().unwrap());
            let losses = -own("alpha").index(&[Some(&truth)]) * modulation * log;
            Some(((&weights * losses).sum(Kind::Double), weights.sum(Kind::Double)))
        }
        _ => None,
    }
}

/// The same over cells that have a label.
fn of_values(description: &Value, raw: &Tensor, truth: &Tensor, weights: &Tensor) -> Option<(Tensor, Tensor)> {
    let kept = truth.isnan().logical_not();
    let truth = truth.nan_to_num(0.0, 0.0, 0.0);
    let weights = weights.unsqueeze(1) * kept.to_kind(Kind::Double);
    let losses = match description["name"].as_str().unwrap() {
        "binary_cross_entropy" => {
            let own = match &description["pos_weight"] {
                Value::Number(weight) => Some(Tensor::from(weight.as_f64().unwrap())),
                Value::Array(_) => Some(list(&description["pos_weight"])),
                _ => None,
            };
            raw.binary_cross_entropy_with_logits(&truth, None::<Tensor>, own, Reduction::None)
        }
        "focal" => {
            let entropy = raw.binary_cross_entropy_with_logits(&truth, None::<Tensor>, None::<Tensor>, Reduction::None);
            let p = raw.sigmoid();
            let hit: Tensor = &p * &truth + (1.0 - &p) * (1.0 - &truth);
            let balance = match &description["alpha"] {
                Value::Number(alpha) => Some(Tensor::from(alpha.as_f64().unwrap())),
                Value::Array(_) => Some(list(&description["alpha"])),
                _ => None,
            };
            let balance = balance.map_or(Tensor::from(1.0), |a| &a * &truth + (1.0 - &a) * (1.0 - &truth));
            balance * entropy * (hit * -1.0 + 1.0).pow_tensor_scalar(description["gamma"].as_f64().unwrap())
        }
        "mean_squared" => raw.mse_loss(&truth, Reduction::None),
        "mean_absolute" => raw.l1_loss(&truth, Reduction::None),
        "huber" => raw.huber_loss(&truth, Reduction::None, description["delta"].as_f64().unwrap()),
        "poisson" => raw.poisson_nll_loss(&truth, true, false, 1e-8, Reduction::None),
        "ranking" => {
            let losses = (-(raw * &truth)).where_self(&kept, &Tensor::from(0.0_f64));
            return Some(((&weights * losses).sum(Kind::Double), (&weights * &truth).sum(Kind::Double)));
        }
        "quantile" => {
            let quantiles = list(&description["quantiles"]);
            let error = truth.unsqueeze(2) - raw.view([raw.size()[0], truth.size()[1], -1]);
            let pinball = (&quantiles * &error).maximum(&((quantiles - 1.0) * &error));
            pinball.mean_dim(2, false, Kind::Double)
        }
        "gaussian_nll" => {
            let pairs = raw.view([raw.size()[0], -1, 2]);
            let variance = pairs.i((.., .., 1)).softplus() + description["epsilon"].as_f64().unwrap();
            let error = pairs.i((.., .., 0)) - &truth;
            (variance.log() + error.square() / variance) * 0.5
        }
        _ => return None,
    };
    // `where` and not a product alone: a missing label must not leave 0 * inf in the gradient.
    let losses = losses.where_self(&kept, &Tensor::from(0.0_f64));
    Some(((&weights * losses).sum(Kind::Double), weights.sum(Kind::Double)))
}

/// Descriptions with arguments beside the defaults, and tasks that fit them: `(description, classes, outputs)`.
fn special() -> Vec<(Value, Option<usize>, usize)> {
    vec![
        (json!({"name": "cross_entropy", "class_weights": [0.5, 2.0]}), Some(2), 1),
        (json!({"name": "cross_entropy", "label_smoothing": 0.1}), Some(2), 1),
        (json!({"name": "cross_entropy", "class_weights": [0.5, 2.0, 1.5], "label_smoothing": 0.2}), Some(3), 1),
        (json!({"name": "cross_entropy", "class_weights": weights(5), "label_smoothing": 0.3}), Some(5), 1),
        (json!({"name": "cross_entropy", "class_weights": weights(130), "label_smoothing": 0.3}), Some(130), 1),
        (json!({"name": "ordinal", "class_weights": weights(5)}), Some(5), 1),
        (json!({"name": "ordinal", "class_weights": weights(70)}), Some(70), 1),
        (json!({"name": "focal", "gamma": 0.0}), Some(3), 1),
        (json!({"name": "focal", "gamma": 0.5, "alpha": weights(4)}), Some(4), 1),
        (json!({"name": "focal", "gamma": 3.0, "alpha": weights(70)}), Some(70), 1),
        (json!({"name": "focal", "gamma": 1.5, "alpha": 0.25}), None, 1),
        (json!({"name": "focal", "gamma": 2.0, "alpha": [0.1, 0.9, 0.5]}), None, 3),
        (json!({"name": "binary_cross_entropy", "pos_weight": 3.0}), None, 1),
        (json!({"name": "binary_cross_entropy", "pos_weight": [0.5, 3.0, 1.0]}), None, 3),
        (json!({"name": "binary_cross_entropy", "pos_weight": weights(40)}), None, 40),
        (json!({"name": "huber", "delta": 0.3}), None, 2),
        (json!({"name": "quantile", "quantiles": [0.25]}), None, 2),
        (json!({"name": "quantile", "quantiles": [0.05, 0.5, 0.75, 0.95]}), None, 20),
        (json!({"name": "gaussian_nll", "epsilon": 0.01}), None, 18),
    ]
}

fn weights(count: usize) -> Vec<f64> {
    Dice(3).numbers(count, 0.1, 1.0)
}

/// Every loss with its defaults for tasks of many sizes, and the special ones.
fn all() -> Vec<(Value, Option<usize>, usize)> {
    let mut cases = special();
    for info in loss::infos() {
        let loss = loss::build(&json!(info.name)).unwrap();
        let classes = [2, 3, 4, 5, 17, 32, 33, 65, 200].map(|k| (Some(k), 1));
        let outputs = [1, 2, 3, 14, 16, 40, 100].map(|n| (None, n));
        let sizes = classes.into_iter().chain(outputs);
        let sizes: Vec<_> = sizes.filter(|(classes, outputs)| loss.labels(*classes, *outputs).is_ok()).collect();
        assert!(sizes.len() >= 7, "{} serves no task", info.name);
        cases.extend(sizes.into_iter().map(|(classes, outputs)| (loss.describe(), classes, outputs)));
    }
    cases
}

/// Calls `check` on many cases of every loss.
fn every_case(mut check: impl FnMut(&dyn Loss, &Value, Case)) {
    let mut dice = Dice(1);
    for (description, classes, outputs) in all() {
        let loss = loss::build(&description).unwrap();
        for rows in [1, 7, 16, 64, 65, 150] {
            check(&*loss, &loss.describe(), Case::new(&mut dice, &*loss, classes, outputs, rows));
        }
    }
}

fn near(got: f64, want: f64, tolerance: f64) -> bool {
    (got - want).abs() <= tolerance * want.abs().max(1.0)
}

#[test]
fn values_and_gradients_are_those_of_autograd() {
    every_case(|loss, description, case| {
        let (sum, gradient, weight) = case.kernel(loss);
        let (want_sum, want_gradient, want_weight) = case.reference(loss);
        if let Some((sum, gradient, weight)) = case.libtorch(description) {
            assert!(near(want_sum, sum, 1e-9) && near(want_weight, weight, 1e-12), "{description} {want_sum} {sum}");
            let worst = gradient.iter().zip(&want_gradient).all(|(known, found)| near(*found, *known, 1e-9));
            assert!(worst, "{description}: the formula's gradient is not libtorch's");
        }
        assert!(near(sum, want_sum, 1e-9), "{description} {sum} {want_sum}");
        assert!(near(weight, want_weight, 1e-12), "{description} {weight} {want_weight}");
        for (i, (got, want)) in gradient.iter().zip(&want_gradient).enumerate() {
            let inside = i % case.stride < case.width;
            let want = if inside { *want } else { 7.0 };
            assert!(near(*got, want, 1e-9), "{description} gradient {i} of {} rows: {got} {want}", case.rows);
        }
    });
}

#[test]
fn single_precision_follows_double() {
    every_case(|loss, description, case| {
        let (sum, gradient, weight) = case.single(loss);
        let loops = (sum, gradient.iter().map(|&got| f64::from(got)).collect::<Vec<_>>(), weight);
        let mut formula = case.reference_in(loss, Kind::Float);
        // The formula knows no columns beside the outputs, which loops leave as they are.
        let beside = formula.1.iter_mut().enumerate().filter(|(i, _)| i % case.stride >= case.width);
        beside.for_each(|(_, slope)| *slope = 7.0);
        let (want_sum, want_gradient, want_weight) = case.kernel(loss);
        for (sum, gradient, weight) in [loops, formula] {
            assert!(near(sum, want_sum, 2e-6 * case.rows as f64), "{description} {sum} {want_sum}");
            assert!(near(weight, want_weight, 1e-6), "{description} {weight} {want_weight}");
            for (got, want) in gradient.iter().zip(&want_gradient) {
                // Losses with a kink may stand on the other side of it.
                let flat = ["quantile", "mean_absolute"].contains(&description["name"].as_str().unwrap());
                assert!(flat || near(*got, *want, 2e-5), "{description} {got} {want}");
            }
        }
    });
}

#[test]
fn the_value_does_not_need_a_gradient() {
    every_case(|loss, description, case| {
        let targets = match &case.truth {
            Truth::Classes(classes) => Targets::Classes(classes),
            Truth::Values(values) => Targets::Values(values),
        };
        let (width, stride, rows) = (case.width, case.stride, case.rows);
        let alone = loss.evaluate(Batch {
            rows,
            width,
            outputs: &case.raw,
            gradient: None,
            stride,
            targets,
            weights: case.weights.as_deref(),
            scale: 1.0,
        });
        assert_eq!(alone, case.kernel(loss).0, "{description}");
    });
}

#[test]
fn a_batch_without_labels_has_no_loss_and_no_gradient() {
    every_case(|loss, description, mut case| {
        match &mut case.truth {
            Truth::Classes(classes) => classes.fill(-1),
            Truth::Values(values) => values.fill(f64::NAN),
        }
        // What the network says about such rows does not matter either.
        case.raw[0] = f64::INFINITY;
        for (sum, gradient, weight) in [case.kernel(loss), case.reference(loss)] {
            assert_eq!((sum, weight), (0.0, 0.0), "{description}");
            let inside = gradient.iter().enumerate().filter(|(i, _)| i % case.stride < case.width);
            assert!(inside.into_iter().all(|(_, g)| *g == 0.0), "{description}");
        }
        let (sum, gradient, weight) = case.single(loss);
        assert_eq!((sum, weight), (0.0, 0.0), "{description}");
        assert!(gradient.iter().all(|g| *g == 0.0 || *g == 7.0), "{description}");
    });
}

#[test]
fn rows_of_weight_zero_are_rows_without_a_label() {
    every_case(|loss, description, mut case| {
        case.weights = Some((0..case.rows).map(|row| (row % 2) as f64).collect());
        let with = case.kernel(loss);
        match &mut case.truth {
            Truth::Classes(classes) => classes.iter_mut().step_by(2).for_each(|c| *c = -1),
            Truth::Values(values) => values.chunks_mut(case.outputs).step_by(2).for_each(|row| row.fill(f64::NAN)),
        }
        assert_eq!(with, case.kernel(loss), "{description}");
    });
}

#[test]
fn extreme_outputs_stay_finite() {
    every_case(|loss, description, mut case| {
        let mut dice = Dice(5);
        case.raw.iter_mut().for_each(|z| *z = if dice.index(2) == 0 { 1e4 } else { -1e4 });
        let (sum, gradient, _) = case.single(loss);
        assert!(sum.is_finite() && gradient.iter().all(|g| g.is_finite()), "{description} single");
        let (sum, gradient, _) = case.kernel(loss);
        assert!(sum.is_finite() && gradient.iter().all(|g| g.is_finite()), "{description} double");
        let (sum, gradient, _) = case.reference(loss);
        assert!(sum.is_finite() && gradient.iter().all(|g| g.is_finite()), "{description} by its formula");
    });
}

#[test]
fn the_gradient_is_that_of_the_value_at_extremes_too() {
    // Central differences where autograd's own formulas lose their digits.
    for (name, classes, outputs) in [("poisson", None, 1), ("focal", Some(3), 1), ("focal", None, 1)] {
        let loss = loss::build(&json!(name)).unwrap();
        for z in [-50.0, -30.0, 30.0, 50.0, 59.0, 61.0, 90.0] {
            let mut case = Case::new(&mut Dice(9), &*loss, classes, outputs, 1);
            (case.weights, case.scale) = (None, 1.0);
            case.truth = if classes.is_some() { Truth::Classes(vec![0]) } else { Truth::Values(vec![1.0]) };
            case.raw[0] = z;
            let slope = case.kernel(&*loss).1[0];
            let mut at = |shift: f64| {
                case.raw[0] = z + shift;
                case.kernel(&*loss).0
            };
            let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
            assert!((slope - difference).abs() <= 1e-6 * difference.abs().max(1e-3), "{name} {z} {slope} {difference}");
        }
    }
}

/// Probabilities of ordered classes by differences of those of being more, which are products.
fn ordered(raw: &Tensor) -> Tensor {
    let beyond = raw.sigmoid().cumprod(1, Kind::Double);
    let edge = |value| Tensor::full([raw.size()[0], 1], value, (Kind::Double, tch::Device::Cpu));
    let ends = Tensor::cat(&[edge(1.0), beyond, edge(0.0)], 1);
    let classes = raw.size()[1] + 1;
    ends.narrow(1, 0, classes) - ends.narrow(1, 1, classes)
}

#[test]
fn links_are_those_of_torch() {
    let raw = Dice(4).numbers(60, -5.0, 5.0);
    let narrow: Vec<f32> = raw.iter().map(|z| *z as f32).collect();
    let predicted = |description: Value, classes, outputs| {
        let loss = loss::build(&description).unwrap();
        let rows = narrow.len() / loss.width(classes, outputs);
        let mut predicted = vec![0.0; rows * loss.predicted_width(classes, outputs)];
        loss.link(loss.labels(classes, outputs).unwrap()).apply(&narrow, &mut predicted);
        (Tensor::from_slice(&predicted).to_kind(Kind::Double), loss.predicted_width(classes, outputs))
    };
    let raw = Tensor::from_slice(&raw);
    let pairs = raw.view([30, 2]);
    let gaussian = Tensor::stack(&[pairs.i((.., 0)), pairs.i((.., 1)).softplus() + 1e-6], 1);
    let cases = [
        (predicted(json!("cross_entropy"), Some(3), 1), 3, raw.view([20, 3]).softmax(1, Kind::Double)),
        (predicted(json!("ordinal"), Some(4), 1), 4, ordered(&raw.view([20, 3]))),
        (predicted(json!("ordinal"), Some(2), 1), 2, ordered(&raw.view([60, 1]))),
        (predicted(json!("focal"), Some(5), 1), 5, raw.view([12, 5]).softmax(1, Kind::Double)),
        (predicted(json!("focal"), None, 2), 2, raw.sigmoid()),
        (predicted(json!("binary_cross_entropy"), None, 4), 4, raw.sigmoid()),
        (predicted(json!("mean_squared"), None, 4), 4, raw.shallow_clone()),
        (predicted(json!("quantile"), None, 2), 6, raw.shallow_clone()),
        (predicted(json!("poisson"), None, 2), 2, raw.exp()),
        (predicted(json!("gaussian_nll"), None, 2), 4, gaussian),
    ];
    for (i, ((got, got_width), width, want)) in cases.into_iter().enumerate() {
        assert_eq!(got_width, width, "case {i}");
        let worst = ((&got - want.view(-1)).abs() / (want.view(-1).abs() + 1e-3)).max().double_value(&[]);
        assert!(worst < 1e-5, "case {i}: {worst}");
    }
}

#[test]
fn balanced_weights_are_resolved_once_and_survive_saving() {
    let mut loss = loss::build(&json!({"name": "cross_entropy", "class_weights": "balanced"})).unwrap();
    let labels = loss.labels(Some(2), 1).unwrap();
    let mut counts = Counts::new(labels);
    counts.add(Targets::Classes(&[0, 0, 0, 1, -1]));
    loss.balance(&mut || Ok(counts.clone())).unwrap();
    loss.balance(&mut || panic!("counted twice")).unwrap();
    let want = json!({"name": "cross_entropy", "class_weights": [4.0 / 6.0, 2.0], "label_smoothing": 0.0});
    assert_eq!(loss.describe(), want);
    assert_eq!(loss::build(&want).unwrap().describe(), want);
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let refused = |description: Value, classes, outputs| {
        loss::build(&description).and_then(|loss| loss.labels(classes, outputs)).unwrap_err().to_string()
    };
    let cases = [
        (json!("cross_entropy"), None, 1, "`classes`"),
        (json!("cross_entropy"), Some(1), 1, "at least 2"),
        (json!("cross_entropy"), Some(3), 2, "outputs=2"),
        (json!({"name": "cross_entropy", "class_weights": [1.0]}), Some(3), 1, "`class_weights`"),
        (json!({"name": "cross_entropy", "class_weights": [1.0, -1.0]}), Some(2), 1, "`class_weights`"),
        (json!({"name": "cross_entropy", "class_weights": "even"}), Some(2), 1, "`class_weights`"),
        (json!({"name": "cross_entropy", "label_smoothing": 1.5}), Some(2), 1, "`label_smoothing`"),
        (json!("mean_squared"), Some(3), 1, "classes=3"),
        (json!("mean_squared"), None, 0, "`outputs`"),
        (json!({"name": "binary_cross_entropy", "pos_weight": [1.0]}), None, 3, "`pos_weight`"),
        (json!({"name": "binary_cross_entropy", "pos_weight": "even"}), None, 3, "`pos_weight`"),
        (json!({"name": "ordinal", "class_weights": [1.0, 2.0]}), Some(3), 1, "`class_weights`"),
        (json!("ordinal"), None, 1, "`classes`"),
        (json!({"name": "focal", "alpha": 0.5}), Some(3), 1, "`alpha`"),
        (json!({"name": "focal", "alpha": 1.5}), None, 1, "`alpha`"),
        (json!({"name": "quantile", "quantiles": []}), None, 1, "`quantiles`"),
        (json!({"name": "quantile", "quantiles": [0.5, 1.5]}), None, 1, "`quantiles`"),
        (json!({"name": "huber", "delta": 0.0}), None, 1, "`delta`"),
        (json!("hinge"), None, 1, "\"hinge\""),
    ];
    for (description, classes, outputs, expected) in cases {
        let message = refused(description.clone(), classes, outputs);
        assert!(message.contains(expected), "{description}: {message}");
    }
}
