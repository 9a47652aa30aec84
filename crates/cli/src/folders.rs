//! Where the program keeps what it has found out, by the XDG rules: <https://specifications.freedesktop.org/basedir-spec>.

use std::path::PathBuf;

/// The folder for settings; none where the system does not say whose settings.
pub fn config() -> Option<PathBuf> {
    of("XDG_CONFIG_HOME", ".config")
}

/// The folder for what can be made again.
pub fn cache() -> Option<PathBuf> {
    of("XDG_CACHE_HOME", ".cache")
}

/// By the rules a path that is not absolute does not count.
fn of(variable: &str, usual: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let named = named.filter(|path| path.is_absolute());
    let home = || {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        home.filter(|path| path.is_absolute())
            .map(|home| home.join(usual))
    };
    Some(named.or_else(home)?.join("bluelm"))
}
