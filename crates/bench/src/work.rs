//! How much work a network is: what turns milliseconds into shares of a ceiling.

use model::ModelSpec;

/// Operations and bytes of one model. A multiply-add is two operations; norms, activations and softmax are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Operations of one tile through encoder, merge and projector, attention included.
    pub encode_operations: u64,
    /// Operations of one row through the decoder's layers, without attention and without the head; 0 where it depends on the row.
    pub prefill_operations: u64,
    /// Bytes of weights that one decoded token reads; 0 where that is not known.
    pub decode_bytes: u64,
}

impl Work {
    /// Of a model whose decoded token reads `decode_bytes` of weights.
    pub fn of(spec: &ModelSpec, decode_bytes: u64) -> Work {
        Work {
            encode_operations: 2 * encode_multiply_adds(spec),
            prefill_operations: 2 * prefill_multiply_adds(spec),
            // Of several experts a row meets some.
            decode_bytes: match spec.decoder.experts {
                Some(_) => 0,
                None => decode_bytes,
            },
        }
    }
}

fn encode_multiply_adds(spec: &ModelSpec) -> u64 {
    let (Some(vision), Some(projector)) = (&spec.vision, &spec.projector) else {
        return 0;
    };
    let (d, ffn, patches) = (vision.hidden, vision.ffn, vision.grid() * vision.grid());
    let layer = patches * (4 * d * d + 2 * d * ffn) + 2 * patches * patches * d;
    let embedding = patches * 3 * vision.patch * vision.patch * d;
    let (merged, out) = (d * projector.merge * projector.merge, spec.decoder.hidden);
    let projection = spec.tokens_per_tile() * (merged * out + out * out);
    (vision.used_layers * layer + embedding + projection) as u64
}

fn prefill_multiply_adds(spec: &ModelSpec) -> u64 {
    let decoder = &spec.decoder;
    if decoder.latent.is_some() || decoder.experts.is_some() {
        return 0;
    }
    let (d, q, kv) = (
        decoder.hidden,
        decoder.heads * decoder.head_dim,
        decoder.kv_heads * decoder.head_dim,
    );
    (decoder.layers * (2 * d * q + 2 * d * kv + 3 * d * decoder.ffn)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_sized_model_is_as_much_work_as_known() {
        let spec = crate::shapes::find("bluelm-v-3b").unwrap().config;
        let spec = ModelSpec::from_json(&spec.to_string()).expect("a right shape");
        let work = Work::of(&spec, 0);
        // 2.223 billion weights in the decoder's layers, each multiplied once for a token.
        assert_eq!(work.prefill_operations / 1_000_000, 4_445);
        // Published for a SigLIP so400m of 384 pixels with a projector: about 680 billion.
        let billions = work.encode_operations / 1_000_000_000;
        assert!((660..=700).contains(&billions), "{billions}");
    }
}
