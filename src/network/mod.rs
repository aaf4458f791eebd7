//! The network as a static list of nodes.
