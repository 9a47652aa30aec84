//! Layers in which a row sees only those rows before it that are near.

use crate::families::Keys;
use crate::spec::Window;

/// The window of a decoder that asks for it (`use_sliding_window`), in the layers from `max_window_layers` on.
pub(super) fn where_asked(keys: &Keys, layers: usize) -> Result<Option<Window>, String> {
    if !keys.flag_or("use_sliding_window", false)? || keys.is_null("sliding_window") {
        return Ok(None);
    }
    let first = keys.size_or("max_window_layers", 28)?;
    let tokens = keys.size_or("sliding_window", 4096)?;
    read(keys, layers, tokens, |layer| layer < first).map(Some)
}

/// A window in the layers that `layer_types` names, or in those that are not `full`.
pub(super) fn read(
    keys: &Keys,
    layers: usize,
    tokens: usize,
    full: impl Fn(usize) -> bool,
) -> Result<Window, String> {
    const KEY: &str = "layer_types";
    let full_layers = match keys.get(KEY) {
        // The number of layers is checked later; a wrong one must not be counted to.
        None => (0..layers.min(1 << 12))
            .filter(|layer| full(*layer))
            .collect(),
        Some(value) => {
            let list = value.as_array().filter(|list| list.len() == layers);
            let list = list
                .ok_or_else(|| format!("{}: expected a list of {layers} names", keys.name(KEY)))?;
            let mut full_layers = Vec::new();
            for (layer, sort) in list.iter().enumerate() {
                match sort.as_str() {
                    Some("full_attention") => full_layers.push(layer),
                    Some("sliding_attention") => {}
                    _ => {
                        return Err(format!(
                            "{} holds {sort}, expected full_attention or sliding_attention",
                            keys.name(KEY)
                        ));
                    }
                }
            }
            full_layers
        }
    };
    Ok(Window {
        tokens,
        full_layers,
        rope_base: None,
    })
}
