//! How much memory a request may take, so that one that would not fit is made smaller or refused before it begins.

use std::path::Path;

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

/// Bytes that a process can have without swapping: as Linux estimates them, and as much as the control groups leave that it
/// runs in, as in a container. None elsewhere.
pub fn available_bytes() -> Option<u64> {
    let of_system = parse(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = left_by_groups(&groups, Path::new("/sys/fs/cgroup"));
    Some(of_groups.map_or(of_system, |left| left.min(of_system)))
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Names of a version's files: limit, use, and what of the use the system gives back when it is needed (its copies of files).
struct Files {
    limit: &'static str,
    used: &'static str,
    given_back: [&'static str; 2],
}

/// <https://docs.kernel.org/admin-guide/cgroup-v2.html>
const VERSION_2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    given_back: ["inactive_file", "active_file"],
};
/// <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>
const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    given_back: ["total_inactive_file", "total_active_file"],
};

/// Bytes that the tightest of a process's groups leaves it; none where none of them has a limit. `groups` is what the system
/// says in `/proc/self/cgroup`, `root` the folder of all groups.
fn left_by_groups(groups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        // Number, controllers, path.
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (files, mount) = match controllers {
            "" => (VERSION_2, root.to_owned()),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (VERSION_1, root.join("memory"))
            }
            _ => continue,
        };
        // A limit of a group holds for all that are in it. Where a container sees only its own group, that is the root.
        let path = Path::new(path.trim_start_matches('/'));
        for group in path.ancestors() {
            let left = left(&mount.join(group), &files);
            least = [least, left].into_iter().flatten().min();
        }
    }
    least
}

fn left(group: &Path, files: &Files) -> Option<u64> {
    let number = |name| -> Option<u64> {
        let text = std::fs::read_to_string(group.join(name)).ok()?;
        text.trim().parse().ok()
    };
    // `max`, or in version 1 a number beyond all memory, is no limit.
    let limit = number(files.limit)?;
    let statistics = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let given_back: u64 = statistics
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| files.given_back.contains(name))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .fold(0, u64::saturating_add);
    let used = number(files.used)?.saturating_sub(given_back);
    Some(limit.saturating_sub(used))
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
    /// A folder of groups with these files.
    fn groups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_group_counts_and_copies_of_files_are_no_use() {
        let root = groups(&[
            ("a/memory.max", "10000\n"),
            ("a/memory.current", "9000\n"),
            (
                "a/memory.stat",
                "anon 5000\nfile 4000\ninactive_file 1500\nactive_file 500\n",
            ),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.current", "8000\n"),
        ]);
        assert_eq!(left_by_groups("0::/a/b\n", root.path()), Some(3000));
        assert_eq!(left_by_groups("0::/c\n", root.path()), None);
        assert_eq!(left_by_groups("0::/\n", root.path()), None);
        let full = groups(&[("memory.max", "10\n"), ("memory.current", "11\n")]);
        assert_eq!(left_by_groups("0::/\n", full.path()), Some(0));
    }

    #[test]
    fn groups_of_the_first_version_are_asked_too() {
        let root = groups(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "5000\n"),
            ("memory/docker/memory.limit_in_bytes", "4000\n"),
            ("memory/docker/memory.usage_in_bytes", "3500\n"),
            (
                "memory/docker/memory.stat",
                "cache 3\ntotal_inactive_file 100\n",
            ),
        ]);
        let text = "5:cpu,cpuacct:/docker\n4:memory:/docker\n0::/nowhere\n";
        assert_eq!(left_by_groups(text, root.path()), Some(600));
        // A container that is told of a path outside sees its own group at the root.
        let inside = groups(&[
            ("memory/memory.limit_in_bytes", "4000\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
        ]);
        assert_eq!(
            left_by_groups("4:memory:/docker/x\n", inside.path()),
            Some(3000)
        );
        assert_eq!(left_by_groups("what is this", inside.path()), None);
    }
}
