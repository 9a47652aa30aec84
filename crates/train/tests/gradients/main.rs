//! The backward pass against what it must equal: finite differences, unpacked samples, PyTorch.

mod finite_differences;
mod guards;
mod packing;
mod precision;
mod support;
mod torch;
