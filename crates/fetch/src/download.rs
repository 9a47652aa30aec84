//! One file of a model: fetched from where it was broken off, checked, and only then given its name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::connection::Connection;
use crate::error::FetchError;
use crate::listing::{Listed, Sum};

/// Bytes that are read and written at once.
const PIECE_BYTES: usize = 256 << 10;
/// How often a connection that brings nothing is opened again.
const ATTEMPTS: u32 = 4;

/// Where a file comes from and where it goes.
pub(crate) struct Download<'a> {
    pub connection: &'a Connection,
    /// On the hub.
    pub path: &'a str,
    pub file: &'a Listed,
    /// The first pause before another attempt; each is twice as long as the one before.
    pub pause: Duration,
    pub cancel: &'a dyn Fn() -> bool,
}

impl Download<'_> {
    /// Brings the file to `to`; `arrived` is told of bytes, those that came in an earlier attempt first.
    pub fn run(&self, to: &Path, arrived: &mut dyn FnMut(u64)) -> Result<(), FetchError> {
        let part = to.with_extension("incomplete");
        let disk = |source| FetchError::Disk {
            path: part.clone(),
            source,
        };
        let mut partial = open(&part)?;
        let mut sum = Summing::new(self.file);
        let kept = sum.take_all(&mut partial, self.file.bytes).map_err(disk)?;
        arrived(kept);
        let mut failures = 0;
        while sum.bytes < self.file.bytes {
            let before = sum.bytes;
            let outcome = self.go_on(&mut partial, &mut sum, arrived, &part);
            // Nothing that came is lost, so a connection that brings something may break as often as it likes.
            failures = if sum.bytes > before { 0 } else { failures + 1 };
            match outcome {
                Ok(()) => {}
                Err(error @ FetchError::NoConnection { .. }) if failures >= ATTEMPTS => {
                    return Err(error);
                }
                Err(FetchError::NoConnection { .. }) => self.wait(failures)?,
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = sum.check(self.file) {
            // It would be found wrong again and again.
            partial.set_len(0).map_err(disk)?;
            return Err(error);
        }
        partial.sync_all().map_err(disk)?;
        std::fs::rename(&part, to).map_err(disk)
    }

    /// One connection's worth.
    fn go_on(
        &self,
        partial: &mut File,
        sum: &mut Summing,
        arrived: &mut dyn FnMut(u64),
        part: &Path,
    ) -> Result<(), FetchError> {
        let disk = |source| FetchError::Disk {
            path: part.into(),
            source,
        };
        let wrong = |problem: String| FetchError::Answer {
            what: self.file.path.clone(),
            problem,
        };
        let response = self.connection.get(self.path, sum.bytes)?;
        match response.status().as_u16() {
            206 if starts_at(&response, sum.bytes) => {}
            // It does not know how to go on.
            200 => {
                partial.set_len(0).map_err(disk)?;
                partial.rewind().map_err(disk)?;
                *sum = Summing::new(self.file);
            }
            status @ (429 | 500..=599) => {
                return Err(FetchError::NoConnection {
                    endpoint: self.connection.endpoint().into(),
                    problem: format!("it answered {status}"),
                });
            }
            status => return Err(wrong(format!("expected the file, found status {status}"))),
        }
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            if (self.cancel)() {
                return Err(FetchError::Cancelled);
            }
            let length = match body.read(&mut piece) {
                Ok(length) => length,
                Err(error) => {
                    return Err(FetchError::NoConnection {
                        endpoint: self.connection.endpoint().into(),
                        problem: error.to_string(),
                    });
                }
            };
            if length == 0 {
                return match sum.bytes == self.file.bytes {
                    true => Ok(()),
                    false => Err(FetchError::NoConnection {
                        endpoint: self.connection.endpoint().into(),
                        problem: format!("{} broke off", self.file.path),
                    }),
                };
            }
            if sum.bytes + length as u64 > self.file.bytes {
                let expected = self.file.bytes;
                return Err(wrong(format!("expected {expected} bytes, found more")));
            }
            partial.write_all(&piece[..length]).map_err(disk)?;
            sum.take(&piece[..length]);
            arrived(length as u64);
        }
    }

    fn wait(&self, failures: u32) -> Result<(), FetchError> {
        let step = Duration::from_millis(20).min(self.pause);
        let mut left = self.pause * 2u32.pow(failures.saturating_sub(1).min(8));
        while !left.is_zero() {
            if (self.cancel)() {
                return Err(FetchError::Cancelled);
            }
            std::thread::sleep(step);
            left = left.saturating_sub(step);
        }
        Ok(())
    }
}

/// The unfinished file, which nobody else may be writing.
fn open(part: &Path) -> Result<File, FetchError> {
    let disk = |source| FetchError::Disk {
        path: part.into(),
        source,
    };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false);
    let file = file.open(part).map_err(disk)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FetchError::Busy { path: part.into() }),
        Err(TryLockError::Error(source)) => Err(disk(source)),
    }
}

fn starts_at(response: &ureq::http::Response<ureq::Body>, from: u64) -> bool {
    let range = response.headers().get("content-range");
    let range = range.and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

/// The checksum of what has come.
struct Summing {
    bytes: u64,
    state: State,
}

enum State {
    Sha256(Sha256),
    Git(Sha1),
}

impl Summing {
    fn new(file: &Listed) -> Summing {
        Summing {
            bytes: 0,
            state: match file.sum {
                Sum::Sha256(_) => State::Sha256(Sha256::new()),
                Sum::Git(_) => {
                    let mut sha1 = Sha1::new();
                    sha1.update(format!("blob {}\0", file.bytes));
                    State::Git(sha1)
                }
            },
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match &mut self.state {
            State::Sha256(sum) => sum.update(bytes),
            State::Git(sum) => sum.update(bytes),
        }
    }

    /// What an earlier attempt left, at most so many bytes; the file stands at its end then.
    fn take_all(&mut self, file: &mut File, most: u64) -> std::io::Result<u64> {
        if file.metadata()?.len() > most {
            file.set_len(0)?;
        }
        file.rewind()?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                length => self.take(&piece[..length]),
            }
        }
        file.seek(SeekFrom::End(0))?;
        Ok(self.bytes)
    }

    fn check(self, file: &Listed) -> Result<(), FetchError> {
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let found = match self.state {
            State::Sha256(sum) => hex(&sum.finalize()),
            State::Git(sum) => hex(&sum.finalize()),
        };
        match found == file.sum.hex() {
            true => Ok(()),
            false => Err(FetchError::Checksum {
                file: file.path.clone(),
                expected: file.sum.hex().into(),
                found,
            }),
        }
    }
}
