//! Weights against class imbalance: given as numbers, or `"balanced"` and resolved from label counts.

use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::component::Argument;
use crate::error::Result;
use crate::label::{Labels, Targets};

/// The word `"balanced"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balanced {
    /// From label counts.
    #[serde(rename = "balanced")]
    Balanced,
}

/// One weight a class, or `"balanced"`: `n / (k n_c)` over the `k` classes that occur, as in scikit-learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// From label counts.
    Balanced(Balanced),
    /// One a class.
    Each(Vec<f64>),
}

/// One weight for all labels, one a label, or `"balanced"`: negatives over positives of each label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelWeights {
    /// From label counts.
    Balanced(Balanced),
    /// The same for all labels.
    All(f64),
    /// One a label.
    Each(Vec<f64>),
}

impl ClassWeights {
    /// The weight of a class; 1 while unresolved.
    #[inline(always)]
    pub(crate) fn of(&self, class: usize) -> f64 {
        match self {
            ClassWeights::Balanced(_) => 1.0,
            ClassWeights::Each(weights) => weights.get(class).copied().unwrap_or(1.0),
        }
    }

    /// Refuses a list that does not have one weight a class.
    pub(crate) fn check(&self, argument: &str, classes: usize) -> Result<()> {
        check_length(self.given(), argument, classes, "class")
    }

    /// Resolves `"balanced"`.
    pub(crate) fn balance(&mut self, counts: &mut dyn FnMut() -> Result<Counts>) -> Result<()> {
        if let ClassWeights::Balanced(_) = self {
            *self = ClassWeights::Each(counts()?.class_weights());
        }
        Ok(())
    }

    fn given(&self) -> Option<&[f64]> {
        if let ClassWeights::Each(weights) = self { Some(weights) } else { None }
    }
}

impl LabelWeights {
    /// The weight of a label; 1 while unresolved.
    #[inline(always)]
    pub(crate) fn of(&self, column: usize) -> f64 {
        match self {
            LabelWeights::Balanced(_) => 1.0,
            LabelWeights::All(weight) => *weight,
            LabelWeights::Each(weights) => weights.get(column).copied().unwrap_or(1.0),
        }
    }

    /// Whether all labels have the same weight.
    pub(crate) fn uniform(&self) -> bool {
        !matches!(self, LabelWeights::Each(weights) if weights.len() > 1)
    }

    /// Refuses a list that does not have one weight a label.
    pub(crate) fn check(&self, argument: &str, columns: usize) -> Result<()> {
        check_length(self.given(), argument, columns, "output")
    }

    /// Resolves `"balanced"`.
    pub(crate) fn balance(&mut self, counts: &mut dyn FnMut() -> Result<Counts>) -> Result<()> {
        self.resolve(counts, Counts::positive_weights)
    }

    /// Resolves `"balanced"` by a rule.
    pub(crate) fn resolve(
        &mut self,
        counts: &mut dyn FnMut() -> Result<Counts>,
        rule: impl Fn(&Counts) -> Vec<f64>,
    ) -> Result<()> {
        if let LabelWeights::Balanced(_) = self {
            *self = LabelWeights::Each(rule(&counts()?));
        }
        Ok(())
    }

    fn given(&self) -> Option<&[f64]> {
        if let LabelWeights::Each(weights) = self { Some(weights) } else { None }
    }
}

fn check_length(given: Option<&[f64]>, argument: &str, expected: usize, what: &str) -> Result<()> {
    match given {
        Some(weights) if weights.len() != expected => {
            bail!("{argument} should have one number a {what}, {expected} in all; got {}", weights.len())
        }
        _ => Ok(()),
    }
}

impl Argument for ClassWeights {
    fn words() -> String {
        "a list of numbers, one a class, or \"balanced\"".into()
    }

    fn python() -> String {
        "Sequence[float] | Mapping[Any, float] | str".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.given().is_none_or(|weights| weights.iter().all(|w| w.within(range)))
    }
}

impl Argument for LabelWeights {
    fn words() -> String {
        "a number, a list of numbers or \"balanced\"".into()
    }

    fn python() -> String {
        "float | Sequence[float] | Mapping[Any, float] | str".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        match self {
            LabelWeights::Balanced(_) => true,
            LabelWeights::All(weight) => weight.within(range),
            LabelWeights::Each(weights) => weights.within(range),
        }
    }
}

/// How often each label occurs in a task's training rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Counts {
    /// Rows of each class.
    Classes(Vec<f64>),
    /// `[negatives, positives]` of each column.
    Values(Vec<[f64; 2]>),
}

