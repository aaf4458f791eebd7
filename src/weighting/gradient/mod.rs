//! Weightings that look at the tasks' gradients.
