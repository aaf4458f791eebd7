//! The mean of the gradients at each coordinate, without the extremes.

use super::rows::width;
use crate::error::Result;
use crate::machine::lent::Lent;
use crate::machine::real::LANES;
use crate::vectorised;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

crate::component! {
    /// Coordinate-wise trimmed mean (Yin, Chen, Ramchandran and Bartlett, Byzantine-Robust Distributed Learning: Towards
    /// Optimal Statistical Rates, ICML 2018).
    ///
    /// At each coordinate the largest and the smallest gradients are left out, and the direction is the mean of the rest.
    /// No task, however wrong, moves a coordinate beyond what other tasks' gradients are there.
    ///
    /// The paper leaves out a fraction of the gradients; here it is a number, as fractions of few tasks are often none.
    /// One or two gradients always stay.
    pub struct TrimmedMean = "TrimmedMean" {
        /// Gradients to leave out at each end; fewer where too few tasks have labels. 0 is the mean.
        trim: usize = 1;
    }
}

impl Weighting for TrimmedMean {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Jacobian,
            acts_like: ActsLike::Mean,
            promises: &[Promise::Permutes, Promise::Homogeneous],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let jacobian = evidence.jacobian()?;
        let trim = self.trim.min(rows.saturating_sub(1) / 2);
        into.direction.resize(width(jacobian, rows), 0.0);
        let mut block = Lent::zeros(rows * LANES);
        let (block, _) = block.as_chunks_mut::<LANES>();
        for (index, out) in into.direction.chunks_mut(LANES).enumerate() {
            middle(jacobian, index * LANES, trim, block, out);
        }
        Ok(())
    }
}

vectorised! {
/// The trimmed means of the coordinates from `start` on; `block` has a row of lanes for each gradient.
fn middle(jacobian: &[f32], start: usize, trim: usize, block: &mut [[f32; LANES]], out: &mut [f32]) {
    let rows = block.len();
    let width = jacobian.len() / block.len();
    for (lanes, row) in block.iter_mut().zip(jacobian.chunks_exact(width)) {
        lanes[..out.len()].copy_from_slice(&row[start..start + out.len()]);
    }
    // Bubbles: each pass takes the largest of what is left to its end and the smallest to its beginning.
    for pass in 0..trim {
        for row in pass..rows - 1 - pass {
            let [low, high] = [block[row], block[row + 1]];
            for lane in 0..LANES {
                let a = low[lane];
                let b = high[lane];
                block[row][lane] = if a < b { a } else { b };
                block[row + 1][lane] = if a < b { b } else { a };
            }
        }
        for row in (pass..rows - 2 - pass).rev() {
            let [low, high] = [block[row], block[row + 1]];
            for lane in 0..LANES {
                let a = low[lane];
                let b = high[lane];
                block[row][lane] = if a < b { a } else { b };
                block[row + 1][lane] = if a < b { b } else { a };
            }
        }
    }
    let mut sums = [0.0_f32; LANES];
    for lanes in &block[trim..rows - trim] {
        for (sum, x) in sums.iter_mut().zip(lanes) {
            *sum += x;
        }
    }
    let share = 1.0 / (rows - 2 * trim) as f32;
    for (out, sum) in out.iter_mut().zip(&sums) {
        *out = sum * share;
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::Given;
    use crate::weighting::gradient::trial;

    #[test]
    fn by_hand() {
        let evidence = Given::jacobian(4, &[1.0, 9.0, 2.0, -5.0, 3.0, 0.0, 1e9, 1.0]);
        assert_eq!(trial::shared(&mut TrimmedMean { trim: 1 }, &evidence), [2.5, 0.5]);
        assert_eq!(trial::shared(&mut TrimmedMean { trim: 0 }, &evidence)[1], 1.25);
        // With four gradients at most one can go at each end.
        assert_eq!(trial::shared(&mut TrimmedMean { trim: 5 }, &evidence), [2.5, 0.5]);
        assert_eq!(trial::shared(&mut TrimmedMean { trim: 1 }, &trial::golden()), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn as_sorting_says() {
        let rows = 9;
        let width = 53;
        let value = |i: usize| ((i * 7919 + i * i * 31) % 64) as f64 - 32.0;
        let jacobian: Vec<f64> = (0..rows * width).map(value).collect();
        for trim in 0..=4 {
            let got = trial::shared(&mut TrimmedMean { trim }, &Given::jacobian(rows, &jacobian));
            for (k, got) in got.iter().enumerate() {
                let mut column: Vec<f64> = (0..rows).map(|row| jacobian[row * width + k]).collect();
                column.sort_by(f64::total_cmp);
                let want = column[trim..rows - trim].iter().sum::<f64>() / (rows - 2 * trim) as f64;
                assert!((got - want).abs() < 1e-5, "{trim} {k}: {got} {want}");
            }
        }
    }

    #[test]
    fn general() {
        trial::general(&TrimmedMean::default());
    }
}
