//! Arithmetic on slices for one thread, in every instruction set, each equal to its scalar twin.
//!
//! No threads and no allocation beyond what a caller hands in: the pool lives above. Every function takes an [`isa::Isa`],
//! which only run-time detection can make, and gives the same bits whichever one it is.

pub mod attention;
pub mod attention_kv8;
pub mod ceiling;
pub mod isa;
pub mod matmul;
pub mod matmul_bf16;
pub mod matmul_quantized;
pub mod rows;
#[cfg(target_arch = "aarch64")]
mod sdot;
pub mod training;
