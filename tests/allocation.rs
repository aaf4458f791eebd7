//! A steady step calls no allocator of Rust's.

mod rows;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use polytask::data::array::Array;
use polytask::data::{Data, Field, Offsets};
use polytask::machine::random::Stream;
use polytask::model::{Description, Model, Own};
use polytask::trainer::Trainer;
use polytask::trainer::epoch::Run;
use polytask::trainer::settings::Settings;
use polytask::{regularizer, weighting};
use rows::{Target, data};
use serde_json::{Value, json};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // Not there while a thread ends.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(address, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator during an epoch of 40 batches, after two epochs of warming up, or one with a warning.
fn calls(encoder: Value, head: Value, settings: Value, how: Run) -> usize {
    calls_with(encoder, json!("hard"), head, settings, how)
}

fn calls_with(encoder: Value, sharing: Value, head: Value, settings: Value, how: Run) -> usize {
    calls_of(json!({"numeric": 6}), encoder, sharing, head, settings, how)
}

fn calls_of(inputs: Value, encoder: Value, sharing: Value, head: Value, settings: Value, how: Run) -> usize {
    tch::set_num_threads(1);
    let description = json!({
        "inputs": inputs,
        "tasks": [{"name": "a", "loss": "cross_entropy", "classes": 3}, {"name": "b", "loss": "mean_squared"},
                  {"name": "c", "loss": "binary_cross_entropy", "outputs": 2, "weight": 0.5}],
        "encoder": encoder, "sharing": sharing, "head": head,
    });
    let mut model = Description::of(&description, Own::default()).and_then(Model::new).unwrap();
    let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
    let s = Stream::new(1, &[]);
    let rows = 40 * 16 - 5;
    let x = (0..rows * 6).map(|i| s.normal(i as u64) as f32).collect();
    let kinds = (0..rows).map(|r| (r % 4) as i64 - 1).collect();
    let numbers = |n: usize| (0..n).map(|i| if i % 3 == 0 { f32::NAN } else { 0.5 }).collect();
    let targets = vec![Target::Classes(kinds), Target::Values(numbers(rows), 1), Target::Values(numbers(rows * 2), 2)];
    let data = data(rows, x, targets);
    epochs(&mut model, &mut trainer, &data, how)
}

fn epochs(model: &mut Model, trainer: &mut Trainer, data: &Data, how: Run) -> usize {
    if trainer.needs_validation() {
        trainer.validate_on(data.clone());
    }
    for epoch in 1.. {
        let before = CALLS.get();
        trainer.run(model, data, how, None, &mut |_, _, _| Ok(())).unwrap();
        let during = CALLS.get() - before;
        trainer.end_epoch(model).unwrap();
        // What is said once is put into words once.
        if epoch > 2 && trainer.warning().is_none() {
            return during;
        }
    }
    unreachable!("a run has one warning")
}

/// The same over numeric features, a bag and a sparse table.
fn calls_with_tables(settings: Value, how: Run) -> usize {
    tch::set_num_threads(1);
    let bag = json!({"categories": 50, "length": 3, "combine": "mean"});
    let description = json!({
        "inputs": {"numeric": 2, "categorical": [9, bag, 1000], "embedding": 4, "sparse": [false, true, true]},
        "tasks": [{"name": "a", "loss": "mean_squared"}, {"name": "b", "loss": "mean_squared"}],
    });
    let mut model = Description::of(&description, Own::default()).and_then(Model::new).unwrap();
    let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
    let (s, rows) = (Stream::new(2, &[]), 40 * 16 - 5);
    let codes = (0..rows * 5).map(|i| match i % 5 {
        0 => (s.bits(i as u64) % 9) as i64,
        4 => (s.bits(i as u64) % 1000) as i64,
        _ => (s.bits(i as u64) % 51) as i64 - 1,
    });
    let numbers: Vec<f32> = (0..rows * 2).map(|i| s.normal(i as u64) as f32).collect();
    let targets = vec![Target::Values(numbers[..rows].to_vec(), 1), Target::Values(numbers[rows..].to_vec(), 1)];
    let data = Data { categorical: Some(Array::own(codes.collect::<Vec<_>>(), 5)), ..data(rows, numbers, targets) };
    model.check(&data, true).unwrap();
    epochs(&mut model, &mut trainer, &data, how)
}

