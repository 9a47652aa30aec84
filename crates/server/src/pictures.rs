//! Pictures of a request, wherever it says they are: data URLs, kept pictures, files of the media folder, and what was fetched
//! from the network before ([`crate::remote`]), where that is allowed.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use axum::http::StatusCode;
use engine::{DataUrlError, Detail, decode_base64, decode_data_url};
use image_prep::Picture;

use crate::config::Config;
use crate::error::{ApiError, picture_code};
use crate::room::Room;
use crate::store::{self, Store};

/// Finds and decodes the pictures of one request.
pub struct Pictures<'a> {
    /// Limits and the media folder.
    pub config: &'a Config,
    /// Kept pictures.
    pub store: &'a Store,
    /// Whose request it is.
    pub owner: Option<usize>,
    /// Pictures from the network, by their addresses.
    pub fetched: &'a Fetched,
    /// What the pictures' pixels are taken from.
    pub room: &'a mut Room,
    /// The pictures so far.
    pub found: Vec<Picture>,
    /// How closely each is looked at.
    pub details: Vec<Detail>,
}

/// What came from each address that a request names.
pub type Fetched = HashMap<String, Result<Vec<u8>, ApiError>>;

impl Pictures<'_> {
    /// Takes the picture at an address; gives its index. `place` is where the request names it.
    pub fn address(
        &mut self,
        place: &str,
        address: &str,
        detail: Detail,
    ) -> Result<usize, ApiError> {
        if address.starts_with(store::PREFIX) {
            return self.kept(place, address, detail);
        }
        let scheme = address
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("data") => {
                self.check_count(place)?;
                let most = self.config.limits.picture_bytes;
                let bytes = decode_data_url(&address["data:".len()..], most);
                let bytes = bytes.map_err(|error| not_a_picture(place, &error))?;
                self.decode(place, &bytes, detail)
            }
            Some("file") => {
                self.check_count(place)?;
                let bytes = self.file(place, &address["file:".len()..])?;
                self.decode(place, &bytes, detail)
            }
            Some("http" | "https") => {
                self.check_count(place)?;
                match self.fetched.get(address) {
                    Some(Ok(bytes)) => self.decode(place, bytes, detail),
                    Some(Err(error)) => Err(error.clone().with_param(place)),
                    None => Err(refused(
                        place,
                        "pictures are not fetched from the network; send the picture itself as a data URL, or hand it over at /v1/images",
                    )),
                }
            }
            _ => Err(refused(
                place,
                "expected a data URL or the id of a kept picture",
            )),
        }
    }

    /// Takes a picture that was handed over before.
    pub fn kept(&mut self, place: &str, name: &str, detail: Detail) -> Result<usize, ApiError> {
        self.check_count(place)?;
        let picture = self
            .store
            .find(self.owner, name)
            .map_err(|error| error.with_param(place))?;
        self.room.take(picture.rgb.len())?;
        Ok(self.add(Picture::clone(&picture), detail))
    }

    /// Takes a picture in base64.
    pub fn base64(&mut self, place: &str, data: &str, detail: Detail) -> Result<usize, ApiError> {
        self.check_count(place)?;
        let bytes = decode_base64(data, self.config.limits.picture_bytes);
        let bytes = bytes.map_err(|error| not_a_picture(place, &error))?;
        self.decode(place, &bytes, detail)
    }

    /// Takes the picture in a file's bytes; its size is read first.
    pub fn decode(&mut self, place: &str, bytes: &[u8], detail: Detail) -> Result<usize, ApiError> {
        let wrong = |error: image_prep::ImageError| {
            let hint = error
                .hint()
                .map_or(String::new(), |hint| format!(". Hint: {hint}"));
            let message = format!("{place}: {error}{hint}.");
            ApiError::new(StatusCode::BAD_REQUEST, Some(picture_code(&error)), message)
                .with_param(place)
        };
        if bytes.is_empty() {
            return Err(ApiError::invalid(place, "an empty file").with_code("empty_image_file"));
        }
        let limits = image_prep::Limits {
            max_pixels: self.config.limits.picture_pixels,
        };
        let (width, height) = image_prep::dimensions(bytes).map_err(wrong)?;
        let pixels = u64::from(width) * u64::from(height);
        // More than allowed is the decoder's to refuse, in its words.
        self.room.take(3 * pixels.min(limits.max_pixels) as usize)?;
        let picture = image_prep::decode(bytes, &limits).map_err(wrong)?;
        Ok(self.add(picture, detail))
    }

    fn add(&mut self, picture: Picture, detail: Detail) -> usize {
        self.found.push(picture);
        self.details.push(detail);
        self.found.len() - 1
    }

    /// Gives the pictures to the request that shows them.
    pub fn hand_over(&mut self, request: &mut engine::Request) {
        request.images = std::mem::take(&mut self.found);
        request.vision.details = std::mem::take(&mut self.details);
    }

    fn check_count(&self, place: &str) -> Result<(), ApiError> {
        let most = self.config.limits.pictures;
        match self.found.len() < most {
            true => Ok(()),
            false => Err(
                ApiError::invalid(place, format!("more than {most} pictures"))
                    .with_code("too_many_images"),
            ),
        }
    }

    /// `//PATH` below the media folder; neither `..` nor a link leads out of it.
    fn file(&self, place: &str, rest: &str) -> Result<Vec<u8>, ApiError> {
        let Some(folder) = &self.config.media else {
            return Err(refused(
                place,
                "files are not read: the server was started without --media-path",
            ));
        };
        let outside = || refused(place, "expected a file below the server's media folder");
        let relative = Path::new(rest.trim_start_matches('/'));
        if !relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(outside());
        }
        // What lies outside and what is not there look the same from outside.
        let folder = folder.canonicalize().map_err(|_| outside())?;
        let path: PathBuf = folder
            .join(relative)
            .canonicalize()
            .map_err(|_| outside())?;
        if !path.starts_with(&folder) || !path.is_file() {
            return Err(outside());
        }
        let most = self.config.limits.picture_bytes as u64;
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(&path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
        read.map_err(|_| outside())?;
        match bytes.len() as u64 > most {
            true => Err(too_long(place, most as usize)),
            false => Ok(bytes),
        }
    }
}

fn refused(place: &str, message: &str) -> ApiError {
    ApiError::invalid(place, message).with_code("invalid_image_url")
}

fn too_long(place: &str, most: usize) -> ApiError {
    ApiError::invalid(place, format!("a picture of more than {most} bytes"))
        .with_code("image_file_too_large")
}

fn not_a_picture(place: &str, error: &DataUrlError) -> ApiError {
    let code = match error {
        DataUrlError::NoComma | DataUrlError::NotBase64Url => "invalid_image_url",
        DataUrlError::TooLong(_) => "image_file_too_large",
        DataUrlError::NotBase64(_) => "invalid_base64_image",
    };
    ApiError::invalid(place, error.to_string()).with_code(code)
}
