//! The entries of a zip file whose contents lie there as they are: what `torch.save` writes.

use std::ops::Range;

/// Name and bytes of each entry; what is wrong with the file otherwise.
pub(super) fn entries(file: &[u8]) -> Result<Vec<(String, Range<usize>)>, String> {
    let cut = || "it ends before its list of entries does".to_string();
    let (mut at, count) = directory(file).ok_or_else(cut)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let header = file.get(at..).ok_or_else(cut)?;
        if !header.starts_with(b"PK\x01\x02") {
            return Err("its list of entries is damaged".into());
        }
        let number = |at: usize, bytes: usize| little(header, at, bytes).ok_or_else(cut);
        let [name, extra, comment] =
            [number(28, 2)?, number(30, 2)?, number(32, 2)?].map(|n| n as usize);
        let name_bytes = header.get(46..46 + name).ok_or_else(cut)?;
        let name_text = String::from_utf8_lossy(name_bytes).into_owned();
        if number(10, 2)? != 0 {
            return Err(format!("{name_text} is compressed, expected it as it is"));
        }
        let extras = header.get(46 + name..46 + name + extra).ok_or_else(cut)?;
        let (mut length, mut packed, mut offset) = (number(24, 4)?, number(20, 4)?, number(42, 4)?);
        large(extras, &mut [&mut length, &mut packed, &mut offset]);
        entries.push((name_text, contents(file, offset, length).ok_or_else(cut)?));
        at += 46 + name + extra + comment;
    }
    Ok(entries)
}

/// Where the list of entries begins, and how many they are.
fn directory(file: &[u8]) -> Option<(usize, u64)> {
    const END: usize = 22;
    let last = file.len().checked_sub(END)?;
    // A comment of at most 64 KiB may follow.
    let first = last.saturating_sub(1 << 16);
    let end = (first..=last)
        .rev()
        .find(|at| file[*at..].starts_with(b"PK\x05\x06"))?;
    let (count, offset) = (little(file, end + 10, 2)?, little(file, end + 16, 4)?);
    if count != 0xffff && offset != 0xffff_ffff {
        return Some((usize::try_from(offset).ok()?, count));
    }
    let locator = end.checked_sub(20)?;
    if !file[locator..].starts_with(b"PK\x06\x07") {
        return Some((usize::try_from(offset).ok()?, count));
    }
    let record = usize::try_from(little(file, locator + 8, 8)?).ok()?;
    let begins = file.get(record..)?.starts_with(b"PK\x06\x06");
    let (count, offset) = (little(file, record + 32, 8)?, little(file, record + 48, 8)?);
    begins.then_some((usize::try_from(offset).ok()?, count))
}

/// Numbers that did not fit into the header stand in an extra field, in this order.
fn large(mut extras: &[u8], numbers: &mut [&mut u64]) {
    while let (Some(kind), Some(length)) = (little(extras, 0, 2), little(extras, 2, 2)) {
        let Some(field) = extras.get(4..4 + length as usize) else {
            return;
        };
        if kind == 1 {
            let missing = numbers.iter_mut().filter(|number| ***number == 0xffff_ffff);
            for (number, bytes) in missing.zip(field.as_chunks::<8>().0) {
                **number = u64::from_le_bytes(*bytes);
            }
        }
        extras = &extras[4 + length as usize..];
    }
}

/// The bytes of an entry, behind its own header.
fn contents(file: &[u8], offset: u64, length: u64) -> Option<Range<usize>> {
    let offset = usize::try_from(offset).ok()?;
    let header = file.get(offset..)?;
    if !header.starts_with(b"PK\x03\x04") {
        return None;
    }
    let skipped = little(header, 26, 2)? + little(header, 28, 2)?;
    let begin = offset.checked_add(30 + skipped as usize)?;
    let end = begin.checked_add(usize::try_from(length).ok()?)?;
    (end <= file.len()).then_some(begin..end)
}

/// A little-endian number of some bytes.
fn little(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}
