//! A decoded picture: what every step after the decoders works on.

/// An upright 8-bit RGB picture.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Picture {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// `height` rows of `width` pixels of red, green, blue: `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture from its bytes; `None` when a side is 0 or `rgb` is not `3 * width * height` bytes long.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Option<Picture> {
        let picture = Picture { width, height, rgb };
        picture.is_whole().then_some(picture)
    }

    /// A picture of one colour. Panics when a side is 0.
    pub fn filled(width: u32, height: u32, color: [u8; 3]) -> Picture {
        assert!(width > 0 && height > 0, "a picture has at least one pixel");
        let pixels = width as usize * height as usize;
        Picture {
            width,
            height,
            rgb: color.repeat(pixels),
        }
    }

    /// The pixel in column `x` and row `y`. Panics outside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        assert!(
            x < self.width && y < self.height,
            "pixel outside the picture"
        );
        let at = 3 * (y as usize * self.width as usize + x as usize);
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Pastes `picture` with its top left corner at (`left`, `top`). Panics when it does not fit.
    pub fn paste(&mut self, picture: &Picture, left: u32, top: u32) {
        assert!(
            u64::from(left) + u64::from(picture.width) <= u64::from(self.width)
                && u64::from(top) + u64::from(picture.height) <= u64::from(self.height),
            "{}x{} at ({left}, {top}) does not fit into {}x{}",
            picture.width,
            picture.height,
            self.width,
            self.height
        );
        let (row, own_row) = (3 * picture.width as usize, 3 * self.width as usize);
        let start = own_row * top as usize + 3 * left as usize;
        for (y, pixels) in picture.rgb.chunks_exact(row).enumerate() {
            let at = start + y * own_row;
            self.rgb[at..at + row].copy_from_slice(pixels);
        }
    }

    /// Whether sides and bytes agree.
    pub(crate) fn is_whole(&self) -> bool {
        let pixels = u64::from(self.width) * u64::from(self.height);
        pixels > 0 && pixels.checked_mul(3) == Some(self.rgb.len() as u64)
    }
}
