//! The one binary: run, chat, explain, tiles, eval, data, train.
fn main() {}
