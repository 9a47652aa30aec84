//! From a checkpoint to a bundle, tensor by tensor: what is held at once is a strip of one tensor, whatever the model's size.

mod calibration;
mod factors;
mod origin;
mod recipe;
mod rounding;

use crate::bundle::{Layout, Scales, Storage, Writer};
use crate::spec::Role;
use crate::{Checkpoint, ModelError, ModelSpec, TensorSpec};
use calibration::{Calibration, Rounded};
use kernels::matmul::PANEL;
use kernels::matmul_quantized::{Bits, PANEL as QUANTIZED_PANEL, pack};
pub use origin::Origin;
use rayon::prelude::*;
pub use recipe::{GROUPS, Recipe};
use rounding::Knowledge;
pub use rounding::Rounding;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Numbers of a strip: 32 MiB as f32.
const STRIP: usize = 8 << 20;
/// Pages of the checkpoint that may have been touched before they are given back.
const PAGES_BYTES: usize = 256 << 20;

/// What becomes of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Precisions.
    pub recipe: Recipe,
    /// INT4 weights that share a scale.
    pub group: usize,
    /// How INT4 weights are rounded.
    pub rounding: Rounding,
}

impl Options {
    /// What these options cannot do to a network. It is known before anything is computed.
    pub fn check(&self, spec: &ModelSpec) -> Result<(), ModelError> {
        let int4 = self.recipe != Recipe::Bf16;
        match int4 && self.rounding == Rounding::Compensated && spec.decoder.latent.is_some() {
            true => Err(ModelError::Config(
                "a decoder with latent attention has no compensated rounding yet, expected nearest or search: \
                 convert it with --rounding search"
                    .into(),
            )),
            false => Ok(()),
        }
    }

    /// How many matrices of a checkpoint keep their numbers, since they are whole ones in groups already, and how many there are.
    pub fn kept(&self, checkpoint: &Checkpoint, spec: &ModelSpec) -> [usize; 2] {
        let matrices = spec.tensors().into_iter();
        let matrices =
            matrices.filter(|tensor| !matches!(tensor.role, Role::Numbers | Role::Unused));
        let matrices: Vec<TensorSpec> = matrices.collect();
        let keeps = |tensor: &&TensorSpec| {
            let blocks = checkpoint.blocks(&tensor.name);
            blocks
                .and_then(|blocks| self.recipe.exact(tensor, blocks))
                .is_some()
        };
        [matrices.iter().filter(keeps).count(), matrices.len()]
    }
}

/// Something has been written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The tensor in hand.
    pub tensor: &'a str,
    /// Weights so far.
    pub done: u64,
    /// Weights in all.
    pub total: u64,
}

/// A picture and questions about it with their answers, as the decoder takes them in: rows `[m, d]`.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// What all questions begin with.
    pub shared: Vec<f32>,
    /// Where the shared rows stand (time, row, column), for decoders whose positions are those; None: each follows the one
    /// before, as those of the branches do.
    pub positions: Option<Vec<[u32; 3]>>,
    /// What comes after it, for each question apart.
    pub branches: Vec<Vec<f32>>,
    /// How much a row of a branch counts, a shared row counting 1: an image has many rows and an answer few.
    pub branch_weight: f32,
}

/// A model on its way into a bundle.
pub struct Conversion<'a> {
    /// The weights.
    pub weights: Origin<'a>,
    /// Names and contents of the small files of the model folder, config.json among them.
    pub files: &'a [(String, Vec<u8>)],
    /// What becomes of the weights.
    pub options: Options,
    /// For [`Rounding::Compensated`]: what the model meets when it works.
    pub sequences: Vec<Sequence>,
    /// Is told how far it is.
    pub progress: &'a mut dyn FnMut(Written),
    /// Is asked whether to stop, many times a second.
    pub cancel: &'a dyn Fn() -> bool,
}

