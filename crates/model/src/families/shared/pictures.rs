//! Keys that the preprocessor_config.json of many families share.

use super::keys::Keys;
use image_prep::resize::Filter;
use image_prep::{PixelValues, Preprocessor, Recipe};

pub(in crate::families) const CLIP: ([f64; 3], [f64; 3]) = (
    [0.48145466, 0.4578275, 0.40821073],
    [0.26862954, 0.26130258, 0.27577711],
);
pub(in crate::families) const IMAGENET: ([f64; 3], [f64; 3]) =
    ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
pub(in crate::families) const HALF: ([f64; 3], [f64; 3]) = ([0.5; 3], [0.5; 3]);

/// Settings of pixels, with the family's mean and deviation where the file says nothing; bicubic, on black.
pub(in crate::families) fn values(
    keys: &Keys,
    (mean, std): ([f64; 3], [f64; 3]),
) -> Result<PixelValues, String> {
    let number = keys.size_or("resample", 3)?;
    Ok(PixelValues {
        filter: Filter::from_pillow_number(number as u64)
            .ok_or_else(|| format!("{} is {number}, expected 1, 2 or 3", keys.name("resample")))?,
        pad_color: [0; 3],
        rescale_factor: keys.number_or("rescale_factor", 1.0 / 255.0)?,
        mean: keys.triple_or("image_mean", mean)?,
        std: keys.triple_or("image_std", std)?,
    })
}

/// The preprocessor of a recipe.
pub(in crate::families) fn preprocessor(
    recipe: Recipe,
    values: PixelValues,
) -> Result<Preprocessor, String> {
    Preprocessor::new(recipe, values).map_err(|error| error.to_string())
}

/// A side in pixels under any of its spellings: a number, or an object with one of these keys.
pub(in crate::families) fn side(
    keys: &Keys,
    key: &str,
    inner: &[&str],
    default: usize,
) -> Result<u32, String> {
    let value = match keys.get(key) {
        Some(value) if value.is_object() => {
            let object = keys.object(key)?;
            let name = inner.iter().find(|name| object.get(name).is_some());
            match name {
                Some(name) => object.size(name)?,
                None => {
                    return Err(format!(
                        "{} has none of {}",
                        keys.name(key),
                        inner.join(", ")
                    ));
                }
            }
        }
        _ => keys.size_or(key, default)?,
    };
    within(keys, key, value, 16384)
}

/// A number of tiles, or of slices.
pub(in crate::families) fn count(keys: &Keys, key: &str, default: usize) -> Result<u32, String> {
    within(keys, key, keys.size_or(key, default)?, 4096)
}

/// A key's value, which must be 1 to `most`.
pub(in crate::families) fn within(
    keys: &Keys,
    key: &str,
    value: usize,
    most: usize,
) -> Result<u32, String> {
    match u32::try_from(value) {
        Ok(number) if (1..=most).contains(&value) => Ok(number),
        _ => Err(format!(
            "{} is {value}, expected 1 to {most}",
            keys.name(key)
        )),
    }
}
