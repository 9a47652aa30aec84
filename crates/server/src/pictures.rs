//! Pictures of a request, wherever it says they are: data URLs, kept pictures, files of the media folder. Nothing is fetched
//! from the network.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use image_prep::Picture;
use image_prep::resize::Filter;

use crate::config::Config;
use crate::error::{ApiError, picture_code};
use crate::room::Room;
use crate::store::{self, Store};

/// How closely a picture is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// In as many tiles as the model's settings give it.
    High,
    /// On one tile: the picture is scaled down to it first.
    Low,
}

/// Finds and decodes the pictures of one request.
pub struct Pictures<'a> {
    /// Limits and the media folder.
    pub config: &'a Config,
    /// Kept pictures.
    pub store: &'a Store,
    /// Whose request it is.
    pub owner: Option<usize>,
    /// Side of a tile, for [`Detail::Low`].
    pub tile_side: usize,
    /// What the pictures' pixels are taken from.
    pub room: &'a mut Room,
    /// The pictures so far.
    pub found: Vec<Picture>,
}

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
                let bytes = self.data_url(place, &address["data:".len()..])?;
                self.decode(place, &bytes, detail)
            }
            Some("file") => {
                self.check_count(place)?;
                let bytes = self.file(place, &address["file:".len()..])?;
                self.decode(place, &bytes, detail)
            }
            Some("http" | "https") => Err(refused(
                place,
                "pictures are not fetched from the network; send the picture itself as a data URL, or hand it over at /v1/images",
            )),
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
        let bytes = decode_base64(place, data, self.config.limits.picture_bytes)?;
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
        self.found.push(match detail {
            Detail::High => picture,
            Detail::Low => shrink(picture, self.tile_side as u32),
        });
        self.found.len() - 1
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

    /// `[media type][;charset=…];base64,DATA`. The media type is not trusted; the bytes say what they are.
    fn data_url(&self, place: &str, rest: &str) -> Result<Vec<u8>, ApiError> {
        let Some((kind, data)) = rest.split_once(',') else {
            return Err(refused(place, "a data URL without a comma"));
        };
        if !kind.to_ascii_lowercase().ends_with(";base64") {
            return Err(refused(place, "a data URL without `;base64`"));
        }
        decode_base64(place, data, self.config.limits.picture_bytes)
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

/// Base64 to bytes; the length is checked before anything is allocated.
fn decode_base64(place: &str, data: &str, most: usize) -> Result<Vec<u8>, ApiError> {
    if data.len() / 4 * 3 > most {
        return Err(too_long(place, most));
    }
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, config)
        .decode(data.trim())
        .map_err(|error| {
            ApiError::invalid(place, format!("not base64: {error}"))
                .with_code("invalid_base64_image")
        })
}

/// The picture within a square of `side` pixels; never larger than it was.
fn shrink(picture: Picture, side: u32) -> Picture {
    let longest = picture.width.max(picture.height);
    if longest <= side || side == 0 {
        return picture;
    }
    let scaled = |length: u32| {
        let length = u64::from(length) * u64::from(side) / u64::from(longest);
        (length as u32).max(1)
    };
    let (width, height) = (scaled(picture.width), scaled(picture.height));
    image_prep::resize::resize(&picture, width, height, Filter::Bicubic)
}
