//! The gradients that have the nearest neighbours.

use crate::error::Result;
use crate::machine::lent::Lent;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// Krum and Multi-Krum (Blanchard, El Mhamdi, Guerraoui and Stainer, Machine Learning with Adversaries: Byzantine
    /// Tolerant Gradient Descent, NeurIPS 2017).
    ///
    /// A gradient's score is the sum of its squared distances to its `T - byzantine - 2` nearest neighbours, at least one.
    /// The direction is the mean of the `selected` gradients of the lowest scores. Distances follow from the Gramian.
    ///
    /// Made for many workers with the same task; among different tasks it follows those that resemble each other. TorchJD
    /// adds up distances, not their squares as the paper does, and refuses fewer than `byzantine + 3` gradients.
    pub struct Krum = "Krum" {
        /// How many gradients are not to be trusted.
        byzantine: usize = 1;
        /// How many gradients are averaged; fewer where fewer tasks have labels.
        selected: usize = 1, in 1.0..;
    }
}

impl Weighting for Krum {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Gramian,
            acts_like: ActsLike::Mean,
            promises: &[Promise::Weighted, Promise::Permutes, Promise::Homogeneous],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let scores = scores(evidence.gramian()?, rows, self.byzantine);
        let mut order: Lent<usize> = (0..rows).collect();
        // Of equal scores the first task's counts.
        order.sort_unstable_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(a.cmp(&b)));
        let selected = self.selected.min(rows);
        into.weights.fill(0.0);
        for &row in &order[..selected] {
            into.weights[row] = 1.0 / selected as f64;
        }
        Ok(())
    }
}

/// Sums of squared distances to the nearest neighbours.
fn scores(gramian: &[f64], rows: usize, byzantine: usize) -> Lent<f64> {
    let neighbours = rows.saturating_sub(byzantine.saturating_add(2)).max(1);
    let mut scores = Lent::with_capacity(rows);
    for i in 0..rows {
        let others = (0..rows).filter(|&j| j != i);
        let mut distances: Lent<f64> = others.map(|j| square_distance(gramian, rows, i, j)).collect();
        distances.sort_unstable_by(f64::total_cmp);
        scores.push(distances.iter().take(neighbours).sum());
    }
    scores
}

/// `|g_i - g_j|^2`; rounding can make that of near-equal gradients negative.
fn square_distance(gramian: &[f64], rows: usize, i: usize, j: usize) -> f64 {
    (gramian[i * rows + i] + gramian[j * rows + j] - 2.0 * gramian[i * rows + j]).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    /// On a line: 0, 1, 3, 7 and an outlier.
    fn line() -> Given {
        Given::jacobian(5, &[0.0, 1.0, 3.0, 7.0, -100.0])
    }

    #[test]
    fn by_hand() {
        // Two neighbours each: scores 1 + 9, 1 + 4, 4 + 9, 16 + 36, and far.
        let gramian = line().gramian.unwrap();
        let got = scores(&gramian, 5, 1);
        assert_eq!(got[..4], [10.0, 5.0, 13.0, 52.0]);
        assert_eq!(trial::decide(&mut Krum::default(), &line()).weights, [0.0, 1.0, 0.0, 0.0, 0.0]);
        let weights = trial::decide(&mut Krum { selected: 2, ..Krum::default() }, &line()).weights;
        assert_eq!(weights, [0.5, 0.5, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn squares_count_as_in_the_paper() {
        // Row 0 at (0, 0) has distances 1 and 5 to its nearest two, row 4 at (10, 10) has 3.5 and 3.5: in sum 6 against 7,
        // in squares 26 against 24.5.
        let points = [0.0, 0.0, 1.0, 0.0, -5.0, 0.0, 10.0, 13.5, 10.0, 10.0, 10.0, 6.5];
        let got = scores(&Given::jacobian(6, &points).gramian.unwrap(), 6, 2);
        assert!((got[0] - 26.0).abs() < 1e-9 && (got[4] - 24.5).abs() < 1e-9, "{got:?}");
        assert_eq!(
            trial::decide(&mut Krum { byzantine: 2, selected: 1 }, &Given::jacobian(6, &points)).weights[4],
            1.0
        );
    }

    #[test]
    fn few_or_equal_gradients_are_no_trouble() {
        assert_eq!(trial::decide(&mut Krum::default(), &Given::jacobian(1, &[2.0])).weights, [1.0]);
        let two = Given::jacobian(2, &[1.0, 5.0]);
        assert_eq!(trial::decide(&mut Krum { byzantine: 9, selected: 5 }, &two).weights, [0.5, 0.5]);
        let same = Given::jacobian(3, &[0.1, 0.1, 0.1]);
        assert_eq!(trial::decide(&mut Krum::default(), &same).weights, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn general() {
        trial::general(&Krum::default());
        trial::general(&Krum { byzantine: 0, selected: 2 });
    }
}
