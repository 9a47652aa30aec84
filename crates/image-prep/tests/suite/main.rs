//! Tests of image-prep against Pillow, against an independent implementation of the tiling rules, and against bad files.

mod bad_files;
mod decoding;
mod grids;
mod plans;
mod preparing;
mod resizing;
mod settings;
mod support;