/// The same over rows of no to four positions, with a task of positions and one of rows.
fn calls_with_positions(encoder: Value, weighting: &str) -> usize {
    tch::set_num_threads(1);
    let description = json!({
        "inputs": {"positions": [{"name": "words", "numeric": 3}]},
        "tasks": [{"name": "a", "loss": "mean_squared", "per": "words"}, {"name": "b", "loss": "mean_squared"}],
        "encoder": encoder,
    });
    let mut model = Description::of(&description, Own::default()).and_then(Model::new).unwrap();
    let settings = json!({"weighting": weighting});
    let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
    let rows = 40 * 16 - 5;
    // As many in each batch of 16, so that one plan serves all but the last.
    let ends = (0..=rows as i64).map(|row| row / 5 * 10 + [0, 4, 4, 6, 7][row as usize % 5]).collect::<Vec<_>>();
    let count = ends[rows] as usize;
    let s = Stream::new(3, &[]);
    let numbers = |from: usize, len: usize| (from..from + len).map(|i| s.normal(i as u64) as f32).collect::<Vec<_>>();
    let field = Field::ragged(Array::own(numbers(0, count * 3), 3), Array::own(ends.clone(), 1), "`x`").unwrap();
    let data = Data {
        rows,
        fields: vec![("words/numeric".to_owned(), field)],
        targets: vec![Some(Array::own(numbers(1, count), 1)), Some(Array::own(numbers(2, rows), 1))],
        offsets: vec![Some(Offsets::new(Array::own(ends, 1), count, "`y`").unwrap()), None],
        ..Data::default()
    };
    let how = Run { batch_size: 16, shuffle: false, keep_outputs: false, drop_last: true, group_by_length: false };
    epochs(&mut model, &mut trainer, &data, how)
}

#[test]
fn encoders_of_positions_allocate_nothing() {
    for weighting in ["equal", "upgrad"] {
        // What positions take whatever reads them.
        let plain = calls_with_positions(json!({"name": "mlp", "hidden": [9, 5]}), weighting);
        for encoder in [
            json!({"name": "convolution1d", "hidden": [9, 5], "dilation": [1, 2]}),
            json!({"name": "transformer", "width": 8, "heads": 2}),
        ] {
            assert_eq!(calls_with_positions(encoder.clone(), weighting), plain, "{encoder} {weighting}");
        }
        for cell in ["lstm", "gru"] {
            let encoder = json!({"name": "recurrent", "hidden": [9, 5], "cell": cell, "dropout": 0.1});
            assert_eq!(calls_with_positions(encoder, weighting), plain, "{cell} {weighting}");
        }
    }
}

/// Most calls of the allocator in an epoch of 39 steps, and in one of 20 steps of two micro-batches each, of weightings
/// that look beside the step, at parts of its batch or at validation rows, of which copies are made. All others have none.
const BESIDE: [(&str, [usize; 2]); 5] = [
    ("modo", [858, 516]),
    ("sdmgrad", [858, 516]),
    ("moml", [1677, 898]),
    ("forum", [4602, 2588]),
    ("auto_lambda", [1209, 658]),
];

