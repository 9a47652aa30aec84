//! Pictures back to bytes, for people to look at.

use crate::Picture;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

/// The picture as a PNG file. Panics when the picture's sides and bytes disagree.
pub fn encode_png(picture: &Picture) -> Vec<u8> {
    assert!(
        picture.is_whole(),
        "a picture's bytes are 3 * width * height"
    );
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(
            &picture.rgb,
            picture.width,
            picture.height,
            ExtendedColorType::Rgb8,
        )
        .expect("a whole picture can be written into memory");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same_picture() {
        let rgb = (0..3 * 5 * 4).map(|byte| byte * 4).collect();
        let picture = Picture::new(5, 4, rgb).unwrap();
        let decoded = crate::decode(&encode_png(&picture), &crate::Limits::default()).unwrap();
        assert_eq!(decoded, picture);
    }
}
