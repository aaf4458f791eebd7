//! The network, its parameters and its description.
