//! What PCGrad and GradVac share: each gradient is changed against the others in random order, as a mixture of rows.

use crate::machine::lent::Lent;
use crate::machine::random::Stream;
use crate::solver::add;
use crate::weighting::Moment;

/// Below this fraction of what was added up, a squared norm is rounding.
const ROUNDING: f64 = 1e-12;

/// A changed gradient of row `i` and the original one of row `j`.
pub(super) struct Pair {
    /// Row of the gradient that changes.
    pub i: usize,
    /// Row of the other.
    pub j: usize,
    /// Their product.
    pub product: f64,
    /// The norm of the changed gradient.
    pub norm: f64,
    /// The norm of the other.
    pub other: f64,
}

/// For each row `i` and the others `j` in random order, adds `factor(pair)` times row `j` to the gradient of row `i`;
/// gives the weights of the sum of the changed gradients.
pub(super) fn operate(
    gramian: &[f64],
    tasks: &[usize],
    moment: Moment,
    mut factor: impl FnMut(Pair) -> f64,
) -> Lent<f64> {
    let rows = tasks.len();
    let norms: Lent<f64> = (0..rows).map(|i| gramian[i * rows + i].max(0.0).sqrt()).collect();
    let mut total = Lent::zeros(rows);
    let mut mixture = Lent::zeros(rows);
    for i in 0..rows {
        mixture.fill(0.0);
        mixture[i] = 1.0;
        // The products of the changed gradient with all rows follow its changes.
        let mut products = Lent::from(&gramian[i * rows..][..rows]);
        for &j in &others(moment.random(tasks[i] as u64), i, rows) {
            let norm = norm(&mixture, &products, &norms);
            let step = factor(Pair { i, j, product: products[j], norm, other: norms[j] });
            mixture[j] += step;
            add(&mut products, step, &gramian[j * rows..]);
        }
        add(&mut total, 1.0, &mixture);
    }
    total
}

/// The norm of a mixture of rows; 0 where the rows cancel up to rounding.
fn norm(mixture: &[f64], products: &[f64], norms: &[f64]) -> f64 {
    let square: f64 = mixture.iter().zip(products).map(|(part, product)| part * product).sum();
    let most: f64 = mixture.iter().zip(norms).map(|(part, norm)| part.abs() * norm).sum();
    if square > ROUNDING * most * most { square.sqrt() } else { 0.0 }
}

/// All rows but `i`, shuffled (Fisher and Yates).
fn others(random: Stream, i: usize, rows: usize) -> Lent<usize> {
    let mut order: Lent<usize> = (0..rows).filter(|&j| j != i).collect();
    for k in (1..order.len()).rev() {
        let at = (u128::from(random.bits(k as u64)) * (k as u128 + 1)) >> 64;
        order.swap(k, at as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_permutations_and_all_are_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for step in 0..6000 {
            let mut order = others(Moment { step, ..Moment::default() }.random(1), 1, 4);
            *counts.entry(order.to_vec()).or_insert(0) += 1;
            order.sort_unstable();
            assert_eq!(order, [0, 2, 3]);
        }
        assert_eq!(counts.len(), 6);
        // 1000 expected; the standard deviation is 29.
        assert!(counts.values().all(|count| (880..1120).contains(count)), "{counts:?}");
    }
}
