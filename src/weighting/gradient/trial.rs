//! What every weighting from gradients must do, tried on it.

use serde_json::Value;

use crate::component::Component;
use crate::machine::random::Stream;
use crate::task::About;
use crate::weighting::{Combination, Given, Moment, State, Weighting};

/// Steps, tasks and parameters of [`sequence`].
const STEPS: usize = 12;
const TASKS: usize = 3;
const WIDTH: usize = 37;

/// The matrix that the golden directions of other libraries are for.
pub(super) fn golden() -> Given {
    Given::jacobian(2, &[-4.0, 1.0, 1.0, 6.0, 1.0, 1.0])
}

/// A copy that knows so many tasks.
pub(super) fn prepared<W: Weighting + Clone>(weighting: &W, tasks: usize) -> W {
    let mut weighting = weighting.clone();
    weighting.prepare(&About::named(&["a", "b", "c", "d", "e"][..tasks])).unwrap();
    weighting
}

/// What it decides.
pub(super) fn decide(weighting: &mut dyn Weighting, evidence: &Given) -> Combination {
    let mut combination = Combination::default();
    combination.clear(evidence.tasks.len());
    weighting.weigh(&mut evidence.clone(), &mut combination).unwrap();
    assert_eq!(combination.weights.len(), evidence.tasks.len());
    assert_eq!(combination.own.len(), evidence.tasks.len());
    combination
}

/// The gradient of the shared parameters that it decides for.
pub(super) fn shared(weighting: &mut dyn Weighting, evidence: &Given) -> Vec<f64> {
    let Combination { weights, direction, .. } = decide(weighting, evidence);
    if !direction.is_empty() {
        return wide(&direction);
    }
    let jacobian = wide(evidence.jacobian.as_deref().unwrap());
    let width = jacobian.len() / weights.len().max(1);
    (0..width).map(|k| weights.iter().enumerate().map(|(i, weight)| weight * jacobian[i * width + k]).sum()).collect()
}

/// In double precision.
pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Fails where numbers differ by more than this.
pub(super) fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{got:?} {want:?}");
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= tolerance), "{got:?} {want:?}");
}

/// Fails where a direction would make a task worse.
pub(super) fn conflict_free(evidence: &Given, direction: &[f64]) {
    let jacobian = wide(evidence.jacobian.as_deref().unwrap());
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    for row in jacobian.chunks(direction.len()) {
        let product: f64 = row.iter().zip(direction).map(|(a, b)| a * b).sum();
        assert!(product >= -1e-9 * norm(row) * norm(direction), "{product}");
    }
}

/// Steps of tasks whose gradients conflict and are noisy, all gradients times `scale`; batches in three parts.
pub(super) fn sequence(steps: usize, tasks: usize, scale: f64) -> Vec<Given> {
    let random = Stream::new(11, &[]);
    let step = |step: usize| {
        let value = |part: usize, k: usize| {
            let noise = random.normal(((step * 4 + part) * 1000 + k) as u64);
            // Tasks share a direction, with which every second one disagrees.
            let task = k / WIDTH;
            let k = k % WIDTH;
            let common = random.normal(900_000 + k as u64) * if task.is_multiple_of(2) { 1.0 } else { -0.6 };
            f64::from((common + noise * (1.0 + task as f64)) as f32) * scale
        };
        let jacobian = |part: usize| (0..tasks * WIDTH).map(|k| value(part, k)).collect::<Vec<f64>>();
        let losses = (0..tasks).map(|task| (1.5 + random.normal((800_000 + step * 10 + task) as u64).abs()) / 2.0);
        Given {
            losses: losses.collect(),
            parts: (1..4).map(|part| jacobian(part).iter().map(|&x| x as f32).collect()).collect(),
            moment: Moment { seed: 5, step: step as u64, epoch: 0, lr: 0.1 },
            ..Given::jacobian(tasks, &jacobian(0))
        }
    };
    (0..steps).map(step).collect()
}

