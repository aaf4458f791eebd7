//! Encoders: from features to a representation.
