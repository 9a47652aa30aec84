//! The layers that encoder, projector and decoder are made of: matrices ready to multiply, norms, and work split over threads.
//!
//! Threads take different rows, or different columns of a single row; never parts of one sum. So the bits depend neither on
//! the number of threads nor on how many rows come together.

use crate::{Checkpoint, ModelError, Numbers};
use kernels::isa::Isa;
use kernels::matmul::{PANEL, Panels, View, Write, matmul};
use kernels::rows;
use rayon::prelude::*;

/// Multiply-adds below which other threads cost more than they bring.
const WORTH_SPLITTING: usize = 1 << 18;

/// `y = x · Wᵀ + b`.
pub(crate) struct Linear {
    panels: Panels,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// `name.weight` of `outputs` x `inputs`, packed; and `name.bias` where `bias` says so.
    pub fn load(
        checkpoint: &Checkpoint,
        name: &str,
        outputs: usize,
        inputs: usize,
        bias: Bias,
    ) -> Result<Linear, ModelError> {
        let bias = match bias {
            Bias::Present => Some(checkpoint.tensor_f32(&format!("{name}.bias"))?),
            Bias::Absent => None,
        };
        Ok(Linear {
            panels: pack(checkpoint, &format!("{name}.weight"), outputs, inputs)?,
            bias,
        })
    }

    /// A weight without bias that is known by its whole name, such as a tied head.
    pub fn from_weight(
        checkpoint: &Checkpoint,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Linear, ModelError> {
        Ok(Linear {
            panels: pack(checkpoint, name, outputs, inputs)?,
            bias: None,
        })
    }

    /// Numbers of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.panels.k
    }

    /// Numbers of a row that comes out.
    pub fn outputs(&self) -> usize {
        self.panels.n
    }

    /// Rows of `x` through the layer.
    pub fn apply(&self, isa: Isa, x: &[f32]) -> Vec<f32> {
        let m = x.len() / self.panels.k;
        let mut out = vec![0.0; m * self.panels.n];
        product(isa, m, x, &self.panels, &mut out);
        if let Some(bias) = &self.bias {
            rows::add_bias(isa, &mut out, bias);
        }
        out
    }
}

/// Whether a linear layer has a bias.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    Present,
    Absent,
}

impl From<bool> for Bias {
    fn from(present: bool) -> Bias {
        if present { Bias::Present } else { Bias::Absent }
    }
}

/// A weight in panels; bf16 stays bf16, f16 is widened.
fn pack(
    checkpoint: &Checkpoint,
    name: &str,
    outputs: usize,
    inputs: usize,
) -> Result<Panels, ModelError> {
    if let Numbers::Bf16(bytes) = checkpoint.numbers(name) {
        let bits: Vec<u16> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| u16::from_le_bytes(*b))
            .collect();
        // All exponent bits set: infinity or not a number.
        return match bits.iter().position(|bits| bits & 0x7f80 == 0x7f80) {
            Some(index) => Err(ModelError::NotFinite {
                name: name.into(),
                index,
                found: f32::from_bits(u32::from(bits[index]) << 16),
            }),
            None => Ok(Panels::from_linear_bf16(outputs, inputs, &bits)),
        };
    }
    Ok(Panels::from_linear_f32(
        outputs,
        inputs,
        &checkpoint.tensor_f32(name)?,
    ))
}

fn product(isa: Isa, m: usize, x: &[f32], panels: &Panels, out: &mut [f32]) {
    let (k, n) = (panels.k, panels.n);
    let threads = rayon::current_num_threads();
    if threads == 1 || m * k * n < WORTH_SPLITTING {
        matmul(
            isa,
            m,
            View::rows(x, k),
            panels,
            0..panels.panel_count(),
            out,
            n,
            Write::Replace,
        );
    } else if m == 1 {
        let share = panels.panel_count().div_ceil(threads);
        out.par_chunks_mut(share * PANEL)
            .enumerate()
            .for_each(|(at, out)| {
                let first = at * share;
                let last = (first + share).min(panels.panel_count());
                matmul(
                    isa,
                    1,
                    View::rows(x, k),
                    panels,
                    first..last,
                    out,
                    n,
                    Write::Replace,
                );
            });
    } else {
        let share = m.div_ceil(threads);
        out.par_chunks_mut(share * n)
            .zip(x.par_chunks(share * k))
            .for_each(|(out, x)| {
                matmul(
                    isa,
                    x.len() / k,
                    View::rows(x, k),
                    panels,
                    0..panels.panel_count(),
                    out,
                    n,
                    Write::Replace,
                );
            });
    }
}

/// LayerNorm or RMSNorm over rows of one width.
pub(crate) enum Norm {
    Layer {
        weight: Vec<f32>,
        bias: Vec<f32>,
        eps: f32,
    },
    Rms {
        weight: Vec<f32>,
        eps: f32,
    },
}

impl Norm {
    pub fn layer(checkpoint: &Checkpoint, name: &str, eps: f32) -> Result<Norm, ModelError> {
        Ok(Norm::Layer {
            weight: checkpoint.tensor_f32(&format!("{name}.weight"))?,
            bias: checkpoint.tensor_f32(&format!("{name}.bias"))?,
            eps,
        })
    }

    pub fn rms(checkpoint: &Checkpoint, name: &str, eps: f32) -> Result<Norm, ModelError> {
        Ok(Norm::Rms {
            weight: checkpoint.tensor_f32(&format!("{name}.weight"))?,
            eps,
        })
    }

    pub fn apply(&self, isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        match self {
            Norm::Layer { weight, bias, eps } => {
                rows::layer_norm(isa, x, weight.len(), weight, bias, *eps, &mut out)
            }
            Norm::Rms { weight, eps } => {
                rows::rms_norm(isa, x, weight.len(), weight, *eps, &mut out)
            }
        }
        out
    }
}

/// Applies a function to pieces of whole rows of `x` on all threads; it is told each piece's first row.
pub(crate) fn each_row(x: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = x.len() / width;
    let share = rows.div_ceil(rayon::current_num_threads() * 4).max(1);
    if x.len() < WORTH_SPLITTING / 16 {
        work(0, x);
        return;
    }
    x.par_chunks_mut(share * width)
        .enumerate()
        .for_each(|(at, piece)| work(at * share, piece));
}

/// One result for each number below `count`, on all threads where `multiply_adds` are worth it.
pub(crate) fn each_task<T: Send>(
    count: usize,
    multiply_adds: usize,
    work: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    if multiply_adds < WORTH_SPLITTING {
        (0..count).map(work).collect()
    } else {
        (0..count).into_par_iter().map(work).collect()
    }
}

/// One head's columns, from `first` on, of rows of `d` numbers.
pub(crate) fn head_of(x: &[f32], d: usize, first: usize) -> View<'_> {
    View::rows(&x[first..], d)
}

/// Rows of `width` numbers of every head, to rows that hold all heads.
pub(crate) fn side_by_side(heads: &[Vec<f32>], width: usize) -> Vec<f32> {
    let d = heads.len() * width;
    let rows = heads.first().map_or(0, |head| head.len() / width);
    let mut out = vec![0.0; rows * d];
    for (at, head) in heads.iter().enumerate() {
        for (out, row) in out.chunks_exact_mut(d).zip(head.chunks_exact(width)) {
            out[at * width..][..width].copy_from_slice(row);
        }
    }
    out
}
