//! Rotary positions of the text families, in the older and the newer spelling.

use crate::families::Keys;
use crate::spec::{DecoderSpec, RopeAxes, RopeScaling};
use std::f64::consts::PI;

/// `rope_theta` and `rope_scaling`, or the newer `rope_parameters`; what nothing here computes is refused rather than
/// approximated.
pub(super) fn read(keys: &Keys, decoder: &mut DecoderSpec) -> Result<(), String> {
    refuse_parts(keys)?;
    decoder.rope_base = keys.number_or("rope_theta", 10000.0)?;
    for name in ["rope_parameters", "rope_scaling"] {
        if keys.get(name).is_none() {
            continue;
        }
        let rope = keys.object(name)?;
        // Newer files of decoders with windows have one object for each kind of layer.
        match rope.get("full_attention") {
            Some(_) => read_scaling(keys, &rope.object("full_attention")?, decoder)?,
            None => read_scaling(keys, &rope, decoder)?,
        }
    }
    Ok(())
}

fn refuse_parts(keys: &Keys) -> Result<(), String> {
    match keys.number_or("partial_rotary_factor", 1.0)? {
        1.0 => Ok(()),
        part => Err(format!(
            "{} is {part}; only heads that are rotated whole are supported",
            keys.name("partial_rotary_factor")
        )),
    }
}

fn read_scaling(keys: &Keys, rope: &Keys, decoder: &mut DecoderSpec) -> Result<(), String> {
    refuse_parts(rope)?;
    decoder.rope_base = rope.number_or("rope_theta", decoder.rope_base)?;
    read_axes(rope, decoder)?;
    let sort = rope.text_or("rope_type", rope.text_or("type", "default")?)?;
    let factor = || match rope.get("factor") {
        Some(_) => rope.number_or("factor", 1.0),
        None => Err(format!("{} is missing", rope.name("factor"))),
    };
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
        "llama3" => RopeScaling::Bands {
            factor: factor()?,
            turns: [
                rope.number_or("low_freq_factor", 1.0)?,
                rope.number_or("high_freq_factor", 4.0)?,
            ],
            context: trained_context(keys, rope, decoder)?,
        },
        "yarn" => yarn(keys, rope, decoder)?,
        "longrope" => long(keys, rope, decoder)?,
        _ => {
            return Err(format!(
                "{} is {sort:?}, expected default, mrope, dynamic, linear, ntkmixed, llama3, yarn or longrope",
                rope.name("rope_type")
            ));
        }
    };
    Ok(())
}

fn read_axes(rope: &Keys, decoder: &mut DecoderSpec) -> Result<(), String> {
    if rope.get("mrope_section").is_none() {
        return Ok(());
    }
    let counts = rope.sizes("mrope_section")?;
    let counts = <[usize; 3]>::try_from(counts).map_err(|found| {
        format!(
            "{} is {found:?}, expected three numbers",
            rope.name("mrope_section")
        )
    })?;
    decoder.rope_axes = match rope.flag_or("mrope_interleaved", false)? {
        true => RopeAxes::Turns(counts),
        false => RopeAxes::Bands(counts),
    };
    Ok(())
}

/// The positions that the model saw before it was stretched.
fn trained_context(keys: &Keys, rope: &Keys, decoder: &DecoderSpec) -> Result<f64, String> {
    const KEY: &str = "original_max_position_embeddings";
    let whole = decoder.context_tokens as f64;
    rope.number_or(KEY, keys.number_or(KEY, whole)?)
}

/// Half of a head's numbers that turn.
fn turning(keys: &Keys, decoder: &DecoderSpec) -> Result<f64, String> {
    // Latent attention turns a part of its own.
    let width = keys.size_or("qk_rope_head_dim", decoder.head_dim)?;
    Ok(width as f64)
}

fn yarn(keys: &Keys, rope: &Keys, decoder: &DecoderSpec) -> Result<RopeScaling, String> {
    let context = trained_context(keys, rope, decoder)?;
    let factor = rope.number_or("factor", decoder.context_tokens as f64 / context)?;
    let width = turning(keys, decoder)?;
    // The number of the frequency that turns so often within the context.
    let number =
        |turns: f64| width * (context / (turns * 2.0 * PI)).ln() / (2.0 * decoder.rope_base.ln());
    let mut ramp = [
        number(rope.number_or("beta_fast", 32.0)?),
        number(rope.number_or("beta_slow", 1.0)?),
    ];
    if rope.flag_or("truncate", true)? {
        ramp = [ramp[0].floor(), ramp[1].ceil()];
    }
    ramp = [ramp[0].max(0.0), ramp[1].min(width - 1.0)];
    if ramp[0] == ramp[1] {
        ramp[1] += 0.001;
    }
    let larger = |share: f64| larger(factor, share);
    let both = rope.get("mscale").is_some() && rope.get("mscale_all_dim").is_some();
    let magnitude = match both {
        true => {
            larger(rope.number_or("mscale", 1.0)?) / larger(rope.number_or("mscale_all_dim", 1.0)?)
        }
        false => larger(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        ramp,
        magnitude: rope.number_or("attention_factor", magnitude)?,
    })
}

/// Texts within the context of the first training turn by the short factors, longer ones by the long ones: what was remembered
/// would have to turn anew when a conversation passes that length. So conversations end there.
fn long(keys: &Keys, rope: &Keys, decoder: &mut DecoderSpec) -> Result<RopeScaling, String> {
    let context = trained_context(keys, rope, decoder)?;
    let factor = rope.number_or("factor", decoder.context_tokens as f64 / context)?;
    let magnitude = match factor > 1.0 {
        true => (1.0 + factor.ln() / context.ln()).sqrt(),
        false => 1.0,
    };
    decoder.context_tokens = decoder.context_tokens.min(context as usize);
    Ok(RopeScaling::Each {
        factors: rope.numbers("short_factor")?,
        magnitude: rope.number_or("attention_factor", magnitude)?,
    })
}

/// What DeepSeek multiplies scores with when its positions are stretched by YaRN, beside what that does itself.
pub(super) fn score_scale(keys: &Keys) -> Result<f32, String> {
    for name in ["rope_parameters", "rope_scaling"] {
        if keys.get(name).is_none() {
            continue;
        }
        let rope = keys.object(name)?;
        let sort = rope.text_or("rope_type", rope.text_or("type", "default")?)?;
        if sort == "yarn" && rope.get("mscale_all_dim").is_some() {
            let factor = rope.number_or("factor", 1.0)?;
            return Ok(larger(factor, rope.number_or("mscale_all_dim", 1.0)?).powi(2) as f32);
        }
    }
    Ok(1.0)
}

/// What YaRN makes of a factor: scores of longer texts are made larger.
fn larger(factor: f64, share: f64) -> f64 {
    match factor > 1.0 {
        true => 0.1 * share * factor.ln() + 1.0,
        false => 1.0,
    }
}
