//! The shipped fonts: measuring text and drawing glyphs once per size.
//!
//! Files and licences stand in `fonts/`; `scripts/subset_fonts.py` made them. A [`Face`] is a font at a size with a
//! synthetic stretch, slant and weight, so that thirty-odd files look like many more. Hinting, kerning and ligatures are absent.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

use ab_glyph::{
    Font, FontRef, Glyph, Outline, OutlineCurve, OutlinedGlyph, Point, PxScale, PxScaleFactor,
    point,
};

/// Fonts for Latin letters, digits and punctuation.
const LATIN: [(&str, &[u8]); 32] = [
    (
        "baskerville-regular",
        include_bytes!("../fonts/baskerville-regular.ttf"),
    ),
    (
        "caveat-semibold",
        include_bytes!("../fonts/caveat-semibold.ttf"),
    ),
    (
        "courier-prime-bold",
        include_bytes!("../fonts/courier-prime-bold.ttf"),
    ),
    (
        "courier-prime-regular",
        include_bytes!("../fonts/courier-prime-regular.ttf"),
    ),
    ("dejavu-mono", include_bytes!("../fonts/dejavu-mono.ttf")),
    ("dejavu-sans", include_bytes!("../fonts/dejavu-sans.ttf")),
    (
        "dejavu-sans-bold",
        include_bytes!("../fonts/dejavu-sans-bold.ttf"),
    ),
    ("dejavu-serif", include_bytes!("../fonts/dejavu-serif.ttf")),
    (
        "garamond-regular",
        include_bytes!("../fonts/garamond-regular.ttf"),
    ),
    (
        "inconsolata-medium",
        include_bytes!("../fonts/inconsolata-medium.ttf"),
    ),
    ("inter-bold", include_bytes!("../fonts/inter-bold.ttf")),
    (
        "inter-regular",
        include_bytes!("../fonts/inter-regular.ttf"),
    ),
    (
        "jetbrains-mono-regular",
        include_bytes!("../fonts/jetbrains-mono-regular.ttf"),
    ),
    (
        "kalam-regular",
        include_bytes!("../fonts/kalam-regular.ttf"),
    ),
    (
        "merriweather-light",
        include_bytes!("../fonts/merriweather-light.ttf"),
    ),
    (
        "montserrat-bold",
        include_bytes!("../fonts/montserrat-bold.ttf"),
    ),
    (
        "montserrat-medium",
        include_bytes!("../fonts/montserrat-medium.ttf"),
    ),
    (
        "open-sans-bold",
        include_bytes!("../fonts/open-sans-bold.ttf"),
    ),
    (
        "open-sans-regular",
        include_bytes!("../fonts/open-sans-regular.ttf"),
    ),
    (
        "oswald-medium",
        include_bytes!("../fonts/oswald-medium.ttf"),
    ),
    (
        "patrick-hand-regular",
        include_bytes!("../fonts/patrick-hand-regular.ttf"),
    ),
    (
        "plex-sans-regular",
        include_bytes!("../fonts/plex-sans-regular.ttf"),
    ),
    (
        "pt-sans-regular",
        include_bytes!("../fonts/pt-sans-regular.ttf"),
    ),
    (
        "quicksand-medium",
        include_bytes!("../fonts/quicksand-medium.ttf"),
    ),
    (
        "roboto-condensed-regular",
        include_bytes!("../fonts/roboto-condensed-regular.ttf"),
    ),
    ("roboto-light", include_bytes!("../fonts/roboto-light.ttf")),
    (
        "roboto-medium",
        include_bytes!("../fonts/roboto-medium.ttf"),
    ),
    (
        "roboto-slab-medium",
        include_bytes!("../fonts/roboto-slab-medium.ttf"),
    ),
    (
        "source-sans-regular",
        include_bytes!("../fonts/source-sans-regular.ttf"),
    ),
    ("stix-bold", include_bytes!("../fonts/stix-bold.ttf")),
    ("stix-regular", include_bytes!("../fonts/stix-regular.ttf")),
    (
        "vt323-regular",
        include_bytes!("../fonts/vt323-regular.ttf"),
    ),
];

