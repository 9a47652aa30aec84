//! Files mapped into memory, and parts of them that are used where they lie.

use crate::ModelError;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Maps a whole file for reading.
pub(crate) fn map(path: &Path) -> Result<memmap2::Mmap, ModelError> {
    let file = std::fs::File::open(path).map_err(ModelError::io("opening", path))?;
    // SAFETY: the map is read only. A file that another process cuts while it is mapped ends this process with SIGBUS, as
    // with every program that maps weights; its bytes changing can change numbers, not memory safety.
    #[allow(unsafe_code)]
    unsafe { memmap2::Mmap::map(&file) }.map_err(ModelError::io("mapping", path))
}

/// Some bytes of a mapped file, which stays mapped as long as they are there.
#[derive(Clone)]
pub(crate) struct Part {
    file: Arc<memmap2::Mmap>,
    range: Range<usize>,
}

impl Part {
    /// # Panics
    /// When the range is not in the file.
    pub fn new(file: &Arc<memmap2::Mmap>, range: Range<usize>) -> Part {
        assert!(
            range.start <= range.end && range.end <= file.len(),
            "bytes {range:?} of {}",
            file.len()
        );
        Part {
            file: file.clone(),
            range,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

/// 16-bit numbers of a mapped file.
#[derive(Clone)]
pub(crate) struct Shared(Part);

impl Shared {
    /// # Panics
    /// When they do not begin at an even place or have half a number.
    pub fn new(part: Part) -> Shared {
        assert!(
            part.range.start.is_multiple_of(2) && part.range.len().is_multiple_of(2),
            "16-bit numbers at bytes {:?}",
            part.range
        );
        Shared(part)
    }

    /// Maps begin with a page, so that an even place in the file is one in memory. The file is little-endian, and so is the
    /// processor, which whoever opened the file has made sure of.
    pub fn numbers(&self) -> &[u16] {
        bytemuck::cast_slice(self.0.bytes())
    }
}

impl AsRef<[u16]> for Shared {
    fn as_ref(&self) -> &[u16] {
        self.numbers()
    }
}
