//! From pixels to decoder rows: blocks on each tile, then the projector.

mod block;
mod chunked;
mod places;
mod positions;
mod projector;
mod resampler;
mod scales;

use crate::layers::{Bias, Linear, Norm, side_by_side};
use crate::matrix::Intake;
use crate::spec::{Assembly, ModelSpec, PatchPositions, ProjectorSpec, Shares, VisionSpec};
use crate::weights::Source;
use crate::{ModelError, NoTaps, Taps};
use block::{Block, Buffers};
use chunked::Chunked;
use kernels::isa::Isa;
use kernels::matmul_quantized::Precision;
use kernels::rows;
use places::Places;
use projector::Projector;
use rayon::prelude::*;

pub(crate) use block::{activate, activate_rows};

/// Tiles after the patch embedding: what the encoder's blocks begin with.
pub struct Patches {
    /// How many tiles.
    pub tiles: usize,
    /// Rows and columns of patches of a tile.
    pub grid: [usize; 2],
    /// `[tiles * rows of a tile, hidden size of the encoder]`, positions added.
    pub rows: Vec<f32>,
}

/// The encoder and the projector of one model.
pub(crate) struct Encoder {
    spec: VisionSpec,
    /// What attention rounds queries and the weights of values to, keys and values being INT8; None: all is f32.
    precision: Option<Precision>,
    patches: Linear,
    /// The row before the patches.
    class: Vec<f32>,
    positions: Vec<f32>,
    pre_norm: Option<Norm>,
    blocks: Vec<Block>,
    post_norm: Option<Norm>,
    projector: Projector,
    /// Of [`VisionSpec::deep_layers`].
    deep: Vec<Projector>,
    /// Numbers of a row of a projector.
    width: usize,
    newline: Vec<f32>,
    assembly: Assembly,
}

/// What every block of a tile shares.
#[derive(Clone, Copy)]
struct Taken<'a> {
    isa: Isa,
    spec: &'a VisionSpec,
    precision: Option<Precision>,
    /// Rows of a tile.
    count: usize,
    places: &'a Places,
    layer: usize,
}

impl Encoder {
    /// The layers that are computed; the file's others were checked and stay unread.
    pub fn load(source: Source, spec: &ModelSpec) -> Result<Option<Encoder>, ModelError> {
        let (Some(vision), Some(projector)) = (&spec.vision, &spec.projector) else {
            return Ok(None);
        };
        let v = &vision.prefix;
        let norm = |wanted: bool, name: &str| match wanted {
            true => block::norm(source, vision, &format!("{v}{name}")).map(Some),
            false => Ok(None),
        };
        let numbers = |wanted: bool, name: &str| match wanted {
            true => source.numbers(name),
            false => Ok(Vec::new()),
        };
        let table = vision.positions != PatchPositions::None;
        let features = vision.hidden * spec.assembly.scales();
        let load_projector = |projector: &ProjectorSpec| {
            Projector::load(source, features, projector, spec.decoder.hidden)
        };
        Ok(Some(Encoder {
            precision: source
                .attention(&format!("{v}encoder.layers."), vision.hidden / vision.heads),
            patches: Linear::load(
                source,
                &format!("{v}embeddings.patch_embedding"),
                vision.hidden,
                3 * vision.frames * vision.patch * vision.patch,
                Bias::from(vision.patch_bias),
            )?,
            class: numbers(
                vision.class_token,
                &format!("{v}embeddings.class_embedding"),
            )?,
            positions: numbers(table, &format!("{v}embeddings.position_embedding.weight"))?,
            pre_norm: norm(vision.pre_norm, "pre_layernorm")?,
            blocks: (0..vision.used_layers)
                .map(|layer| Block::load(source, vision, &format!("{v}encoder.layers.{layer}.")))
                .collect::<Result<_, _>>()?,
            post_norm: norm(vision.post_norm, "post_layernorm")?,
            projector: load_projector(projector)?,
            deep: (0..vision.deep_layers.len())
                .map(|at| load_projector(&projector.deep(at)))
                .collect::<Result<_, _>>()?,
            width: spec.decoder.hidden,
            assembly: spec.assembly,
            newline: numbers(
                matches!(spec.assembly, Assembly::Unpadded { .. }),
                "image_newline",
            )?,
            spec: vision.clone(),
        }))
    }

