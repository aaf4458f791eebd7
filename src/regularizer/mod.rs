//! Regularizers of the objective.
