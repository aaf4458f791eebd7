//! The training loop as a whole: steps, accumulation, missing labels, exact resumption.

mod rows;

use std::sync::Arc;
use std::time::Duration;

use polytask::data::Data;
use polytask::data::array::{Array, Dtype};
use polytask::machine::crossing::crossings as crossed;
use polytask::machine::random::Stream;
use polytask::machine::storage::Backend;
use polytask::model::{Description, Model, Own};
use polytask::trainer::Trainer;
use polytask::trainer::epoch::Run;
use polytask::trainer::settings::Settings;
use rows::{Target, data};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const ROWS: usize = 96;

fn description() -> Value {
    json!({
        "inputs": {"numeric": 5},
        "tasks": [
            {"name": "kind", "loss": {"name": "cross_entropy"}, "classes": 3},
            {"name": "size", "loss": {"name": "mean_squared"}, "weight": 0.5},
            {"name": "tags", "loss": {"name": "binary_cross_entropy"}, "outputs": 2},
        ],
        "encoder": {"name": "mlp", "hidden": [16, 8], "dropout": 0.1, "norm": "batch"},
        "head": {"name": "linear"},
        "seed": 3,
    })
}

fn model(change: impl FnOnce(&mut Value)) -> Model {
    let mut description = description();
    change(&mut description);
    Description::of(&description, Own::default()).and_then(Model::new).unwrap()
}

/// Features and three targets; of each task every third row lacks its label.
fn sample(seed: u64, rows: usize, missing: bool) -> (Vec<f32>, [Target; 3]) {
    let s = Stream::new(seed, &[]);
    let x: Vec<f32> = (0..rows * 5).map(|i| s.normal(i as u64) as f32).collect();
    let gone = |r: usize, task: usize| missing && (r + task).is_multiple_of(3);
    let kind =
        (0..rows).map(|r| if gone(r, 0) { -1 } else { i64::from(x[r * 5] > 0.0) + i64::from(x[r * 5 + 1] > 0.0) });
    let size = (0..rows).map(|r| if gone(r, 1) { f32::NAN } else { x[r * 5 + 2] - x[r * 5] });
    let tags =
        (0..rows * 2).map(|i| if gone(i / 2, 2) { f32::NAN } else { f32::from(u8::from(x[i / 2 * 5 + i % 2] > 0.3)) });
    let targets =
        [Target::Classes(kind.collect()), Target::Values(size.collect(), 1), Target::Values(tags.collect(), 2)];
    (x, targets)
}

fn training(missing: bool) -> Data {
    let (x, targets) = sample(1, ROWS, missing);
    data(ROWS, x, targets.into())
}

fn how(batch_size: usize) -> Run {
    Run { batch_size, shuffle: true, keep_outputs: false, drop_last: false, group_by_length: false }
}

fn epoch(trainer: &mut Trainer, model: &mut Model, data: &Data, how: Run) -> Value {
    assert!(trainer.run(model, data, how, None, &mut |_, _, _| Ok(())).unwrap());
    trainer.end_epoch(model).unwrap()
}

fn bits(model: &Model) -> Vec<u32> {
    (0..model.entries().len())
        .flat_map(|i| model.entry(i).unwrap().into_owned().into_iter().map(|x| x.to_bits()))
        .collect()
}