/// Fonts for the few Chinese characters.
const CHINESE: [(&str, &[u8]); 2] = [
    (
        "sans-sc-regular",
        include_bytes!("../fonts/sans-sc-regular.ttf"),
    ),
    (
        "serif-sc-bold",
        include_bytes!("../fonts/serif-sc-bold.ttf"),
    ),
];

/// Nominal x-height and height of capitals that every font is scaled to, as parts of the text size.
const X_HEIGHT: f32 = 0.52;
const CAPITAL_HEIGHT: f32 = 0.71;

/// Bytes of glyph pictures that a cache keeps before it starts again.
const CACHE_BYTES: usize = 48 << 20;

struct LoadedFont {
    font: FontRef<'static>,
    units: f32,
    /// What to multiply a text size with to get this font's em, so that all fonts look equally large.
    scale: f32,
    /// Advance of the ASCII characters as parts of the em.
    ascii: [f32; 128],
}

static FONTS: LazyLock<Vec<LoadedFont>> = LazyLock::new(|| {
    LATIN
        .iter()
        .chain(&CHINESE)
        .map(|(name, bytes)| load(name, bytes))
        .collect()
});

/// Names of the fonts that a recipe may list.
pub(crate) fn latin_names() -> impl Iterator<Item = &'static str> {
    LATIN.iter().map(|(name, _)| *name)
}

/// The number of a font by its name.
pub(crate) fn latin_number(name: &str) -> Option<u8> {
    latin_names()
        .position(|known| known == name)
        .map(|index| index as u8)
}

/// Number of Latin fonts; their numbers come first.
pub(crate) const LATIN_COUNT: usize = LATIN.len();

/// Number of Chinese fonts.
pub(crate) const CHINESE_COUNT: usize = CHINESE.len();

fn load(name: &str, bytes: &'static [u8]) -> LoadedFont {
    // A shipped file that does not parse is a bug of this crate, not a mistake of its user.
    let font = FontRef::try_from_slice(bytes)
        .unwrap_or_else(|error| panic!("shipped font {name}: {error}"));
    let units = font.units_per_em().unwrap_or(1000.0);
    let height = |character| {
        font.outline(font.glyph_id(character))
            .map(|outline| outline.bounds.max.y.abs().max(outline.bounds.min.y.abs()) / units)
    };
    let scale = match (height('x'), height('H')) {
        (Some(x), Some(capital)) if x > 0.1 && capital > 0.1 => {
            (0.5 * (X_HEIGHT / x + CAPITAL_HEIGHT / capital)).clamp(0.8, 1.45)
        }
        _ => 1.0,
    };
    let mut ascii = [0.0; 128];
    for code in 32u8..127 {
        ascii[usize::from(code)] = font.h_advance_unscaled(font.glyph_id(char::from(code))) / units;
    }
    LoadedFont {
        font,
        units,
        scale,
        ascii,
    }
}

/// A font with a size and a synthetic style.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Face {
    /// Number of the Latin font.
    pub(crate) latin: u8,
    /// Number of the Chinese font, counted from zero.
    pub(crate) chinese: u8,
    /// Nominal size in pixels: x-height is about half of it in every font.
    pub(crate) size: f32,
    /// Width in percent of the font's own.
    pub(crate) stretch: u8,
    /// Leans to the right.
    pub(crate) slant: bool,
    /// Drawn twice, one pixel or a part of the size apart.
    pub(crate) heavy: bool,
}

impl Face {
    /// The same face at another nominal size.
    pub(crate) fn at(self, size: f32) -> Face {
        Face { size, ..self }
    }

    fn number(&self, character: char) -> u8 {
        if u32::from(character) > 0x2E00 {
            LATIN_COUNT as u8 + self.chinese
        } else {
            self.latin
        }
    }

