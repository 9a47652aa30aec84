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

/// A multiple of the pages of every system that we know (4 to 64 KiB); maps begin with a page.
const PAGE_BYTES: usize = 1 << 16;

/// Advises that pages of a map are not needed for now.
#[cfg(unix)]
fn give_back(file: &memmap2::Mmap, begin: usize, length: usize) -> bool {
    let advice = memmap2::UncheckedAdvice::DontNeed;
    // SAFETY: dropped pages of a map that nobody can write to are read from the same file again, so that every reference
    // into it sees the same bytes before and after. (What makes this advice unsafe is memory that was written to.)
    #[allow(unsafe_code)]
    unsafe { file.unchecked_advise_range(advice, begin, length) }.is_ok()
}

#[cfg(not(unix))]
fn give_back(_: &memmap2::Mmap, _: usize, _: usize) -> bool {
    false
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

    /// Lets the system take back the memory of all pages that lie wholly in this part; who reads them next gets them from
    /// the file again. Returns how many bytes that were, 0 where the system refuses.
    pub fn release(&self) -> usize {
        let page = PAGE_BYTES;
        let begin = self.range.start.next_multiple_of(page);
        let length = (self.range.end / page * page).saturating_sub(begin);
        match length > 0 && give_back(&self.file, begin, length) {
            true => length,
            false => 0,
        }
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
