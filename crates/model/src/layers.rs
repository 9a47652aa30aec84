//! The layers that encoder, projector and decoder are made of: linear ones, norms, and work split over threads.
//!
//! What a layer gives goes to a buffer of the caller, who uses it for one block after another.

use crate::ModelError;
use crate::matrix::{Intake, Matrix, Output, Product, Quantized, multiply_quantized};
use crate::spec::NormKind;
use crate::weights::Source;
use kernels::isa::Isa;
use kernels::matmul::{View, Write};
use kernels::matmul_quantized::{Columns, QuantizedRows, Start};
use kernels::rows;
use rayon::prelude::*;
use std::cell::Cell;

/// Multiplies all numbers of rows.
pub(crate) fn scale_rows(rows: &mut [f32], factor: f32) {
    rows.iter_mut().for_each(|value| *value *= factor);
}

/// Multiply-adds below which other threads cost more than they bring.
pub(crate) const WORTH_SPLITTING: usize = 1 << 18;

thread_local! {
    /// Whether this thread is to do all of its work alone.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Does some work on this thread alone: none of it is worth splitting.
pub(crate) fn alone<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work()
}

/// Whether so many multiply-adds are worth other threads.
pub(crate) fn worth_splitting(multiply_adds: usize) -> bool {
    multiply_adds >= WORTH_SPLITTING && !ALONE.get()
}

/// `y = x · Wᵀ + b`.
pub(crate) struct Linear {
    pub matrix: Matrix,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// `name.weight` of `outputs` x `inputs`, and `name.bias` where `bias` says so.
    pub fn load(
        source: Source,
        name: &str,
        outputs: usize,
        inputs: usize,
        bias: Bias,
    ) -> Result<Linear, ModelError> {
        let bias = match bias {
            Bias::Present => Some(source.numbers(&format!("{name}.bias"))?),
            Bias::Absent => None,
        };
        Ok(Linear {
            matrix: source.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias,
        })
    }

    /// A weight without bias that is known by its whole name, such as a tied head.
    pub fn from_weight(
        source: Source,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Linear, ModelError> {
        Ok(Linear {
            matrix: source.matrix(name, outputs, inputs)?,
            bias: None,
        })
    }

    /// Numbers of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.matrix.inputs()
    }

    /// Numbers of a row that comes out.
    pub fn outputs(&self) -> usize {
        self.matrix.outputs()
    }

    /// Rows of `x` through the layer.
    pub fn apply(&self, isa: Isa, intake: &mut Intake, x: &[f32], out: &mut Vec<f32>) {
        intake.multiply(isa, x, &mut [self.product(out)]);
    }

    /// `sum += x · Wᵀ + b`. `out` is room for what cannot be added on the way.
    pub fn add_to(
        &self,
        isa: Isa,
        intake: &mut Intake,
        x: &[f32],
        sum: &mut [f32],
        out: &mut Vec<f32>,
    ) {
        let Some(weights) = self.matrix.quantized() else {
            self.apply(isa, intake, x, out);
            return rows::add(isa, sum, out);
        };
        let rows = intake.take_rows(isa, x, self.inputs(), weights.format);
        self.add_rows_to(isa, rows, weights, sum);
    }

    /// The same of quantized rows and with its packed weights.
    pub fn add_rows_to(
        &self,
        isa: Isa,
        rows: &QuantizedRows,
        weights: &Quantized,
        sum: &mut [f32],
    ) {
        let n = weights.outputs;
        let output = Output {
            weights,
            start: self.start(Write::Add),
            c: Columns::new(sum, rows.len(), n, n),
        };
        multiply_quantized(isa, rows, vec![output]);
    }

    /// What its products begin at.
    pub fn start(&self, write: Write) -> Start<'_> {
        Start {
            write,
            bias: self.bias.as_deref(),
        }
    }

    /// The layer as one of several that take the same rows.
    pub fn product<'a>(&'a self, out: &'a mut Vec<f32>) -> Product<'a> {
        Product {
            matrix: &self.matrix,
            bias: self.bias.as_deref(),
            out,
        }
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
    pub fn layer(source: Source, name: &str, eps: f32) -> Result<Norm, ModelError> {
        Ok(Norm::Layer {
            weight: source.numbers(&format!("{name}.weight"))?,
            bias: source.numbers(&format!("{name}.bias"))?,
            eps,
        })
    }

    pub fn rms(source: Source, name: &str, eps: f32) -> Result<Norm, ModelError> {
        Ok(Norm::Rms {
            weight: source.numbers(&format!("{name}.weight"))?,
            eps,
        })
    }

    /// A norm of some kind.
    pub fn of(source: Source, kind: NormKind, name: &str, eps: f32) -> Result<Norm, ModelError> {
        match kind {
            NormKind::Layer => Norm::layer(source, name, eps),
            NormKind::Rms => Norm::rms(source, name, eps),
            NormKind::RmsPlusOne => {
                let mut weight = source.numbers(&format!("{name}.weight"))?;
                weight.iter_mut().for_each(|weight| *weight += 1.0);
                Ok(Norm::Rms { weight, eps })
            }
        }
    }

    /// One whose rows are so many times as large.
    pub fn times(mut self, factor: f32) -> Norm {
        match &mut self {
            Norm::Layer { weight, bias, .. } => {
                scale_rows(weight, factor);
                scale_rows(bias, factor);
            }
            Norm::Rms { weight, .. } => scale_rows(weight, factor),
        }
        self
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        match self {
            Norm::Layer { weight, .. } | Norm::Rms { weight, .. } => weight.len(),
        }
    }

    /// Rows of `x`, normed, replace what `out` holds.
    pub fn apply(&self, isa: Isa, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        self.write(isa, x, out);
    }

    /// Rows of `x`, normed, to as many of `out`.
    pub fn write(&self, isa: Isa, x: &[f32], out: &mut [f32]) {
        match self {
            Norm::Layer { weight, bias, eps } => {
                rows::layer_norm(isa, x, weight.len(), weight, bias, *eps, out)
            }
            Norm::Rms { weight, eps } => rows::rms_norm(isa, x, weight.len(), weight, *eps, out),
        }
    }
}

/// Applies a function to pieces of whole rows of `x` on all threads; it is told each piece's first row.
pub(crate) fn each_row(x: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = x.len() / width;
    let share = rows.div_ceil(rayon::current_num_threads() * 4).max(1);
    if !worth_splitting(16 * x.len()) {
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
    if !worth_splitting(multiply_adds) {
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
pub(crate) fn side_by_side(heads: &[Vec<f32>], width: usize, out: &mut Vec<f32>) {
    let d = heads.len() * width;
    let rows = heads.first().map_or(0, |head| head.len() / width);
    out.resize(rows * d, 0.0);
    for (at, head) in heads.iter().enumerate() {
        for (out, row) in out.chunks_exact_mut(d).zip(head.chunks_exact(width)) {
            out[at * width..][..width].copy_from_slice(row);
        }
    }
}
