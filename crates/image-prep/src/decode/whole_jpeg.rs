//! Whether a JPEG file is all there. The decoder fills a missing end with grey and says nothing, and a model would then
//! answer about a half-grey picture; so the markers are walked first, without decoding.

use crate::ImageError;

const END_OF_IMAGE: u8 = 0xd9;

/// An error when the file ends before its end-of-image marker, provided that what comes before are proper segments.
pub(super) fn check(bytes: &[u8]) -> Result<(), ImageError> {
    // After the start-of-image marker, recognised before.
    let mut at = 2;
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else {
            return Err(ImageError::Truncated {
                format: "JPEG",
                bytes: bytes.len(),
            });
        };
        match marker {
            END_OF_IMAGE => return Ok(()),
            // Without a length: restarts and TEM. What follows them, as what follows a scan, is searched for a marker.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = bytes
                    .get(at..at + 2)
                    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                at += usize::from(length.unwrap_or(2)).max(2);
            }
        }
    }
}

/// The next marker at or after `at`, skipping entropy-coded data (where 0xff is followed by 0) and fill bytes.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        *at += rest.iter().position(|&byte| byte == 0xff)? + 1;
        match *bytes.get(*at)? {
            0x00 => *at += 1,
            0xff => {}
            marker => {
                *at += 1;
                return Some(marker);
            }
        }
    }
}
