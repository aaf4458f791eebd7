//! Weightings: which task gets how much of a step.
