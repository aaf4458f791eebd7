//! How long directions are at most, whatever the gradients, and that they are still what they should be.

use super::{aligned_mtl, cagrad, dualproj, fairgrad, mgda, nash_mtl, pcgrad, pivrg, upgrad};
use crate::solver::eigen::{Eigen, rounded_tolerance};
use crate::solver::fair::RIDGE;
use crate::solver::{Cosines, cases, dot, times};
use crate::task::About;
use crate::weighting::evidence::{HALF, SINGLE};
use crate::weighting::{Given, Moment, Weighting};

/// Draws of each method.
const DRAWS: u64 = 20_000;

/// Degenerate gradients and the Gramian that a method is shown of them.
struct Draw {
    n: usize,
    jacobian: Vec<f64>,
    gramian: Vec<f64>,
    rounding: f64,
    lengths: Vec<f64>,
}

impl Draw {
    /// Gramians as they come: of double precision, rounded to float32, of rows rounded to bfloat16, rounded to bfloat16.
    fn new(seed: u64) -> Self {
        let (n, jacobian) = cases::degenerate(seed);
        let half = |x: f64| f64::from(f32::from_bits(((x as f32).to_bits() + 0x8000) & 0xffff_0000));
        let halves: Vec<f64> = jacobian.iter().map(|&x| half(x)).collect();
        let whole = cases::gramian(&jacobian, n);
        let (gramian, rounding) = match seed % 4 {
            0 => (whole.clone(), f64::EPSILON * ((jacobian.len() / n) as f64).sqrt()),
            1 => (whole.iter().map(|&x| f64::from(x as f32)).collect(), SINGLE),
            2 => (cases::gramian(&halves, n), HALF),
            _ => (whole.iter().map(|&x| half(x)).collect(), HALF),
        };
        let lengths = (0..n).map(|i| whole[i * (n + 1)].sqrt()).collect();
        Self { n, jacobian, gramian, rounding, lengths }
    }

    /// What rounding may add: relative to all gradients together.
    fn slack(&self) -> f64 {
        (self.n as f64 * self.rounding).sqrt() * self.lengths.iter().sum::<f64>()
    }

    fn weights(&self, method: &mut dyn Weighting, seed: u64) -> Vec<f64> {
        let mut evidence = Given { rounding: Some(self.rounding), ..Given::gramian(&self.gramian) };
        evidence.moment = Moment { seed, ..Moment::default() };
        let weights = super::trial::decide(method, &evidence).weights;
        assert!(weights.iter().all(|weight| weight.is_finite()), "draw {seed}: {weights:?}");
        weights
    }

    /// How long the combination of the gradients themselves is.
    fn length(&self, weights: &[f64]) -> f64 {
        let width = self.jacobian.len() / self.n;
        let sum = |k: usize| (0..self.n).map(|i| weights[i] * self.jacobian[i * width + k]).sum::<f64>();
        (0..width).map(|k| sum(k).powi(2)).sum::<f64>().sqrt()
    }
}

/// In every draw the direction is no longer than `most`, up to rounding, and `holds`.
fn check(mut method: impl Weighting, most: impl Fn(&Draw) -> f64, holds: impl Fn(&Draw, &[f64]) -> Result<(), String>) {
    for seed in 0..DRAWS {
        let draw = Draw::new(seed);
        method.reset();
        method.prepare(&About::named(&vec!["a"; draw.n])).unwrap();
        let weights = draw.weights(&mut method, seed);
        let length = draw.length(&weights);
        let most = most(&draw);
        let slack = draw.slack();
        assert!(length <= most + slack, "draw {seed}: {length:e} long, at most {most:e} + {slack:e}: {weights:?}");
        holds(&draw, &weights).unwrap_or_else(|what| panic!("draw {seed}: {what}"));
    }
}

fn mean(draw: &Draw) -> f64 {
    draw.lengths.iter().sum::<f64>() / draw.n as f64
}

/// How far a condition may fail, in products with unit rows, relative to the rows that a direction is made of.
fn residual(draw: &Draw) -> f64 {
    1e-11_f64.max(5.0 * draw.n as f64 * draw.rounding)
}

/// No row conflicts with the direction, and only rows that would were raised above `least`.
fn no_conflict(draw: &Draw, weights: &[f64], least: Option<f64>) -> Result<(), String> {
    let along = times(&draw.gramian, weights);
    let size = |i: usize| draw.gramian[i * (draw.n + 1)].sqrt();
    let all: f64 = (0..draw.n).map(|i| weights[i] * size(i)).sum();
    for i in (0..draw.n).filter(|&i| size(i) > 0.0) {
        let relative = along[i] / size(i) / all;
        let raised = least.is_some_and(|least| (weights[i] - least) * size(i) > 1e-9 * all);
        if relative < -residual(draw) || (raised && relative > residual(draw)) {
            return Err(format!("row {i} is {relative:e} along the direction: {weights:?}"));
        }
    }
    Ok(())
}

#[test]
fn projections_are_no_longer_than_what_they_project() {
    check(upgrad::UpGrad::default(), mean, |draw, weights| no_conflict(draw, weights, None));
    check(dualproj::DualProj::default(), mean, |draw, weights| no_conflict(draw, weights, Some(1.0 / draw.n as f64)));
}

