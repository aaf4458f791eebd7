//! Any other weighting, its weights averaged over time.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::mgda::Mgda;
use crate::bail;
use crate::component::Argument;
use crate::component::Component;
use crate::error::Result;
use crate::task::About;
use crate::weighting::{Combination, Evidence, State, Weighting, build};

crate::component! {
    /// CR-MOGM (Zhou, Zhang, Jiang, Zhong, Gu and Zhu, On the Convergence of Stochastic Multi-Objective Gradient
    /// Manipulation and Beyond, NeurIPS 2022).
    ///
    /// Weights computed from noisy gradients are biased; averages over time are less so:
    /// `w_j = alpha w_j + (1 - alpha) v_j`, where `v` are the weights of the weighting inside. An average starts at the
    /// first weight of its task, so it has the scale of the weighting inside from the first step on (the paper starts at
    /// equal weights that add up to 1, as MGDA's do). Factors on task-only parameters pass unchanged.
    ///
    /// The paper lets `alpha` grow towards 1 as the learning rate falls; here it is constant. The weighting inside must
    /// decide by weights, not by a direction. Where it looks, how often and at what scale may be said of either.
    pub struct CrMogm = "CRMOGM" {
        /// How much of the average stays at each batch of a task; 0 is the weighting inside as it is.
        alpha: f64 = 0.9, in 0.0..1.0;
        /// The weighting inside, or its name.
        inner: Inner = Inner(Box::new(Mgda::default()));
    }
    state: Averages;
}

/// The averaged weight of each task, once it had one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Averages {
    weights: Vec<Option<f64>>,
    /// For a weighting inside whose weights differ between layers, `[layers][tasks]`.
    #[serde(default)]
    layers: Vec<Vec<Option<f64>>>,
}

/// A weighting inside another; written as its description. A clone knows what it has learned, but wants to be prepared.
#[derive(Debug)]
pub struct Inner(pub Box<dyn Weighting>);

impl Argument for Inner {
    fn words() -> String {
        "a weighting or its name".into()
    }

    fn python() -> String {
        "Any".into()
    }
}

impl Serialize for Inner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.describe().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        build(&Value::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        let mut copy = build(&self.0.describe()).expect("a weighting understands its own description");
        copy.restore(&self.0.state()).expect("a weighting understands its own state");
        Self(copy)
    }
}

impl PartialEq for Inner {
    fn eq(&self, other: &Self) -> bool {
        self.0.describe() == other.0.describe() && self.0.state() == other.0.state()
    }
}

impl Weighting for CrMogm {
    fn inside(&self) -> Option<&dyn Weighting> {
        Some(&*self.inner.0)
    }

    fn inside_mut(&mut self) -> Option<&mut dyn Weighting> {
        Some(&mut *self.inner.0)
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.weights.resize(tasks.len(), None);
        self.inner.0.prepare(tasks)
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        self.inner.0.weigh(evidence, into)?;
        if !into.direction.is_empty() {
            let name = &self.inner.0.describe()["name"];
            bail!("CRMOGM: argument `inner`: it averages weights, but {name} decides by a direction");
        }
        // Averaged weights are no derivatives of what the weighting inside minimises.
        into.objective = None;
        let tasks = evidence.tasks();
        let Averages { weights, layers } = &mut self.state;
        average(tasks, &mut into.weights, self.alpha, weights);
        if !tasks.is_empty() {
            let sets = into.layers.chunks_exact_mut(tasks.len());
            layers.resize_with(layers.len().max(sets.len()), || vec![None; weights.len()]);
            for (set, averages) in sets.zip(layers) {
                average(tasks, set, self.alpha, averages);
            }
        }
        Ok(())
    }

    fn state(&self) -> State {
        let State { value, arrays } = self.inner.0.state();
        State { value: json!({"weights": self.state.weights, "layers": self.state.layers, "inner": value}), arrays }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        // There are as many layers as the weighting inside has had so far.
        let like = Averages { weights: self.state.weights.clone(), layers: Vec::new() };
        let averages: Averages = state.read(Self::CLASS, &like)?;
        if averages.layers.iter().any(|layer| layer.len() != averages.weights.len()) {
            bail!("{}: not a state of this weighting: its layers are of another number of tasks", Self::CLASS);
        }
        self.inner.0.restore(&State { value: state.value["inner"].clone(), arrays: state.arrays.clone() })?;
        self.state = averages;
        Ok(())
    }

    fn reset(&mut self) {
        self.state = Averages::default();
        self.inner.0.reset();
    }
}