impl Conversion<'_> {
    /// Writes the bundle under a temporary name beside `path`, syncs it and renames it; gives its length in bytes. Whatever
    /// goes wrong, no half file stays.
    pub fn write(mut self, path: &Path) -> Result<u64, ModelError> {
        let spec = ModelSpec::from_json(self.weights.config())?;
        self.weights.check(&spec)?;
        if self.weights.checkpoint().is_some() {
            self.options.check(&spec)?;
        }
        let layout = self.layout(&spec)?;
        let bytes = layout.file_bytes();
        let partial = Partial::beside(path);
        let io = |action| ModelError::io(action, partial.path.clone());
        let file = File::create(&partial.path).map_err(io("creating"))?;
        let out = BufWriter::with_capacity(1 << 20, file);
        let file = self
            .sections(out, layout, &spec)
            .map_err(|failure| match failure {
                Failure::Model(error) => error,
                Failure::Io(error) => io("writing")(error),
            })?;
        let file = file
            .into_inner()
            .map_err(|e| io("writing")(e.into_error()))?;
        file.sync_all().map_err(io("writing"))?;
        drop(file);
        partial.rename(path)?;
        Ok(bytes)
    }

    /// Tensors that are stored, and how.
    fn tensors(&self, spec: &ModelSpec) -> Vec<(TensorSpec, Storage)> {
        let options = self.options;
        spec.tensors()
            .into_iter()
            .filter(|tensor| tensor.role != Role::Unused)
            .map(|tensor| {
                let blocks = self.weights.blocks(&tensor.name);
                let exact = blocks.and_then(|blocks| options.recipe.exact(&tensor, blocks));
                let own = || options.recipe.storage(&tensor, options.group);
                (tensor.clone(), exact.unwrap_or_else(own))
            })
            .collect()
    }

    fn layout(&self, spec: &ModelSpec) -> Result<Layout, ModelError> {
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect();
        Layout::new(self.options.recipe.name(), &files, &self.tensors(spec))
            .map_err(ModelError::Config)
    }

    fn sections<W: std::io::Write + std::io::Seek>(
        &mut self,
        out: W,
        layout: Layout,
        spec: &ModelSpec,
    ) -> Result<W, Failure> {
        let mut writer = Writer::new(out, layout)?;
        for (_, bytes) in self.files {
            writer.write(bytes)?;
            writer.end_section()?;
        }
        let mut calibration = match self.options.rounding {
            // Random weights have no use that rounding could be compensated for.
            Rounding::Compensated if self.weights.checkpoint().is_some() => {
                let sequences = std::mem::take(&mut self.sequences);
                Some(Calibration::new(spec, sequences)?)
            }
            _ => None,
        };
        let tensors = self.tensors(spec);
        let size = |tensor: &TensorSpec| tensor.shape.iter().product::<usize>();
        let total = tensors.iter().map(|(tensor, _)| size(tensor) as u64).sum();
        let (mut done, mut touched) = (0, 0);
        for (tensor, storage) in &tensors {
            let mut out = Out::default();
            let known = calibration.as_mut().zip(self.weights.checkpoint());
            let rounds = storage.scales() == Some(Scales::Bf16);
            let knowledge = match (storage, self.options.rounding, known) {
                _ if !rounds => Knowledge::None,
                (Storage::Int4(_), _, Some((calibration, checkpoint))) => {
                    let known = calibration.factors(checkpoint, &tensor.name, self.cancel);
                    Knowledge::Inputs(known?)
                }
                (Storage::Int4(_), Rounding::Search, _) => Knowledge::Scales,
                _ => Knowledge::None,
            };
            for strip in strips(tensor) {
                if (self.cancel)() {
                    return Err(ModelError::Cancelled.into());
                }
                let how = Strip {
                    tensor,
                    storage,
                    knowledge: &knowledge,
                };
                self.strip(&mut writer, &how, strip.clone(), &mut out)?;
                done += (strip.len() * (size(tensor) / tensor.shape[0])) as u64;
                (self.progress)(Written {
                    tensor: &tensor.name,
                    done,
                    total,
                });
            }
            if let Storage::Int8Rows { .. } = storage {
                let odd = size(tensor) % 64;
                writer.write(&vec![0; (64 - odd) % 64])?;
            }
            writer.write_u16(&out.scales)?;
            writer.end_section()?;
            // What is not rounded is the checkpoint's.
            if let Some(calibration) = &mut calibration
                && let Storage::Int4(packed) = storage
                && rounds
            {
                calibration.keep(&tensor.name, out.rounded, tensor.shape[1], packed.group);
            }
            touched += size(tensor) * 4;
            if touched > PAGES_BYTES {
                self.weights.give_back_pages()?;
                touched = 0;
            }
        }
        Ok(writer.finish()?)
    }

    /// Writes the values of some outputs; their scales follow when the tensor is done.
    fn strip<W: std::io::Write + std::io::Seek>(
        &self,
        writer: &mut Writer<W>,
        how: &Strip,
        outputs: Range<usize>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let Strip {
            tensor,
            storage,
            knowledge,
        } = how;
        let k = tensor.shape[1..].iter().product::<usize>();
        if storage.scales() == Some(Scales::F16) {
            return self.exact_strip(writer, how, outputs, out);
        }
        let rows = self.weights.rows_f32(&tensor.name, k, outputs)?;
        match storage {
            Storage::F32 => {
                let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
                writer.write(&bytes)?;
            }
            Storage::Bf16Rows => writer.write_u16(&rows_bf16(&rows))?,
            Storage::Bf16Panels => writer.write_u16(&panels_bf16(&rows, k))?,
            Storage::Int8Rows { group, .. } => {
                let (values, own) =
                    rounding::quantize(Bits::Eight, &Knowledge::None, &rows, k, *group);
                let bytes: Vec<u8> = values.iter().map(|value| *value as u8).collect();
                writer.write(&bytes)?;
                out.scales.extend(own);
            }
            Storage::Int4(packed) | Storage::Int8(packed) => {
                let bits = bits(storage);
                let panels: Vec<_> = rows
                    .par_chunks(QUANTIZED_PANEL * k)
                    .map(|rows| {
                        let rounded = rounding::quantize(bits, knowledge, rows, k, packed.group);
                        let (n, (values, scales)) = (rows.len() / k, &rounded);
                        (pack(bits, n, k, packed.group, values, scales), rounded)
                    })
                    .collect();
                for (panel, (values, scales)) in panels {
                    writer.write(&panel.values)?;
                    out.scales.extend(panel.scales);
                    if let Knowledge::Inputs(_) = knowledge {
                        out.rounded.values.extend(values);
                        out.rounded.scales.extend(scales);
                    }
                }
            }
        }
        Ok(())
    }

    /// The same of a tensor whose whole numbers and scales stay what they are.
    fn exact_strip<W: std::io::Write + std::io::Seek>(
        &self,
        writer: &mut Writer<W>,
        how: &Strip,
        outputs: Range<usize>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let (tensor, storage) = (how.tensor, how.storage);
        let k = tensor.shape[1..].iter().product::<usize>();
        let checkpoint = self.weights.checkpoint().expect("blocks are a file's");
        let (values, scales) = checkpoint.rows_whole(&tensor.name, k, outputs)?;
        let group = values.len() / scales.len().max(1);
        if let Storage::Int8Rows { .. } = storage {
            let bytes: Vec<u8> = values.iter().map(|value| *value as u8).collect();
            writer.write(&bytes)?;
            out.scales.extend(scales);
            return Ok(());
        }
        let values = values.chunks(QUANTIZED_PANEL * k);
        for (values, scales) in values.zip(scales.chunks(QUANTIZED_PANEL * k / group)) {
            let panel = pack(bits(storage), values.len() / k, k, group, values, scales);
            writer.write(&panel.values)?;
            out.scales.extend(panel.scales);
        }
        Ok(())
    }
}

