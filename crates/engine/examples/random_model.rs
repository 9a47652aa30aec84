//! Writes a model folder with random weights, for trying out commands: `cargo run -p engine --example random_model DIR`.

#[path = "../tests/support/random_model.rs"]
mod random_model;

fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: random_model DIR");
    random_model::write_random_model(folder.as_ref(), 0);
}
