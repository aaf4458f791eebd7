//! Learned scales that bring all losses to the same size.

use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::error::Result;
use crate::task::About;
use crate::weighting::learned::Learned;
use crate::weighting::positive::{Names, logarithm, reciprocal};
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

/// Furthest a scale's logarithm goes, so that weights stay between 1e-13 and 1e13.
const LIMIT: f64 = 30.0;

crate::component! {
    /// IMTL-L, the loss balance of impartial multi-task learning (Liu et al., Towards Impartial Multi-task Learning,
    /// ICLR 2021): `L = sum_j exp(s_j) L_j - s_j` with learned `s_j` that start at 0; the weights are `exp(s_j)`.
    ///
    /// The scale is the method's own: where `s_j` has settled, every scaled loss is 1. The paper trains `s` with the
    /// model's optimizer; here it has an Adam of its own, or with `exact` each batch its minimum `exp(s_j) = 1 / L_j`,
    /// the weights of `ScaleInvariant`. Losses of 0 and less have no best scale: with Adam, a loss that stays there
    /// grows its weight until `s` reaches 30; with `exact`, 0 has weight 0 and a negative loss is refused.
    pub struct ImtlL = "IMTLL" {
        /// Learning rate of the scales' logarithms.
        lr: f64 = 1e-3, in 0.0..;
        /// Whether scales are solved for in each batch rather than learned.
        exact: bool = false;
    }
    state: Scales;
}

/// The scales, as logarithms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    names: Names,
    logarithms: Learned,
}

impl Weighting for ImtlL {
    fn claims(&self) -> Claims {
        Claims { promises: &[Promise::Permutes, Promise::Positive, Promise::Count], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state.names = Names::of(tasks);
        self.state.logarithms.fit(tasks.len(), 0.0);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let Scales { names, logarithms } = &mut self.state;
        if self.exact {
            names.refuse_negative(Self::CLASS, evidence)?;
        }
        let mut objective = 0.0;
        for (row, &task) in evidence.tasks().iter().enumerate() {
            let loss = evidence.losses()[row];
            if self.exact {
                into.weights[row] = reciprocal(loss);
                objective += 1.0 + logarithm(loss);
                continue;
            }
            let weight = logarithms.values[task].exp();
            into.weights[row] = weight;
            objective += weight * loss - logarithms.values[task];
            logarithms.descend(task, weight * loss - 1.0, self.lr);
            logarithms.values[task] = logarithms.values[task].clamp(-LIMIT, LIMIT);
        }
        into.objective = Some(objective);
        Ok(())
    }

    crate::remembers!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{close, continues, prepared, spares_absent, weigh};

    #[test]
    fn scales_are_learned() {
        let mut method = prepared(ImtlL { lr: 0.1, ..ImtlL::default() }, 2);
        close(&weigh(&mut method, &[4.0, 0.2]).unwrap(), &[1.0, 1.0]);
        // Adam's first step is its learning rate: against 4 - 1 > 0 and 0.2 - 1 < 0.
        let step = |gradient: f64| (-0.1 * gradient / (gradient.abs() + 1e-8)).exp();
        close(&weigh(&mut method, &[4.0, 0.2]).unwrap(), &[step(3.0), step(-0.8)]);
        let mut weights = Vec::new();
        for _ in 0..3000 {
            weights = weigh(&mut method, &[4.0, 0.2]).unwrap();
        }
        assert!((weights[0] * 4.0 - 1.0).abs() < 1e-3 && (weights[1] * 0.2 - 1.0).abs() < 1e-3, "{weights:?}");
    }

    #[test]
    fn exact_scales_are_reciprocal() {
        let mut method = prepared(ImtlL { exact: true, ..ImtlL::default() }, 2);
        assert_eq!(weigh(&mut method, &[4.0, 0.0]).unwrap(), [0.25, 0.0]);
        assert!(weigh(&mut method, &[4.0, -1.0]).unwrap_err().to_string().contains("IMTLL: the loss of task \"b\""));
    }

    #[test]
    fn negative_losses_stay_finite_and_state_follows_tasks() {
        let mut method = prepared(ImtlL { lr: 10.0, ..ImtlL::default() }, 2);
        for _ in 0..20 {
            let weights = weigh(&mut method, &[-1e30, 0.0]).unwrap();
            assert!(weights.iter().all(|w| (1.0..2e13).contains(w)), "{weights:?}");
        }
        spares_absent(&mut prepared(ImtlL::default(), 3));
        continues(|| prepared(ImtlL::default(), 3));
    }
}
