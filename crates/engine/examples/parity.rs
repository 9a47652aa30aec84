//! Compares the whole path with a reference's recorded values: `cargo run -p engine --example parity -- FOLDER...`.
//!
//! Prints one line a folder and, for each case that differs, the first value that does.

#[path = "../tests/support/parity.rs"]
mod parity;

use std::path::Path;

fn main() {
    let mut problems = 0;
    for folder in std::env::args_os().skip(1) {
        let worst = parity::compare_folder(Path::new(&folder));
        println!("{}: {}", folder.display(), worst.summary());
        problems += worst.problems.len();
    }
    println!("{problems} problems");
    std::process::exit(i32::from(problems > 0));
}
