//! Kimi-VL: a picture at its own size, made smaller where it has too many patches, on padding at the right and at the bottom.

use crate::tiling::Grid;
use crate::views::{Canvas, Views};

/// Patches along a side that the published encoder has positions for, and refuses more than.
const LONGEST: u32 = 511;

/// The numbers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding {
    /// Side of a patch.
    pub patch: u32,
    /// Patches of a block that becomes one row, along a side: sides are filled up to whole blocks.
    pub block: u32,
    /// Larger pictures shrink.
    pub most_patches: u32,
}

impl Padding {
    pub(super) fn views(&self, size: (u32, u32)) -> Views {
        let patches = u64::from(size.0 / self.patch) * u64::from(size.1 / self.patch);
        let mut resized = size;
        if patches > u64::from(self.most_patches) {
            let scale = (f64::from(self.most_patches) / patches as f64).sqrt();
            resized = scaled(size, scale);
        }
        // Lines of one patch pass the limit at any length: the published code refuses those, here they shrink.
        let longest = resized.0.max(resized.1);
        if longest > self.longest() {
            resized = scaled(resized, f64::from(self.longest()) / f64::from(longest));
        }
        let block = self.patch * self.block;
        let canvas = Canvas {
            first: Vec::new(),
            resized,
            offset: (0, 0),
            size: (
                resized.0.next_multiple_of(block),
                resized.1.next_multiple_of(block),
            ),
        };
        Views {
            original: size,
            grid: Grid::SINGLE,
            list: vec![canvas.whole()],
        }
    }

    /// The longest side that still is whole blocks of no more patches than there may be.
    fn longest(&self) -> u32 {
        LONGEST / self.block * self.block * self.patch
    }

    pub(super) fn most_pixels(&self) -> u64 {
        // Each side gains less than a patch by what is not counted and less than a block by padding.
        let patch = u64::from(self.patch);
        let gain = patch * (u64::from(self.block) + 1);
        u64::from(self.most_patches) * patch * patch + gain * (2 * u64::from(self.longest()) + gain)
    }
}

/// Truncated, as the published code does it.
fn scaled((width, height): (u32, u32), scale: f64) -> (u32, u32) {
    [width, height]
        .map(|side| ((f64::from(side) * scale) as u32).max(1))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PADDING: Padding = Padding {
        patch: 14,
        block: 2,
        most_patches: 64,
    };

    fn sizes(width: u32, height: u32) -> [(u32, u32); 2] {
        let views = PADDING.views((width, height));
        [views.list[0].canvas.resized, views.list[0].canvas.size]
    }

    #[test]
    fn small_pictures_are_padded_and_large_ones_shrink_first() {
        assert_eq!(sizes(90, 61), [(90, 61), (112, 84)]);
        assert_eq!(sizes(28, 56), [(28, 56); 2]);
        // 10 x 16 patches are 160: both sides times the root of 64 / 160, truncated.
        assert_eq!(sizes(140, 233), [(88, 147), (112, 168)]);
    }

    #[test]
    fn no_picture_has_more_pixels_or_longer_sides_than_the_numbers_allow() {
        for size in [
            (1, 1),
            (1, 4000),
            (13, 1 << 20),
            (27, u32::MAX),
            (u32::MAX, 28),
            (u32::MAX, u32::MAX),
        ] {
            let [_, (width, height)] = sizes(size.0, size.1);
            assert!(
                u64::from(width) * u64::from(height) <= PADDING.most_pixels(),
                "{size:?}"
            );
            assert!(
                width.max(height) <= 510 * 14,
                "{size:?}: {width} x {height}"
            );
        }
    }
}
