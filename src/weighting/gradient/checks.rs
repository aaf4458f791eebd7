//! What tests of weightings from Gramians have in common.

use crate::solver::{cases, dot, square, times};
use crate::task::About;
use crate::weighting::{Combination, Given, Weighting};

/// As many tasks as the largest case.
pub fn tasks() -> Vec<About> {
    About::named(&["a"; 100])
}

/// What a weighting decides for evidence.
pub fn weigh(method: &mut impl Weighting, evidence: &mut Given) -> Combination {
    let mut into = Combination::default();
    into.clear(evidence.tasks.len());
    method.weigh(evidence, &mut into).unwrap();
    assert!(into.weights.len() == evidence.tasks.len() && into.own.len() == evidence.tasks.len());
    into
}

const JACOBIAN: [f64; 6] = [-4.0, 1.0, 1.0, 6.0, 1.0, 1.0];

/// The direction for `[[-4, 1, 1], [6, 1, 1]]`.
pub fn direction(method: &mut impl Weighting) -> [f64; 3] {
    let weights = weigh(method, &mut Given::jacobian(2, &JACOBIAN)).weights;
    [0, 1, 2].map(|column| weights[0] * JACOBIAN[column] + weights[1] * JACOBIAN[3 + column])
}

/// That direction to four decimals, from the Jacobian and from its Gramian alone.
pub fn golden(method: &mut (impl Weighting + Clone), expected: [f64; 3]) {
    let alone = weigh(&mut method.clone(), &mut Given::gramian(&[18.0, -22.0, -22.0, 38.0])).weights;
    let both = weigh(&mut method.clone(), &mut Given::jacobian(2, &JACOBIAN)).weights;
    assert_eq!(alone, both);
    let got = direction(method);
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 5.5e-5), "{got:?} {expected:?}");
}

/// The lengths of rows.
fn lengths(gramian: &[f64], n: usize) -> Vec<f64> {
    (0..n).map(|i| gramian[i * n + i].sqrt()).collect()
}

/// How far the directions of two weights are apart, relative to the rows they are made of, or to a direction of the
/// usual length (weights may be rounding errors where a direction is 0).
fn distance(gramian: &[f64], a: &[f64], b: &[f64], degree: f64) -> f64 {
    let lengths = lengths(gramian, a.len());
    let usual = (lengths.iter().sum::<f64>() / lengths.len() as f64).powf(degree);
    let size = a.iter().zip(&lengths).map(|(weight, length)| weight.abs() * length).sum::<f64>();
    let size = if usual.is_finite() { size.max(usual) } else { size };
    let apart: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    square(gramian, &apart).sqrt() / size.max(f64::MIN_POSITIVE)
}

/// Finite for every case; the direction grows with the gradients to the power `degree`, and does not depend on the order
/// of the tasks.
pub fn behaves<W: Weighting>(make: impl Fn() -> W, degree: f64) {
    assert_eq!(weigh(&mut make(), &mut Given::gramian(&[])).weights, [0.0; 0]);
    for case in cases::all() {
        let n = case.n;
        let gramian = &case.gramian;
        let weights = weigh(&mut make(), &mut Given::gramian(gramian)).weights;
        assert!(weights.iter().all(|weight| weight.is_finite()), "{case}: {weights:?}");
        let one: Vec<f64> = gramian.iter().map(|x| x / case.scale / case.scale).collect();
        let mut plain = weigh(&mut make(), &mut Given::gramian(&one)).weights;
        plain.iter_mut().for_each(|weight| *weight *= case.scale.powf(degree - 1.0));
        let apart = distance(gramian, &weights, &plain, degree);
        assert!(apart < 1e-6, "{case}: {apart:e} from the direction at another scale");
        let turned: Vec<f64> = (0..n * n).map(|at| gramian[(n - 1 - at / n) * n + (n - 1 - at % n)]).collect();
        let mut turned = weigh(&mut make(), &mut Given::gramian(&turned)).weights;
        turned.reverse();
        let apart = distance(gramian, &weights, &turned, degree);
        assert!(apart < 1e-6, "{case}: {apart:e} from the direction in another order");
    }
}

/// No task gets worse, to first order.
pub fn never_conflicts<W: Weighting>(make: impl Fn() -> W) {
    for case in cases::all() {
        let weights = weigh(&mut make(), &mut Given::gramian(&case.gramian)).weights;
        let lengths = lengths(&case.gramian, case.n);
        let size = dot(&weights, &lengths);
        for (along, length) in times(&case.gramian, &weights).iter().zip(lengths) {
            assert!(*along >= -1e-12 * length * size, "{case}: {along:e}");
        }
    }
}
