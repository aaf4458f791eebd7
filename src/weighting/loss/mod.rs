//! Weightings that look at nothing dearer than the task losses.

crate::members!(
    crate::weighting::Weighting:
    equal::Equal,
    mean::Mean,
    r#static::Static,
    scale_invariant::ScaleInvariant,
    uncertainty::Uncertainty,
    dwa::Dwa,
    rlw::Rlw,
    gls::Gls,
    imtl_l::ImtlL,
    stch::Stch,
    famo::Famo,
    cosmos::Cosmos,
    pbi::Pbi,
    go4align::Go4Align,
    ldc::Ldc,
);

#[cfg(test)]
pub(crate) mod tests {
    //! What the tests of these weightings share.

    use serde_json::{Value, json};

    use crate::error::Result;
    use crate::task::About;
    use crate::weighting::{Combination, Given, Moment, Weighting, build};

    /// Tasks "a", "b", "c" ...; classifications.
    pub fn about(tasks: usize) -> Vec<About> {
        (0..tasks).map(|j| About { name: char::from(b'a' + j as u8).to_string(), regression: false }).collect()
    }

    /// A weighting that knows so many tasks.
    pub fn prepared<W: Weighting>(mut weighting: W, tasks: usize) -> W {
        weighting.prepare(&about(tasks)).unwrap();
        weighting
    }

    /// Losses of these tasks.
    pub fn given(tasks: &[usize], losses: &[f64]) -> Given {
        Given { tasks: tasks.to_vec(), ..Given::losses(losses) }
    }

    /// The weights for this evidence.
    pub fn weigh_given(weighting: &mut dyn Weighting, evidence: &mut Given) -> Result<Vec<f64>> {
        let mut into = Combination::default();
        into.clear(evidence.tasks.len());
        weighting.weigh(evidence, &mut into)?;
        assert!(into.direction.is_empty() && into.own.iter().all(|own| *own == 1.0));
        Ok(into.weights)
    }

    /// The weights for losses of the first tasks.
    pub fn weigh(weighting: &mut dyn Weighting, losses: &[f64]) -> Result<Vec<f64>> {
        weigh_given(weighting, &mut Given::losses(losses))
    }

