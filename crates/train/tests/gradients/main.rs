//! The step against what it must equal: the model that answers, finite differences, unpacked samples, PyTorch.

mod answering;
mod finite_differences;
mod guards;
mod packing;
mod precision;
mod sight;
mod support;
mod torch;
