//! Every tensor that a network needs, by its canonical name: that of the native format, whatever a family's files call it.

use super::{
    Assembly, DecoderSpec, EmbeddingNorm, Experts, Latent, MergeNorm, ModelSpec, NormKind,
    PatchPositions, ProjectorKind, ProjectorSpec, QkNorm, Role, TensorSpec, VisionMlp, VisionSpec,
};

impl ModelSpec {
    /// Every tensor of the file, in no particular order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = TensorList::default();
        if let Some(vision) = &self.vision {
            list.vision(vision);
            if let Some(projector) = &self.projector {
                let width = vision.hidden * self.assembly.scales();
                list.projector(projector, width, self.decoder.hidden);
                for at in 0..vision.deep_layers.len() {
                    list.projector(&projector.deep(at), width, self.decoder.hidden);
                }
            }
        }
        if let Assembly::Unpadded { .. } = self.assembly {
            list.push(
                "image_newline".into(),
                &[self.decoder.hidden],
                Role::Numbers,
            );
        }
        list.decoder(&self.decoder, &self.decoder_prefix);
        list.0
    }

    /// Weights of the decoder's matrices, embedding and head apart.
    pub fn decoder_weights(&self) -> usize {
        let tensors = self.tensors();
        let own = tensors.iter().filter(|tensor| tensor.role == Role::Decoder);
        own.map(|tensor| tensor.shape.iter().product::<usize>())
            .sum()
    }
}

#[derive(Default)]
struct TensorList(Vec<TensorSpec>);

impl TensorList {
    fn push(&mut self, name: String, shape: &[usize], role: Role) {
        self.0.push(TensorSpec {
            name,
            shape: shape.to_vec(),
            role,
        });
    }

    /// A linear layer or a norm: weight and bias.
    fn pair(&mut self, name: &str, shape: &[usize], role: Role) {
        let of_bias = match role {
            Role::Unused => Role::Unused,
            _ => Role::Numbers,
        };
        self.push(format!("{name}.weight"), shape, role);
        self.push(format!("{name}.bias"), &shape[..1], of_bias);
    }

    /// A linear layer that may do without a bias.
    fn maybe_pair(&mut self, name: &str, shape: &[usize], role: Role, bias: bool) {
        match bias {
            true => self.pair(name, shape, role),
            false => self.push(format!("{name}.weight"), shape, role),
        }
    }

    fn vision(&mut self, v: &VisionSpec) {
        let p = &v.prefix;
        let mut patch = vec![v.hidden, 3, v.patch, v.patch];
        if v.frames > 1 {
            patch.insert(2, v.frames);
        }
        let embedding = format!("{p}embeddings.patch_embedding");
        self.maybe_pair(&embedding, &patch, Role::Encoder, v.patch_bias);
        if v.class_token {
            let name = format!("{p}embeddings.class_embedding");
            self.push(name, &[v.hidden], Role::Numbers);
        }
        let rows = match v.positions {
            PatchPositions::None => 0,
            PatchPositions::Table => v.grid() * v.grid() + usize::from(v.class_token),
            PatchPositions::Spread { side, .. } => side * side,
            PatchPositions::Resized { sides, .. } => sides[0] * sides[1],
        };
        if rows > 0 {
            let name = format!("{p}embeddings.position_embedding.weight");
            self.push(name, &[rows, v.hidden], Role::Numbers);
        }
        if v.pre_norm {
            self.vision_norm(v, format!("{p}pre_layernorm"), Role::Numbers);
        }
        for layer in 0..v.layers {
            self.vision_block(
                v,
                &format!("{p}encoder.layers.{layer}."),
                layer < v.used_layers,
            );
        }
        if v.has_post_norm {
            let role = if v.post_norm {
                Role::Numbers
            } else {
                Role::Unused
            };
            self.vision_norm(v, format!("{p}post_layernorm"), role);
        }
    }