/// Bits of a matrix's weights.
fn bits(storage: &Storage) -> Bits {
    match storage {
        Storage::Int4(_) => Bits::Four,
        _ => Bits::Eight,
    }
}

/// How a tensor is written.
struct Strip<'a> {
    tensor: &'a TensorSpec,
    storage: &'a Storage,
    knowledge: &'a Knowledge<'a>,
}

/// What comes of a tensor besides what is written strip by strip.
#[derive(Default)]
struct Out {
    /// In the order of the file.
    scales: Vec<u16>,
    /// For the calibration.
    rounded: Rounded,
}

/// Why sections could not be written.
enum Failure {
    Model(ModelError),
    Io(std::io::Error),
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        Failure::Model(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Ranges of outputs, whole panels of either size except the last.
pub(crate) fn strips(tensor: &TensorSpec) -> impl Iterator<Item = Range<usize>> {
    let n = tensor.shape[0];
    let k = tensor.shape[1..].iter().product::<usize>().max(1);
    let outputs = (STRIP / k / PANEL).max(1) * PANEL;
    (0..n)
        .step_by(outputs)
        .map(move |first| first..(first + outputs).min(n))
}

fn rows_bf16(rows: &[f32]) -> Vec<u16> {
    rows.iter()
        .map(|value| half::bf16::from_f32(*value).to_bits())
        .collect()
}

/// `[panels, k, 32]`, missing outputs zero.
fn panels_bf16(rows: &[f32], k: usize) -> Vec<u16> {
    let n = rows.len() / k;
    let mut out = vec![0; n.div_ceil(PANEL) * PANEL * k];
    out.par_chunks_mut(PANEL * k)
        .zip(rows.par_chunks(PANEL * k))
        .for_each(|(panel, rows)| {
            for (lane, row) in rows.chunks_exact(k).enumerate() {
                for (input, value) in row.iter().enumerate() {
                    panel[input * PANEL + lane] = half::bf16::from_f32(*value).to_bits();
                }
            }
        });
    out
}

/// A file under its temporary name; it goes when the value goes.
pub(crate) struct Partial {
    path: PathBuf,
}

impl Partial {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn beside(path: &Path) -> Partial {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        Partial {
            path: path.with_file_name(name),
        }
    }

    pub fn rename(self, path: &Path) -> Result<(), ModelError> {
        std::fs::rename(&self.path, path).map_err(ModelError::io("writing", path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename there is nothing to remove, and what cannot be removed is told by the error that is under way.
        let _ = std::fs::remove_file(&self.path);
    }
}