    /// The row after a line of a picture.
    pub fn newline(&self) -> &[f32] {
        &self.newline
    }

    /// Pixels `[tiles, 3, height, width]` to patches; `size` is width and height.
    pub fn embed_patches(&self, isa: Isa, pixels: &[f32], size: (u32, u32)) -> Patches {
        let (width, height) = (size.0 as usize, size.1 as usize);
        let values = 3 * width * height;
        assert!(
            values > 0 && pixels.len().is_multiple_of(values),
            "{} pixels of tiles of {width}x{height}",
            pixels.len()
        );
        let (tiles, d) = (pixels.len() / values, self.spec.hidden);
        let grid = [height / self.spec.patch, width / self.spec.patch];
        let mut rows = Vec::new();
        let unfolded = self.unfold(pixels, size);
        self.patches
            .apply(isa, &mut Intake::default(), &unfolded, &mut rows);
        if self.spec.class_token {
            let tile = grid[0] * grid[1] * d;
            rows = (rows
                .chunks_exact(tile)
                .flat_map(|tile| [&self.class, tile].concat()))
            .collect();
        }
        let spread;
        let positions = match self.spec.positions {
            PatchPositions::Spread { side, shares } => {
                spread = self.spread(side, shares, grid);
                &spread
            }
            PatchPositions::Resized { sides, resize } if sides != grid => {
                let (table, d) = (&self.positions, self.spec.hidden);
                spread = positions::resized(table, resize, sides, grid, d);
                &spread
            }
            _ => &self.positions,
        };
        if !positions.is_empty() {
            let tile = positions.len();
            assert_eq!(
                rows.len(),
                tiles * tile,
                "a position for each row of a tile"
            );
            for tile in rows.chunks_exact_mut(tile) {
                rows::add(isa, tile, positions);
            }
        }
        if let Some(norm) = &self.pre_norm {
            let mut normed = Vec::new();
            norm.apply(isa, &rows, &mut normed);
            rows = normed;
        }
        Patches { tiles, grid, rows }
    }

    /// The positions of a grid over which the table is spread: each patch takes the row and column of the table that its share of
    /// the way falls into. They are compared as f32.
    fn spread(&self, side: usize, shares: Shares, grid: [usize; 2]) -> Vec<f32> {
        let d = self.spec.hidden;
        let bucket = |at: usize, count: usize| {
            let share = match shares {
                Shares::Divided => (at as f64 / count as f64) as f32,
                Shares::Stepped => (at as f32 * (1.0 / count as f32)).min(1.0 - 1e-6),
            };
            let edge = |edge: usize| (edge as f64 * (1.0 / side as f64)) as f32;
            (1..side).take_while(|at| edge(*at) <= share).count()
        };
        let rows: Vec<usize> = (0..grid[0]).map(|row| bucket(row, grid[0])).collect();
        let columns: Vec<usize> = (0..grid[1]).map(|column| bucket(column, grid[1])).collect();
        let places = rows
            .iter()
            .flat_map(|row| columns.iter().map(move |column| row * side + column));
        places
            .flat_map(|place| self.positions[place * d..][..d].iter().copied())
            .collect()
    }

