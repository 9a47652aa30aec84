//! A GGUF file of whatever comes: its header is refused, or every tensor that it tells of can be read.
//!
//! A good start is a real one: golden/gguf.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::gguf::Gguf;

fuzz_target!(|input: &[u8]| {
    let Ok(gguf) = Gguf::parse(input) else {
        return;
    };
    for tensor in &gguf.tensors {
        let _ = &input[tensor.range.clone()];
    }
});
