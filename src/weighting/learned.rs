//! Numbers a weighting trains itself, one a task, each with its own Adam.

use serde::{Deserialize, Serialize};

use crate::machine::lent::Lent;

/// Decay rates of the moments, and what is added to the denominator: the usual ones.
const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// Numbers and their moments; a task that has no labels in a step keeps all of them, and its count of steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The numbers, one a task.
    pub values: Vec<f64>,
    moments: Vec<[f64; 2]>,
    steps: Vec<u64>,
}

impl Learned {
    /// Starts with so many numbers, unless there are that many already.
    pub fn fit(&mut self, tasks: usize, start: f64) {
        if self.values.len() != tasks {
            *self = Self { values: vec![start; tasks], moments: vec![[0.0; 2]; tasks], steps: vec![0; tasks] };
        }
    }

    /// One step of Adam (Kingma & Ba, ICLR 2015) on the number of one task.
    pub fn descend(&mut self, task: usize, gradient: f64, lr: f64) {
        self.steps[task] += 1;
        let steps = self.steps[task] as f64;
        let [mean, square] = &mut self.moments[task];
        *mean = BETAS[0] * *mean + (1.0 - BETAS[0]) * gradient;
        *square = BETAS[1] * *square + (1.0 - BETAS[1]) * gradient * gradient;
        let [mean, square] = [(*mean, BETAS[0]), (*square, BETAS[1])].map(|(m, b)| m / (1.0 - b.powf(steps)));
        self.values[task] -= lr * mean / (square.sqrt() + EPS);
    }

    /// The softmax over the rows, where each row is a task.
    pub fn softmax(&self, tasks: &[usize]) -> Lent<f64> {
        let mut shares: Lent<f64> = tasks.iter().map(|&task| self.values[task]).collect();
        softmax(&mut shares);
        shares
    }
}

/// Replaces numbers by their softmax; any finite numbers do.
pub fn softmax(numbers: &mut [f64]) {
    let highest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    numbers.iter_mut().for_each(|x| *x = (*x - highest).exp());
    let sum: f64 = numbers.iter().sum();
    numbers.iter_mut().for_each(|x| *x /= sum);
}

/// The logarithm of the sum of their exponentials, whose derivative is their softmax.
pub fn log_sum_exp(numbers: &[f64]) -> f64 {
    let highest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest + numbers.iter().map(|x| (x - highest).exp()).sum::<f64>().ln()
}

/// The gradient before a softmax, from the gradient behind it: `p_j (g_j - sum_k p_k g_k)`.
pub fn through_softmax(shares: &[f64], gradient: &[f64]) -> Lent<f64> {
    let mean: f64 = shares.iter().zip(gradient).map(|(p, g)| p * g).sum();
    shares.iter().zip(gradient).map(|(p, g)| p * (g - mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adam_steps_as_torch_does() {
        // torch 2.13, float64:
        // w = torch.zeros(1, requires_grad=True); o = torch.optim.Adam([w], lr=0.1)
        // for g in [1.0, -3.0, 0.5]: w.grad = torch.tensor([g]); o.step(); print(w.item())
        let mut learned = Learned::default();
        learned.fit(2, 0.0);
        let mut seen = Vec::new();
        for gradient in [1.0, -3.0, 0.5] {
            learned.descend(1, gradient, 0.1);
            seen.push(learned.values[1]);
        }
        let expected = [-0.09999999900000002, -0.05058101589125587, -0.022831196667822084];
        assert!(seen.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{seen:?}");
        assert_eq!(learned.values[0], 0.0);
    }

    #[test]
    fn a_softmax_of_large_numbers_is_finite() {
        let mut numbers = vec![1e300, 1e300, -1e300];
        softmax(&mut numbers);
        assert_eq!(numbers, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn the_gradient_before_a_softmax_is_that_of_differences() {
        let mut numbers = vec![0.3, -0.2, 1.0];
        let gradient = [1.0, -2.0, 0.5];
        let value = |numbers: &[f64]| {
            let mut shares = numbers.to_vec();
            softmax(&mut shares);
            shares.iter().zip(gradient).map(|(p, g)| p * g).sum::<f64>()
        };
        let mut shares = numbers.clone();
        softmax(&mut shares);
        let before = through_softmax(&shares, &gradient);
        for j in 0..3 {
            let kept = numbers[j];
            numbers[j] = kept + 1e-6;
            let above = value(&numbers);
            numbers[j] = kept - 1e-6;
            let slope = (above - value(&numbers)) / 2e-6;
            numbers[j] = kept;
            assert!((slope - before[j]).abs() < 1e-9);
        }
    }
}
