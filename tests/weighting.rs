//! Weightings on evidence written down by hand.

use polytask::task::About;
use polytask::weighting;
use polytask::weighting::{Combination, Given};
use serde_json::{Value, json};

fn tasks() -> Vec<About> {
    About::named(&["a", "b", "c"])
}

/// The weights of the tasks that have labels.
fn weights(description: &Value, tasks_present: &[usize]) -> Vec<f64> {
    let mut weighting = weighting::build(description).unwrap();
    weighting.prepare(&tasks()).unwrap();
    let losses = [3.0, 2.0, 1.0];
    let mut combination = Combination::default();
    combination.clear(tasks_present.len());
    let mut evidence = Given::losses(&losses[..tasks_present.len()]);
    evidence.tasks = tasks_present.to_vec();
    weighting.weigh(&mut evidence, &mut combination).unwrap();
    assert!(combination.direction.is_empty());
    combination.weights
}

#[test]
fn equal_weights_are_ones() {
    assert_eq!(weights(&json!("equal"), &[0, 1, 2]), [1.0, 1.0, 1.0]);
    assert_eq!(weights(&json!("equal"), &[]), [0.0; 0]);
}

#[test]
fn static_weights_follow_their_tasks() {
    assert_eq!(weights(&json!({"name": "static", "task_weights": [0.5, 2.0, 0.0]}), &[0, 1, 2]), [0.5, 2.0, 0.0]);
    assert_eq!(weights(&json!({"name": "static", "task_weights": [0.5, 2.0, 0.0]}), &[2, 1][1..]), [2.0]);
    assert_eq!(weights(&json!({"name": "static", "task_weights": {"c": 4.0}}), &[0, 2]), [1.0, 4.0]);
    assert_eq!(weights(&json!("static"), &[1, 2]), [1.0, 1.0]);
}

#[test]
fn static_weights_that_do_not_fit_are_named() {
    let cases = [
        (json!({"name": "static", "task_weights": [1.0]}), "one number a task, 3; got 1"),
        (json!({"name": "static", "task_weights": {"d": 1.0}}), "no task \"d\"; there are `a`, `b`, `c`"),
        (json!({"name": "static", "task_weights": [1.0, -1.0, 1.0]}), "`task_weights`"),
        (json!({"name": "static", "task_weights": "even"}), "`task_weights`"),
    ];
    for (description, expected) in cases {
        let prepared = weighting::build(&description).and_then(|mut w| w.prepare(&tasks()));
        let message = prepared.unwrap_err().to_string();
        assert!(message.contains(expected), "{description}: {message}");
    }
}

#[test]
fn states_are_restored() {
    for info in weighting::infos() {
        let mut weighting = weighting::build(&json!(info.name)).unwrap();
        weighting.prepare(&tasks()).unwrap();
        let state = weighting.state();
        weighting.restore(&state).unwrap();
        assert_eq!(weighting.state(), state, "{}", info.name);
    }
}

#[test]
fn states_of_other_tasks_are_refused() {
    let mut refused = 0;
    for info in weighting::infos() {
        let [mut of_three, mut of_two] = [3, 2].map(|count| {
            let mut weighting = weighting::build(&json!(info.name)).unwrap();
            weighting.prepare(&tasks()[..count]).unwrap();
            weighting
        });
        let (three, two) = (of_three.state(), of_two.state());
        if three.value == two.value {
            continue;
        }
        for (weighting, own, other) in [(&mut of_two, &two, &three), (&mut of_three, &three, &two)] {
            let message = weighting.restore(other).unwrap_err().to_string();
            assert!(message.contains("it is of another number of tasks"), "{}: {message}", info.name);
            assert_eq!(weighting.state(), *own, "{}", info.name);
        }
        refused += 1;
    }
    assert!(refused > 15);
}
