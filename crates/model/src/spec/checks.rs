//! Whether the numbers of a specification fit together.

use super::{
    DecoderSpec, ModelSpec, PatchPositions, ProjectorSpec, RopeAxes, RopeScaling, VisionSpec,
};

impl ModelSpec {
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_sizes()?;
        self.check_decoder()?;
        self.check_ids()?;
        match (&self.vision, &self.projector) {
            (Some(vision), Some(projector)) => {
                check_vision(vision, projector)?;
                self.check_deep(vision)
            }
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
                ("temporal_patch_size", v.frames, 1 << 5),
            ]);
            if let PatchPositions::Resized { sides, .. } = v.positions {
                sizes.extend(sides.map(|side| ("side of the table of positions", side, 1 << 10)));
            }
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
        check_scaling(d)?;
        if d.window.as_ref().is_some_and(|window| window.tokens == 0) {
            return Err("sliding_window is 0, expected at least 1".into());
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
            RopeAxes::Bands(counts) | RopeAxes::Turns(counts)
                if counts
                    .iter()
                    .fold(0, |sum: usize, n| sum.saturating_add(*n))
                    != d.head_dim / 2 =>
            {
                Err(format!(
                    "mrope_section is {counts:?}, expected numbers that sum to {}",
                    d.head_dim / 2
                ))
            }
            _ => Ok(()),
        }
    }

    /// Layers of the encoder that bring rows for layers of the decoder.
    fn check_deep(&self, vision: &VisionSpec) -> Result<(), String> {
        let layers = &vision.deep_layers;
        let there = layers.iter().all(|layer| *layer < vision.used_layers);
        match there && layers.len() <= self.decoder.layers {
            true => Ok(()),
            false => Err(format!(
                "deepstack_visual_indexes is {layers:?}, expected at most {} layers below {}",
                self.decoder.layers, vision.used_layers
            )),
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

fn check_scaling(d: &DecoderSpec) -> Result<(), String> {
    let latent = d.latent.as_ref();
    let half = latent.map_or(d.head_dim, |latent| latent.rotated) / 2;
    let rising = |[first, last]: [f64; 2]| first < last && (last - first).is_finite();
    let fits = match &d.rope_scaling {
        RopeScaling::Each { factors, magnitude } => factors.len() == half && magnitude.is_finite(),
        RopeScaling::Bands { turns, .. } => rising(*turns),
        RopeScaling::Yarn {
            ramp, magnitude, ..
        } => rising(*ramp) && magnitude.is_finite(),
        RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::NtkMixed { .. } => true,
    };
    match fits {
        true => Ok(()),
        false => Err(format!(
            "rope_scaling: expected {half} factors, or limits of which the second is larger, found {:?}",
            d.rope_scaling
        )),
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