/// The same evidence, of these tasks only.
fn only(evidence: &Given, tasks: &[usize]) -> Given {
    let all = evidence.tasks.len();
    let rows = |matrix: &Vec<f32>| {
        let width = matrix.len() / all;
        tasks.iter().flat_map(|&task| matrix[task * width..][..width].to_vec()).collect::<Vec<f32>>()
    };
    let jacobian = rows(evidence.jacobian.as_ref().unwrap());
    Given {
        losses: tasks.iter().map(|&task| evidence.losses[task]).collect(),
        tasks: tasks.to_vec(),
        parts: evidence.parts.iter().map(rows).collect(),
        moment: evidence.moment,
        ..Given::jacobian(tasks.len(), &wide(&jacobian))
    }
}

fn finite(combination: &Combination) {
    let numbers = combination.weights.iter().chain(&combination.own);
    assert!(numbers.copied().all(f64::is_finite), "{combination:?}");
    assert!(combination.direction.iter().all(|x| x.is_finite()), "{combination:?}");
}

/// All that holds for every method.
pub(super) fn general<W: Weighting + Component + Clone + PartialEq>(weighting: &W) {
    few_rows(weighting);
    zeros(weighting);
    scales(weighting);
    resumes(weighting);
    absent(weighting);
}

fn few_rows<W: Weighting + Clone>(weighting: &W) {
    // A batch without labels teaches nothing about tasks, neither at first nor later.
    let mut several = prepared(weighting, TASKS);
    for evidence in sequence(3, TASKS, 1.0) {
        let before = several.state();
        finite(&decide(&mut several, &only(&evidence, &[])));
        assert_eq!(several.state(), before);
        decide(&mut several, &evidence);
    }
    let mut alone = prepared(weighting, 1);
    for evidence in sequence(3, 1, 1.0) {
        let got = shared(&mut alone, &evidence);
        let gradient = match evidence.parts.get(2) {
            Some(part) if alone.claims().parts == 3 => wide(part),
            _ => wide(evidence.jacobian.as_deref().unwrap()),
        };
        assert!(got.iter().all(|x| x.is_finite()));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // Averages over time only go about where the gradient goes.
        assert!(dot(&got, &gradient) > 0.5 * (dot(&got, &got) * dot(&gradient, &gradient)).sqrt());
    }
}

fn zeros<W: Weighting + Clone>(weighting: &W) {
    let mut fresh = prepared(weighting, TASKS);
    for evidence in sequence(3, TASKS, 0.0) {
        finite(&decide(&mut fresh, &evidence));
        assert!(shared(&mut fresh, &evidence).iter().all(|&x| x == 0.0));
    }
    for mut evidence in sequence(6, TASKS, 1.0) {
        // One task without a gradient, then all with one.
        if evidence.moment.step < 3 {
            let width = |matrix: &[f32]| matrix.len() / TASKS;
            for matrix in evidence.parts.iter_mut().chain(&mut evidence.jacobian) {
                let width = width(matrix);
                matrix[width..2 * width].fill(0.0);
            }
            let jacobian = wide(evidence.jacobian.as_deref().unwrap());
            evidence.gramian = Given::jacobian(TASKS, &jacobian).gramian;
        }
        finite(&decide(&mut fresh, &evidence));
    }
    // Equal and opposed rows.
    let mut evidence = sequence(1, TASKS, 1.0).remove(0);
    let row = wide(&evidence.jacobian.unwrap()[..WIDTH]);
    let rows: Vec<f64> = [1.0, -2.0, 1.0].iter().flat_map(|factor| row.iter().map(move |x| factor * x)).collect();
    evidence = Given { parts: evidence.parts, losses: evidence.losses, ..Given::jacobian(TASKS, &rows) };
    finite(&decide(&mut prepared(weighting, TASKS), &evidence));
}

