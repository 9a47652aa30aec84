//! Memory of this process.

/// Most bytes that were resident at once since the process began; `None` where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    of_this_process("VmHWM:")
}

/// Bytes that are resident now; `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    of_this_process("VmRSS:")
}

fn of_this_process(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    bytes(&status, name)
}

/// A number of a Linux process status, which is in kibibytes.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_a_process_status() {
        let status = "Name:\tbluelm\nVmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(bytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(bytes(status, "VmRSS:"), Some(1 << 10));
        assert_eq!(bytes("Name:\tbluelm\n", "VmHWM:"), None);
        assert_eq!(bytes("VmHWM:\t many kB\n", "VmHWM:"), None);
    }
}
