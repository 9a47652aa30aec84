//! What images became, kept so that the encoder sees each of them once: in memory, and in a folder if one is given.
//!
//! Rows are found by the picture's name ([`crate::identity::of_picture`]: 128 bits of a SHA-256 of pixels, size and
//! preparation). A cache belongs to one engine, and files in its folder name the weights as well, so rows of another
//! model's encoder are never used. What is kept is what the encoder gave, in f32: an answer from kept rows is the same bits.
//!
//! Nothing here can fail a request. A file that is damaged, cut off, of another version or of another model is not used; a
//! folder that cannot be written keeps nothing, and [`CacheCounts::failed_writes`] counts it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::EngineError;
use crate::identity::Name;

mod folder;

use folder::Folder;

/// Rows of one image, as batches came from the encoder.
pub(crate) type Rows = Vec<Arc<[f32]>>;

/// Kept images. Those used longest ago make room for new ones.
pub struct ImageCache {
    max_bytes: usize,
    memory: Mutex<Memory>,
    folder: Option<Arc<Folder>>,
    /// Writes to the folder, which nobody waits for until the cache is dropped.
    writes: Mutex<Vec<JoinHandle<()>>>,
    found: AtomicU64,
    found_in_folder: AtomicU64,
    missed: AtomicU64,
}

#[derive(Default)]
struct Memory {
    images: HashMap<u128, Kept>,
    bytes: usize,
    /// Counts uses: the smallest number was used longest ago.
    clock: u64,
}

struct Kept {
    rows: Rows,
    bytes: usize,
    used: u64,
}

/// What a cache holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Images in memory.
    pub images: usize,
    /// Bytes of their rows.
    pub bytes: usize,
    /// Images that were asked for and found in memory.
    pub found: u64,
    /// Images that were found in the folder.
    pub found_in_folder: u64,
    /// Images that were asked for in vain.
    pub missed: u64,
    /// Files that could not be written.
    pub failed_writes: u64,
}

impl ImageCache {
    /// A cache that keeps at most so many bytes of rows in memory.
    pub fn new(max_bytes: usize) -> Self {
        ImageCache {
            max_bytes,
            memory: Mutex::default(),
            folder: None,
            writes: Mutex::default(),
            found: AtomicU64::new(0),
            found_in_folder: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Keeps them in files of this folder too, at most so many bytes of them. The folder is made if it is not there; only its
    /// owner can read what is in it, for pictures can be guessed from their rows.
    ///
    /// Errors where the folder can be neither found nor made.
    pub fn with_folder(mut self, path: &Path, max_bytes: u64) -> Result<Self, EngineError> {
        self.folder = Some(Arc::new(Folder::open(path, max_bytes)?));
        Ok(self)
    }

    /// The cache for these weights.
    pub(crate) fn of_weights(
        mut self,
        name: impl FnOnce() -> Result<Name, EngineError>,
    ) -> Result<Self, EngineError> {
        if let Some(folder) = self.folder.take() {
            self.folder = Some(Arc::new(folder.of_weights(name()?)));
        }
        Ok(self)
    }

    /// What it holds and has done.
    pub fn counts(&self) -> CacheCounts {
        let memory = self.lock();
        CacheCounts {
            images: memory.images.len(),
            bytes: memory.bytes,
            found: self.found.load(Ordering::Relaxed),
            found_in_folder: self.found_in_folder.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            failed_writes: self.folder.as_ref().map_or(0, |folder| folder.failed()),
        }
    }

    /// Whether an image is in memory or in the folder; it counts as no use.
    pub(crate) fn has(&self, name: u128) -> bool {
        self.lock().images.contains_key(&name)
            || self.folder.as_ref().is_some_and(|folder| folder.has(name))
    }

    /// The rows of an image, which are so many numbers.
    pub(crate) fn find(&self, name: u128, numbers: usize) -> Option<Rows> {
        if let Some(rows) = self.lock().take(name, numbers) {
            self.found.fetch_add(1, Ordering::Relaxed);
            return Some(rows);
        }
        let read = self.folder.as_ref().and_then(|it| it.read(name, numbers));
        let Some(rows) = read else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.found_in_folder.fetch_add(1, Ordering::Relaxed);
        let rows = vec![Arc::from(rows)];
        self.lock().keep(name, &rows, self.max_bytes);
        Some(rows)
    }

    /// Keeps all rows of an image.
    pub(crate) fn keep(&self, name: u128, rows: Rows) {
        self.lock().keep(name, &rows, self.max_bytes);
        let Some(folder) = self.folder.clone() else {
            return;
        };
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.retain(|write| !write.is_finished());
        writes.push(std::thread::spawn(move || folder.write(name, &rows)));
    }

    /// Waits for files that are being written.
    fn wait(&self) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        for write in writes.drain(..) {
            // A write that panicked has kept nothing, which is no news to anybody.
            let _ = write.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Bookkeeping alone is done under it, which does not panic half way.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ImageCache {
    fn drop(&mut self) {
        self.wait();
    }
}

impl Memory {
    fn take(&mut self, name: u128, numbers: usize) -> Option<Rows> {
        let kept = self.images.get_mut(&name)?;
        // A name is a hash of what decides the number of rows; a lie would be a bug worth no wrong answer.
        if kept.bytes != numbers * size_of::<f32>() {
            return None;
        }
        self.clock += 1;
        kept.used = self.clock;
        Some(kept.rows.clone())
    }

    fn keep(&mut self, name: u128, rows: &Rows, max_bytes: usize) {
        let bytes = rows.iter().map(|batch| size_of_val(&**batch)).sum();
        if bytes > max_bytes {
            return;
        }
        self.forget(name);
        while self.bytes + bytes > max_bytes {
            let oldest = self.images.iter().min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(&name, _)| name) else {
                break;
            };
            self.forget(oldest);
        }
        self.clock += 1;
        self.bytes += bytes;
        let kept = Kept {
            rows: rows.clone(),
            bytes,
            used: self.clock,
        };
        self.images.insert(name, kept);
    }

    fn forget(&mut self, name: u128) {
        if let Some(kept) = self.images.remove(&name) {
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests;
