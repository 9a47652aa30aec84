//! The projector: 2×2 blocks of features side by side, norm, two linear layers with a GELU between.

use kernels::rows::add;
use kernels::training::gelu_erf_backward;

use super::buffers::sized;
use super::linear::{Linear, Scratch, Weights};
use super::norm::{Norm, NormInput, Statistics};
use super::product::Rows;
use super::shape::VisionShape;

/// The projector's layers.
#[derive(Clone, Debug)]
pub(crate) struct Projector {
    pub vision: VisionShape,
    pub norm: Norm,
    pub linear1: Linear,
    pub linear2: Linear,
}

/// Buffers of the projector.
#[derive(Default)]
pub(crate) struct ProjectorWork {
    rows: usize,
    merged: Vec<f32>,
    normed: Vec<f32>,
    statistics: Statistics,
    hidden: Vec<f32>,
    active: Vec<f32>,
    output: Vec<f32>,
    dhidden: Vec<f32>,
    dnormed: Vec<f32>,
    dmerged: Vec<f32>,
    scratch: Scratch,
}

impl ProjectorWork {
    /// The first `rows` rows of the last forward pass.
    pub fn output(&self, width: usize, rows: usize) -> &[f32] {
        &self.output[..rows * width]
    }
}

/// Which gradients the projector's backward pass makes.
pub(crate) struct ProjectorGradients<'a> {
    /// The flat gradients, when the projector trains.
    pub parameters: Option<&'a mut [f32]>,
    /// `[tiles · patches, width]`, added into, when the encoder trains.
    pub features: Option<&'a mut [f32]>,
}

impl Projector {
    /// `[tiles · tokens, d]` from `[tiles · patches, width]` features.
    pub fn forward(&self, w: Weights, features: &[f32], work: &mut ProjectorWork) {
        let (inner, width) = (self.vision.merged_width(), self.linear2.outputs);
        let tiles = features.len() / (self.vision.patches() * self.vision.width);
        work.rows = tiles * self.vision.tokens();
        let merged = sized(&mut work.merged, work.rows * inner);
        merged.fill(0.0);
        self.blocks(tiles, |feature, merge| {
            merged[merge..][..self.vision.width]
                .copy_from_slice(&features[feature..][..self.vision.width])
        });
        let normed = sized(&mut work.normed, work.rows * inner);
        let statistics = sized(&mut work.statistics, work.rows);
        self.norm.forward(w, merged, normed, statistics);
        let hidden = sized(&mut work.hidden, work.rows * width);
        self.linear1.forward(
            w,
            Rows {
                data: normed,
                stride: inner,
            },
            hidden,
            &mut work.scratch,
        );
        let active = sized(&mut work.active, hidden.len());
        active.copy_from_slice(hidden);
        kernels::rows::gelu_erf(w.isa, active);
        let output = sized(&mut work.output, work.rows * width);
        self.linear2.forward(
            w,
            Rows {
                data: active,
                stride: width,
            },
            output,
            &mut work.scratch,
        );
    }

    /// Calls with the start of every patch's features and the start of its place in the merged rows.
    fn blocks(&self, tiles: usize, mut visit: impl FnMut(usize, usize)) {
        let v = &self.vision;
        for place in 0..tiles * v.patches() {
            let (tile, y, x) = (
                place / v.patches(),
                place % v.patches() / v.side(),
                place % v.side(),
            );
            let row = tile * v.tokens() + y / v.merge * v.merged_side() + x / v.merge;
            let part = y % v.merge * v.merge + x % v.merge;
            visit(place * v.width, row * v.merged_width() + part * v.width);
        }
    }

    /// From the gradient of the output to those asked for.
    pub fn backward(
        &self,
        w: Weights,
        doutput: &[f32],
        gradients: ProjectorGradients,
        work: &mut ProjectorWork,
    ) {
        let (rows, inner, width) = (work.rows, self.vision.merged_width(), self.linear2.outputs);
        let ProjectorGradients {
            mut parameters,
            features,
        } = gradients;
        let scratch = &mut work.scratch;
        let dhidden = sized(&mut work.dhidden, rows * width);
        let dy = Rows {
            data: doutput,
            stride: width,
        };
        self.linear2.backward_input(w, dy, dhidden, scratch);
        gelu_erf_backward(w.isa, dhidden, &work.hidden, &work.active);
        let dnormed = sized(&mut work.dnormed, rows * inner);
        let dhidden = Rows {
            data: dhidden,
            stride: width,
        };
        self.linear1.backward_input(w, dhidden, dnormed, scratch);
        if let Some(flat) = parameters.as_deref_mut() {
            self.linear2.backward_weight(
                w,
                rows,
                dy,
                Rows {
                    data: &work.active,
                    stride: width,
                },
                flat,
                scratch,
            );
            self.linear1.backward_weight(
                w,
                rows,
                dhidden,
                Rows {
                    data: &work.normed,
                    stride: inner,
                },
                flat,
                scratch,
            );
        }
        let dmerged = sized(&mut work.dmerged, rows * inner);
        dmerged.fill(0.0);
        let input = NormInput {
            x: &work.merged[..rows * inner],
            statistics: &work.statistics[..rows],
        };
        self.norm.backward(w, input, dnormed, dmerged, parameters);
        if let Some(dfeatures) = features {
            let tiles = rows / self.vision.tokens();
            let width = self.vision.width;
            self.blocks(tiles, |feature, merge| {
                add(
                    w.isa,
                    &mut dfeatures[feature..][..width],
                    &dmerged[merge..][..width],
                )
            });
        }
    }
}
