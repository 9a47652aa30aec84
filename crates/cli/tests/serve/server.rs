//! A running `bluelm serve`, and what it is asked about.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value as Json;

/// A server on a free port; ends when dropped.
pub struct Server {
    pub child: Child,
    /// Kept open: a closed pipe would end the program at its next word.
    _stderr: BufReader<ChildStderr>,
    pub address: String,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bluelm"))
            .args(["serve", "--port", "0"])
            .args(arguments)
            .env_remove("BLUELM_API_KEY")
            // What this machine's user has stored is none of the tests' business.
            .env("XDG_CACHE_HOME", std::env::temp_dir().join("bluelm-none"))
            .env("XDG_CONFIG_HOME", std::env::temp_dir().join("bluelm-none"))
            // One heap for all threads (glibc) that gives back what is free, so that its memory at two times can be compared:
            // pieces of 32 KB and more have pages of their own, and the end of the heap goes back at once.
            .env("MALLOC_ARENA_MAX", "1")
            .env("MALLOC_MMAP_THRESHOLD_", "32768")
            .env("MALLOC_TRIM_THRESHOLD_", "0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("http://") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the server ended");
        }
        let (_, address) = line.trim_end().split_once("http://").unwrap();
        let address: String = address
            .chars()
            .take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter))
            .collect();
        Server {
            child,
            _stderr: stderr,
            address,
        }
    }

    /// The body of an answer, which is expected to have this status.
    pub fn ask(&self, path: &str, body: &Json, status: u16) -> String {
        self.send("POST", path, &body.to_string(), status)
    }

    /// What is there.
    pub fn get(&self, path: &str) -> Json {
        serde_json::from_str(&self.send("GET", path, "", 200)).unwrap()
    }

    /// The same as it is.
    pub fn text(&self, path: &str) -> String {
        self.send("GET", path, "", 200)
    }

    fn send(&self, method: &str, path: &str, body: &str, status: u16) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    pub fn json(&self, path: &str, body: &Json) -> Json {
        serde_json::from_str(&self.ask(path, body, 200)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn receipt() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/receipt.png");
    format!(
        "data:image/png;base64,{}",
        base64(&std::fs::read(path).unwrap())
    )
}

/// Base64 by its definition, RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [
            chunk[0],
            chunk.get(1).copied().unwrap_or(0),
            chunk.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

/// The answer of `bluelm run --json` to the same question.
pub fn run_json(more: &[&str]) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/receipt.png");
    let output = Command::new(env!("CARGO_BIN_EXE_bluelm"))
        .args(["run", "--json", "--max-tokens", "64", "--image"])
        .arg(path)
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
