//! Heads: from a representation to a task's outputs.
