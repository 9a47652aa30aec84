//! Pictures inside a request: base64, alone or in a `data:` address.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// What is wrong with a picture in base64; the message is for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataUrlError {
    /// Nothing separates the data from what it is.
    #[error("a data URL without a comma")]
    NoComma,
    /// Data that is not in base64.
    #[error("a data URL without `;base64`")]
    NotBase64Url,
    /// More bytes than are taken.
    #[error("a picture of more than {0} bytes")]
    TooLong(usize),
    /// Characters that base64 does not have, or too few of them.
    #[error("not base64: {0}")]
    NotBase64(String),
}

/// The bytes of `[media type][;charset=...];base64,DATA`, which is what follows `data:`. The media type is not trusted; the
/// bytes say what they are.
pub fn decode_data_url(rest: &str, max_bytes: usize) -> Result<Vec<u8>, DataUrlError> {
    let (kind, data) = rest.split_once(',').ok_or(DataUrlError::NoComma)?;
    let ending = ";base64".len();
    let is_base64 = kind
        .len()
        .checked_sub(ending)
        .and_then(|start| kind.get(start..))
        .is_some_and(|end| end.eq_ignore_ascii_case(";base64"));
    match is_base64 {
        true => decode_base64(data, max_bytes),
        false => Err(DataUrlError::NotBase64Url),
    }
}

/// Base64 to at most so many bytes; the length is checked before anything is allocated.
pub fn decode_base64(data: &str, max_bytes: usize) -> Result<Vec<u8>, DataUrlError> {
    let data = data.trim();
    if data.len() / 4 * 3 > max_bytes {
        return Err(DataUrlError::TooLong(max_bytes));
    }
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, config)
        .decode(data)
        .map_err(|error| DataUrlError::NotBase64(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_found_behind_any_media_type_with_padding_or_without() {
        for rest in [
            "image/png;base64,AAEC",
            ";base64,AAEC",
            "image/png;charset=utf-8;BASE64, AAEC\n",
        ] {
            assert_eq!(decode_data_url(rest, 3), Ok(vec![0, 1, 2]), "{rest}");
        }
        assert_eq!(decode_data_url(";base64,AA", 3), Ok(vec![0]));
        assert_eq!(decode_data_url(";base64,AA==", 3), Ok(vec![0]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |rest: &str| decode_data_url(rest, 3).unwrap_err();
        assert_eq!(wrong("image/png;base64"), DataUrlError::NoComma);
        assert_eq!(wrong("image/png,AAEC"), DataUrlError::NotBase64Url);
        // Nine bytes before the end lies inside of a character.
        assert_eq!(wrong("\u{e9}base64,AAEC"), DataUrlError::NotBase64Url);
        assert_eq!(wrong(";base64,AAECAwQF"), DataUrlError::TooLong(3));
        assert!(matches!(wrong(";base64,A!"), DataUrlError::NotBase64(_)));
    }

    #[test]
    fn a_hundred_million_characters_are_refused_before_they_are_decoded() {
        // Decoded, the first character would be the error.
        let data = "!".repeat(100 << 20);
        assert_eq!(
            decode_base64(&data, 32 << 20),
            Err(DataUrlError::TooLong(32 << 20))
        );
    }
}