fn largest_difference(a: &Model, b: &Model) -> f32 {
    let values = |m: &Model| (0..m.entries().len()).flat_map(|i| m.entry(i).unwrap().into_owned()).collect::<Vec<_>>();
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn training_lowers_every_loss_with_labels_missing() {
    let mut model = model(|_| ());
    let mut trainer =
        Trainer::new(&model, Settings::of(&json!({"optimizer": {"name": "adam", "lr": 0.01}})).unwrap()).unwrap();
    let data = training(true);
    let first = epoch(&mut trainer, &mut model, &data, how(16));
    let last = (0..60).map(|_| epoch(&mut trainer, &mut model, &data, how(16))).last().unwrap();
    for task in 0..3 {
        let (before, after) = (first["tasks"][task].as_f64().unwrap(), last["tasks"][task].as_f64().unwrap());
        assert!(after < 0.6 * before, "task {task}: {before} -> {after}");
        assert_eq!(last["labels"][task], if task == 2 { 128.0 } else { 64.0 });
    }
}

/// Gates with entropy and with codes of no expert, whose terms count in the objective alone.
fn gated(entropy: f64) -> Model {
    model(|d| {
        d["encoder"] = json!({"name": "mlp", "hidden": [8]});
        d["sharing"] = json!({"name": "dselect_k", "experts": 5, "k": 2, "gamma": 8.0, "entropy": entropy});
    })
}

#[test]
fn terms_are_part_of_the_objective_and_of_no_loss() {
    let (mut model, data) = (gated(0.5), training(true));
    let mut trainer =
        Trainer::new(&model, Settings::of(&json!({"optimizer": {"name": "adam", "lr": 0.02}})).unwrap()).unwrap();
    assert_eq!(model.net.terms(), ["entropy", "spare_codes"]);
    let line = epoch(&mut trainer, &mut model, &data, how(ROWS));
    let number = |value: &Value| value.as_f64().unwrap();
    let losses = number(&line["tasks"][0]) + 0.5 * number(&line["tasks"][1]) + number(&line["tasks"][2]);
    let terms = number(&line["terms"][0]) + number(&line["terms"][1]);
    let mut after = terms;
    assert!(terms > 0.1 && (number(&line["loss"]) - losses - terms).abs() < 1e-6, "{line}");
    for _ in 0..50 {
        let last = epoch(&mut trainer, &mut model, &data, how(16));
        after = number(&last["terms"][0]) + number(&last["terms"][1]);
    }
    assert!(after < 0.5 * terms, "{terms} became {after}");
}

#[test]
fn terms_of_micro_batches_add_up() {
    for weighting in ["equal", "upgrad", "imtl"] {
        let after = |accumulate: usize, batch_size: usize| {
            let settings =
                json!({"optimizer": {"name": "sgd", "lr": 0.1}, "accumulate": accumulate, "weighting": weighting});
            let (mut model, data) = (gated(0.5), training(true));
            let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
            let lines = (0..3).map(|_| epoch(&mut trainer, &mut model, &data, how(batch_size))).last().unwrap();
            (model, lines)
        };
        let ((whole, expected), (parts, got)) = (after(1, ROWS), after(2, ROWS * 2 / 3));
        assert!(largest_difference(&whole, &parts) < 1e-5, "{weighting}");
        for (got, expected) in [&got["terms"][0], &got["terms"][1], &got["loss"]].into_iter().zip([
            &expected["terms"][0],
            &expected["terms"][1],
            &expected["loss"],
        ]) {
            let (got, expected) = (got.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((got - expected).abs() < 1e-5 * expected.abs(), "{weighting}: {got}, as one batch {expected}");
        }
    }
}

#[test]
fn losses_follow_a_loop_written_with_autograd() {
    let plain = json!({"name": "mlp", "hidden": [16], "activation": null});
    let mut model = model(|d| d["encoder"] = plain);
    let settings = json!({"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}});
    let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
    let (x, targets) = sample(1, ROWS, true);
    let params = model.entries().iter().enumerate().map(|(i, e)| {
        let shape: Vec<_> = e.shape.iter().map(|&n| n as i64).collect();
        Tensor::from_slice(&model.entry(i).unwrap()).reshape(shape).to_kind(Kind::Double).set_requires_grad(true)
    });
    let params: Vec<_> = params.collect();
    let named = |name: &str| &params[model.entries().iter().position(|e| *e.name == *name).unwrap()];
    let mut momentum: Vec<_> = params.iter().map(Tensor::zeros_like).collect();
    let x64 = Tensor::from_slice(&x).reshape([ROWS as i64, 5]).to_kind(Kind::Double);
    let [Target::Classes(kind), Target::Values(size, _), Target::Values(tags, _)] = &targets else { panic!() };
    let (kind, size) = (Tensor::from_slice(kind), Tensor::from_slice(size).to_kind(Kind::Double));
    let tags = Tensor::from_slice(tags).reshape([ROWS as i64, 2]).to_kind(Kind::Double);
    let mut expected = Vec::new();
    for _ in 0..200 {
        let h = x64.linear(named("encoder.0.weight"), Some(named("encoder.0.bias")));
        let head =
            |task: &str| h.linear(named(&format!("heads.{task}.weight")), Some(named(&format!("heads.{task}.bias"))));
        let a = head("kind").cross_entropy_loss::<Tensor>(&kind, None, tch::Reduction::Mean, -1, 0.0);
        let known = size.isfinite();
        let b = (head("size").squeeze_dim(1) - &size).masked_select(&known).square().mean(Kind::Double);
        let known = tags.isfinite();
        let c = head("tags").masked_select(&known).binary_cross_entropy_with_logits::<Tensor>(
            &tags.masked_select(&known),
            None,
            None,
            tch::Reduction::Mean,
        );
        let loss = a + b * 0.5 + c;
        expected.push(loss.double_value(&[]));
        let gradients = Tensor::run_backward(&[loss], &params, false, false);
        tch::no_grad(|| {
            for ((p, g), m) in params.iter().zip(&gradients).zip(&mut momentum) {
                *m = &*m * 0.9 + g;
                let _ = p.shallow_clone().g_sub_(&(&*m * 0.05));
            }
        });
    }
    let data = data(ROWS, x, targets.into());
    let whole = Run { shuffle: false, ..how(ROWS) };
    for (step, expected) in expected.iter().enumerate() {
        let got = epoch(&mut trainer, &mut model, &data, whole)["loss"].as_f64().unwrap();
        assert!((got - expected).abs() <= 1e-4 * expected.abs(), "step {step}: {got} instead of {expected}");
    }
}

#[test]
fn micro_batches_are_one_batch() {
    let still = json!({"name": "mlp", "hidden": [16], "activation": "tanh"});
    let (mut whole, mut parts) = (model(|d| d["encoder"] = still.clone()), model(|d| d["encoder"] = still.clone()));
    let settings = |accumulate: usize| json!({"optimizer": {"name": "sgd", "lr": 0.1}, "accumulate": accumulate, "clip_norm": 0.5});
    let mut one = Trainer::new(&whole, Settings::of(&settings(1)).unwrap()).unwrap();
    let mut four = Trainer::new(&parts, Settings::of(&settings(4)).unwrap()).unwrap();
    let data = training(true);
    for _ in 0..3 {
        let a = epoch(&mut one, &mut whole, &data, how(32));
        let b = epoch(&mut four, &mut parts, &data, how(8));
        assert!((a["loss"].as_f64().unwrap() - b["loss"].as_f64().unwrap()).abs() < 1e-5);
    }
    assert_eq!((one.steps(), four.steps()), (9, 9));
    assert!(largest_difference(&whole, &parts) < 1e-5);
    assert!(largest_difference(&whole, &model(|d| d["encoder"] = still)) > 1e-2);
}

/// What the first step reports of all rows, in so many micro-batches of equal size.
fn reported(weighting: &Value, micro_batches: usize) -> polytask::error::Result<Value> {
    let mut model = model(|d| d["encoder"] = json!({"name": "mlp", "hidden": [16, 8], "activation": "tanh"}));
    let settings = json!({"optimizer": {"name": "sgd", "lr": 1e-12}, "accumulate": micro_batches,
                          "weighting": weighting, "regularizers": [{"name": "l2", "strength": 0.1}],
                          "observe": ["weights"]});
    let mut trainer = Trainer::new(&model, Settings::of(&settings)?)?;
    trainer.validate_on(training(false));
    Ok(epoch(&mut trainer, &mut model, &training(true), how(ROWS / micro_batches)))
}

#[test]
fn every_weighting_reports_of_micro_batches_what_it_reports_of_one_batch() {
    let close = |got: &Value, want: &Value| match (got.as_f64(), want.as_f64()) {
        (Some(got), Some(want)) => (got - want).abs() <= 1e-4 * (1.0 + want.abs()),
        (got, want) => got == want,
    };
    let mut places = [0, 0];
    for info in polytask::weighting::infos() {
        for (at, place) in [Value::Null, json!("representation")].iter().zip(&mut places) {
            let mut weighting = json!({"name": info.name});
            if !at.is_null() {
                weighting["at"] = at.clone();
            }
            let Ok(whole) = reported(&weighting, 1) else {
                assert!(!at.is_null(), "{weighting}");
                continue;
            };
            *place += 1;
            for micro_batches in [2, 4] {
                let parts = reported(&weighting, micro_batches).unwrap();
                for key in ["loss", "objective", "tasks", "labels", "regularizers"] {
                    let (got, want) = (&parts[key], &whole[key]);
                    let same = match (got.as_array(), want.as_array()) {
                        (Some(got), Some(want)) => got.iter().zip(want).all(|(got, want)| close(got, want)),
                        _ => close(got, want),
                    };
                    assert!(same, "{weighting} in {micro_batches}: {key} is {got}, of one batch {want}");
                }
            }
        }
    }
    assert!(places[0] > 40 && places[1] > 10, "{places:?}");
}

#[test]
fn foreign_batches_give_the_same_bits_as_rows_in_memory() {
    let (mut a, mut b) = (model(|_| ()), model(|_| ()));
    let (mut x, mut y) =
        (Trainer::new(&a, Settings::default()).unwrap(), Trainer::new(&b, Settings::default()).unwrap());
    epoch(&mut x, &mut a, &training(true), Run { shuffle: false, ..how(ROWS) });
    y.step(&mut b, training(true), false).unwrap();
    assert_eq!(bits(&a), bits(&b));
}

#[test]
fn a_batch_without_labels_changes_nothing() {
    let mut model = model(|_| ());
    let mut trainer = Trainer::new(&model, Settings::default()).unwrap();
    let before = bits(&model);
    let (x, _) = sample(1, 8, false);
    let none =
        vec![Target::Classes(vec![-1; 8]), Target::Values(vec![f32::NAN; 8], 1), Target::Values(vec![f32::NAN; 16], 2)];
    let report = trainer.step(&mut model, data(8, x, none), false).unwrap();
    assert!(report.losses.iter().all(|loss| loss.is_nan()) && report.objective == 0.0);
    assert_eq!((bits(&model), trainer.steps()), (before, 0));
}

#[test]
fn a_diverging_run_stops_at_its_last_good_step() {
    let mut model =
        model(|d| d["encoder"] = json!({"name": "mlp", "hidden": [8], "activation": null, "norm": "batch"}));
    let settings = json!({"optimizer": {"name": "sgd", "lr": 1e30}});
    let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
    let data = training(false);
    let error = loop {
        let before = bits(&model);
        if let Err(error) = trainer.run(&mut model, &data, how(ROWS), None, &mut |_, _, _| Ok(())) {
            assert_eq!(bits(&model), before);
            break error.to_string();
        }
        trainer.end_epoch(&mut model).unwrap();
    };
    assert!(error.contains("try a smaller learning rate"), "{error}");
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let settings = json!({
        "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
        "schedule": {"name": "cosine", "warmup": 5}, "clip_norm": 1.0, "accumulate": 2, "seed": 9,
    });
    let run = Run { keep_outputs: true, ..how(10) };
    let start = || {
        let model = model(|d| d["tasks"][0]["loss"] = json!({"name": "cross_entropy", "class_weights": "balanced"}));
        let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
        trainer.plan(Some(20)).unwrap();
        (model, trainer)
    };
    let data = training(true);
    let go = |model: &mut Model, trainer: &mut Trainer, until: u64| {
        trainer.balance(model, &data).unwrap();
        let mut lines = Vec::new();
        while trainer.epochs() < until {
            trainer.run(model, &data, run, None, &mut |_, _, _| Ok(())).unwrap();
            lines.push((trainer.outputs().to_vec(), trainer.end_epoch(model).unwrap()));
        }
        lines
    };
    let (mut model, mut trainer) = start();
    let expected = go(&mut model, &mut trainer, 4);

    for stop in [2, 4, 10, 16] {
        let path = std::env::temp_dir().join(format!("polytask-resume-{}-{stop}.safetensors", std::process::id()));
        let (mut first, mut killed) = start();
        go(&mut first, &mut killed, 1);
        killed.run(&mut first, &data, run, Some(stop), &mut |_, _, _| Ok(())).unwrap();
        killed.save(&first, &path, "{\"note\": 1}", &[]).unwrap();
        let (mut second, mut resumed) = start();
        assert_eq!(resumed.restore(&mut second, &path).unwrap(), "{\"note\": 1}");
        let rest = go(&mut second, &mut resumed, 4);
        assert_eq!(bits(&second), bits(&model), "stopped after {stop} batches");
        assert_eq!(rest, expected[1..], "stopped after {stop} batches");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_checkpoint_of_another_model_or_other_settings_is_refused_and_changes_nothing() {
    let path = std::env::temp_dir().join(format!("polytask-other-{}.safetensors", std::process::id()));
    let mut a = model(|_| ());
    let trainer = Trainer::new(&a, Settings::default()).unwrap();
    trainer.save(&a, &path, "", &[]).unwrap();
    let mut other = model(|d| d["encoder"]["hidden"] = json!([16, 9]));
    let before = bits(&other);
    let error = Trainer::new(&other, Settings::default()).unwrap().restore(&mut other, &path).unwrap_err().to_string();
    assert!(error.contains("`encoder`"), "{error}");
    assert_eq!(bits(&other), before);
    let error =
        Trainer::new(&a, Settings::of(&json!({"clip_norm": 2})).unwrap()).unwrap().restore(&mut a, &path).unwrap_err();
    assert!(error.to_string().contains("`clip_norm` is null there and 2.0 here"), "{error}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_jacobian_adds_up_to_the_gradient_and_squares_to_the_gramian() {
    let mut model = model(|d| d["head"] = json!({"name": "tower", "hidden": [6]}));
    let data = training(true);
    let gradient = model.gradient(&data).unwrap();
    let jacobian = model.jacobian(&data).unwrap();
    let gramian = model.gramian(&data).unwrap();
    let named = |name: &String| model.entries().iter().position(|e| *e.name == **name).unwrap();
    let flat: Vec<f32> = jacobian.names.iter().flat_map(|name| gradient[named(name)].clone()).collect();
    assert!(jacobian.names.iter().all(|name| name.starts_with("encoder.")) && !flat.is_empty());
    for (k, &sum) in flat.iter().enumerate() {
        let rows: f32 = jacobian.rows.iter().map(|row| row[k]).sum();
        assert!((rows - sum).abs() <= 1e-5 * sum.abs().max(0.1), "column {k}: {rows} instead of {sum}");
    }
    for (i, a) in jacobian.rows.iter().enumerate() {
        for (j, b) in jacobian.rows.iter().enumerate() {
            let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((gramian[i * 3 + j] - dot).abs() < 1e-5 * gramian[i * 3 + i].max(gramian[j * 3 + j]));
        }
    }
}

#[test]
fn a_saved_model_is_the_same_model() {
    let path = std::env::temp_dir().join(format!("polytask-model-{}.safetensors", std::process::id()));
    let mut model = model(|_| ());
    epoch(&mut Trainer::new(&model, Settings::default()).unwrap(), &mut model, &training(true), how(16));
    model.set_notes(serde_json::from_str("{\"a\": [1]}").unwrap());
    model.save(&path).unwrap();
    let again = Model::open(&path, |_| Ok(Own::default())).unwrap();
    assert_eq!((bits(&again), again.describe()), (bits(&model), model.describe()));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn sizes_and_seeds_that_cannot_be_are_refused() {
    let message = |change: &dyn Fn(&mut Value)| {
        let mut description = description();
        change(&mut description);
        Description::of(&description, Own::default()).and_then(Model::new).unwrap_err().to_string()
    };
    for size in [json!(1_000_000_000_000_u64), json!(u64::MAX)] {
        assert!(message(&|d| d["inputs"]["numeric"] = size.clone()).contains("parameters"));
        assert!(message(&|d| d["encoder"]["hidden"] = size.clone()).contains("parameters"));
        assert!(message(&|d| d["inputs"]["categorical"] = json!([size.clone()])).contains("`categorical` should be"));
    }
    for seed in [json!(-1), json!("a"), json!(1.5)] {
        assert!(message(&|d| d["seed"] = seed.clone()).starts_with("`seed` should be a whole number"));
    }
}

#[test]
fn a_batch_that_waits_for_its_step_may_be_overwritten() {
    let run = |overwrite: bool| {
        let mut model = model(|d| d["encoder"] = json!({"name": "mlp", "hidden": [4], "activation": "tanh"}));
        let mut trainer = Trainer::new(&model, Settings::of(&json!({"accumulate": 2})).unwrap()).unwrap();
        let (mut features, targets) = sample(1, ROWS, true);
        // SAFETY: `features` outlives every use of this array.
        let borrowed =
            unsafe { Array::borrow(features.as_ptr().cast(), Dtype::F32, &[ROWS, 5], &[20, 4], Arc::new(())) };
        let waiting = Data { numeric: borrowed, ..data(ROWS, features.clone(), targets.clone().into()) };
        trainer.step(&mut model, waiting, false).unwrap();
        if overwrite {
            features.fill(7.0);
        }
        trainer.step(&mut model, training(true), false).unwrap();
        assert_eq!(trainer.steps(), 1);
        bits(&model)
    };
    assert_eq!(run(true), run(false));
}

/// How often numbers go to the device and come back in an epoch by formulas, after two of warming up, in which nobody looks
/// at the steps on the way.
fn crossings(settings: &Value, batch_size: usize) -> [u64; 2] {
    let (mut model, data) = (model(|_| ()), training(false));
    model.bring_to(Backend::Formulas(Device::Cpu)).unwrap();
    let mut trainer = Trainer::new(&model, Settings::of(settings).unwrap()).unwrap();
    trainer.plan(Some(1000)).unwrap();
    trainer.look_every(Duration::MAX);
    let mut counted = || {
        let before = crossed();
        let mut look = |_, _, _| panic!("somebody looked");
        assert!(trainer.run(&mut model, &data, how(batch_size), None, &mut look).unwrap());
        trainer.end_epoch(&mut model).unwrap();
        let after = crossed();
        [after.sent - before.sent, after.fetched - before.fetched]
    };
    let each = [(); 4].map(|()| counted());
    assert_eq!(each[2], each[3]);
    each[3]
}

#[test]
fn steps_by_formulas_are_told_what_is_new_and_asked_for_what_a_decision_needs() {
    // Of a micro-batch features, three tasks' labels and the number that draws follow from; of a step its number with rates.
    let (batch, update) = (5, 1);
    let by_gradients = |accumulate: u64| {
        // The weights go there. Losses come of each micro-batch, to be looked at before they are believed, and the Gramian.
        [accumulate * batch + 1 + update, accumulate + 1]
    };
    for (settings, accumulate, expected) in [
        (json!({"optimizer": {"name": "adamw"}}), 1, [batch + update, 0]),
        (
            json!({"optimizer": {"name": "sgd", "momentum": 0.9}, "schedule": {"name": "cosine", "warmup": 5}, "clip_norm": 1.0,
                   "regularizers": [{"name": "l2", "strength": 0.1}]}),
            1,
            [batch + update, 0],
        ),
        (json!({"accumulate": 4}), 4, [4 * batch + update, 0]),
        (json!({"weighting": "upgrad"}), 1, by_gradients(1)),
        (json!({"weighting": {"name": "upgrad", "per": "layer"}}), 1, by_gradients(1)),
        (json!({"weighting": "upgrad", "accumulate": 4}), 4, by_gradients(4)),
        (json!({"weighting": {"name": "cagrad", "per": "layer"}, "accumulate": 2}), 2, by_gradients(2)),
    ] {
        // What an epoch sends and asks whatever its length is in both. All batches are of one size.
        let few = crossings(&settings, ROWS / (3 * accumulate));
        let many = crossings(&settings, ROWS / (6 * accumulate));
        let of_a_step = [0, 1].map(|way| (many[way] - few[way]) as f64 / 3.0);
        assert_eq!(of_a_step, expected.map(|count| count as f64), "{settings}");
        assert!(few[1] > 0, "{settings}: nobody asked what an epoch came to");
    }
}
