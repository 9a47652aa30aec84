//! A model's decoder as a GGUF file.

use std::path::Path;

use engine::{Cancel, PromptFiles, gguf_keys};
use model::gguf::{Export, TensorType, Weights};
use model::{Bundle, ModelSpec};

use super::{Source, progress_bar};

/// Writes the file; matrices become `kind`, or what comes closest to what they are.
pub fn export(
    source: &Path,
    destination: &Path,
    kind: Option<TensorType>,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    if Bundle::is_bundle(source) {
        let bundle = Bundle::open(source)?;
        let (files, spec) = (PromptFiles::from_bundle(&bundle)?, bundle.spec());
        return write(
            destination,
            Weights::Bundle(&bundle),
            &files,
            spec,
            kind,
            cancel,
        );
    }
    // Of a model that sees, the decoder alone is written.
    let source = Source::open(source, None)?;
    let spec = ModelSpec::from_json(source.checkpoint.config())?;
    let (weights, files) = (
        Weights::Checkpoint(&source.checkpoint),
        &source.prompt_files()?,
    );
    write(destination, weights, files, &spec, kind, cancel)
}

fn write(
    destination: &Path,
    weights: Weights,
    files: &PromptFiles,
    spec: &ModelSpec,
    kind: Option<TensorType>,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    let bar = progress_bar(0, "{bar:30} {percent}% {eta} left");
    let export = Export {
        weights,
        kind,
        keys: gguf_keys(files, spec)?,
        progress: &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
        cancel: &|| cancel.is_cancelled(),
    };
    let written = export.write(destination);
    bar.finish_and_clear();
    let written = written?;
    eprintln!(
        "{}: {:.1} MB; {} of {} matrices are the very numbers of the source",
        destination.display(),
        written.bytes as f64 / 1e6,
        written.kept,
        written.matrices
    );
    if spec.vision.is_some() {
        eprintln!("The decoder only: the image encoder and the projector are not written.");
    }
    Ok(())
}