/// Averages the weights of these tasks with those before them.
fn average(tasks: &[usize], weights: &mut [f64], alpha: f64, averages: &mut [Option<f64>]) {
    for (&task, weight) in tasks.iter().zip(weights) {
        let before = averages[task].unwrap_or(*weight);
        *weight += alpha * (before - *weight);
        averages[task] = Some(*weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::gradient::trial;
    use crate::weighting::{ActsLike, Given, Needs};

    fn around(inner: Value) -> CrMogm {
        CrMogm { alpha: 0.75, inner: Inner(build(&inner).unwrap()), ..CrMogm::default() }
    }

    #[test]
    fn by_hand() {
        let mut weighting = trial::prepared(&CrMogm { alpha: 0.75, ..CrMogm::default() }, 2);
        // MGDA's weights on the golden matrix, whose direction is (0, 1, 1), are (0.6, 0.4).
        let weights = trial::decide(&mut weighting, &trial::golden()).weights;
        trial::close(&weights, &[0.6, 0.4], 1e-12);
        // On a row and its double the shorter one has all the weight.
        let weights = trial::decide(&mut weighting, &Given::jacobian(2, &[2.0, 4.0, 1.0, 2.0])).weights;
        trial::close(&weights, &[0.45, 0.3 + 0.25], 1e-12);
    }

    #[test]
    fn what_the_inner_weighting_wants_passes_through() {
        let modo = around(json!({"name": "modo", "parts": 3}));
        assert_eq!(
            (modo.claims().needs, modo.claims().parts, modo.claims().acts_like),
            (Needs::Jacobian, 3, ActsLike::Mean)
        );
        let equal = around(json!("equal"));
        assert_eq!((equal.claims().needs, equal.claims().parts), (Needs::Losses, 1));
        let mut gradnorm = trial::prepared(&around(json!("gradnorm")), 3);
        let steps = trial::sequence(3, 3, 1.0);
        let own: Vec<_> = steps.iter().map(|evidence| trial::decide(&mut gradnorm, evidence).own).collect();
        let mut alone = build(&json!("gradnorm")).unwrap();
        alone.prepare(&About::named(&["a", "b", "c"])).unwrap();
        let expected: Vec<_> = steps.iter().map(|evidence| trial::decide(&mut *alone, evidence).own).collect();
        assert_eq!(own, expected);
    }

    #[test]
    fn what_is_said_of_the_weighting_inside_holds() {
        use crate::weighting::Moment;
        use crate::weighting::modes::{At, Normalize, Per};
        let wrapped = |outside: Value, inside: Value| {
            let mut description = json!({"name": "cr_mogm", "inner": {"name": "mgda"}});
            description.as_object_mut().unwrap().extend(outside.as_object().unwrap().clone());
            description["inner"].as_object_mut().unwrap().extend(inside.as_object().unwrap().clone());
            build(&description)
        };
        let modes = wrapped(json!({"at": "representation"}), json!({"normalize": "l2"})).unwrap().modes();
        assert_eq!((modes.at, modes.normalize, modes.per), (At::Representation, Normalize::L2, Per::All));
        let modes = wrapped(json!({}), json!({"at": "representation"})).unwrap().modes();
        assert_eq!(modes.at, At::Representation);
        let message = |outside, inside| wrapped(outside, inside).unwrap_err().to_string();
        let twice = message(json!({"refresh": 2}), json!({"refresh": 3}));
        assert_eq!(twice, "CRMOGM: argument `refresh`: it is given for the weighting inside too; give it once");
        let together = message(json!({"per": "layer"}), json!({"at": "representation"}));
        assert!(together.contains("`per`: \"layer\" needs the layers' gradients"), "{together}");
        let together = message(json!({"normalize": "l2"}), json!({"refresh": 3}));
        assert!(together.contains("whose `refresh` is 3"), "{together}");
        // A weighting inside that goes by what it remembers asks for nothing.
        let mut kept = wrapped(json!({}), json!({"refresh": 3})).unwrap();
        kept.prepare(&About::named(&["a", "b"])).unwrap();
        let due = |step| Moment { step, ..Moment::default() };
        let mut first = trial::golden();
        trial::decide(&mut *kept, &first);
        assert!(!kept.due(due(1)) && !kept.due(due(2)) && kept.due(due(3)));
        (first.moment.step, first.gramian) = (1, None);
        trial::close(&trial::decide(&mut *kept, &first).weights, &[0.6, 0.4], 1e-12);
        // Nor does one that looks at nothing.
        assert!(!build(&json!({"name": "cr_mogm", "inner": "equal"})).unwrap().claims().looks);
        assert!(build(&json!({"name": "cr_mogm", "inner": "dwa"})).unwrap().claims().looks);
    }

    /// Two layers of one parameter each.
    #[derive(Debug)]
    struct Layered {
        given: Given,
        layers: [[f64; 4]; 2],
    }

    impl Evidence for Layered {
        fn tasks(&self) -> &[usize] {
            self.given.tasks()
        }

        fn losses(&self) -> &[f64] {
            self.given.losses()
        }

        fn moment(&self) -> crate::weighting::Moment {
            self.given.moment()
        }

        fn gramian(&mut self) -> Result<&[f64]> {
            self.given.gramian()
        }

        fn layers(&self) -> usize {
            2
        }

        fn layer(&mut self, index: usize) -> Result<&[f64]> {
            Ok(&self.layers[index])
        }

        fn jacobian(&mut self) -> Result<&[f32]> {
            self.given.jacobian()
        }
    }

    #[test]
    fn weights_of_layers_are_averaged_and_scaled_wherever_layers_are_asked_for() {
        // MGDA on (1), (-3) is 3/4 and 1/4 of them; on (2), (-1) 1/3 and 2/3.
        let opposed = |a: f64, b: f64| [a * a, -a * b, -a * b, b * b];
        let first = opposed(1.0, 3.0);
        let second = opposed(2.0, 1.0);
        let whole: Vec<f64> = first.iter().zip(second).map(|(a, b)| a + b).collect();
        let evidence = |layers| Layered { given: Given::gramian(&whole), layers };
        let build = |outside: Value, inside: Value| {
            let mut description = json!({"name": "cr_mogm", "alpha": 0.5, "inner": {"name": "mgda"}});
            description.as_object_mut().unwrap().extend(outside.as_object().unwrap().clone());
            description["inner"].as_object_mut().unwrap().extend(inside.as_object().unwrap().clone());
            let mut weighting = build(&description).unwrap();
            weighting.prepare(&About::named(&["a", "b"])).unwrap();
            weighting
        };
        let layers = |weighting: &mut Box<dyn Weighting>, layers| {
            let mut into = Combination::default();
            into.clear(2);
            weighting.weigh(&mut evidence(layers), &mut into).unwrap();
            into.layers
        };
        for (outside, inside) in [(json!({}), json!({"per": "layer"})), (json!({"per": "layer"}), json!({}))] {
            let mut weighting = build(outside, inside);
            assert_eq!(weighting.modes().per, crate::weighting::modes::Per::Layer);
            trial::close(&layers(&mut weighting, [first, second]), &[0.75, 0.25, 1.0 / 3.0, 2.0 / 3.0], 1e-12);
            let mean = 0.5 * (0.75 + 1.0 / 3.0);
            let state = weighting.state();
            let got = layers(&mut weighting, [second, first]);
            trial::close(&got, &[mean, 1.0 - mean, mean, 1.0 - mean], 1e-12);
            weighting.restore(&state).unwrap();
            assert_eq!(layers(&mut weighting, [second, first]), got);
        }
        // Around layers, too, weights are scaled and gradients normalised: here by the lengths sqrt(5) and sqrt(10).
        let mut weighting = build(json!({"scale": "sum"}), json!({"per": "layer"}));
        trial::close(&layers(&mut weighting, [first, second]), &[1.5, 0.5, 2.0 / 3.0, 4.0 / 3.0], 1e-12);
        let mut weighting = build(json!({"normalize": "l2"}), json!({"per": "layer"}));
        let a = 1.0 / 5.0_f64.sqrt();
        let b = 1.0 / 10.0_f64.sqrt();
        let shares = |x: f64, y: f64| [y * b / (x * a + y * b) * a, x * a / (x * a + y * b) * b];
        let expected = [shares(1.0, 3.0), shares(2.0, 1.0)].concat();
        trial::close(&layers(&mut weighting, [first, second]), &expected, 1e-12);
    }

    #[test]
    fn descriptions_are_checked_at_the_door_and_directions_when_they_come() {
        let described = json!({"name": "cr_mogm", "alpha": 0.5, "inner": {"name": "gradvac", "beta": 0.25}});
        let whole = build(&described).unwrap().describe();
        assert_eq!((&whole["alpha"], &whole["inner"]["beta"]), (&json!(0.5), &json!(0.25)));
        assert_eq!(build(&whole).unwrap().describe(), whole);
        let error = build(&json!({"name": "cr_mogm", "inner": "even"})).unwrap_err().to_string();
        assert!(error.contains("argument `inner` should be a weighting or its name; got \"even\""), "{error}");
        let error = build(&json!({"name": "cr_mogm", "inner": {"name": "gradvac", "beta": 2.0}})).unwrap_err();
        assert!(error.to_string().contains("`beta` should be at least 0 and at most 1"), "{error}");
        let mut into = Combination::default();
        into.clear(2);
        let error = around(json!("graddrop")).weigh(&mut trial::golden(), &mut into).unwrap_err().to_string();
        assert!(error.contains("CRMOGM") && error.contains("\"graddrop\" decides by a direction"), "{error}");
    }

    #[test]
    fn general() {
        trial::general(&CrMogm::default());
        for inner in ["pcgrad", "gradvac", "gradnorm", "excess_mtl", "modo", "cr_mogm"] {
            trial::general(&around(json!(inner)));
        }
    }
}
