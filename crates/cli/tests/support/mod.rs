//! Runs the built program and shows what it did as one text.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "../../../engine/tests/support/random_model.rs"]
pub mod random_model;

/// A folder with a random model in `model` and whatever else a test needs.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a run of the program did.
pub struct Outcome {
    pub exit: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        let place = Place {
            folder: tempfile::tempdir().unwrap(),
        };
        random_model::write_random_model(&place.path("model"), 0);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Puts one of the fixtures into the folder.
    pub fn fixture(&self, name: &str) -> Vec<u8> {
        let bytes = std::fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures")
                .join(name),
        )
        .unwrap();
        self.write(name, &bytes);
        bytes
    }

    /// The program, about to run in the folder.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_bluelm"));
        program.args(arguments).current_dir(self.folder.path());
        program
            .env_remove("NO_COLOR")
            // What this machine's user has stored is none of the tests' business.
            .env("XDG_CACHE_HOME", self.path("cache-home"))
            .env("XDG_CONFIG_HOME", self.path("config-home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        program
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, b"")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut child = self
            .program(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that ends before it has read all is no concern here.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Outcome {
            exit: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
