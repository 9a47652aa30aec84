//! Pictures that clients handed over before they ask about them: kept decoded, for a time, under names that cannot be guessed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use engine::Progress;
use image_prep::Picture;
use serde_json::{Value as Json, json};

use crate::chat::Ahead;
use crate::config::secret_name;
use crate::error::ApiError;

/// How names of kept pictures begin.
pub const PREFIX: &str = "img_";

/// The kept pictures.
pub struct Store {
    life: Duration,
    max_bytes: usize,
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    /// Which key handed it over; others' keys do not find it.
    owner: Option<usize>,
    picture: Arc<Picture>,
    /// Its encoding, if it was begun.
    ahead: Option<Box<dyn Ahead>>,
    used: Instant,
}

/// What a client is told of a kept picture's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Will be with the first question.
    OnRequest,
    /// Is being encoded: so many tiles of so many are done.
    Running(Progress),
    /// Is encoded: so many tiles.
    Done(Progress),
}

impl Encoding {
    /// Its name and how many tiles are done.
    pub fn json(self) -> Json {
        let progress = |name: &str, progress: Progress| json!({"encoding": name, "tiles_done": progress.tiles_done, "tiles": progress.tiles});
        match self {
            Encoding::OnRequest => json!({"encoding": "on_request"}),
            Encoding::Running(so_far) => progress("running", so_far),
            Encoding::Done(all) => progress("done", all),
        }
    }
}

impl Store {
    /// Keeps pictures of at most so many bytes together, each so long after its last use.
    pub fn new(life: Duration, max_bytes: usize) -> Self {
        Store {
            life,
            max_bytes,
            kept: Mutex::default(),
        }
    }

    /// Keeps a picture; gives its name. Those unused longest make room for it.
    pub fn keep(
        &self,
        owner: Option<usize>,
        picture: Picture,
        ahead: Option<Box<dyn Ahead>>,
    ) -> Result<String, ApiError> {
        if picture.rgb.len() > self.max_bytes {
            let message = format!(
                "the picture takes {} bytes decoded, at most {} are kept",
                picture.rgb.len(),
                self.max_bytes
            );
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                Some("image_too_large"),
                message,
            ));
        }
        let mut kept = self.alive();
        while kept
            .values()
            .map(|kept| kept.picture.rgb.len())
            .sum::<usize>()
            + picture.rgb.len()
            > self.max_bytes
        {
            let oldest = kept
                .iter()
                .min_by_key(|(_, kept)| kept.used)
                .map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            kept.remove(&oldest);
        }
        let name = secret_name(PREFIX);
        let used = Instant::now();
        let picture = Arc::new(picture);
        kept.insert(
            name.clone(),
            Kept {
                owner,
                picture,
                ahead,
                used,
            },
        );
        Ok(name)
    }

    /// A kept picture, whose life begins anew.
    pub fn find(&self, owner: Option<usize>, name: &str) -> Result<Arc<Picture>, ApiError> {
        match self.alive().get_mut(name) {
            Some(kept) if kept.owner == owner => {
                kept.used = Instant::now();
                Ok(kept.picture.clone())
            }
            _ => Err(missing(name)),
        }
    }

    /// How far the encoding of a kept picture is.
    pub fn encoding(&self, name: &str) -> Encoding {
        match self.alive().get(name).and_then(|kept| kept.ahead.as_ref()) {
            None => Encoding::OnRequest,
            Some(ahead) if ahead.has_failed() => Encoding::OnRequest,
            Some(ahead) if ahead.is_done() => Encoding::Done(ahead.progress()),
            Some(ahead) => Encoding::Running(ahead.progress()),
        }
    }

    /// Forgets a picture.
    pub fn remove(&self, owner: Option<usize>, name: &str) -> Result<(), ApiError> {
        let mut kept = self.alive();
        match kept.get(name) {
            Some(found) if found.owner == owner => {
                kept.remove(name);
                Ok(())
            }
            _ => Err(missing(name)),
        }
    }

    /// Bytes of all kept pictures.
    pub fn bytes(&self) -> usize {
        self.alive()
            .values()
            .map(|kept| kept.picture.rgb.len())
            .sum()
    }

    /// How long a picture is kept after its last use.
    pub fn life(&self) -> Duration {
        self.life
    }

    /// The pictures whose time has not come.
    fn alive(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, kept| kept.used.elapsed() < self.life);
        kept
    }
}

fn missing(name: &str) -> ApiError {
    let name: String = name.chars().take(40).collect();
    ApiError::not_found(
        "image_not_found",
        format!("there is no picture {name}; it may have been kept too long: hand it over again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bytes: u32) -> Picture {
        Picture {
            width: bytes / 3,
            height: 1,
            rgb: vec![0; bytes as usize],
        }
    }

    #[test]
    fn a_picture_is_found_by_its_owner_until_it_is_removed() {
        let store = Store::new(Duration::from_secs(60), 100);
        let name = store.keep(Some(0), picture(30), None).unwrap();
        assert_eq!(store.find(Some(0), &name).unwrap().width, 10);
        assert!(store.find(Some(1), &name).is_err());
        assert!(store.find(None, &name).is_err());
        assert!(store.remove(Some(1), &name).is_err());
        store.remove(Some(0), &name).unwrap();
        assert_eq!(
            store.find(Some(0), &name).unwrap_err().code,
            Some("image_not_found")
        );
    }

    #[test]
    fn the_picture_unused_longest_makes_room() {
        let store = Store::new(Duration::from_secs(60), 100);
        let [a, b] = [(), ()].map(|()| store.keep(None, picture(45), None).unwrap());
        store.find(None, &a).unwrap();
        let c = store.keep(None, picture(45), None).unwrap();
        assert!(store.find(None, &b).is_err());
        assert!(store.find(None, &a).is_ok() && store.find(None, &c).is_ok());
        assert_eq!(store.bytes(), 90);
        assert_eq!(
            store.keep(None, picture(102), None).unwrap_err().code,
            Some("image_too_large")
        );
        assert_eq!(store.bytes(), 90);
    }

    #[test]
    fn a_picture_whose_time_has_come_is_gone() {
        let store = Store::new(Duration::ZERO, 100);
        let name = store.keep(None, picture(30), None).unwrap();
        assert!(store.find(None, &name).is_err());
        assert_eq!(store.bytes(), 0);
    }
}
