//! Gradient sign dropout: each coordinate moves only those gradients that agree on a sign drawn at random.

use crate::error::Result;
use crate::machine::random::coarse;
use crate::vectorised;
use crate::weighting::{ActsLike, Claims, Combination, Evidence, Needs, Promise, Weighting};

use super::rows::width;

/// Coordinates treated at once.
const BLOCK: usize = 512;

/// 2^-23: makes 23 random bits a number of `[0, 1)`. With 24, its product with another number might be rounded up to that.
const UNIT: f32 = 1.0 / 8_388_608.0;

crate::component! {
    /// GradDrop (Chen, Ngiam, Huang, Luong, Kretzschmar, Chai and Anguelov, Just Pick a Sign: Optimizing Deep Multitask
    /// Models with Gradient Sign Dropout, NeurIPS 2020).
    ///
    /// At each coordinate let `p` be the sum of the positive gradients and `n` that of the absolute values of the negative
    /// ones. With probability `p / (p + n)`, the paper's positive sign purity, the direction is `p - leak n`, else
    /// `leak p - n`; drawn from the seed, the step and the coordinate. As long as the sum of the gradients where they
    /// agree.
    ///
    /// The paper drops gradients at a layer's activations, each row of the batch, with the sign of the activation taken
    /// in; here it drops them where the weighting is told to look. The paper has a leak for each task; one does here.
    pub struct GradDrop = "GradDrop" {
        /// How much of the gradients with the other sign passes; 1 gives the sum of the gradients.
        leak: f64 = 0.0, in 0.0..=1.0;
    }
}

impl Weighting for GradDrop {
    fn claims(&self) -> Claims {
        Claims {
            needs: Needs::Jacobian,
            acts_like: ActsLike::Sum,
            promises: &[Promise::Homogeneous],
            ..Claims::default()
        }
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let rows = evidence.tasks().len();
        let key = evidence.moment().random(0).halves();
        let jacobian = evidence.jacobian()?;
        into.direction.resize(width(jacobian, rows), 0.0);
        for (block, out) in into.direction.chunks_mut(BLOCK).enumerate() {
            pick(jacobian, rows, block * BLOCK, key, self.leak as f32, out);
        }
        Ok(())
    }
}

vectorised! {
/// The direction of the coordinates from `start` on.
fn pick(jacobian: &[f32], rows: usize, start: usize, key: [u32; 2], leak: f32, out: &mut [f32]) {
    let width = jacobian.len() / rows;
    let mut positive = [0.0_f32; BLOCK];
    let mut negative = [0.0_f32; BLOCK];
    let positive = &mut positive[..out.len()];
    let negative = &mut negative[..out.len()];
    for row in jacobian.chunks_exact(width) {
        for ((positive, negative), &g) in positive.iter_mut().zip(negative.iter_mut()).zip(&row[start..]) {
            let above = if g > 0.0 { g } else { 0.0 };
            *positive += above;
            *negative += above - g;
        }
    }
    for (k, out) in out.iter_mut().enumerate() {
        let p = positive[k];
        let n = negative[k];
        let uniform = (coarse(key, (start + k) as u32) >> 9) as f32 * UNIT;
        let up = uniform * (p + n) < p;
        *out = if up { p - leak * n } else { leak * p - n };
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::gradient::trial;
    use crate::weighting::{Given, Moment};

    #[test]
    fn signs_are_picked_as_often_as_their_purity_says() {
        let mut up = 0;
        let mut down = 0;
        for step in 0..400 {
            let mut evidence = trial::golden();
            evidence.moment = Moment { step, ..Moment::default() };
            let direction = trial::shared(&mut GradDrop::default(), &evidence);
            // The second and third coordinates agree; at the first the gradients are -4 and 6.
            assert_eq!(direction[1..], [2.0, 2.0]);
            if direction[0] == 6.0 {
                up += 1
            } else if direction[0] == -4.0 {
                down += 1
            }
        }
        assert_eq!(up + down, 400);
        // 240 expected; the standard deviation is 9.8.
        assert!((200..280).contains(&up), "{up}");
    }

    #[test]
    fn coordinates_are_drawn_apart() {
        let width = 3 * BLOCK + 5;
        let jacobian: Vec<f64> = (0..2 * width).map(|i| if i < width { 1.0 } else { -1.0 }).collect();
        let direction = trial::shared(&mut GradDrop::default(), &Given::jacobian(2, &jacobian));
        assert!(direction.iter().all(|x| x.abs() == 1.0));
        let mean = direction.iter().sum::<f64>() / width as f64;
        assert!(mean.abs() < 0.1, "{mean}");
    }

    #[test]
    fn a_full_leak_is_the_sum_and_a_partial_one_lies_between() {
        let evidence = trial::golden();
        assert_eq!(trial::shared(&mut GradDrop { leak: 1.0 }, &evidence), [2.0, 2.0, 2.0]);
        let first = trial::shared(&mut GradDrop { leak: 0.25 }, &evidence)[0];
        assert!(first == 5.0 || first == -2.5, "{first}");
    }

    #[test]
    fn one_task_keeps_its_gradient() {
        let evidence = Given::jacobian(1, &[1.5, -2.5, 0.0]);
        assert_eq!(trial::shared(&mut GradDrop::default(), &evidence), [1.5, -2.5, 0.0]);
    }

    #[test]
    fn general() {
        trial::general(&GradDrop::default());
    }
}
