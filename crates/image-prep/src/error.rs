//! What can be wrong with a picture or with the settings that prepare it.

use thiserror::Error;

/// The formats that [`crate::decode`] reads, for messages and help texts.
pub const FORMATS_READ: &str = "PNG, JPEG, WebP, GIF, BMP and TIFF";

/// Why a picture or a `preprocessor_config.json` cannot be used.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The bytes are of no format that we read.
    #[error("expected a picture ({FORMATS_READ}), found {found}")]
    NotAPicture {
        /// What the bytes look like.
        found: String,
    },
    /// The file ends before its picture does.
    #[error(
        "the {format} picture is cut off: expected more data, found the end after {bytes} bytes"
    )]
    Truncated {
        /// Name of the format.
        format: &'static str,
        /// Length of what is there.
        bytes: usize,
    },
    /// The file breaks the rules of its format.
    #[error("the {format} picture is damaged: {reason}")]
    Damaged {
        /// Name of the format.
        format: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// The file uses a part of its format that no decoder here knows.
    #[error("the {format} picture uses something that is not supported: {reason}")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// The header announces more pixels than allowed; nothing was decoded.
    #[error(
        "the picture is too large: expected at most {max_pixels} pixels and {max_side} a side, found {width}x{height}"
    )]
    TooLarge {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// The limit on width times height.
        max_pixels: u64,
        /// The limit on each side.
        max_side: u32,
    },
    /// Decoding would need more memory than a picture of its size should.
    #[error(
        "decoding the {format} picture needs too much memory: expected at most {max_bytes} bytes for {width}x{height}"
    )]
    TooMuchMemory {
        /// Name of the format.
        format: &'static str,
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// What was allowed.
        max_bytes: u64,
    },
    /// The header announces a picture without pixels.
    #[error("the picture is empty: expected at least 1x1 pixels, found {width}x{height}")]
    Empty {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
    },
    /// `preprocessor_config.json` is not JSON.
    #[error("preprocessor_config.json: expected a JSON object, found {reason}")]
    SettingsNotJson {
        /// What the parser says.
        reason: String,
    },
    /// `preprocessor_config.json` has wrong, missing or unsupported values: all of them at once.
    #[error("preprocessor_config.json: {}", problems.join("; "))]
    Settings {
        /// One entry for each key: the key, what was expected, what was found.
        problems: Vec<String>,
    },
}

impl ImageError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ImageError::NotAPicture { found } if found.contains("HEIC") => {
                "convert it first, for example: heif-convert photo.heic photo.jpg".to_owned()
            }
            ImageError::NotAPicture { found } if found.contains("PDF") => {
                "render a page first, for example: pdftoppm -png -r 150 file.pdf page".to_owned()
            }
            ImageError::NotAPicture { .. } => {
                format!("give a picture file; {FORMATS_READ} are read, whatever the file is called")
            }
            ImageError::Truncated { .. } => "copy or download the file again".to_owned(),
            ImageError::Damaged { .. } => {
                "open the picture in another program and save it again".to_owned()
            }
            ImageError::Unsupported { .. } => {
                "save the picture as an 8-bit RGB PNG or JPEG".to_owned()
            }
            ImageError::TooLarge { .. } => {
                "scale the picture down first; the model sees at most a few thousand pixels a side"
                    .to_owned()
            }
            ImageError::TooMuchMemory { .. } => "save the picture again as PNG or JPEG".to_owned(),
            ImageError::Empty { .. } => return None,
            ImageError::SettingsNotJson { .. } | ImageError::Settings { .. } => {
                "compare the file with that of a model folder that works".to_owned()
            }
        };
        Some(hint)
    }
}
