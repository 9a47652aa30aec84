//! One block of an encoder: attention among the patches of a tile, and an MLP.

use super::Taken;
use crate::ModelError;
use crate::layers::{Bias, Linear, Norm, each_row, each_task, head_of, side_by_side};
use crate::matrix::Intake;
use crate::rotary::{Angles, turn_neighbours};
use crate::spec::{Activation, PatchRotary, QkNorm, VisionMlp, VisionSpec};
use crate::weights::Source;
use kernels::attention::{self, Reach};
use kernels::attention_kv8;
use kernels::isa::Isa;
use kernels::matmul_quantized::Precision;
use kernels::rows;

pub(crate) struct Block {
    pub norm_1: Norm,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    pub out: Linear,
    scale_1: Option<Vec<f32>>,
    pub norm_2: Norm,
    /// What gates the wide layer's outputs.
    gate: Option<Linear>,
    pub fc1: Linear,
    pub fc2: Linear,
    scale_2: Option<Vec<f32>>,
}

impl Block {
    pub fn load(source: Source, spec: &VisionSpec, name: &str) -> Result<Block, ModelError> {
        let d = spec.hidden;
        let linear = |part: &str, outputs, inputs, bias: Bias| {
            Linear::load(source, &format!("{name}{part}"), outputs, inputs, bias)
        };
        let projection = |part: &str| linear(part, d, d, spec.qkv_bias.into());
        let head_norm = |part: &str| match spec.qk_norm {
            QkNorm::None => Ok(None),
            _ => Norm::rms(source, &format!("{name}{part}"), spec.norm_eps).map(Some),
        };
        let scale = |part: &str| match spec.layer_scale {
            true => source.numbers(&format!("{name}{part}")).map(Some),
            false => Ok(None),
        };
        Ok(Block {
            norm_1: norm(source, spec, &format!("{name}layer_norm1"))?,
            q: projection("self_attn.q_proj")?,
            k: projection("self_attn.k_proj")?,
            v: projection("self_attn.v_proj")?,
            q_norm: head_norm("self_attn.q_norm")?,
            k_norm: head_norm("self_attn.k_norm")?,
            out: linear("self_attn.out_proj", d, d, Bias::Present)?,
            scale_1: scale("layer_scale1")?,
            norm_2: norm(source, spec, &format!("{name}layer_norm2"))?,
            gate: match spec.mlp {
                VisionMlp::Plain => None,
                VisionMlp::Gated => Some(linear("mlp.gate", spec.ffn, d, Bias::Present)?),
            },
            fc1: linear("mlp.fc1", spec.ffn, d, Bias::Present)?,
            fc2: linear("mlp.fc2", d, spec.ffn, Bias::Present)?,
            scale_2: scale("layer_scale2")?,
        })
    }

    /// Whether it is norms, four projections and a plain MLP and nothing else.
    pub fn is_plain(&self) -> bool {
        self.q_norm.is_none() && self.scale_1.is_none() && self.gate.is_none()
    }

    /// Attention among the patches of one tile, then the MLP, both added to `x`.
    pub fn apply(&self, taken: &Taken, x: &mut [f32], buffers: &mut Buffers) {
        let (isa, spec) = (taken.isa, taken.spec);
        let Buffers {
            intake,
            normed,
            q,
            k,
            v,
            inner,
            out,
        } = buffers;
        self.norm_1.apply(isa, x, normed);
        let projections = &mut [self.q.product(q), self.k.product(k), self.v.product(v)];
        intake.multiply(isa, normed, projections);
        for (rows, norm) in [(&mut *q, &self.q_norm), (&mut *k, &self.k_norm)] {
            if let Some(norm) = norm {
                norm.apply(isa, rows, out);
                std::mem::swap(rows, out);
            }
            if let Some(angles) = &taken.places.angles {
                rotate(isa, spec, angles, rows);
            }
        }
        normed.clear();
        for stretch in taken.places.stretches(spec, taken.layer) {
            let of_stretch = stretch.start * spec.hidden..stretch.end * spec.hidden;
            let rows = [&*q, &*k, &*v].map(|rows| &rows[of_stretch.clone()]);
            attend(isa, spec, taken.precision, rows, out);
            match stretch.len() == taken.count {
                true => std::mem::swap(normed, out),
                false => normed.extend_from_slice(out),
            }
        }
        match &self.scale_1 {
            None => self.out.add_to(isa, intake, normed, x, out),
            Some(scale) => {
                self.out.apply(isa, intake, normed, out);
                add_scaled(x, out, scale);
            }
        }
        self.norm_2.apply(isa, x, normed);
        self.fc1.apply(isa, intake, normed, inner);
        match &self.gate {
            None => activate(isa, spec.activation, spec.ffn, inner),
            Some(gate) => {
                gate.apply(isa, intake, normed, q);
                activate(isa, spec.activation, spec.ffn, q);
                inner.iter_mut().zip(&*q).for_each(|(up, gate)| *up *= gate);
            }
        }
        match &self.scale_2 {
            None => self.fc2.add_to(isa, intake, inner, x, out),
            Some(scale) => {
                self.fc2.apply(isa, intake, inner, out);
                add_scaled(x, out, scale);
            }
        }
    }
}