    fn vision_block(&mut self, v: &VisionSpec, l: &str, used: bool) {
        let (numbers, matrix) = match used {
            true => (Role::Numbers, Role::Encoder),
            false => (Role::Unused, Role::Unused),
        };
        for norm in ["layer_norm1", "layer_norm2"] {
            self.vision_norm(v, format!("{l}{norm}"), numbers);
        }
        for projection in ["q_proj", "k_proj", "v_proj"] {
            let name = format!("{l}self_attn.{projection}");
            self.maybe_pair(&name, &[v.hidden, v.hidden], matrix, v.qkv_bias);
        }
        self.pair(
            &format!("{l}self_attn.out_proj"),
            &[v.hidden, v.hidden],
            matrix,
        );
        let width = match v.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some(v.hidden / v.heads),
            QkNorm::WholeRow => Some(v.hidden),
        };
        for norm in ["q_norm", "k_norm"] {
            if let Some(width) = width {
                self.push(format!("{l}self_attn.{norm}.weight"), &[width], numbers);
            }
        }
        if v.layer_scale {
            for scale in ["layer_scale1", "layer_scale2"] {
                self.push(format!("{l}{scale}"), &[v.hidden], numbers);
            }
        }
        if v.mlp == VisionMlp::Gated {
            self.pair(&format!("{l}mlp.gate"), &[v.ffn, v.hidden], matrix);
        }
        self.pair(&format!("{l}mlp.fc1"), &[v.ffn, v.hidden], matrix);
        self.pair(&format!("{l}mlp.fc2"), &[v.hidden, v.ffn], matrix);
    }

    fn vision_norm(&mut self, v: &VisionSpec, name: String, role: Role) {
        self.maybe_pair(&name, &[v.hidden], role, v.norm == NormKind::Layer);
    }

    fn projector(&mut self, p: &ProjectorSpec, from: usize, to: usize) {
        let merged = p.merged(from);
        let named = |layer: &str| format!("{}{layer}", p.prefix);
        if let ProjectorKind::Resampler { queries } = p.kind {
            return self.resampler(p, from, [queries, to]);
        }
        let norm = match p.norm {
            MergeNorm::None => None,
            MergeNorm::AfterMerge(kind) => Some((kind, merged)),
            MergeNorm::BeforeMerge(kind) => Some((kind, from)),
        };
        if let Some((kind, width)) = norm {
            let bias = kind == NormKind::Layer;
            self.maybe_pair(&named("norm"), &[width], Role::Numbers, bias);
        }
        if matches!(p.kind, ProjectorKind::Linear | ProjectorKind::Mean) {
            let role = Role::Projector;
            return self.push(named("linear_2.weight"), &[to, merged], role);
        }
        let mut before = merged;
        if let ProjectorKind::LinearsTwice { first } = p.kind {
            self.pair(&named("linear_0"), &[first, merged], Role::Projector);
            self.pair(&named("norm_0"), &[first], Role::Numbers);
            before = first;
        }
        self.pair(&named("linear_1"), &[p.inner, before], Role::Projector);
        self.pair(&named("linear_2"), &[to, p.inner], Role::Projector);
    }

    fn resampler(&mut self, p: &ProjectorSpec, from: usize, [queries, to]: [usize; 2]) {
        let named = |layer: &str| format!("{}{layer}", p.prefix);
        self.push(named("query"), &[queries, to], Role::Numbers);
        for norm in ["ln_q", "ln_kv", "ln_post"] {
            self.pair(&named(norm), &[to], Role::Numbers);
        }
        self.maybe_pair(&named("kv_proj"), &[to, from], Role::Projector, false);
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            self.pair(
                &named(&format!("attn.{projection}")),
                &[to, to],
                Role::Projector,
            );
        }
        self.maybe_pair(&named("proj"), &[to, to], Role::Projector, false);
    }

    fn decoder(&mut self, d: &DecoderSpec, prefix: &str) {
        let table = [d.vocabulary, d.hidden];
        let embedding = if d.tied { Role::Head } else { Role::Embedding };
        self.push(
            format!("{prefix}model.embed_tokens.weight"),
            &table,
            embedding,
        );
        if d.embedding_norm == EmbeddingNorm::LayerNorm {
            let name = format!("{prefix}model.embed_layer_norm");
            self.pair(&name, &[d.hidden], Role::Numbers);
        }
        for layer in 0..d.layers {
            let name = format!("{prefix}model.layers.{layer}.");
            match &d.latent {
                Some(latent) => self.latent_block(d, latent, layer, &name),
                None => self.block(d, &name),
            }
        }
        self.norm(format!("{prefix}model.norm"), d.hidden);
        if !d.tied {
            self.push(format!("{prefix}lm_head.weight"), &table, Role::Head);
        }
    }

    fn block(&mut self, d: &DecoderSpec, l: &str) {
        let (q, kv) = (d.heads * d.head_dim, d.kv_heads * d.head_dim);
        self.norm(format!("{l}input_layernorm"), d.hidden);
        self.norm(format!("{l}post_attention_layernorm"), d.hidden);
        for (name, outputs) in [("q", q), ("k", kv), ("v", kv)] {
            let name = format!("{l}self_attn.{name}_proj");
            self.linear(name, &[outputs, d.hidden], d.qkv_bias);
        }
        self.linear(
            format!("{l}self_attn.o_proj"),
            &[d.hidden, q],
            d.output_bias,
        );
        if d.qk_norm == QkNorm::PerHead {
            self.norm(format!("{l}self_attn.q_norm"), d.head_dim);
            self.norm(format!("{l}self_attn.k_norm"), d.head_dim);
        }
        if d.branch_norms {
            self.norm(format!("{l}attention_output_layernorm"), d.hidden);
            self.norm(format!("{l}mlp_output_layernorm"), d.hidden);
        }
        self.gated(&format!("{l}mlp."), d.hidden, d.ffn);
    }

    /// A gated MLP of the decoder.
    fn gated(&mut self, l: &str, hidden: usize, ffn: usize) {
        self.linear(format!("{l}gate_proj"), &[ffn, hidden], false);
        self.linear(format!("{l}up_proj"), &[ffn, hidden], false);
        self.linear(format!("{l}down_proj"), &[hidden, ffn], false);
    }

    /// A block with latent attention. What becomes keys and values of a head stays as exact as norms are: it is multiplied with
    /// queries and sums, not with rows.
    fn latent_block(&mut self, d: &DecoderSpec, latent: &Latent, layer: usize, l: &str) {
        self.norm(format!("{l}input_layernorm"), d.hidden);
        self.norm(format!("{l}post_attention_layernorm"), d.hidden);
        let queries = d.heads * latent.of_query();
        match latent.query {
            Some(width) => {
                self.linear(
                    format!("{l}self_attn.q_a_proj"),
                    &[width, d.hidden],
                    d.qkv_bias,
                );
                self.norm(format!("{l}self_attn.q_a_layernorm"), width);
                self.linear(format!("{l}self_attn.q_b_proj"), &[queries, width], false);
            }
            None => self.linear(format!("{l}self_attn.q_proj"), &[queries, d.hidden], false),
        }
        let kv_a = format!("{l}self_attn.kv_a_proj_with_mqa");
        self.linear(kv_a, &[latent.remembered(), d.hidden], d.qkv_bias);
        self.norm(format!("{l}self_attn.kv_a_layernorm"), latent.width);
        for (name, width) in [("k_b_proj", latent.plain), ("v_b_proj", latent.value)] {
            let shape = [d.heads * width, latent.width];
            self.push(format!("{l}self_attn.{name}.weight"), &shape, Role::Numbers);
        }
        let values = d.heads * latent.value;
        self.linear(
            format!("{l}self_attn.o_proj"),
            &[d.hidden, values],
            d.output_bias,
        );
        match Experts::at(&d.experts, layer) {
            Some(experts) => self.experts(experts, d.hidden, &format!("{l}mlp.")),
            None => self.gated(&format!("{l}mlp."), d.hidden, d.ffn),
        }
    }

    /// A router and what it chooses from.
    fn experts(&mut self, experts: &Experts, hidden: usize, l: &str) {
        let router = [experts.count, hidden];
        self.push(format!("{l}gate.weight"), &router, Role::Numbers);
        let bias = format!("{l}gate.e_score_correction_bias");
        self.push(bias, &router[..1], Role::Numbers);
        for expert in 0..experts.count {
            self.gated(&format!("{l}experts.{expert}."), hidden, experts.ffn);
        }
        if experts.shared_ffn > 0 {
            self.gated(&format!("{l}shared_experts."), hidden, experts.shared_ffn);
        }
    }

    /// An RMSNorm of the decoder.
    fn norm(&mut self, name: String, width: usize) {
        self.push(format!("{name}.weight"), &[width], Role::Numbers);
    }

    /// A linear layer of a decoder block.
    fn linear(&mut self, name: String, shape: &[usize; 2], bias: bool) {
        self.push(format!("{name}.weight"), shape, Role::Decoder);
        if bias {
            self.push(format!("{name}.bias"), &shape[..1], Role::Numbers);
        }
    }
}
