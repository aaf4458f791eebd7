//! What a weighting decides of one step: the sheet it writes on, and what applies it reads there.

use super::Needs;

/// What a weighting decides; the buffers are kept from step to step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Combination {
    /// One weight a row of the evidence; comes filled with ones.
    pub weights: Vec<f64>,
    /// The direction of the shared parameters `[parameters]`, if the weights do not say it; comes empty. As long as the
    /// gradient it replaces: parameters go against it.
    pub direction: Vec<f32>,
    /// For a weighting from gradients, the factor on the gradient of each row's task-only parameters; comes filled with
    /// ones.
    pub own: Vec<f64>,
    /// Weights that differ between layers, `[layers, rows]`; comes empty.
    pub layers: Vec<f64>,
    /// For a weighting of losses, what its weights are the derivatives of, by its formula; comes empty, which says that
    /// it is the weighted sum of the losses.
    pub objective: Option<f64>,
}

/// What was decided of the tasks that have labels, one row each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision<'a> {
    /// Factors on whole losses, and so on all their gradients.
    Losses {
        /// One a row.
        weights: &'a [f64],
    },
    /// Factors on the tasks' gradients of shared parameters.
    Shared {
        /// One a row, where its gradient enters shared parameters.
        weights: &'a [f64],
        /// One a row, on the gradient of its task-only parameters.
        own: &'a [f64],
    },
    /// Factors that differ between the layers of shared parameters.
    Layers {
        /// `[layers, rows]`.
        layers: &'a [f64],
        /// As in [`Decision::Shared`].
        weights: &'a [f64],
        /// As in [`Decision::Shared`].
        own: &'a [f64],
    },
    /// A direction for shared parameters.
    Direction {
        /// `[parameters]`; parameters go against it.
        direction: &'a [f32],
        /// As in [`Decision::Shared`]: of sparse tables, which no direction speaks of.
        weights: &'a [f64],
        /// As in [`Decision::Shared`].
        own: &'a [f64],
    },
}

impl Combination {
    /// Ones for so many rows, and no direction.
    pub fn clear(&mut self, rows: usize) {
        for weights in [&mut self.weights, &mut self.own] {
            weights.clear();
            weights.resize(rows, 1.0);
        }
        self.direction.clear();
        self.layers.clear();
        self.objective = None;
    }

    /// What a weighting that looks at so much decided.
    pub fn decision(&self, needs: Needs) -> Decision<'_> {
        let Self { weights, direction, own, layers, .. } = self;
        match needs {
            Needs::Losses => Decision::Losses { weights },
            _ if !direction.is_empty() => Decision::Direction { direction, weights, own },
            _ if !layers.is_empty() => Decision::Layers { layers, weights, own },
            _ => Decision::Shared { weights, own },
        }
    }
}

impl Decision<'_> {
    /// One weight a row, the mean of the layers' where they differ; none where a direction says all.
    pub fn weight(&self, row: usize) -> Option<f64> {
        match self {
            Decision::Losses { weights } | Decision::Shared { weights, .. } => Some(weights[row]),
            Decision::Layers { layers, weights, .. } => {
                let each = layers.iter().skip(row).step_by(weights.len());
                Some(each.sum::<f64>() / (layers.len() / weights.len()) as f64)
            }
            Decision::Direction { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_says_what_was_decided() {
        let mut sheet = Combination::default();
        sheet.clear(2);
        assert_eq!(sheet.decision(Needs::Losses), Decision::Losses { weights: &[1.0, 1.0] });
        assert_eq!(sheet.decision(Needs::Gramian), Decision::Shared { weights: &[1.0, 1.0], own: &[1.0, 1.0] });
        sheet.layers = vec![1.0, 2.0, 3.0, 6.0];
        let layered = sheet.decision(Needs::Gramian);
        assert!(matches!(layered, Decision::Layers { layers: &[1.0, 2.0, 3.0, 6.0], .. }));
        assert_eq!([layered.weight(0), layered.weight(1)], [Some(2.0), Some(4.0)]);
        sheet.direction = vec![0.5];
        let directed = sheet.decision(Needs::Jacobian);
        assert!(matches!(directed, Decision::Direction { direction: &[0.5], .. }));
        assert_eq!(directed.weight(0), None);
    }
}
