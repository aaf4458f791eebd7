//! Any other weighting, its weights averaged over time.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::mgda::Mgda;
use crate::bail;
use crate::error::Result;
use crate::registry::Component;
use crate::weighting::{About, ActsLike, Combination, Evidence, Needs, State, Weighting, build};

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
    /// decide by weights, not by a direction.
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
}

/// A weighting inside another; written as its description. A clone knows what it has learned, but wants to be prepared.
#[derive(Debug)]
pub struct Inner(pub Box<dyn Weighting>);

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
    fn needs(&self) -> Needs {
        self.inner.0.needs()
    }

    fn acts_like(&self) -> ActsLike {
        self.inner.0.acts_like()
    }

    fn keeps_gradients(&self) -> bool {
        self.inner.0.keeps_gradients()
    }

    fn parts(&self) -> usize {
        self.inner.0.parts()
    }

    fn validates(&self) -> bool {
        self.inner.0.validates()
    }

    fn looks_back(&self) -> bool {
        self.inner.0.looks_back()
    }

    fn looks(&self) -> bool {
        self.inner.0.looks()
    }

    fn constants(&self) -> &[f64] {
        self.inner.0.constants()
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
        for (&task, weight) in evidence.tasks().iter().zip(&mut into.weights) {
            let average = self.state.weights[task].unwrap_or(*weight);
            *weight += self.alpha * (average - *weight);
            self.state.weights[task] = Some(*weight);
        }
        Ok(())
    }

    fn look_back(&mut self, tasks: &[usize], before: &[f64], after: &[f64]) -> Result<()> {
        self.inner.0.look_back(tasks, before, after)
    }

    fn state(&self) -> State {
        let State { value, arrays } = self.inner.0.state();
        State { value: json!({"weights": self.state.weights, "inner": value}), arrays }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let averages = state.read(Self::CLASS, &self.state)?;
        self.inner.0.restore(&State { value: state.value["inner"].clone(), arrays: state.arrays.clone() })?;
        self.state = averages;
        Ok(())
    }

    fn reset(&mut self) {
        self.state = Averages::default();
        self.inner.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

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
        assert_eq!((modo.needs(), modo.parts(), modo.acts_like()), (Needs::Jacobian, 3, ActsLike::Mean));
        let equal = around(json!("equal"));
        assert_eq!((equal.needs(), equal.parts()), (Needs::Losses, 1));
        let mut gradnorm = trial::prepared(&around(json!("gradnorm")), 3);
        let steps = trial::sequence(3, 3, 1.0);
        let own: Vec<_> = steps.iter().map(|evidence| trial::decide(&mut gradnorm, evidence).own).collect();
        let mut alone = build(&json!("gradnorm")).unwrap();
        alone.prepare(&About::named(&["a", "b", "c"])).unwrap();
        let expected: Vec<_> = steps.iter().map(|evidence| trial::decide(&mut *alone, evidence).own).collect();
        assert_eq!(own, expected);
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
        assert!(error.to_string().contains("`beta` should lie in 0.0..=1.0"), "{error}");
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
