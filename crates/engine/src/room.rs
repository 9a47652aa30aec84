//! How much memory a request may take, so that one that would not fit is made smaller or refused before it begins.

/// The memory that the key-value cache and the image rows of one request may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryRoom {
    /// As much as the context needs.
    #[default]
    Unlimited,
    /// So many bytes.
    Bytes(u64),
    /// Nine tenths of what the system says is available when the request comes; unlimited where it does not say.
    System,
}

impl MemoryRoom {
    /// Bytes for one request; none for no bound.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            MemoryRoom::Unlimited => None,
            MemoryRoom::Bytes(bytes) => Some(bytes),
            MemoryRoom::System => available_bytes().map(|bytes| bytes / 10 * 9),
        }
    }
}

/// Bytes that a process can have without swapping, as Linux estimates them; none elsewhere.
pub fn available_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_what_linux_says() {
        let text = "MemTotal:       16 kB\nMemFree:  1 kB\nMemAvailable:    7 kB\n";
        assert_eq!(parse(text), Some(7 << 10));
        assert_eq!(parse("MemTotal: 16 kB\n"), None);
        assert_eq!(parse("MemAvailable: many kB\n"), None);
        assert_eq!(MemoryRoom::Bytes(5).bytes(), Some(5));
        assert_eq!(MemoryRoom::Unlimited.bytes(), None);
    }
}