impl Counts {
    /// Nothing counted yet.
    pub fn new(labels: Labels) -> Self {
        match labels {
            Labels::Classes(k) => Counts::Classes(vec![0.0; k]),
            _ => Counts::Values(vec![[0.0; 2]; labels.width()]),
        }
    }

    /// Counts the labels of some rows; missing ones do not count.
    pub fn add(&mut self, targets: Targets<'_, f32>) {
        match (self, targets) {
            (Counts::Classes(counts), Targets::Classes(classes)) => {
                for count in classes.iter().filter_map(|c| usize::try_from(*c).ok()) {
                    counts[count] += 1.0;
                }
            }
            (Counts::Values(counts), Targets::Values(values)) => {
                for row in values.chunks_exact(counts.len()) {
                    for (count, y) in counts.iter_mut().zip(row).filter(|(_, y)| !y.is_nan()) {
                        count[0] += 1.0 - f64::from(*y);
                        count[1] += f64::from(*y);
                    }
                }
            }
            _ => panic!("the targets are of another kind than the labels"),
        }
    }

    /// `n / (k n_c)` over the `k` classes that occur, 1 for the others.
    fn class_weights(&self) -> Vec<f64> {
        let Counts::Classes(counts) = self else { return Vec::new() };
        let rows: f64 = counts.iter().sum();
        let present = counts.iter().filter(|c| **c > 0.0).count() as f64;
        counts.iter().map(|c| if *c > 0.0 { rows / (present * c) } else { 1.0 }).collect()
    }

    /// Class weights, or the share of negatives of each label, a half where one side does not occur.
    pub(crate) fn alphas(&self) -> Vec<f64> {
        match self {
            Counts::Classes(_) => self.class_weights(),
            Counts::Values(_) => self.sides(0.5, |no, yes| no / (no + yes)),
        }
    }

    /// Negatives over positives, 1 where one of them does not occur.
    fn positive_weights(&self) -> Vec<f64> {
        self.sides(1.0, |no, yes| no / yes)
    }

    /// A number a label from its negatives and positives, or another where one side does not occur: there is nothing
    /// to balance, and a weight of 0 would leave out the side that does.
    fn sides(&self, alone: f64, rule: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let Counts::Values(counts) = self else { return Vec::new() };
        counts.iter().map(|&[no, yes]| if no > 0.0 && yes > 0.0 { rule(no, yes) } else { alone }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1], y=[0, 0, 0, 1]) == [0.666..., 2.0]
    #[test]
    fn class_weights_are_those_of_scikit_learn() {
        let mut counts = Counts::new(Labels::Classes(3));
        counts.add(Targets::Classes(&[0, 0, -1, 0, 1]));
        let mut weights = ClassWeights::Balanced(Balanced::Balanced);
        weights.balance(&mut || Ok(counts.clone())).unwrap();
        assert_eq!(weights, ClassWeights::Each(vec![4.0 / 6.0, 2.0, 1.0]));
    }

    #[test]
    fn positive_weights_are_negatives_over_positives() {
        let mut counts = Counts::new(Labels::Binary { columns: 2 });
        counts.add(Targets::Values(&[0.0, 1.0, 0.0, f32::NAN, 1.0, 1.0, 0.0, 1.0]));
        let mut weights = LabelWeights::Balanced(Balanced::Balanced);
        weights.balance(&mut || Ok(counts.clone())).unwrap();
        assert_eq!(weights, LabelWeights::Each(vec![3.0, 1.0]));
    }

    /// Columns with both sides, negatives only, positives only, and no label at all.
    fn one_sided() -> Counts {
        let mut counts = Counts::new(Labels::Binary { columns: 4 });
        let nan = f32::NAN;
        counts.add(Targets::Values(&[0.0, 0.0, 1.0, nan, 0.0, 0.0, 1.0, nan, 1.0, nan, 1.0, nan]));
        counts
    }

    #[test]
    fn a_side_that_does_not_occur_leaves_the_other_its_weight() {
        let counts = one_sided();
        assert_eq!(counts.alphas(), [2.0 / 3.0, 0.5, 0.5, 0.5]);
        assert_eq!(counts.positive_weights(), [2.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn numbers_are_kept_without_counting() {
        let mut weights = LabelWeights::All(2.0);
        weights.balance(&mut || panic!("nothing to count")).unwrap();
        assert_eq!(weights, LabelWeights::All(2.0));
    }
}