    /// The em in whole pixels; large sizes in steps, so that few sizes of a glyph exist.
    fn em(&self, number: u8) -> u16 {
        let exact = self.size * FONTS[usize::from(number)].scale;
        let step = match exact {
            ..48.0 => 1.0,
            ..96.0 => 2.0,
            ..192.0 => 4.0,
            _ => 8.0,
        };
        ((exact / step).round() * step).clamp(6.0, 1000.0) as u16
    }

    fn advance(&self, character: char) -> f32 {
        let number = self.number(character);
        let loaded = &FONTS[usize::from(number)];
        let part = match loaded.ascii.get(character as usize) {
            Some(&part) => part,
            None => {
                loaded
                    .font
                    .h_advance_unscaled(loaded.font.glyph_id(character))
                    / loaded.units
            }
        };
        part * f32::from(self.em(number)) * f32::from(self.stretch) / 100.0
            + if self.heavy {
                self.weight() as f32
            } else {
                0.0
            }
    }

    fn weight(&self) -> usize {
        1 + (self.size / 28.0) as usize
    }

    /// Width of a text in pixels.
    pub(crate) fn width(&self, text: &str) -> f32 {
        text.chars().map(|character| self.advance(character)).sum()
    }

    /// Height of a line of text: what recipes call a line height.
    pub(crate) fn line(&self) -> f32 {
        self.size * LINE
    }

    /// From the top of a line down to its baseline.
    pub(crate) fn rise(&self) -> f32 {
        self.size * 0.93
    }
}

/// Line height as a multiple of the text size.
pub(crate) const LINE: f32 = 1.2;

/// True if the fonts can draw the character.
#[cfg(test)]
pub(crate) fn can_draw(character: char) -> bool {
    let number = if u32::from(character) > 0x2E00 {
        LATIN_COUNT
    } else {
        0
    };
    FONTS[number].font.glyph_id(character) != ab_glyph::GlyphId(0)
}

/// A glyph as coverage from 0 to 255.
pub(crate) struct Sprite {
    /// Offset of the left column from the pen.
    pub(crate) left: i32,
    /// Offset of the upper row from the baseline, negative upwards.
    pub(crate) top: i32,
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Row-major coverage.
    pub(crate) coverage: Box<[u8]>,
}

/// Glyph pictures that were drawn before; what it holds never changes what is drawn.
#[derive(Default)]
pub(crate) struct GlyphCache {
    sprites: HashMap<u64, Option<Rc<Sprite>>, std::hash::BuildHasherDefault<KeyHasher>>,
    bytes: usize,
}

/// Multiplies; the keys are packed integers already.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl std::hash::Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl GlyphCache {
    /// The glyph in this face, or `None` for a character without ink.
    pub(crate) fn sprite(&mut self, face: &Face, character: char) -> Option<Rc<Sprite>> {
        let number = face.number(character);
        let em = face.em(number);
        let heavy = if face.heavy { face.weight() as u64 } else { 0 };
        let key = u64::from(u32::from(character))
            | u64::from(number) << 21
            | u64::from(em) << 28
            | u64::from(face.stretch) << 40
            | u64::from(face.slant) << 48
            | heavy << 50;
        if let Some(known) = self.sprites.get(&key) {
            return known.clone();
        }
        let sprite = rasterise(&FONTS[usize::from(number)], em, face, character).map(Rc::new);
        self.bytes += 64 + sprite.as_ref().map_or(0, |sprite| sprite.coverage.len());
        if self.bytes > CACHE_BYTES {
            self.sprites.clear();
            self.bytes = 0;
        }
        self.sprites.insert(key, sprite.clone());
        sprite
    }
}