fn scales<W: Weighting + Clone>(weighting: &W) {
    let run = |scale: f64| -> Vec<Vec<f64>> {
        let mut weighting = prepared(weighting, TASKS);
        sequence(STEPS, TASKS, scale).iter().map(|evidence| shared(&mut weighting, evidence)).collect()
    };
    let plain = run(1.0);
    assert!(plain.iter().all(|direction| direction.iter().any(|x| *x != 0.0)));
    // About 1e-10 and 1e10; as powers of two they change no digits.
    for scale in [2.0_f64.powi(-33), 2.0_f64.powi(33)] {
        for (scaled, plain) in run(scale).iter().zip(&plain) {
            let largest = plain.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let scaled: Vec<f64> = scaled.iter().map(|x| x / scale).collect();
            close(&scaled, plain, 1e-9 * largest);
        }
    }
}

/// The state as a checkpoint keeps it.
fn written(state: &State) -> State {
    let value: Value = serde_json::from_str(&serde_json::to_string(&state.value).unwrap()).unwrap();
    State { value, arrays: state.arrays.clone() }
}

fn resumes<W: Weighting + Clone + PartialEq>(weighting: &W) {
    let steps = sequence(STEPS, TASKS, 1.0);
    let mut run = prepared(weighting, TASKS);
    let fresh = run.state();
    let first: Vec<Combination> = steps.iter().map(|evidence| decide(&mut run, evidence)).collect();
    for prepare_first in [true, false] {
        let mut begun = prepared(weighting, TASKS);
        steps[..STEPS / 2].iter().for_each(|evidence| drop(decide(&mut begun, evidence)));
        let state = written(&begun.state());
        assert_eq!(state, begun.state());
        let mut resumed = if prepare_first { prepared(weighting, TASKS) } else { weighting.clone() };
        resumed.restore(&state).unwrap();
        resumed = prepared(&resumed, TASKS);
        assert_eq!(resumed.state(), state);
        for (evidence, want) in steps.iter().zip(&first).skip(STEPS / 2) {
            assert_eq!(decide(&mut resumed, evidence), *want);
        }
    }
    run.reset();
    run = prepared(&run, TASKS);
    assert_eq!(run.state(), fresh);
    for (evidence, want) in steps.iter().zip(&first) {
        assert_eq!(decide(&mut run, evidence), *want);
    }
}

/// What a state says of task 1: entries of lists that have one, or one a pair, for each task.
fn of_the_second_task(value: &Value) -> Vec<Value> {
    let second = |index: usize, length: usize| match length {
        TASKS => index == 1,
        _ => length == TASKS * TASKS && (index / TASKS == 1 || index % TASKS == 1),
    };
    match value {
        Value::Object(map) => map.values().flat_map(of_the_second_task).collect(),
        Value::Array(list) => {
            let own = list.iter().enumerate().filter(|(index, _)| second(*index, list.len()));
            own.map(|(_, value)| value.clone()).collect()
        }
        _ => Vec::new(),
    }
}

fn absent<W: Weighting + Clone>(weighting: &W) {
    let mut weighting = prepared(weighting, TASKS);
    let steps = sequence(STEPS, TASKS, 1.0);
    steps[..3].iter().for_each(|evidence| drop(decide(&mut weighting, evidence)));
    let before = weighting.state();
    for evidence in &steps[3..] {
        let combination = decide(&mut weighting, &only(evidence, &[0, 2]));
        finite(&combination);
        assert_eq!(combination.weights.len(), 2);
    }
    let after = weighting.state();
    assert_eq!(of_the_second_task(&before.value), of_the_second_task(&after.value));
    for ((name, before), (_, after)) in before.arrays.iter().zip(&after.arrays) {
        assert_eq!(before.len(), TASKS * WIDTH, "{name}");
        assert_eq!(before[WIDTH..2 * WIDTH], after[WIDTH..2 * WIDTH], "{name}");
        assert_ne!(before[..WIDTH], after[..WIDTH], "{name}");
    }
}
