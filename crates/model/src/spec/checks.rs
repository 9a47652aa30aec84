//! Whether the numbers of a specification fit together.

use super::{ModelSpec, ProjectorSpec, RopeAxes, VisionSpec};

impl ModelSpec {
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_sizes()?;
        self.check_decoder()?;
        self.check_ids()?;
        match (&self.vision, &self.projector) {
            (Some(vision), Some(projector)) => check_vision(vision, projector),
            _ => Ok(()),
        }
    }

    /// Nothing is zero, and nothing so large that a product of sizes overflows or a typing error asks for all memory.
    fn check_sizes(&self) -> Result<(), String> {
        let d = &self.decoder;
        let mut sizes = vec![
            ("hidden_size", d.hidden, 1 << 17),
            ("intermediate_size", d.ffn, 1 << 20),
            ("num_hidden_layers", d.layers, 1 << 12),
            ("num_attention_heads", d.heads, 1 << 12),
            ("num_key_value_heads", d.kv_heads, 1 << 12),
            ("head_dim", d.head_dim, 1 << 12),
            ("vocab_size", d.vocabulary, 1 << 22),
            ("max_position_embeddings", d.context_tokens, 1 << 24),
        ];
        if let Some(v) = &self.vision {
            sizes.extend([
                ("vision hidden_size", v.hidden, 1 << 15),
                ("vision intermediate_size", v.ffn, 1 << 17),
                ("vision num_hidden_layers", v.layers, 1 << 10),
                ("vision num_attention_heads", v.heads, 1 << 10),
                ("image_size", v.image, 1 << 14),
                ("patch_size", v.patch, 1 << 10),
            ]);
        }
        match sizes
            .iter()
            .find(|(_, value, limit)| *value == 0 || value > limit)
        {
            Some((name, value, limit)) => Err(format!("{name} is {value}, expected 1 to {limit}")),
            None => Ok(()),
        }
    }

    fn check_decoder(&self) -> Result<(), String> {
        let d = &self.decoder;
        if !d.heads.is_multiple_of(d.kv_heads) {
            return Err(format!(
                "{} query heads do not share {} key-value heads evenly",
                d.heads, d.kv_heads
            ));
        }
        if let Some(experts) = &d.experts {
            experts.check()?;
        }
        if let Some(latent) = &d.latent {
            return latent.check();
        }
        if !d.head_dim.is_multiple_of(2) {
            return Err(format!(
                "head_dim is {}, expected an even number for rotary positions",
                d.head_dim
            ));
        }
        match d.rope_axes {
            RopeAxes::Bands(bands) if bands.iter().sum::<usize>() != d.head_dim / 2 => {
                Err(format!(
                    "mrope_section is {bands:?}, expected numbers that sum to {}",
                    d.head_dim / 2
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_ids(&self) -> Result<(), String> {
        let ids = [
            self.image_token_id,
            self.image_start_token_id,
            self.image_end_token_id,
            self.think_token_id,
        ];
        let vocabulary = self.decoder.vocabulary;
        match ids
            .into_iter()
            .flatten()
            .find(|id| *id as usize >= vocabulary)
        {
            Some(id) => Err(format!(
                "token id {id}, expected one below vocab_size {vocabulary}"
            )),
            None => Ok(()),
        }
    }
}

fn check_vision(v: &VisionSpec, p: &ProjectorSpec) -> Result<(), String> {
    let fits = v.hidden.is_multiple_of(v.heads) && v.grid() > 0 && v.frames > 0;
    let turns = v.rotary.is_none() || (v.hidden / v.heads.max(1)).is_multiple_of(4);
    if fits && turns && p.merge > 0 && p.merge <= v.grid() {
        return Ok(());
    }
    Err(format!(
        "vision: width {}, {} heads, image {}, patch {}, merge {} do not fit together",
        v.hidden, v.heads, v.image, v.patch, p.merge
    ))
}