    /// Patches to rows `[tiles * tokens_per_tile, d]`; asks `cancel` before every block and before the projector.
    pub fn encode_patches(
        &self,
        isa: Isa,
        patches: Patches,
        cancel: &dyn Fn() -> bool,
        taps: &mut dyn Taps,
    ) -> Result<Vec<f32>, ModelError> {
        let Patches {
            tiles,
            grid,
            rows: mut x,
        } = patches;
        let spec = &self.spec;
        let tile_rows = grid[0] * grid[1] + usize::from(spec.class_token);
        let places = Places::new(spec, grid, tile_rows);
        assert_eq!(
            x.len(),
            tiles * tile_rows * spec.hidden,
            "patches of {tiles} tiles"
        );
        x = places.arrange(x, spec.hidden);
        // Tiles do not see each other: each thread takes one through all blocks, and memory is needed for as many at once.
        let at_once = rayon::current_num_threads();
        let mut buffers: Vec<Buffers> = Vec::new();
        buffers.resize_with(at_once, Buffers::default);
        let mut in_chunks = chunked::Buffers::default();
        let mut deep = vec![Vec::new(); spec.deep_layers.len()];
        for tiles in x.chunks_mut(at_once * tile_rows * spec.hidden) {
            for (layer, block) in self.blocks.iter().enumerate() {
                if cancel() {
                    return Err(ModelError::Cancelled);
                }
                let taken = Taken {
                    isa,
                    spec,
                    precision: self.precision,
                    count: tile_rows,
                    places: &places,
                    layer,
                };
                match Chunked::of(taken, block) {
                    Some(chunked) => chunked.apply(tiles, &mut in_chunks),
                    None => tiles
                        .par_chunks_mut(tile_rows * spec.hidden)
                        .zip(&mut buffers)
                        .for_each(|(tile, buffers)| block.apply(&taken, tile, buffers)),
                }
                for (features, at) in deep.iter_mut().zip(&spec.deep_layers) {
                    if *at == layer {
                        features.extend_from_slice(tiles);
                    }
                }
            }
        }
        drop(buffers);
        x = places.restore(x, spec.hidden);
        if let Some(norm) = &self.post_norm {
            let mut normed = Vec::new();
            norm.apply(isa, &x, &mut normed);
            x = normed;
        }
        if spec.class_token {
            let rows = x.chunks_exact(tile_rows * spec.hidden);
            x = (rows.flat_map(|tile| &tile[spec.hidden..]).copied()).collect();
        }
        taps.tap(
            "vision_features",
            &[tiles, grid[0] * grid[1], spec.hidden],
            &x,
        );
        if cancel() {
            return Err(ModelError::Cancelled);
        }
        match self.assembly {
            Assembly::Scales => Ok(x),
            _ => {
                let rows = self.projector.project(isa, x, tiles, grid, taps);
                let deep = self.deep.iter().zip(deep).map(|(projector, features)| {
                    let features = places.restore(features, spec.hidden);
                    projector.project(isa, features, tiles, grid, &mut NoTaps)
                });
                let parts: Vec<Vec<f32>> = std::iter::once(rows).chain(deep).collect();
                Ok(joined(parts, self.width))
            }
        }
    }

    /// Features of all views of a picture at three scales to its rows; `tiles` are the rows and columns of the last scale.
    pub fn project_scales(&self, isa: Isa, features: &[f32], tiles: [usize; 2]) -> Vec<f32> {
        let side = self.spec.grid();
        let x = scales::side_by_side(features, side, self.spec.hidden, tiles);
        let count = tiles[0] * tiles[1];
        let rows = (self.projector).project(isa, x, count, [side, side], &mut NoTaps);
        let rows_of_tile = self.projector.side(side);
        let d = rows.len() / (count * rows_of_tile * rows_of_tile);
        scales::across_tiles(&rows, rows_of_tile, d, tiles)
    }

    /// One row for each patch, in the order of a convolution's weight: channel, frame, line, column. All frames are the same.
    fn unfold(&self, pixels: &[f32], size: (u32, u32)) -> Vec<f32> {
        let (side_x, side_y) = (size.0 as usize, size.1 as usize);
        let (patch, frames) = (self.spec.patch, self.spec.frames);
        let (rows, columns) = (side_y / patch, side_x / patch);
        let width = 3 * frames * patch * patch;
        let tile_values = 3 * side_x * side_y;
        let mut out = vec![0.0; pixels.len() / tile_values * rows * columns * width];
        if out.is_empty() {
            return out;
        }
        out.par_chunks_mut(rows * columns * width)
            .zip(pixels.par_chunks(tile_values))
            .for_each(|(out, tile)| {
                for (at, row) in out.chunks_exact_mut(width).enumerate() {
                    let (top, left) = (at / columns * patch, at % columns * patch);
                    for (line, to) in row.chunks_exact_mut(patch).enumerate() {
                        let (channel, y) = (line / (frames * patch), top + line % patch);
                        let from = (channel * side_y + y) * side_x + left;
                        to.copy_from_slice(&tile[from..][..patch]);
                    }
                }
            });
        out
    }
}

/// Rows of `d` numbers each, the first of all parts side by side, then the second.
fn joined(mut parts: Vec<Vec<f32>>, d: usize) -> Vec<f32> {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut out = Vec::new();
    side_by_side(&parts, d, &mut out);
    out
}