#[test]
fn weightings_allocate_nothing_but_where_they_look_beside_the_step() {
    let how = Run { batch_size: 16, shuffle: true, keep_outputs: false, drop_last: true, group_by_length: false };
    let plain = json!({"name": "mlp", "hidden": [32, 16]});
    let ways = [
        json!({}),
        json!({"at": "representation"}),
        json!({"normalize": "loss+", "scale": "sum"}),
        json!({"per": "layer"}),
        json!({"refresh": 3}),
        json!({"gramian_precision": "bfloat16"}),
    ];
    let (mut walked, mut wrong) = (0, Vec::new());
    for (info, way) in weighting::infos().iter().flat_map(|info| ways.iter().map(move |way| (info, way))) {
        let mut described = way.clone();
        described["name"] = json!(info.name);
        if info.name == "cr_mogm" {
            described["inner"] = json!("upgrad");
        }
        // Not every method has every mode.
        let Ok(weighting) = weighting::build(&described) else { continue };
        let beside = BESIDE.iter().find(|(name, _)| *name == info.name).map_or([0; 2], |(_, calls)| *calls);
        assert_eq!(beside != [0; 2], weighting.claims().parts > 1 || weighting.claims().validates, "{}", info.name);
        // Gradients that are not kept cannot be added up.
        let most = if way.get("gramian_precision").is_some() { 1 } else { 2 };
        for (&most, accumulate) in beside.iter().zip(1..=most) {
            let settings = json!({"weighting": described, "accumulate": accumulate});
            let calls = calls(plain.clone(), json!("linear"), settings, how);
            if calls > most {
                wrong
                    .push(format!("{described}, {accumulate} micro-batches a step: {calls} calls, not {most} at most"));
            }
            walked += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(walked > 200, "{walked}");
}

#[test]
fn a_steady_step_allocates_nothing() {
    let how =
        |shuffle, keep_outputs| Run { batch_size: 16, shuffle, keep_outputs, drop_last: false, group_by_length: false };
    let plain = json!({"name": "mlp", "hidden": [32, 16]});
    let rich = |norm: &str| json!({"name": "mlp", "hidden": [32, 32], "dropout": 0.2, "norm": norm, "residual": true});
    let full = json!({
        "optimizer": {"name": "adamw", "weight_decay": 0.1}, "schedule": {"name": "exponential", "gamma": 0.9},
        "clip_norm": 1.0, "accumulate": 2, "weighting": {"name": "static", "task_weights": [1.0, 2.0, 3.0]},
        "regularizers": [{"name": "l2"}, {"name": "l1"}],
    });
    // Towers have layers of equal shape, which regularizers compare.
    let names = regularizer::infos().into_iter().map(|info| info.name).filter(|name| name != "orthogonality");
    let mut all: Vec<_> = names.map(Value::from).collect();
    all.push(json!({"name": "orthogonality", "shared": "heads.a", "private": "heads.b"}));
    let regularized = json!({"regularizers": all});
    assert_eq!(calls(plain.clone(), json!("tower"), regularized, how(true, false)), 0);
    let gated = json!({"name": "dselect_k", "experts": 5});
    assert_eq!(calls_with(plain.clone(), gated, json!("linear"), full.clone(), how(true, false)), 0);
    assert_eq!(calls_with_tables(json!({"clip_norm": 0.5}), how(true, false)), 0);
    assert_eq!(calls_with_tables(json!({"optimizer": "adagrad", "accumulate": 2}), how(true, false)), 0);
    let lines = json!({"name": "piecewise", "width": 5, "bins": 4, "linear": true, "activation": true});
    let waves = json!({"name": "periodic", "width": 5, "frequencies": 3, "scale": 0.1, "lite": false, "activation": true,
                       "raw": true});
    for (embed, weighting) in [(&lines, "equal"), (&lines, "upgrad"), (&waves, "equal"), (&waves, "upgrad")] {
        let inputs = json!({"numeric": 6, "embed": embed});
        let settings = json!({"weighting": weighting});
        assert_eq!(calls_of(inputs, plain.clone(), json!("hard"), json!("linear"), settings, how(true, false)), 0);
    }
    let muon = json!({"optimizer": {"name": "muon", "weight_decay": 0.1}, "clip_norm": 1.0});
    assert_eq!(calls_with_tables(muon.clone(), how(true, false)), 0);
    let crossed = json!({"name": "cross", "hidden": [32], "rank": 4});
    let gated = json!({"name": "mmoe", "experts": 5});
    assert_eq!(calls_with(crossed, gated, json!("tower"), muon, how(true, false)), 0);
    assert_eq!(calls(plain, json!("linear"), json!({}), how(true, false)), 0);
    assert_eq!(calls(rich("batch"), json!("tower"), full.clone(), how(true, true)), 0);
    assert_eq!(calls(rich("layer"), json!("linear"), full, how(false, false)), 0);
}
