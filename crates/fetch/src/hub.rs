//! A model's way from a hub into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::{self, Cache};
use crate::choice;
use crate::connection::Connection;
use crate::download::Download;
use crate::error::FetchError;
use crate::listing::{self, Listed};
use crate::name::ModelName;

/// Where models come from and go to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub: `HF_ENDPOINT`, or <https://huggingface.co>.
    pub endpoint: String,
    /// The key to models that are not for everybody: `HF_TOKEN`, or what the file `HF_TOKEN_PATH` or `token` in `HF_HOME` holds.
    pub token: Option<String>,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or `huggingface/hub` in the folder for caches.
    pub cache: PathBuf,
    /// Whether the network is left alone: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// The first pause before a connection that failed is opened again.
    pub pause: Duration,
}

impl Settings {
    /// What the environment says, in the words of the hub's own tools; `variable` gives a variable's value.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Settings {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = || set("HOME").or_else(|| set("USERPROFILE"));
        let caches = || match set("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => PathBuf::from(home().unwrap_or_default()).join(".cache"),
        };
        let hub_home = match set("HF_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => caches().join("huggingface"),
        };
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE"));
        let token_file = set("HF_TOKEN_PATH").map(PathBuf::from);
        let token_file = token_file.unwrap_or_else(|| hub_home.join("token"));
        let kept = || fs::read_to_string(token_file).ok();
        let token = set("HF_TOKEN").or_else(kept);
        let offline = set("HF_HUB_OFFLINE").map(|value| value.to_lowercase());
        Settings {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            token: token
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty()),
            cache: cache.map_or_else(|| hub_home.join("hub"), PathBuf::from),
            offline: offline.is_some_and(|value| ["1", "true", "yes", "on"].contains(&&value[..])),
            pause: Duration::from_secs(1),
        }
    }
}

/// Models on other machines and on this one.
pub struct Hub {
    settings: Settings,
    cache: Cache,
}

/// What fetching a model would bring.
#[derive(Clone, Debug)]
pub struct Plan {
    name: ModelName,
    commit: String,
    files: Vec<Listed>,
    /// Bytes of all of its files.
    pub bytes: u64,
    /// Of these, bytes that are not here yet.
    pub missing_bytes: u64,
    /// How many files it has.
    pub file_count: usize,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Goes on with this file.
    File(&'a str),
    /// So many more bytes are here.
    Bytes(u64),
}

impl Hub {
    /// A hub and a cache.
    pub fn new(settings: Settings) -> Hub {
        Hub {
            cache: Cache::new(settings.cache.clone()),
            settings,
        }
    }

    /// What is on this machine.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Whom it asks.
    pub fn endpoint(&self) -> &str {
        &self.settings.endpoint
    }

    /// Asks the hub for a model's files and chooses those that it is run with.
    pub fn plan(&self, name: &ModelName) -> Result<Plan, FetchError> {
        let connection = self.connect(name)?;
        let path = format!("/api/models/{}/revision/main?blobs=true", name.model());
        let response = connection.get(&path, 0)?;
        let endpoint = connection.endpoint().to_owned();
        let (model, status) = (name.model(), response.status().as_u16());
        match status {
            200 => {}
            // Who has no key is told this of models that do not exist, too.
            401 | 404 if self.settings.token.is_none() || status == 404 => {
                return Err(FetchError::NotFound {
                    name: model,
                    endpoint,
                    status,
                });
            }
            401 | 403 => {
                return Err(FetchError::Denied {
                    name: model,
                    endpoint,
                    status,
                });
            }
            _ => {
                let problem = format!("it answered {status}");
                return Err(FetchError::NoConnection { endpoint, problem });
            }
        }
        let listing = listing::read(&format!("{endpoint}{path}"), &connection.read(response)?)?;
        let files = choice::choose(name, &listing)?;
        let missing = files.iter().filter(|file| !self.has(name, file));
        Ok(Plan {
            name: name.clone(),
            missing_bytes: missing.map(|file| file.bytes).fold(0, u64::saturating_add),
            bytes: files
                .iter()
                .map(|file| file.bytes)
                .fold(0, u64::saturating_add),
            file_count: files.len(),
            commit: listing.commit,
            files,
        })
    }