    /// Equal but for rounding.
    pub fn close(seen: &[f64], expected: &[f64]) {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-12);
        assert!(seen.len() == expected.len() && seen.iter().zip(expected).all(near), "{seen:?} is not {expected:?}");
    }

    /// What a weighting minimises at these losses, and its weights, after a first batch of other losses.
    fn minimized(description: &Value, losses: &[f64]) -> (Option<f64>, Vec<f64>) {
        let mut weighting = build(description).unwrap();
        weighting.prepare(&about(losses.len())).unwrap();
        weigh(&mut *weighting, &[1.5, 0.75, 2.0]).unwrap();
        let mut evidence = Given::losses(losses);
        evidence.moment = Moment { seed: 1, step: 9, epoch: 5, lr: 0.1 };
        let mut into = Combination::default();
        into.clear(losses.len());
        weighting.weigh(&mut evidence, &mut into).unwrap();
        (into.objective, into.weights)
    }

    #[test]
    fn weights_are_the_derivatives_of_the_objective() {
        for description in [
            json!({"name": "uncertainty", "start": 0.3}),
            json!("scale_invariant"),
            json!("gls"),
            json!({"name": "imtl_l", "lr": 0.2}),
            json!({"name": "imtl_l", "exact": true}),
            json!({"name": "stch", "mu": 0.7}),
            json!({"name": "stch", "warm_up": 9}),
            json!({"name": "cosmos", "preference": [1.0, 2.0, 3.0], "similarity": 2.0}),
            json!({"name": "pbi", "preference": [1.0, 2.0, 3.0], "ideal": [0.1, 0.0, 0.2]}),
            json!({"name": "ldc", "lr": 0.1}),
            json!({"name": "ldc", "lr": 0.1, "weighted": true}),
        ] {
            let losses = [0.5, 2.0, 1.25];
            let (_, weights) = minimized(&description, &losses);
            for (task, weight) in weights.iter().enumerate() {
                let at = |by: f64| {
                    let mut moved = losses;
                    moved[task] += by;
                    minimized(&description, &moved).0.expect("it has a formula of its own")
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - weight).abs() < 1e-7, "{description} {task}: {slope} is not {weight}");
            }
        }
    }

    #[test]
    fn objectives_are_those_of_the_formulas() {
        let losses = [0.5_f64, 2.0, 1.25];
        let logarithms: f64 = losses.iter().map(|loss| loss.ln()).sum();
        let first = [1.5_f64, 0.75, 2.0];
        let relative: f64 = losses.iter().zip(first).map(|(loss, first)| loss / first).sum();
        for (description, expected) in [
            (json!({"name": "uncertainty", "start": 0.3, "lr": 0.0}), 3.75 * (-0.3_f64).exp() + 0.45),
            (json!("scale_invariant"), logarithms),
            (json!("gls"), (logarithms / 3.0).exp()),
            (json!({"name": "imtl_l", "lr": 0.0}), 3.75),
            (json!({"name": "imtl_l", "exact": true}), 3.0 + logarithms),
            (json!({"name": "stch", "warm_up": 1}), 3.0 * relative.ln()),
            (json!({"name": "stch", "warm_up": 9}), logarithms),
            (json!("cosmos"), 1.25 - 3.75 / (3.0 * losses.map(|x| x * x).iter().sum::<f64>()).sqrt()),
            (json!({"name": "pbi", "theta": 0.0}), 3.75 / 3.0_f64.sqrt()),
            (json!({"name": "ldc", "lr": 0.0, "penalty": 0.0}), relative / 3.0),
        ] {
            // `stch` is warm after an epoch, `minimized` shows it one batch in its first.
            let got = minimized(&description, &losses).0.expect("it has a formula of its own");
            assert!((got - expected).abs() < 1e-9, "{description}: {got} is not {expected}");
        }
        for name in ["equal", "static", "mean", "dwa", "rlw", "famo", "go4align"] {
            assert_eq!(minimized(&json!(name), &losses).0, None, "{name}");
        }
    }

    #[test]
    fn losses_of_0_have_an_objective_too() {
        for name in ["scale_invariant", "gls", "imtl_l", "stch", "cosmos", "pbi", "ldc", "uncertainty"] {
            for losses in [[0.0, 0.0, 0.0], [0.0, 1.0, 0.5]] {
                let objective = minimized(&json!(name), &losses).0;
                assert!(objective.is_none_or(f64::is_finite), "{name} {losses:?}: {objective:?}");
            }
        }
    }

    #[test]
    fn weightings_that_do_not_look_weigh_by_their_constants() {
        let inner = json!({"name": "static", "task_weights": [2.0, 0.5, 1.0]});
        for (description, expected) in [
            (json!("equal"), [1.0; 3]),
            (inner.clone(), [2.0, 0.5, 1.0]),
            (json!({"name": "cr_mogm", "inner": inner}), [2.0, 0.5, 1.0]),
        ] {
            let mut weighting = build(&description).unwrap();
            weighting.prepare(&about(3)).unwrap();
            assert!(!weighting.claims().looks, "{description}");
            let constants = weighting.constants();
            assert!(constants.is_empty() || constants == expected, "{description}");
            assert_eq!(minimized(&description, &[0.5, 2.0, 1.25]), (None, expected.to_vec()), "{description}");
        }
        for name in ["mean", "uncertainty", "rlw", "upgrad"] {
            let weighting = build(&json!(name)).unwrap();
            assert!(weighting.claims().looks && weighting.constants().is_empty(), "{name}");
        }
        let averaged = build(&json!({"name": "cr_mogm", "inner": {"name": "uncertainty"}})).unwrap();
        assert!(averaged.claims().looks);
        assert_eq!(minimized(&averaged.describe(), &[0.5, 2.0, 1.25]).0, None);
    }

    /// Some batches, tasks coming and going; all weights in order.
    fn run(weighting: &mut dyn Weighting, steps: std::ops::Range<u64>) -> Vec<Vec<f64>> {
        let step = |step: u64| {
            let tasks: &[usize] = [&[0, 1, 2][..], &[0, 2], &[1], &[], &[0, 1, 2]][step as usize % 5];
            let loss = |task: usize| 0.1 + (0.7 * step as f64 + 1.9 * task as f64).sin().powi(2);
            let before: Vec<f64> = tasks.iter().map(|&task| loss(task)).collect();
            let after: Vec<f64> = tasks.iter().map(|&task| loss(task + 1)).collect();
            let mut evidence = given(tasks, &before);
            evidence.moment = Moment { seed: 1, step, epoch: step / 4, lr: 0.1 };
            let weights = weigh_given(weighting, &mut evidence).unwrap();
            weighting.look_back(tasks, &before, &after).unwrap();
            weights
        };
        steps.map(step).collect()
    }

    /// A weighting goes on from its state with the same bits, whether restored before or after it knows the tasks, and
    /// is as new after a reset.
    pub fn continues<W: Weighting>(new: impl Fn() -> W) {
        let mut whole = new();
        let first = run(&mut whole, 0..13);
        let state = whole.state();
        let rest = run(&mut whole, 13..40);
        assert!(first.iter().chain(&rest).flatten().all(|weight| weight.is_finite()));
        let text = serde_json::to_string(&state.value).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), state.value);
        let mut after = new();
        after.restore(&state).unwrap();
        assert_eq!(run(&mut after, 13..40), rest);
        let mut before = new();
        before.reset();
        before.restore(&state).unwrap();
        before.prepare(&about(3)).unwrap();
        assert_eq!(run(&mut before, 13..40), rest);
        assert_eq!(before.state(), whole.state());
        assert_ne!(whole.state(), new().state());
        whole.reset();
        whole.prepare(&about(3)).unwrap();
        assert_eq!(whole.state(), new().state());
        assert_eq!(run(&mut whole, 0..13), first);
    }

    /// A batch without task 1 changes nothing of what is known of it, and something of what is known of the others.
    pub fn spares_absent(weighting: &mut dyn Weighting) {
        run(weighting, 0..6);
        let before = weighting.state().value;
        let mut evidence = given(&[0, 2], &[0.3, 0.7]);
        evidence.moment = Moment { seed: 1, step: 6, epoch: 1, lr: 0.1 };
        weigh_given(weighting, &mut evidence).unwrap();
        weighting.look_back(&[0, 2], &[0.3, 0.7], &[0.2, 0.7]).unwrap();
        let after = weighting.state().value;
        assert_ne!(before, after);
        same_of(&before, &after, 1);
    }

    /// Arrays of three that are not equal differ elsewhere than at `task`.
    pub fn same_of(before: &serde_json::Value, after: &serde_json::Value, task: usize) {
        use serde_json::Value::{Array, Object};
        match (before, after) {
            (Array(b), Array(a)) if b.len() == 3 => assert_eq!(b[task], a[task]),
            (Object(b), Object(a)) => b.iter().for_each(|(key, value)| same_of(value, &a[key], task)),
            _ => assert_eq!(before, after),
        }
    }
}