#[test]
fn the_common_descent_is_no_longer_than_the_shortest_gradient() {
    let shortest = |draw: &Draw| draw.lengths.iter().copied().fold(f64::INFINITY, f64::min);
    check(mgda::Mgda {}, shortest, |draw, weights| {
        let sum: f64 = weights.iter().sum();
        let all = dot(weights, &draw.lengths);
        let along = times(&draw.gramian, weights);
        let square = dot(&along, weights);
        // Every row is at least as far along the direction as the direction itself.
        let short = |i: usize| (square - along[i]) / (draw.lengths[i] * all).max(f64::MIN_POSITIVE);
        let worst = (0..draw.n).map(short).fold(0.0, f64::max);
        match (sum - 1.0).abs() < 1e-12 && weights.iter().all(|w| *w >= 0.0) && worst <= residual(draw) {
            true => Ok(()),
            false => Err(format!("weights of sum {sum}, a row short by {worst:e}: {weights:?}")),
        }
    });
}

#[test]
fn a_conflict_averse_direction_stays_in_its_ball() {
    for c in [0.2, 0.5, 0.9] {
        let most = |draw: &Draw| (1.0 + c) * draw.length(&vec![1.0 / draw.n as f64; draw.n]);
        check(cagrad::CaGrad { c, rescale: 0 }, most, |_, weights| match weights.iter().all(|w| *w >= 0.0) {
            true => Ok(()),
            false => Err(format!("{weights:?}")),
        });
    }
}

#[test]
fn surgery_makes_no_gradient_longer() {
    check(pcgrad::PcGrad {}, |draw| draw.lengths.iter().sum(), |_, _| Ok(()));
}

#[test]
fn aligned_gradients_are_no_longer_than_the_least_that_is_kept() {
    let most = |draw: &Draw| {
        let eigen = Eigen::of(&draw.gramian, draw.n);
        let kept = eigen.above((draw.n as f64 * SINGLE).max(rounded_tolerance(draw.n, draw.rounding)));
        kept.map(|(value, _)| value.sqrt()).last().unwrap_or(0.0)
    };
    check(aligned_mtl::AlignedMtl::default(), most, |_, _| Ok(()));
}

/// `G w = scale w^-p` holds, or does if squared lengths count a little more, by what the docstrings name.
fn fair(draw: &Draw, weights: &[f64], p: f64, scale: f64) -> Result<(), String> {
    let n = draw.n;
    let noise = draw.n as f64 * draw.rounding;
    // In unit rows, whose products are 1 at most, whatever rounding made of them.
    let Cosines { matrix, lengths } = Cosines::of(&draw.gramian, n);
    let units: Vec<f64> = weights.iter().zip(&lengths).map(|(weight, length)| weight * length).collect();
    let present = weights.iter().zip(&lengths).filter(|(_, length)| **length > 0.0);
    let total: f64 = present.map(|(weight, _)| scale * weight.powf(1.0 - p)).sum();
    let square = dot(&times(&matrix, &units), &units);
    let sum = dot(&units, &units);
    // As far as double precision can add up such weights.
    let tolerance = 1e-6 * total + 16.0 * n as f64 * f64::EPSILON * sum;
    let apart = |ridge: f64| (square + ridge * sum - total).abs();
    let ridges = [0.0, RIDGE, noise, 4.0 * noise];
    match ridges.iter().any(|&ridge| apart(ridge) <= tolerance) {
        true => Ok(()),
        false => Err(format!("{square:e} and {:?}, not {total:e}: {weights:?}", ridges.map(apart))),
    }
}

#[test]
fn fair_shares_meet_their_equation() {
    let norm = |draw: &Draw| draw.gramian.iter().map(|x| x * x).sum::<f64>().sqrt();
    let present = |draw: &Draw| draw.lengths.iter().filter(|length| **length > 0.0).count() as f64;
    let most = |draw: &Draw| (7.0 / 6.0 * present(draw) * norm(draw)).sqrt();
    check(nash_mtl::NashMtl { max_norm: 0.0 }, most, |draw, weights| fair(draw, weights, 1.0, norm(draw)));
    check(nash_mtl::NashMtl { max_norm: 1.0 }, |_| (7.0_f64 / 6.0).sqrt(), |_, _| Ok(()));
    check(fairgrad::FairGrad { alpha: 1.0 }, |draw| (7.0 / 6.0 * present(draw)).sqrt(), |d, w| fair(d, w, 1.0, 1.0));
    check(fairgrad::FairGrad { alpha: 2.0 }, |_| f64::INFINITY, |d, w| fair(d, w, 0.5, 1.0));
    check(pivrg::Pivrg::default(), |_| (7.0_f64 / 6.0).sqrt(), |_, _| Ok(()));
}

#[test]
fn the_draws_are_degenerate() {
    // What the tests above are about: in many draws some rows cancel in all but rounding.
    let cancels = |draw: &Draw| {
        let values = Eigen::of(&draw.gramian, draw.n).values;
        values[draw.n - 1] < 1e-6 * values[0]
    };
    let count = (0..1000).filter(|&seed| cancels(&Draw::new(seed))).count();
    assert!((300..1000).contains(&count), "{count}");
}
