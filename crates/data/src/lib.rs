//! Makes, reads and mixes training examples.