fn rasterise(loaded: &LoadedFont, em: u16, face: &Face, character: char) -> Option<Sprite> {
    let id = loaded.font.glyph_id(character);
    let mut outline = loaded.font.outline(id)?;
    if face.slant {
        lean(&mut outline);
    }
    let vertical = f32::from(em) / loaded.units;
    let factor = PxScaleFactor {
        horizontal: vertical * f32::from(face.stretch) / 100.0,
        vertical,
    };
    let glyph = Glyph {
        id,
        scale: PxScale::from(f32::from(em)),
        position: point(0.0, 0.0),
    };
    let outlined = OutlinedGlyph::new(glyph, outline, factor);
    let bounds = outlined.px_bounds();
    let extra = if face.heavy { face.weight() } else { 0 };
    let (ink_width, height) = (bounds.width() as usize, bounds.height() as usize);
    if ink_width == 0 || height == 0 {
        return None;
    }
    let width = ink_width + extra;
    let mut coverage = vec![0u8; width * height].into_boxed_slice();
    outlined.draw(|x, y, part| {
        let value = (part.min(1.0) * 255.0 + 0.5) as u8;
        let start = y as usize * width + x as usize;
        for cell in &mut coverage[start..=start + extra] {
            *cell = (*cell).max(value);
        }
    });
    Some(Sprite {
        left: bounds.min.x as i32,
        top: bounds.min.y as i32,
        width,
        height,
        coverage,
    })
}

/// Shears an outline to the right, as italics lean.
fn lean(outline: &mut Outline) {
    let shear = |at: &mut Point| at.x += at.y * 0.2;
    for curve in &mut outline.curves {
        match curve {
            OutlineCurve::Line(a, b) => [a, b].into_iter().for_each(shear),
            OutlineCurve::Quad(a, b, c) => [a, b, c].into_iter().for_each(shear),
            OutlineCurve::Cubic(a, b, c, d) => [a, b, c, d].into_iter().for_each(shear),
        }
    }
    let (low, high) = (
        outline.bounds.min.y.min(outline.bounds.max.y),
        outline.bounds.min.y.max(outline.bounds.max.y),
    );
    outline.bounds.min.x += low * 0.2;
    outline.bounds.max.x += high * 0.2;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(latin: u8) -> Face {
        Face {
            latin,
            chinese: 0,
            size: 20.0,
            stretch: 100,
            slant: false,
            heavy: false,
        }
    }

    #[test]
    fn every_latin_font_draws_every_printable_ascii_character() {
        let mut cache = GlyphCache::default();
        for latin in 0..LATIN_COUNT as u8 {
            for code in 33u8..127 {
                let sprite = cache.sprite(&face(latin), char::from(code));
                assert!(
                    sprite.is_some_and(|sprite| sprite.coverage.iter().any(|&part| part > 60)),
                    "{latin} {code}"
                );
            }
        }
    }

    #[test]
    fn every_chinese_word_can_be_drawn_in_both_chinese_fonts() {
        let text = include_str!("../words/chinese.txt");
        for character in text
            .chars()
            .filter(|&character| u32::from(character) > 0x2E00)
        {
            for number in LATIN_COUNT..LATIN_COUNT + CHINESE_COUNT {
                assert_ne!(
                    FONTS[number].font.glyph_id(character),
                    ab_glyph::GlyphId(0),
                    "{character}"
                );
            }
        }
    }

    #[test]
    fn fonts_look_equally_large() {
        let mut cache = GlyphCache::default();
        for latin in 0..LATIN_COUNT as u8 {
            let sprite = cache
                .sprite(&face(latin).at(100.0), 'x')
                .expect("x has ink");
            assert!(
                (38..=66).contains(&sprite.height),
                "{} {}",
                LATIN[usize::from(latin)].0,
                sprite.height
            );
        }
    }

    #[test]
    fn a_slanted_glyph_keeps_all_its_ink() {
        let mut cache = GlyphCache::default();
        let ink = |sprite: &Sprite| {
            sprite
                .coverage
                .iter()
                .map(|&part| f64::from(part))
                .sum::<f64>()
        };
        let upright = cache.sprite(&face(0).at(60.0), 'H').expect("ink");
        let leaning = cache
            .sprite(
                &Face {
                    slant: true,
                    ..face(0).at(60.0)
                },
                'H',
            )
            .expect("ink");
        assert!((ink(&upright) / ink(&leaning) - 1.0).abs() < 0.02);
    }

    #[test]
    fn the_width_of_a_text_is_the_sum_of_its_parts() {
        let face = face(3);
        assert!((face.width("Total 5") - face.width("Total") - face.width(" 5")).abs() < 1e-3);
    }
}
