//! From the description of a network to its layers and the table of their tensors.

use super::batch::AuxSpec;
use super::decoder::{Decoder, DecoderLayer};
use super::linear::Linear;
use super::norm::Norm;
use super::projector::Projector;
use super::shape::Shape;
use super::vision::{Vision, VisionLayer};
use crate::parameters::{Group, Layout, Start};

const VISION: &str = "vision_tower.vision_model";
const LANGUAGE: &str = "language_model.model";

/// All layers of a network, resolved to offsets.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    pub vision: Vision,
    /// The auxiliary patch head.
    pub patch_head: Option<Linear>,
    pub projector: Projector,
    pub embedding: usize,
    pub decoder: Decoder,
    pub final_norm: Norm,
    pub head: Linear,
    /// Every linear layer in use, by slot.
    pub linears: Vec<Linear>,
}

/// Lays tensors out one behind the other; layers remember the offsets.
struct Builder {
    layout: Layout,
    linears: Vec<Linear>,
    group: Group,
    vision_layer: Option<usize>,
}

/// Parts of one matrix: names and their numbers of outputs.
type Parts<'a> = &'a [(&'a str, usize)];

impl Builder {
    fn tensor(&mut self, name: String, shape: &[usize], start: Start) -> usize {
        self.layout
            .push(name, shape, self.group, self.vision_layer, start)
    }

    /// A linear layer of one or more tensors side by side: all weights, then all biases.
    fn linear(
        &mut self,
        prefix: &str,
        parts: Parts,
        inputs: usize,
        bias: bool,
        deviation: f32,
    ) -> Linear {
        let offsets: Vec<usize> = parts
            .iter()
            .map(|(name, outputs)| {
                self.tensor(
                    format!("{prefix}{name}.weight"),
                    &[*outputs, inputs],
                    Start::Normal(deviation),
                )
            })
            .collect();
        let biases: Vec<usize> = parts
            .iter()
            .filter(|_| bias)
            .map(|(name, outputs)| {
                self.tensor(format!("{prefix}{name}.bias"), &[*outputs], Start::Zeros)
            })
            .collect();
        let outputs = parts.iter().map(|part| part.1).sum();
        self.register(Linear {
            inputs,
            outputs,
            weight: offsets[0],
            bias: biases.first().copied(),
            slot: 0,
        })
    }

    fn register(&mut self, mut linear: Linear) -> Linear {
        linear.slot = self.linears.len();
        self.linears.push(linear.clone());
        linear
    }

    fn layer_norm(&mut self, name: &str, width: usize, eps: f32) -> Norm {
        let weight = self.tensor(format!("{name}.weight"), &[width], Start::Ones);
        let bias = self.tensor(format!("{name}.bias"), &[width], Start::Zeros);
        Norm {
            width,
            weight,
            bias: Some(bias),
            eps,
        }
    }

    fn rms_norm(&mut self, name: &str, width: usize, eps: f32) -> Norm {
        let weight = self.tensor(format!("{name}.weight"), &[width], Start::Ones);
        Norm {
            width,
            weight,
            bias: None,
            eps,
        }
    }

    fn vision(&mut self, shape: &Shape) -> Vision {
        let v = &shape.vision;
        self.group = Group::Vision;
        self.vision_layer = Some(0);
        let inputs = v.patch_inputs();
        let places = v.places();
        let name = format!("{VISION}.embeddings.patch_embedding");
        let weight = self.tensor(
            format!("{name}.weight"),
            &[v.width, 3, v.patch, v.patch],
            Start::Cosines {
                patch: v.patch,
                reserved: places.features(),
            },
        );
        let bias = self.tensor(format!("{name}.bias"), &[v.width], Start::Zeros);
        let patch = self.register(Linear {
            inputs,
            outputs: v.width,
            weight,
            bias: Some(bias),
            slot: 0,
        });
        let grid = Start::Places(places);
        let positions = self.tensor(
            format!("{VISION}.embeddings.position_embedding.weight"),
            &[v.patches(), v.width],
            grid,
        );
        let mut layers: Vec<VisionLayer> = (0..v.layers)
            .map(|index| self.vision_layer(shape, index))
            .collect();
        let used = layers.drain(..v.used_layers).collect();
        self.vision_layer = Some(v.layers + 1);
        let post_norm = self.layer_norm(&format!("{VISION}.post_layernorm"), v.width, v.eps);
        self.vision_layer = None;
        Vision {
            shape: v.clone(),
            patch,
            positions,
            layers: used,
            post_norm: v.post_norm.then_some(post_norm),
        }
    }

    fn vision_layer(&mut self, shape: &Shape, index: usize) -> VisionLayer {
        let v = &shape.vision;
        self.vision_layer = Some(index + 1);
        let prefix = format!("{VISION}.encoder.layers.{index}");
        let (width, deviation) = (v.width, 1.0 / (v.width as f32).sqrt());
        let residual = 1.0 / (2.0 * v.layers as f32).sqrt();
        let norm1 = self.layer_norm(&format!("{prefix}.layer_norm1"), width, v.eps);
        let attention = format!("{prefix}.self_attn.");
        let qkv = self.linear(
            &attention,
            &[("q_proj", width), ("k_proj", width), ("v_proj", width)],
            width,
            true,
            deviation,
        );
        if index + LOOKING_FREELY < v.used_layers {
            let places = v.places();
            self.layout.restart(
                &format!("{attention}q_proj.weight"),
                Start::Neighbours {
                    places,
                    heads: v.heads,
                    layer: index,
                },
            );
            self.layout.restart(
                &format!("{attention}k_proj.weight"),
                Start::Whereabouts {
                    places,
                    heads: v.heads,
                },
            );
        }
        let out = self.linear(
            &attention,
            &[("out_proj", width)],
            width,
            true,
            deviation * residual,
        );
        let norm2 = self.layer_norm(&format!("{prefix}.layer_norm2"), width, v.eps);
        let mlp = format!("{prefix}.mlp.");
        let fc1 = self.linear(&mlp, &[("fc1", v.ffn)], width, true, deviation);
        let fc2 = self.linear(
            &mlp,
            &[("fc2", width)],
            v.ffn,
            true,
            residual / (v.ffn as f32).sqrt(),
        );
        VisionLayer {
            norm1,
            qkv,
            out,
            norm2,
            fc1,
            fc2,
        }
    }

    fn projector(&mut self, shape: &Shape) -> Projector {
        self.group = Group::Projector;
        let (inner, width) = (shape.vision.merged_width(), shape.decoder.width);
        let norm = self.layer_norm("multi_modal_projector.norm", inner, shape.projector_eps);
        let prefix = "multi_modal_projector.";
        let linear1 = self.linear(
            prefix,
            &[("linear_1", width)],
            inner,
            true,
            1.0 / (inner as f32).sqrt(),
        );
        // What enters the decoder should be about as large as the embeddings of words.
        let linear2 = self.linear(
            prefix,
            &[("linear_2", width)],
            width,
            true,
            1.0 / width as f32,
        );
        Projector {
            vision: shape.vision.clone(),
            norm,
            linear1,
            linear2,
        }
    }

    fn decoder_layer(&mut self, shape: &Shape, index: usize) -> DecoderLayer {
        let d = &shape.decoder;
        let prefix = format!("{LANGUAGE}.layers.{index}");
        let deviation = 1.0 / (d.width as f32).sqrt();
        let residual = 1.0 / (2.0 * d.layers as f32).sqrt();
        let norm1 = self.rms_norm(&format!("{prefix}.input_layernorm"), d.width, d.eps);
        let attention = format!("{prefix}.self_attn.");
        let parts = [
            ("q_proj", d.q_width()),
            ("k_proj", d.kv_width()),
            ("v_proj", d.kv_width()),
        ];
        let qkv = self.linear(&attention, &parts, d.width, d.qkv_bias, deviation);
        let q_norm = d
            .qk_norm
            .then(|| self.rms_norm(&format!("{attention}q_norm"), d.head_dim, d.eps));
        let k_norm = d
            .qk_norm
            .then(|| self.rms_norm(&format!("{attention}k_norm"), d.head_dim, d.eps));
        let out = self.linear(
            &attention,
            &[("o_proj", d.width)],
            d.q_width(),
            d.output_bias,
            residual / (d.q_width() as f32).sqrt(),
        );
        let norm2 = self.rms_norm(
            &format!("{prefix}.post_attention_layernorm"),
            d.width,
            d.eps,
        );
        let mlp = format!("{prefix}.mlp.");
        let gate_up = self.linear(
            &mlp,
            &[("gate_proj", d.ffn), ("up_proj", d.ffn)],
            d.width,
            false,
            deviation,
        );
        let down = self.linear(
            &mlp,
            &[("down_proj", d.width)],
            d.ffn,
            false,
            residual / (d.ffn as f32).sqrt(),
        );
        DecoderLayer {
            norm1,
            qkv,
            q_norm,
            k_norm,
            out,
            norm2,
            gate_up,
            down,
        }
    }
}

/// Encoder layers at the end whose heads start out looking anywhere.
const LOOKING_FREELY: usize = 2;

impl Layers {
    /// Lays all tensors out: vision, projector, language, auxiliary.
    pub fn new(shape: &Shape, aux: AuxSpec) -> (Layers, Layout) {
        let mut b = Builder {
            layout: Layout::default(),
            linears: Vec::new(),
            group: Group::Vision,
            vision_layer: None,
        };
        let vision = b.vision(shape);
        let projector = b.projector(shape);
        let d = &shape.decoder;
        b.group = Group::Language;
        let deviation = 1.0 / (d.width as f32).sqrt();
        let embedding = b.tensor(
            format!("{LANGUAGE}.embed_tokens.weight"),
            &[d.vocabulary, d.width],
            Start::Normal(deviation),
        );
        let layers = (0..d.layers)
            .map(|index| b.decoder_layer(shape, index))
            .collect();
        let final_norm = b.rms_norm(&format!("{LANGUAGE}.norm"), d.width, d.eps);
        let head = if d.tied {
            b.register(Linear {
                inputs: d.width,
                outputs: d.vocabulary,
                weight: embedding,
                bias: None,
                slot: 0,
            })
        } else {
            b.linear(
                "language_model.",
                &[("lm_head", d.vocabulary)],
                d.width,
                false,
                deviation,
            )
        };
        b.group = Group::Auxiliary;
        let outputs = aux.patch_classes * aux.patch_slots;
        let width = shape.vision.width;
        let patch_head = (outputs > 0).then(|| {
            b.linear(
                "aux.",
                &[("patch", outputs)],
                width,
                true,
                1.0 / (width as f32).sqrt(),
            )
        });
        let decoder = Decoder {
            shape: d.clone(),
            layers,
        };
        let layers = Layers {
            vision,
            patch_head,
            projector,
            embedding,
            decoder,
            final_norm,
            head,
            linears: b.linears,
        };
        (layers, b.layout)
    }
}
