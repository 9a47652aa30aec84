//! Colours and fonts of one picture, chosen so that text stands out from its ground.

use crate::drawing::{Rgb, brightness, mix};
use crate::fonts::{CHINESE_COUNT, Face, LATIN_COUNT, latin_number};
use crate::random::Random;
use crate::recipe::Recipe;

/// The grounds, inks and rules of one picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    /// Under the text.
    pub(crate) ground: Rgb,
    /// Text.
    pub(crate) ink: Rgb,
    /// Headings.
    pub(crate) strong: Rgb,
    /// Rules and borders: visible, weaker than text.
    pub(crate) faint: Rgb,
    /// A slightly different ground, for zebra rows, header rows and fields.
    pub(crate) tint: Rgb,
}

/// Least difference in brightness between text and ground.
const CONTRAST: i32 = 110;

impl Palette {
    /// Mostly dark text on a light ground, sometimes the reverse or two colours.
    pub(crate) fn choose(random: &mut Random) -> Palette {
        let ground = match random.weighted(&[0.3, 0.3, 0.2, 0.2]) {
            0 => [255; 3],
            1 => pale(random),
            2 => color(random, 0, 255),
            _ => color(random, 0, 90),
        };
        Palette::on(ground, random)
    }

    /// White or pale paper with dark text.
    pub(crate) fn paper(random: &mut Random) -> Palette {
        let ground = if random.chance(0.5) {
            [255; 3]
        } else {
            pale(random)
        };
        Palette::on(ground, random)
    }

    /// Inks for a given ground.
    pub(crate) fn on(ground: Rgb, random: &mut Random) -> Palette {
        let ink = ink_on(ground, random, 0.6);
        let strong = if random.chance(0.6) {
            ink
        } else {
            ink_on(ground, random, 0.2)
        };
        let faint = mix(ground, ink, random.between(50, 200) as u32);
        let tint = mix(ground, ink, random.between(12, 40) as u32);
        Palette {
            ground,
            ink,
            strong,
            faint,
            tint,
        }
    }

    /// A filled box of a strong colour with fitting text, for buttons and header rows.
    pub(crate) fn accent(&self, random: &mut Random) -> (Rgb, Rgb) {
        let mut fill = color(random, 20, 235);
        for _ in 0..8 {
            if (brightness(fill) - brightness(self.ground)).abs() > 30 {
                break;
            }
            fill = color(random, 20, 235);
        }
        (fill, ink_on(fill, random, 0.7))
    }
}

/// A colour with every channel in a range.
pub(crate) fn color(random: &mut Random, low: usize, high: usize) -> Rgb {
    std::array::from_fn(|_| random.between(low, high) as u8)
}

fn pale(random: &mut Random) -> Rgb {
    color(random, 215, 255)
}

/// Text colour for a ground: black or white with probability `plain`, else any colour that stands out.
pub(crate) fn ink_on(ground: Rgb, random: &mut Random, plain: f32) -> Rgb {
    let light = brightness(ground) < 128;
    let extreme = if light {
        [255; 3]
    } else {
        [random.between(0, 40) as u8; 3]
    };
    if random.chance(plain) {
        return extreme;
    }
    for _ in 0..6 {
        let ink = color(random, 0, 255);
        if (brightness(ink) - brightness(ground)).abs() >= CONTRAST {
            return ink;
        }
    }
    extreme
}

/// A font for a picture, at size one; use [`Face::at`] for real sizes.
pub(crate) fn face(random: &mut Random, recipe: &Recipe) -> Face {
    let latin = if recipe.fonts.is_empty() {
        random.below(LATIN_COUNT) as u8
    } else {
        latin_number(&recipe.fonts[random.below(recipe.fonts.len())]).unwrap_or(0)
    };
    let stretch = random.pick(&[100, 100, 100, 100, 100, 92, 85, 108, 116]);
    Face {
        latin,
        chinese: random.below(CHINESE_COUNT) as u8,
        size: 1.0,
        stretch,
        slant: random.chance(0.07),
        heavy: random.chance(0.08),
    }
}

/// A face for headings beside a body face: the same, heavier, or another font.
pub(crate) fn heading(body: Face, random: &mut Random, recipe: &Recipe) -> Face {
    match random.weighted(&[0.4, 0.3, 0.3]) {
        0 => body,
        1 => Face {
            heavy: true,
            ..body
        },
        _ => face(random, recipe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_always_stands_out_from_its_ground() {
        for index in 0..2000 {
            let mut random = Random::new(5, index);
            let palette = Palette::choose(&mut random);
            for ink in [palette.ink, palette.strong] {
                let difference = (brightness(ink) - brightness(palette.ground)).abs();
                assert!(difference >= 80, "{palette:?} {difference}");
            }
        }
    }
}
