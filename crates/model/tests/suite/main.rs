//! One binary for all tests of the crate: they link once.

mod bundles;
mod chunks;
mod config;
mod experts;
mod golden;
mod headers;
mod quantized_cache;
mod support;
mod weights;
mod writing;
