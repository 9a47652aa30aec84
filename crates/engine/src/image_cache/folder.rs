//! Kept images as files.
//!
//! `PICTURE-MODEL.rows`: the picture's name (32 hexadecimal digits), the beginning of the weights' (16). The file: `BLUEROWS`,
//! version (u32), name of the weights (32 bytes), name of the picture (u128), how many numbers (u64), the numbers (f32),
//! SHA-256 of all that; little-endian. It appears whole or not at all. When it was last used is its time of change.

use std::fs::{File, OpenOptions, read_dir, remove_file};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::Rows;
use crate::error::EngineError;
use crate::files::read_capped;
use crate::identity::Name;

const MAGIC: [u8; 8] = *b"BLUEROWS";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 8 + 4 + 32 + 16 + 8;
const SUM_BYTES: usize = 32;
const ENDING: &str = "rows";

/// A folder of kept images.
pub(super) struct Folder {
    path: PathBuf,
    max_bytes: u64,
    weights: Name,
    failed: AtomicU64,
    /// Tells files that are being written apart.
    parts: AtomicU64,
}

impl Folder {
    pub fn open(path: &Path, max_bytes: u64) -> Result<Self, EngineError> {
        make(path).map_err(|source| EngineError::Read {
            path: path.into(),
            source,
        })?;
        Ok(Folder {
            path: path.into(),
            max_bytes,
            weights: [0; 32],
            failed: AtomicU64::new(0),
            parts: AtomicU64::new(0),
        })
    }

    pub fn of_weights(&self, weights: Name) -> Self {
        Folder {
            path: self.path.clone(),
            max_bytes: self.max_bytes,
            weights,
            failed: AtomicU64::new(0),
            parts: AtomicU64::new(0),
        }
    }

    /// Files that could not be written.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn has(&self, name: u128) -> bool {
        self.file(name).is_file()
    }

    /// The rows of a picture, if the file is there, whole, and of this model.
    pub fn read(&self, name: u128, numbers: usize) -> Option<Vec<f32>> {
        let path = self.file(name);
        let length = HEAD_BYTES + numbers.checked_mul(4)? + SUM_BYTES;
        let bytes = read_capped(&path, length as u64).ok()?;
        let (content, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
        let head = self.head(name, numbers);
        if bytes.len() != length
            || !content.starts_with(&head)
            || Sha256::digest(content).as_slice() != sum
        {
            return None;
        }
        let (numbers, _) = content[HEAD_BYTES..].as_chunks::<4>();
        let rows: Vec<f32> = numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        // Used now. Where the system does not let us say so, the file only goes sooner.
        let _ = OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        Some(rows)
    }

    /// Writes the rows of a picture. What goes wrong is counted, and nothing is left behind.
    pub fn write(&self, name: u128, rows: &Rows) {
        let numbers: usize = rows.iter().map(|batch| batch.len()).sum();
        let bytes = (HEAD_BYTES + 4 * numbers + SUM_BYTES) as u64;
        if bytes > self.max_bytes {
            return;
        }
        self.make_room(bytes, &self.file(name));
        let part = self.path.join(format!(
            "{}-{}.part",
            std::process::id(),
            self.parts.fetch_add(1, Ordering::Relaxed)
        ));
        let written = self
            .write_part(&part, name, rows)
            .and_then(|()| std::fs::rename(&part, self.file(name)));
        if written.is_err() {
            let _ = remove_file(&part);
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write_part(&self, part: &Path, name: u128, rows: &Rows) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = std::io::BufWriter::new(options.open(part)?);
        let mut sum = Sha256::new();
        let mut put = |bytes: &[u8]| {
            sum.update(bytes);
            file.write_all(bytes)
        };
        put(&self.head(name, rows.iter().map(|batch| batch.len()).sum()))?;
        for number in rows.iter().flat_map(|batch| batch.iter()) {
            put(&number.to_le_bytes())?;
        }
        file.write_all(&sum.finalize())?;
        file.flush()
    }

    fn head(&self, name: u128, numbers: usize) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend(self.weights);
        head.extend(name.to_le_bytes());
        head.extend((numbers as u64).to_le_bytes());
        head
    }

    fn file(&self, name: u128) -> PathBuf {
        let model = self
            .weights
            .first_chunk()
            .map_or(0, |half| u64::from_be_bytes(*half));
        self.path.join(format!("{name:032x}-{model:016x}.{ENDING}"))
    }

    /// Removes the files used longest ago until so many bytes are free; other files than ours are not touched.
    fn make_room(&self, bytes: u64, replaced: &Path) {
        let Ok(entries) = read_dir(&self.path) else {
            return;
        };
        let mut files: Vec<(SystemTime, PathBuf, u64)> = entries
            .flatten()
            .filter(|entry| is_ours(&entry.path()))
            .filter_map(|entry| {
                let about = entry.metadata().ok()?;
                let whole = about.is_file() && entry.path() != replaced;
                whole.then_some((about.modified().ok()?, entry.path(), about.len()))
            })
            .collect();
        files.sort();
        let mut taken: u64 = files.iter().map(|file| file.2).sum();
        for (_, path, length) in files {
            if taken + bytes <= self.max_bytes {
                return;
            }
            if remove_file(path).is_ok() {
                taken -= length;
            }
        }
    }
}

/// Makes a folder that only its owner can look into.
fn make(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    // A file of this name is no folder, and `create` may call that a success.
    File::open(path)?
        .metadata()
        .and_then(|about| match about.is_dir() {
            true => Ok(()),
            false => Err(std::io::ErrorKind::NotADirectory.into()),
        })
}

fn is_ours(path: &Path) -> bool {
    let hexadecimal = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let name = path.file_stem().and_then(|name| name.to_str());
    path.extension().is_some_and(|ending| ending == ENDING)
        && name
            .and_then(|name| name.split_once('-'))
            .is_some_and(|(picture, model)| hexadecimal(picture, 32) && hexadecimal(model, 16))
}
