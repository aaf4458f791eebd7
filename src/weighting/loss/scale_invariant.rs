//! The sum of the losses' logarithms.

use crate::component::Component;
use crate::error::Result;
use crate::task::About;
use crate::weighting::positive::{Names, logarithm, reciprocal};
use crate::weighting::{Claims, Combination, Evidence, Promise, Weighting};

crate::component! {
    /// Scale-invariant sum (the baseline of Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022):
    /// `L = sum_j log L_j`, which is the weights `1 / L_j`.
    ///
    /// A task's unit, and its own `weight`, cancel. The gradient is as long as the relative changes of the losses, so
    /// neither sum nor mean; under plain gradient descent it grows as losses shrink. A loss of exactly 0 has weight 0
    /// (it is at its minimum), and in `L` the logarithm of the smallest normal number; a negative loss has no logarithm
    /// and is refused.
    pub struct ScaleInvariant = "ScaleInvariant" {}
    state: Names;
}

impl Weighting for ScaleInvariant {
    fn claims(&self) -> Claims {
        Claims { promises: &[Promise::Permutes, Promise::Positive, Promise::Levels], ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.state = Names::of(tasks);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        self.state.refuse_negative(Self::CLASS, evidence)?;
        for (weight, &loss) in into.weights.iter_mut().zip(evidence.losses()) {
            *weight = reciprocal(loss);
        }
        into.objective = Some(evidence.losses().iter().copied().map(logarithm).sum());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighting::loss::tests::{prepared, weigh};

    #[test]
    fn weights_are_reciprocal() {
        let mut method = prepared(ScaleInvariant::default(), 3);
        assert_eq!(weigh(&mut method, &[4.0, 1e10, 1e-10]).unwrap(), [0.25, 1e-10, 1e10]);
        assert_eq!(weigh(&mut method, &[2.0]).unwrap(), [0.5]);
        assert_eq!(weigh(&mut method, &[]).unwrap(), [0.0; 0]);
    }

    #[test]
    fn zero_has_no_weight_and_less_is_refused() {
        let mut method = prepared(ScaleInvariant::default(), 3);
        let weights = weigh(&mut method, &[0.0, 1e-300, 2.0]).unwrap();
        assert_eq!([weights[0], weights[2]], [0.0, 0.5]);
        assert!((weights[1] as f32).is_finite());
        let message = weigh(&mut method, &[1.0, -0.5, 1.0]).unwrap_err().to_string();
        assert_eq!(message, "ScaleInvariant: the loss of task \"b\" is -0.5; the method needs losses of at least 0");
    }
}
