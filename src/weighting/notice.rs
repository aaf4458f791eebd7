//! What a run should be told of once.

use super::{Combination, Weighting, class};
use crate::solver::square;

/// A direction this many times as long as all gradients together is worth a word.
const MANY: f64 = 10.0;

/// Something that is said once.
#[derive(Debug, Clone, Default)]
pub struct Notice {
    said: bool,
    word: Option<String>,
}

impl Notice {
    /// What is to be said now.
    pub fn take(&mut self) -> Option<String> {
        self.word.take()
    }

    /// Looks at what a weighting decided, if nothing bounds that: a direction that is many times longer than all gradients
    /// together is worth a word. `gramian` gives the Gramian `[rows, rows]` of all parameters, or of a layer, for weights
    /// that differ between them.
    pub fn look<'a>(
        &mut self,
        weighting: &dyn Weighting,
        decided: &Combination,
        gramian: impl Fn(Option<usize>) -> &'a [f64],
    ) {
        if !self.said && !weighting.claims().bounded && too_long(decided, gramian) {
            self.said = true;
            self.word = Some(of_length(weighting));
        }
    }
}

/// Whether weights make a direction that is many times longer than all gradients together. Without a Gramian, as where
/// weights are kept from earlier steps, nobody knows.
fn too_long<'a>(decided: &Combination, gramian: impl Fn(Option<usize>) -> &'a [f64]) -> bool {
    let rows = decided.weights.len();
    if decided.layers.is_empty() {
        return rows > 0 && makes_long(&decided.weights, gramian(None));
    }
    let mut layers = decided.layers.chunks_exact(rows).enumerate();
    layers.any(|(layer, weights)| makes_long(weights, gramian(Some(layer))))
}

fn makes_long(weights: &[f64], gramian: &[f64]) -> bool {
    let rows = weights.len();
    if gramian.len() != rows * rows {
        return false;
    }
    let sum: f64 = (0..rows).map(|row| gramian[row * (rows + 1)].max(0.0).sqrt()).sum();
    square(gramian, weights).sqrt() > MANY * sum
}

fn of_length(weighting: &dyn Weighting) -> String {
    format!(
        "{}: the direction is more than {MANY} times as long as all tasks' gradients together, since some nearly \
         depend on each other and nothing bounds it; clip gradients, or use a weighting whose direction is bounded",
        class(weighting)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Rows (1) and (-1): 30 and 9 of them are 21 long, ten times both together is 20.
        let gramian = [1.0, -1.0, -1.0, 1.0];
        let decided = |a: f64, b: f64| Combination { weights: vec![a, b], ..Combination::default() };
        assert!(too_long(&decided(30.0, 9.0), |_| &gramian));
        assert!(!too_long(&decided(28.0, 9.0), |_| &gramian));
        assert!(!too_long(&decided(1e6, 1e6), |_| &gramian), "they cancel");
        let layers = Combination { layers: vec![1.0, 1.0, 30.0, 9.0], ..decided(1.0, 1.0) };
        assert!(too_long(&layers, |layer| if layer == Some(1) { &gramian } else { &[1.0, 1.0, 1.0, 1.0] }));
        assert!(!too_long(&layers, |layer| if layer == Some(0) { &gramian } else { &[1.0, 0.0, 0.0, 1e6] }));
    }

    #[test]
    fn it_is_said_once_and_of_directions_that_nothing_bounds() {
        let gramian = [1.0, -1.0, -1.0, 1.0];
        let long = Combination { weights: vec![30.0, 9.0], ..Combination::default() };
        let build = |name: &str| crate::weighting::build(&serde_json::json!(name)).unwrap();
        let around = serde_json::json!({"name": "cr_mogm", "inner": "gradvac"});
        for weighting in [build("config"), crate::weighting::build(&around).unwrap()] {
            let mut notice = Notice::default();
            notice.look(&*weighting, &long, |_| &[]);
            assert_eq!(notice.take(), None, "nobody knows");
            notice.look(&*weighting, &long, |_| &gramian);
            assert!(notice.take().is_some_and(|word| word.contains("more than 10 times as long")));
            notice.look(&*weighting, &long, |_| &gramian);
            assert_eq!(notice.take(), None, "once");
        }
        let mut notice = Notice::default();
        notice.look(&*build("upgrad"), &long, |_| &gramian);
        assert_eq!(notice.take(), None, "what bounds its direction is not looked at");
    }
}
