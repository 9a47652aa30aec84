//! How a family's reference lays out the pixels of a picture: for comparing with it.

use super::ModelSpec;

/// The layout of `pixel_values`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferencePixels {
    /// `[views, 3, height, width]`.
    Views,
    /// `[patches, 3 * frames * side * side]`, blocks of patches one after the other.
    Patches {
        /// Patches along the side of a block.
        block: usize,
    },
}

impl ModelSpec {
    /// Pixels `[3, height, width]` of views of these sizes (width and height), one after the other, as the reference has them.
    ///
    /// # Panics
    /// When there are fewer pixels than the sizes say.
    pub fn reference_pixels(&self, sizes: &[(u32, u32)], pixels: &[f32]) -> Vec<f32> {
        let (ReferencePixels::Patches { block }, Some(vision)) = (self.pixels, &self.vision) else {
            return pixels.to_vec();
        };
        let (patch, mut first, mut out) = (vision.patch, 0, Vec::with_capacity(pixels.len()));
        for &(width, height) in sizes {
            let (width, height) = (width as usize, height as usize);
            let view = &pixels[first..first + 3 * width * height];
            first += view.len();
            let (rows, columns) = (height / patch, width / patch);
            let corners = (0..rows).step_by(block).flat_map(|row| {
                let columns = (0..columns).step_by(block);
                columns.map(move |column| (row, column))
            });
            let inside = |(row, column): (usize, usize)| {
                let below = (0..block).map(move |down| row + down);
                below.flat_map(move |row| (0..block).map(move |right| (row, column + right)))
            };
            for (row, column) in corners.flat_map(inside) {
                for plane in view.chunks_exact(width * height) {
                    for _ in 0..vision.frames {
                        for y in row * patch..(row + 1) * patch {
                            out.extend_from_slice(&plane[y * width + column * patch..][..patch]);
                        }
                    }
                }
            }
        }
        out
    }
}
