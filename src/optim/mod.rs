//! Optimizers: one pass over flat buffers.
