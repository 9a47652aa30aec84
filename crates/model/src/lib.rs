//! The networks: described by data, computed with kernels, read from weight files.
