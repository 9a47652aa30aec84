//! Rotary positions of the text families.

use super::Keys;

/// `rope_theta`, or the newer `rope_parameters`; scaled positions are refused rather than approximated.
pub(super) fn base(keys: &Keys) -> Result<f64, String> {
    let rotated = keys.number_or("partial_rotary_factor", 1.0)?;
    if rotated != 1.0 {
        return Err(format!(
            "{} is {rotated}; only heads that are rotated whole are supported",
            keys.name("partial_rotary_factor")
        ));
    }
    for name in ["rope_parameters", "rope_scaling"] {
        if keys.get(name).is_none() {
            continue;
        }
        let rope = keys.object(name)?;
        let sort = rope.text_or("rope_type", rope.text_or("type", "default")?)?;
        if sort != "default" {
            return Err(format!(
                "{} is {sort:?}; only unscaled rotary positions are supported",
                rope.name("rope_type")
            ));
        }
        if rope.get("rope_theta").is_some() {
            return rope.number_or("rope_theta", 10000.0);
        }
    }
    keys.number_or("rope_theta", 10000.0)
}