/// Turns every head of rows by where they stand.
fn rotate(isa: Isa, spec: &VisionSpec, angles: &Angles, x: &mut [f32]) {
    let (d, width) = (spec.hidden, spec.hidden / spec.heads);
    let half = width / 2;
    each_row(x, d, |first, x| {
        for (row, values) in (first..).zip(x.chunks_exact_mut(d)) {
            let at = row * half..(row + 1) * half;
            let (cos, sin) = (&angles.cos[at.clone()], &angles.sin[at]);
            match spec.rotary {
                Some(PatchRotary::ColumnAndRowByPairs) => turn_neighbours(values, cos, sin),
                _ => rows::rope_half(isa, values, width, cos, sin),
            }
        }
    });
}

/// What the rows of queries find among as many keys as values, all heads side by side.
pub(super) fn attend_heads(
    isa: Isa,
    heads: usize,
    [q, k, v]: [&[f32]; 3],
    keys: usize,
    out: &mut Vec<f32>,
) {
    let d = k.len() / keys.max(1);
    let (width, count) = (d / heads, q.len() / d);
    let parts = each_task(heads, count * keys * d, |head| {
        let at = head * width;
        let mut memory = attention::Memory::empty(width);
        memory.append(keys, head_of(k, d, at), head_of(v, d, at));
        let queries = attention::Queries {
            count,
            rows: head_of(q, d, at),
            scale: 1.0 / (width as f32).sqrt(),
            reach: Reach::Everything,
        };
        let mut out = vec![0.0; count * width];
        let scratch = &mut attention::Scratch::default();
        attention::attend(isa, &queries, &memory, scratch, &mut out, width);
        out
    });
    side_by_side(&parts, width, out);
}

/// A norm of an encoder.
pub(super) fn norm(source: Source, spec: &VisionSpec, name: &str) -> Result<Norm, ModelError> {
    Norm::of(source, spec.norm, name, spec.norm_eps)
}

/// `sum += x · scale`, feature by feature.
fn add_scaled(sum: &mut [f32], x: &[f32], scale: &[f32]) {
    let rows = sum
        .chunks_exact_mut(scale.len())
        .zip(x.chunks_exact(scale.len()));
    for (sum, x) in rows {
        for ((sum, x), scale) in sum.iter_mut().zip(x).zip(scale) {
            *sum += x * scale;
        }
    }
}

/// What one tile needs on its way through a block, used again for the next block.
#[derive(Default)]
pub(super) struct Buffers {
    intake: Intake,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    inner: Vec<f32>,
    out: Vec<f32>,
}

/// Every patch of a tile attends to all; heads are computed apart and then put side by side.
fn attend(
    isa: Isa,
    spec: &VisionSpec,
    precision: Option<Precision>,
    [q, k, v]: [&[f32]; 3],
    out: &mut Vec<f32>,
) {
    let (d, width) = (spec.hidden, spec.hidden / spec.heads);
    let (count, scale) = (q.len() / d, 1.0 / (width as f32).sqrt());
    let reach = Reach::Everything;
    let heads = each_task(spec.heads, count * count * d, |head| {
        let at = head * width;
        let [keys, values] = [k, v].map(|x| head_of(x, d, at));
        let mut out = vec![0.0; count * width];
        if let Some(precision) = precision {
            let mut memory = attention_kv8::Memory::empty(width);
            memory.reserve(count);
            memory.append(isa, count, keys, values);
            let queries = attention_kv8::Queries {
                count,
                data: &q[at..],
                stride: d,
                group: 1,
                scale,
                reach,
                precision,
            };
            let scratch = &mut attention_kv8::Scratch::default();
            attention_kv8::attend(isa, &queries, &memory, scratch, &mut out, width);
        } else {
            let mut memory = attention::Memory::empty(width);
            memory.append(count, keys, values);
            let rows = head_of(q, d, at);
            let queries = attention::Queries {
                count,
                rows,
                scale,
                reach,
            };
            let scratch = &mut attention::Scratch::default();
            attention::attend(isa, &queries, &memory, scratch, &mut out, width);
        }
        out
    });
    side_by_side(&heads, width, out);
}

pub(crate) fn activate(isa: Isa, activation: Activation, width: usize, x: &mut [f32]) {
    each_row(x, width, |_, rows| activate_rows(isa, activation, rows));
}

/// The activation of numbers on this thread.
pub(crate) fn activate_rows(isa: Isa, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Gelu => rows::gelu_erf(isa, x),
        Activation::GeluTanh => rows::gelu_tanh(isa, x),
        Activation::Silu => {
            let ones = vec![1.0; x.len()];
            rows::silu_multiply(isa, x, &ones);
        }
        // x · sigmoid(1.702 x) is silu(1.702 x) / 1.702.
        Activation::QuickGelu => {
            let shares = vec![1.0 / 1.702; x.len()];
            x.iter_mut().for_each(|value| *value *= 1.702);
            rows::silu_multiply(isa, x, &shares);
        }
    }
}