    /// Brings all files of a plan that are not here yet, and says where the model can be loaded from. What had come when it is
    /// cancelled or fails stays, and is not fetched again.
    pub fn fetch(
        &self,
        plan: &Plan,
        cancel: &dyn Fn() -> bool,
        events: &mut dyn FnMut(Event),
    ) -> Result<PathBuf, FetchError> {
        let connection = self.connect(&plan.name)?;
        let folder = self.cache.folder(&plan.name);
        let snapshot = folder.join("snapshots").join(&plan.commit);
        for folder in [&folder.join("blobs"), &folder.join("refs"), &snapshot] {
            fs::create_dir_all(folder).map_err(disk(folder))?;
        }
        for file in &plan.files {
            if cancel() {
                return Err(FetchError::Cancelled);
            }
            events(Event::File(&file.path));
            let blob = self.blob(&plan.name, file);
            if self.has(&plan.name, file) {
                events(Event::Bytes(file.bytes));
            } else {
                let path = escape(&file.path);
                let download = Download {
                    connection: &connection,
                    path: &format!("/{}/resolve/{}/{path}", plan.name.model(), plan.commit),
                    file,
                    pause: self.settings.pause,
                    cancel,
                };
                download.run(&blob, &mut |bytes| events(Event::Bytes(bytes)))?;
            }
            cache::link(&blob, &snapshot, &file.path).map_err(disk(&snapshot.join(&file.path)))?;
        }
        let main = folder.join("refs/main");
        let new = folder.join("refs/main.new");
        fs::write(&new, &plan.commit).map_err(disk(&new))?;
        fs::rename(&new, &main).map_err(disk(&main))?;
        let found = self.cache.find(&plan.name);
        Ok(found.unwrap_or(snapshot))
    }

    fn connect(&self, name: &ModelName) -> Result<Connection, FetchError> {
        if self.settings.offline {
            return Err(FetchError::Offline {
                name: name.to_string(),
            });
        }
        Connection::new(&self.settings.endpoint, self.settings.token.clone())
    }

    fn blob(&self, name: &ModelName, file: &Listed) -> PathBuf {
        self.cache.folder(name).join("blobs").join(file.sum.hex())
    }

    fn has(&self, name: &ModelName, file: &Listed) -> bool {
        let facts = fs::metadata(self.blob(name, file));
        facts.is_ok_and(|facts| facts.is_file() && facts.len() == file.bytes)
    }
}

/// What stands for a path in an address.
fn escape(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(escape).collect()
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> FetchError {
    move |source| FetchError::Disk {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::from_env(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn the_environment_says_where_models_are() {
        let plain = settings(&[("HOME", "/h")]);
        assert_eq!(plain.cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert!(!plain.offline && plain.token.is_none());
        let xdg = settings(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]);
        assert_eq!(xdg.cache, Path::new("/x/huggingface/hub"));
        let home = settings(&[
            ("HF_HOME", "/m"),
            ("HF_HUB_OFFLINE", "1"),
            ("HF_TOKEN", " t\n"),
        ]);
        assert_eq!(home.cache, Path::new("/m/hub"));
        assert!(home.offline);
        assert_eq!(home.token.as_deref(), Some("t"));
        let cache = settings(&[
            ("HF_HOME", "/m"),
            ("HF_HUB_CACHE", "/c"),
            ("HF_HUB_OFFLINE", "0"),
        ]);
        assert_eq!(cache.cache, Path::new("/c"));
        assert!(!cache.offline);
    }

    #[test]
    fn a_token_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "kept\n").unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(
            settings(&[("HF_HOME", home)]).token.as_deref(),
            Some("kept")
        );
        let both = settings(&[("HF_HOME", home), ("HF_TOKEN", "said")]);
        assert_eq!(both.token.as_deref(), Some("said"));
    }

    #[test]
    fn odd_characters_of_a_path_are_escaped() {
        assert_eq!(escape("a b/c#d?e%.gguf"), "a%20b/c%23d%3Fe%25.gguf");
    }
}
