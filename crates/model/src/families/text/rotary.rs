//! Rotary positions of the text families, in the older and the newer spelling.

use crate::families::Keys;
use crate::spec::{DecoderSpec, RopeAxes, RopeScaling};

/// `rope_theta` and `rope_scaling`, or the newer `rope_parameters`; what nothing here computes is refused rather than
/// approximated.
pub(super) fn read(keys: &Keys, decoder: &mut DecoderSpec) -> Result<(), String> {
    let rotated = keys.number_or("partial_rotary_factor", 1.0)?;
    if rotated != 1.0 {
        return Err(format!(
            "{} is {rotated}; only heads that are rotated whole are supported",
            keys.name("partial_rotary_factor")
        ));
    }
    decoder.rope_base = keys.number_or("rope_theta", 10000.0)?;
    for name in ["rope_parameters", "rope_scaling"] {
        if keys.get(name).is_some() {
            read_scaling(&keys.object(name)?, decoder)?;
        }
    }
    Ok(())
}

fn read_scaling(rope: &Keys, decoder: &mut DecoderSpec) -> Result<(), String> {
    decoder.rope_base = rope.number_or("rope_theta", decoder.rope_base)?;
    let sort = rope.text_or("rope_type", rope.text_or("type", "default")?)?;
    let factor = || rope.number_or("factor", 1.0);
    decoder.rope_scaling = match sort {
        // Dynamic frequencies differ past `max_position_embeddings` only, and nothing goes there.
        "default" | "mrope" | "dynamic" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "ntkmixed" => {
            // A stretched model reaches that much farther, unless its configuration says so itself.
            RopeScaling::NtkMixed {
                factor: factor()?,
                power: rope.number_or("power", 0.3)?,
            }
        }
        _ => {
            return Err(format!(
                "{} is {sort:?}, expected default, mrope, dynamic, linear or ntkmixed",
                rope.name("rope_type")
            ));
        }
    };
    if rope.get("mrope_section").is_some() {
        let bands = rope.sizes("mrope_section")?;
        decoder.rope_axes = RopeAxes::Bands(<[usize; 3]>::try_from(bands).map_err(|found| {
            format!(
                "{} is {found:?}, expected three numbers",
                rope.name("mrope_section")
            )
        })?);
    }
    Ok(())
}
