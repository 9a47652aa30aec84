//! From features of patches to rows of the decoder: block merge, norm, linear layers.

use super::activate;
use super::resampler::Resampler;
use crate::layers::{Bias, Linear, Norm};
use crate::matrix::Intake;
use crate::spec::{MergeNorm, ProjectorKind, ProjectorSpec};
use crate::weights::Source;
use crate::{ModelError, Taps};
use kernels::isa::Isa;

/// A projector of one of the kinds.
pub(super) enum Projector {
    Linears(Box<Linears>),
    Resampler(Box<Resampler>),
}

impl Projector {
    pub fn load(
        source: Source,
        hidden: usize,
        spec: &ProjectorSpec,
        d: usize,
    ) -> Result<Projector, ModelError> {
        Ok(match spec.kind {
            ProjectorKind::Resampler { .. } => {
                Projector::Resampler(Box::new(Resampler::load(source, hidden, spec, d)?))
            }
            ProjectorKind::Linear
            | ProjectorKind::Mean
            | ProjectorKind::Linears
            | ProjectorKind::LinearsTwice { .. } => {
                Projector::Linears(Box::new(Linears::load(source, hidden, spec, d)?))
            }
        })
    }

    /// Rows along a side of a tile with so many patches along it.
    pub fn side(&self, patches: usize) -> usize {
        match self {
            Projector::Linears(linears) => patches.div_ceil(linears.spec.merge),
            Projector::Resampler(_) => patches,
        }
    }

    /// Features `[tiles, rows * columns, hidden]` to rows of the decoder, tile by tile. Taps: `merged`, `image_embeds`.
    pub fn project(
        &self,
        isa: Isa,
        x: Vec<f32>,
        tiles: usize,
        grid: [usize; 2],
        taps: &mut dyn Taps,
    ) -> Vec<f32> {
        match self {
            Projector::Linears(linears) => linears.project(isa, x, tiles, grid, taps),
            Projector::Resampler(resampler) => {
                let views = x.chunks_exact((x.len() / tiles.max(1)).max(1));
                views
                    .flat_map(|view| resampler.view(isa, view, grid))
                    .collect()
            }
        }
    }
}

/// Merge, norm and linear layers.
pub(super) struct Linears {
    spec: ProjectorSpec,
    /// Width of a patch.
    hidden: usize,
    norm: Option<Norm>,
    /// A linear layer, and a norm after its activation.
    first: Option<(Linear, Norm)>,
    /// None where the second is the only one.
    linear_1: Option<Linear>,
    linear_2: Linear,
}

impl Linears {
    fn load(
        source: Source,
        hidden: usize,
        spec: &ProjectorSpec,
        d: usize,
    ) -> Result<Linears, ModelError> {
        let p = &spec.prefix;
        let merged = spec.merged(hidden);
        let kind = match spec.norm {
            MergeNorm::None => None,
            MergeNorm::AfterMerge(kind) | MergeNorm::BeforeMerge(kind) => Some(kind),
        };
        let alone = matches!(spec.kind, ProjectorKind::Linear | ProjectorKind::Mean);
        let norm = kind.map(|kind| Norm::of(source, kind, &format!("{p}norm"), spec.norm_eps));
        let linear = |name: &str, outputs, inputs| {
            Linear::load(
                source,
                &format!("{p}{name}"),
                outputs,
                inputs,
                Bias::Present,
            )
        };
        let (first, before) = match spec.kind {
            ProjectorKind::LinearsTwice { first } => {
                let norm = Norm::layer(source, &format!("{p}norm_0"), spec.norm_eps)?;
                (Some((linear("linear_0", first, merged)?, norm)), first)
            }
            _ => (None, merged),
        };
        Ok(Linears {
            hidden,
            norm: norm.transpose()?,
            first,
            linear_1: match alone {
                true => None,
                false => Some(linear("linear_1", spec.inner, before)?),
            },
            linear_2: match alone {
                true => Linear::from_weight(source, &format!("{p}linear_2.weight"), d, merged)?,
                false => linear("linear_2", d, spec.inner)?,
            },
            spec: spec.clone(),
        })
    }

    fn project(
        &self,
        isa: Isa,
        mut x: Vec<f32>,
        tiles: usize,
        grid: [usize; 2],
        taps: &mut dyn Taps,
    ) -> Vec<f32> {
        let (mut normed, mut inner, mut out) = (Vec::new(), Vec::new(), Vec::new());
        if let (Some(norm), MergeNorm::BeforeMerge(_)) = (&self.norm, self.spec.norm) {
            norm.apply(isa, &x, &mut normed);
            std::mem::swap(&mut x, &mut normed);
        }
        if self.spec.merge > 1 {
            x = self.merge(&x, tiles, grid);
        }
        let d = self.linear_2.outputs();
        let width = self.spec.merged(self.hidden);
        if self.spec.kind == ProjectorKind::Mean {
            x = means(&x, self.hidden, self.spec.merge * self.spec.merge);
        }
        let tokens = x.len() / width / tiles.max(1);
        taps.tap("merged", &[tiles, tokens, width], &x);
        if let (Some(norm), MergeNorm::AfterMerge(_)) = (&self.norm, self.spec.norm) {
            norm.apply(isa, &x, &mut normed);
            std::mem::swap(&mut x, &mut normed);
        }
        let intake = &mut Intake::default();
        if let Some((linear, norm)) = &self.first {
            linear.apply(isa, intake, &x, &mut inner);
            activate(isa, self.spec.activation, linear.outputs(), &mut inner);
            norm.apply(isa, &inner, &mut x);
        }
        if let Some(linear) = &self.linear_1 {
            linear.apply(isa, intake, &x, &mut inner);
            activate(isa, self.spec.activation, self.spec.inner, &mut inner);
            std::mem::swap(&mut x, &mut inner);
        }
        self.linear_2.apply(isa, intake, &x, &mut out);
        taps.tap("image_embeds", &[tiles * tokens, d], &out);
        out
    }

    /// Blocks of merge x merge patches side by side in one row; patches past the grid are zeros.
    fn merge(&self, x: &[f32], tiles: usize, [rows, columns]: [usize; 2]) -> Vec<f32> {
        let (d, merge) = (self.hidden, self.spec.merge);
        let (down, across) = (rows.div_ceil(merge), columns.div_ceil(merge));
        let mut out = vec![0.0; tiles * down * across * merge * merge * d];
        for (at, to) in out.chunks_exact_mut(d).enumerate() {
            let (place, block) = (at % (merge * merge), at / (merge * merge));
            let (tile, block) = (block / (down * across), block % (down * across));
            let (y, x_at) = (
                block / across * merge + place / merge,
                block % across * merge + place % merge,
            );
            if y < rows && x_at < columns {
                to.copy_from_slice(&x[((tile * rows + y) * columns + x_at) * d..][..d]);
            }
        }
        out
    }
}

/// The means of so many rows of `d` numbers that stand side by side.
fn means(x: &[f32], d: usize, count: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / count];
    for (mean, block) in out.chunks_exact_mut(d).zip(x.chunks_exact(count * d)) {
        for row in block.chunks_exact(d) {
            mean.iter_mut()
                .zip(row)
                .for_each(|(mean, value)| *mean += value);
        }
        mean.iter_mut().for_each(|mean| *mean /= count as f32);
    }
    out
}
