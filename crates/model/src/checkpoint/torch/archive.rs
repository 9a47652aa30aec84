//! Zip archives whose entries are stored as they are: names and places of the entries, nothing is unpacked or copied.
//!
//! Source: PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 and 4.3.15 (zip64),
//! 4.3.16 (end). Torch writes zip64 records whatever the size.

use std::collections::BTreeMap;
use std::ops::Range;

/// The entries of a file.
pub(super) struct Archive<'a> {
    entries: BTreeMap<&'a str, Range<usize>>,
}

/// Bytes of the last record without its comment, of the record that leads to zip64's, and of zip64's own.
const END: usize = 22;
const LOCATOR: usize = 20;
const END_64: usize = 56;
/// Bytes of an entry's headers without its name.
const CENTRAL: usize = 46;
const LOCAL: usize = 30;
/// Longest comment at the end of an archive.
const MAX_COMMENT: usize = u16::MAX as usize;

impl<'a> Archive<'a> {
    /// Reads the directory. Every entry that it names lies within the file.
    pub fn open(file: &'a [u8]) -> Result<Archive<'a>, String> {
        let mut at = directory(file)?;
        let mut entries = BTreeMap::new();
        while !at.is_empty() {
            let header = Header::read(file, &at)?;
            let data = header.data(file)?;
            if entries.insert(header.name, data).is_some() {
                return Err(format!("the archive has two entries {}", header.name));
            }
            at.start += header.length;
        }
        Ok(Archive { entries })
    }

    /// Names of entries.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// Where an entry's bytes lie in the file.
    pub fn entry(&self, name: &str) -> Option<&Range<usize>> {
        self.entries.get(name)
    }
}

/// An entry in the directory.
struct Header<'a> {
    name: &'a str,
    /// Bytes of it in the directory.
    length: usize,
    size: u64,
    /// Where its local header begins.
    local: u64,
}

impl<'a> Header<'a> {
    fn read(file: &'a [u8], at: &Range<usize>) -> Result<Header<'a>, String> {
        let cut = || "the archive's directory is cut off".to_string();
        let directory = &file[at.clone()];
        let fixed = directory.get(..CENTRAL).ok_or_else(cut)?;
        if !fixed.starts_with(b"PK\x01\x02") {
            return Err(format!(
                "expected an entry of the archive's directory at byte {}",
                at.start
            ));
        }
        let name_end = CENTRAL + number(fixed, 28, 2) as usize;
        let extra_end = name_end + number(fixed, 30, 2) as usize;
        let length = extra_end + number(fixed, 32, 2) as usize;
        let name = directory.get(CENTRAL..name_end).ok_or_else(cut)?;
        let name = std::str::from_utf8(name)
            .map_err(|_| "the name of an entry is not UTF-8".to_string())?;
        let extra = directory.get(name_end..extra_end).ok_or_else(cut)?;
        if length > directory.len() {
            return Err(cut());
        }
        let (flags, method) = (number(fixed, 8, 2), number(fixed, 10, 2));
        let [packed, size, local] = sizes_64(
            extra,
            [
                number(fixed, 20, 4),
                number(fixed, 24, 4),
                number(fixed, 42, 4),
            ],
        );
        if method != 0 || flags & 1 != 0 || packed != size {
            return Err(format!(
                "entry {name}: expected bytes as they are, found packed or encrypted ones"
            ));
        }
        Ok(Header {
            name,
            length,
            size,
            local,
        })
    }

    /// Where its bytes are: after the local header, whose name and padding have lengths of their own.
    fn data(&self, file: &[u8]) -> Result<Range<usize>, String> {
        let outside = || format!("entry {} lies outside of the file", self.name);
        let begin = usize::try_from(self.local).map_err(|_| outside())?;
        let fixed = begin
            .checked_add(LOCAL)
            .and_then(|end| file.get(begin..end));
        let fixed = fixed
            .filter(|header| header.starts_with(b"PK\x03\x04"))
            .ok_or_else(outside)?;
        let names = number(fixed, 26, 2) as usize + number(fixed, 28, 2) as usize;
        let start = begin + LOCAL + names;
        let size = usize::try_from(self.size).map_err(|_| outside())?;
        let end = start.checked_add(size).filter(|end| *end <= file.len());
        Ok(start..end.ok_or_else(outside)?)
    }
}

/// Where the directory lies.
fn directory(file: &[u8]) -> Result<Range<usize>, String> {
    let missing = || "not a whole zip archive: its directory is missing".to_string();
    let earliest = file.len().saturating_sub(END + MAX_COMMENT);
    let tail = &file[earliest..];
    let end = tail
        .windows(4)
        .rposition(|bytes| bytes == b"PK\x05\x06")
        .ok_or_else(missing)?;
    let end = earliest + end;
    let record = file.get(end..end + END).ok_or_else(missing)?;
    let (mut size, mut offset) = (number(record, 12, 4), number(record, 16, 4));
    let mut limit = end;
    let locator = end.checked_sub(LOCATOR).map(|at| &file[at..end]);
    if let Some(locator) = locator.filter(|locator| locator.starts_with(b"PK\x06\x07")) {
        let at = usize::try_from(number(locator, 8, 8)).map_err(|_| missing())?;
        let record = at.checked_add(END_64).and_then(|to| file.get(at..to));
        let record = record
            .filter(|record| record.starts_with(b"PK\x06\x06"))
            .ok_or_else(missing)?;
        (size, offset) = (number(record, 40, 8), number(record, 48, 8));
        limit = at;
    }
    let begin = usize::try_from(offset).ok();
    let to = begin
        .zip(usize::try_from(size).ok())
        .and_then(|(begin, size)| begin.checked_add(size));
    match (begin, to) {
        (Some(begin), Some(to)) if to <= limit => Ok(begin..to),
        _ => Err(missing()),
    }
}

/// Sizes and place of an entry, of which those that four bytes cannot say stand in a field of its own (id 1), in this order.
fn sizes_64(mut extra: &[u8], mut sizes: [u64; 3]) -> [u64; 3] {
    // In the file the size comes before that of the packed bytes.
    const ORDER: [usize; 3] = [1, 0, 2];
    while let Some((header, rest)) = extra.split_at_checked(4) {
        let length = (number(header, 2, 2) as usize).min(rest.len());
        let (field, next) = rest.split_at(length);
        if number(header, 0, 2) == 1 {
            let wide = ORDER
                .into_iter()
                .filter(|at| sizes[*at] == u64::from(u32::MAX));
            for (at, value) in wide
                .collect::<Vec<_>>()
                .into_iter()
                .zip(field.chunks_exact(8))
            {
                sizes[at] = number(value, 0, 8);
            }
        }
        extra = next;
    }
    sizes
}

/// A little-endian number of up to eight bytes in a record that is long enough.
fn number(record: &[u8], at: usize, bytes: usize) -> u64 {
    let bytes = record[at..at + bytes].iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_four_bytes_cannot_say_are_found_in_order() {
        const FULL: u64 = u32::MAX as u64;
        let mut extra = vec![9, 0, 1, 0, 7, 1, 0, 16, 0];
        extra.extend(5_000_000_000u64.to_le_bytes());
        extra.extend(6_000_000_000u64.to_le_bytes());
        assert_eq!(
            sizes_64(&extra, [3, FULL, FULL]),
            [3, 5_000_000_000, 6_000_000_000]
        );
        assert_eq!(
            sizes_64(&extra, [FULL, FULL, 3]),
            [6_000_000_000, 5_000_000_000, 3]
        );
        assert_eq!(sizes_64(&extra[..12], [1, FULL, 3]), [1, FULL, 3]);
    }
}
