//! One binary for all tests of the crate: they link once.

mod batches;
mod bundles;
mod chunks;
mod config;
mod experts;
mod golden;
mod headers;
mod positions;
mod quantized_cache;
mod support;
mod torch;
mod vila;
mod weights;
mod writing;
