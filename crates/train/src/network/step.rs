//! One step over one micro-batch: encoder, patch head, projector, decoder, head and losses, then all of it backwards.

use kernels::rows::add;
use kernels::training::cross_entropy;

use super::Network;
use super::batch::{MicroBatch, PatchLabels, Sequence};
use super::buffers::sized;
use super::decoder::DecoderWork;
use super::error::NetworkError;
use super::linear::{PackedWeights, Scratch, Weights};
use super::norm::{NormInput, Statistics};
use super::product::Rows;
use super::projector::{ProjectorGradients, ProjectorWork};
use super::sight::{Words, spread};
use super::vision::VisionWork;
use crate::losses::{IGNORE, Losses};
use crate::parameters::{Gradients, Parameters};

/// Which parts get gradients; frozen parts skip their backward work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// The vision encoder.
    pub vision: bool,
    /// The projector.
    pub projector: bool,
    /// The decoder with embedding and head.
    pub language: bool,
    /// The auxiliary patch head.
    pub aux: bool,
}

impl Trainable {
    /// Everything.
    pub const ALL: Trainable = Trainable {
        vision: true,
        projector: true,
        language: true,
        aux: true,
    };
    /// Stage 1.
    pub const PROJECTOR: Trainable = Trainable {
        vision: false,
        projector: true,
        language: false,
        aux: false,
    };
}

/// What a step reads.
#[derive(Clone, Copy)]
pub struct StepInputs<'a> {
    /// The values.
    pub parameters: &'a Parameters,
    /// The same values packed by [`Network::pack`].
    pub packed: &'a PackedWeights,
    /// What to compute on.
    pub batch: &'a MicroBatch,
    /// Multiplies Σ weight · token loss: 1 / total weight of the whole optimizer step. Patch losses have their own weight.
    pub scale: f32,
    /// Which parts get gradients.
    pub trainable: Trainable,
}

/// Buffers of a step, reused from one to the next; one per thread.
#[derive(Default)]
pub struct Workspace {
    vision: VisionWork,
    projector: ProjectorWork,
    decoder: DecoderWork,
    head: HeadWork,
    patch: PatchWork,
    dfeatures: Vec<f32>,
    dimage: Vec<f32>,
    scratch: Scratch,
}

#[derive(Default)]
struct HeadWork {
    /// Label and weight of each supervised row.
    labelled: Vec<(usize, f32)>,
    normed: Vec<f32>,
    statistics: Statistics,
    logits: Vec<f32>,
    dnormed: Vec<f32>,
    doutput: Vec<f32>,
}

#[derive(Default)]
struct PatchWork {
    logits: Vec<f32>,
    dfeatures: Vec<f32>,
}

/// What the backward pass has to reach.
#[derive(Clone, Copy)]
struct Reach {
    decoder: bool,
    images: bool,
    vision: bool,
    trainable: Trainable,
}

/// A step under way: what it reads, where gradients go, what it found out.
struct Running<'a> {
    w: Weights<'a>,
    words: Words<'a>,
    batch: &'a MicroBatch,
    scale: f32,
    reach: Reach,
    /// The flat gradients; none when only evaluating.
    gradients: Option<&'a mut [f32]>,
    losses: Losses,
}

impl Reach {
    fn new(batch: &MicroBatch, tiles: usize, trainable: Trainable) -> Reach {
        let in_sequences = tiles > 0 && !batch.sequences.is_empty();
        let projected = in_sequences || batch.target.is_some();
        let images = projected && (trainable.projector || trainable.vision);
        Reach {
            decoder: !batch.sequences.is_empty()
                && (trainable.language || (in_sequences && images)),
            images,
            vision: trainable.vision && tiles > 0 && (projected || batch.patch_labels.is_some()),
            trainable,
        }
    }
}

impl Network {
    /// Losses of a micro-batch; with `gradients`, adds those of `scale · Σ weight · token loss + patch weight · Σ patch
    /// loss`. An error leaves the gradients unusable.
    pub fn step(
        &self,
        inputs: StepInputs,
        gradients: Option<&mut Gradients>,
        work: &mut Workspace,
    ) -> Result<Losses, NetworkError> {
        let StepInputs {
            batch,
            scale,
            trainable,
            parameters,
            packed,
        } = inputs;
        let tiles = batch.check(&self.shape, self.aux)?;
        let w = Weights {
            arithmetic: self.arithmetic,
            isa: self.arithmetic.isa,
            values: parameters.values(),
            packed,
        };
        let reach = Reach::new(batch, tiles, trainable);
        let gradients = gradients.map(Gradients::values_mut);
        let mut running = Running {
            w,
            words: self.words(w, batch),
            batch,
            scale,
            reach,
            gradients,
            losses: Losses::default(),
        };
        if tiles > 0 {
            self.layers
                .vision
                .forward(w, &batch.pixels, &mut work.vision);
        }
        if let Some(labels) = &batch.patch_labels {
            self.patch_head(&mut running, labels, work);
        }
        if tiles > 0 && (batch.target.is_some() || !batch.sequences.is_empty()) {
            let features = self.layers.vision.features(&work.vision);
            self.layers
                .projector
                .forward(w, features, &mut work.projector);
            self.draw_projector(&mut running, tiles, work);
        }
        if !batch.sequences.is_empty() {
            self.decode(&running, tiles, work);
            self.head(&mut running, work);
        }
        check_finite("the language loss", running.losses.language_sum)?;
        check_finite("the patch loss", running.losses.patch_sum)?;
        check_finite("the distance from perfect sight", running.losses.sight_sum)?;
        let losses = std::mem::take(&mut running.losses);
        self.backward(running, work);
        Ok(losses)
    }

    /// Logits of every patch's slots, their loss, and what it gives to the head and to the features.
    fn patch_head(&self, running: &mut Running, labels: &PatchLabels, work: &mut Workspace) {
        let Some(head) = &self.layers.patch_head else {
            return;
        };
        let (w, losses) = (running.w, &mut running.losses);
        let (width, classes) = (self.shape.vision.width, self.aux.patch_classes);
        let features = self.layers.vision.features(&work.vision);
        let rows = features.len() / width;
        let features = Rows {
            data: features,
            stride: width,
        };
        let logits = sized(&mut work.patch.logits, rows * head.outputs);
        head.forward(w, features, logits, &mut work.scratch);
        for (logits, &label) in logits.chunks_exact_mut(classes).zip(&labels.classes) {
            if label == IGNORE {
                logits.fill(0.0);
                continue;
            }
            let (loss, right) = cross_entropy(w.isa, logits, label as usize, labels.weight);
            losses.patch_sum += f64::from(loss);
            losses.patch_count += 1;
            losses.patch_correct += usize::from(right);
            losses.patch_filled += usize::from(label != 0);
            losses.patch_filled_correct += usize::from(label != 0 && right);
        }
        let Some(flat) = running.gradients.as_deref_mut() else {
            return;
        };
        let dy = Rows {
            data: logits,
            stride: head.outputs,
        };
        if running.reach.trainable.aux {
            head.backward_weight(w, rows, dy, features, flat, &mut work.scratch);
        }
        if running.reach.vision {
            let dfeatures = sized(&mut work.patch.dfeatures, rows * width);
            head.backward_input(w, dy, dfeatures, &mut work.scratch);
        }
    }

    /// Embeds tokens and images, runs the decoder.
    fn decode(&self, running: &Running, tiles: usize, work: &mut Workspace) {
        let (w, words, sequences) = (running.w, running.words, &running.batch.sequences);
        let width = self.shape.decoder.width;
        let decoder = &mut work.decoder;
        decoder.rows = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        decoder.positions.clear();
        decoder.plan.clear();
        gather_labels(sequences, &mut decoder.supervised, &mut work.head.labelled);
        let mut first = 0;
        for sequence in sequences {
            decoder.positions.extend_from_slice(&sequence.positions);
            decoder
                .plan
                .add_sequence(first, &sequence.branch, &sequence.labels);
            first += sequence.tokens.len();
        }
        let mut images = work
            .projector
            .output(width, tiles * self.shape.vision.tokens())
            .chunks_exact(width);
        let mut rows = decoder.input(width).chunks_exact_mut(width);
        for sequence in sequences {
            let mut place = 0;
            for (&token, row) in sequence.tokens.iter().zip(&mut rows) {
                match &sequence.sight {
                    Some(sight) if token == self.shape.image_token => {
                        sight.embed(place, words, row);
                        place += 1;
                    }
                    None if token == self.shape.image_token => row
                        .copy_from_slice(images.next().expect("checked: one row per image token")),
                    _ => row.copy_from_slice(words.row(token)),
                }
            }
        }
        self.layers.decoder.forward(w, decoder);
    }

    /// Final norm, logits and loss of the supervised rows; with gradients, fills `work.head.doutput`.
    fn head(&self, running: &mut Running, work: &mut Workspace) {
        let (w, reach) = (running.w, running.reach);
        let (width, norm, layer) = (
            self.shape.decoder.width,
            &self.layers.final_norm,
            &self.layers.head,
        );
        let head = &mut work.head;
        let count = head.labelled.len();
        let output = work.decoder.output(width);
        let normed = sized(&mut head.normed, count * width);
        let statistics = sized(&mut head.statistics, count);
        norm.forward(w, output, normed, statistics);
        let logits = sized(&mut head.logits, count * layer.outputs);
        let normed = Rows {
            data: normed,
            stride: width,
        };
        layer.forward(w, normed, logits, &mut work.scratch);
        token_losses(running, &head.labelled, logits);
        let Some(flat) = running.gradients.as_deref_mut().filter(|_| reach.decoder) else {
            return;
        };
        let dy = Rows {
            data: logits,
            stride: layer.outputs,
        };
        let dnormed = sized(&mut head.dnormed, count * width);
        layer.backward_input(w, dy, dnormed, &mut work.scratch);
        if reach.trainable.language {
            layer.backward_weight(w, count, dy, normed, flat, &mut work.scratch);
        }
        let doutput = sized(&mut head.doutput, count * width);
        doutput.fill(0.0);
        let for_norm = reach.trainable.language.then_some(flat);
        norm.backward(
            w,
            NormInput {
                x: output,
                statistics,
            },
            dnormed,
            doutput,
            for_norm,
        );
    }

    /// Everything backwards, when gradients are wanted.
    fn backward(&self, running: Running, work: &mut Workspace) {
        let Running {
            w,
            words,
            batch,
            reach,
            gradients: Some(flat),
            ..
        } = running
        else {
            return;
        };
        let features = self.layers.vision.features(&work.vision).len();
        if reach.vision {
            let dfeatures = sized(&mut work.dfeatures, features);
            match &batch.patch_labels {
                Some(_) => dfeatures.copy_from_slice(&work.patch.dfeatures[..features]),
                None => dfeatures.fill(0.0),
            }
        }
        if reach.decoder {
            let doutput =
                &mut work.head.doutput[..work.head.labelled.len() * self.shape.decoder.width];
            let for_decoder = reach.trainable.language.then_some(&mut *flat);
            self.layers
                .decoder
                .backward(w, doutput, for_decoder, &mut work.decoder);
            self.embedding_backward(words, &batch.sequences, reach, flat, work);
        }
        if reach.images {
            let parameters = reach.trainable.projector.then_some(&mut *flat);
            let dfeatures = if reach.vision {
                Some(&mut work.dfeatures[..features])
            } else {
                None
            };
            let gradients = ProjectorGradients {
                parameters,
                features: dfeatures,
            };
            self.layers
                .projector
                .backward(w, &work.dimage, gradients, &mut work.projector);
        }
        if reach.vision {
            self.layers
                .vision
                .backward(w, &mut work.dfeatures[..features], flat, &mut work.vision);
        }
    }

    /// Rows of the decoder's input gradient are added to their word's embedding or to the image's gradient.
    fn embedding_backward(
        &self,
        words: Words,
        sequences: &[Sequence],
        reach: Reach,
        flat: &mut [f32],
        work: &mut Workspace,
    ) {
        let (isa, width) = (words.isa, words.width);
        let dembedding = &mut flat[self.layers.embedding..][..words.embedding.len()];
        let mut image_rows = work.dimage.chunks_exact_mut(width);
        let mut rows = work.decoder.input_gradient(width).chunks_exact(width);
        for sequence in sequences {
            let mut place = 0;
            for (&token, dx) in sequence.tokens.iter().zip(&mut rows) {
                let image = token == self.shape.image_token;
                match &sequence.sight {
                    None if image => {
                        if let Some(row) = image_rows.next().filter(|_| reach.images) {
                            add(isa, row, dx);
                        }
                    }
                    Some(sight) if image && reach.trainable.language => {
                        sight.embed_backward(place, words, dx, dembedding);
                    }
                    _ if reach.trainable.language => {
                        add(isa, &mut dembedding[token as usize * width..][..width], dx);
                    }
                    _ => {}
                }
                place += usize::from(image);
            }
        }
    }

    /// The distance of the projector's output from perfect sight. The gradient of the output begins with that of the distance.
    fn draw_projector(&self, running: &mut Running, tiles: usize, work: &mut Workspace) {
        let (words, rows) = (running.words, tiles * self.shape.vision.tokens());
        let mut gradient = None;
        if running.gradients.is_some() && running.reach.images {
            let dimage = sized(&mut work.dimage, rows * words.width);
            dimage.fill(0.0);
            gradient = Some(dimage);
        }
        if let Some((sight, weight)) = &running.batch.target {
            let projected = work.projector.output(words.width, rows);
            let distance = sight.distance(projected, words, *weight, gradient);
            running.losses.sight_sum += distance.sum;
            running.losses.sight_weight += distance.weight;
        }
    }

    /// The table that words are looked up in; its spread is measured only where something is told, for the table may be large.
    fn words<'a>(&'a self, w: Weights<'a>, batch: &MicroBatch) -> Words<'a> {
        let width = self.shape.decoder.width;
        let embedding = &w.values[self.layers.embedding..][..self.shape.decoder.vocabulary * width];
        let told = batch.sequences.iter().any(|s| s.sight.is_some()) || batch.target.is_some();
        Words {
            isa: w.isa,
            embedding,
            width,
            image_token: self.shape.image_token,
            places: &self.places,
            spread: if told { spread(embedding) } else { 0.0 },
        }
    }
}

fn check_finite(what: &'static str, value: f64) -> Result<(), NetworkError> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(NetworkError::NotFinite { what, value })
    }
}

fn gather_labels(
    sequences: &[Sequence],
    supervised: &mut Vec<usize>,
    labelled: &mut Vec<(usize, f32)>,
) {
    supervised.clear();
    labelled.clear();
    let places = sequences
        .iter()
        .flat_map(|sequence| sequence.labels.iter().zip(&sequence.weights));
    for (row, (&label, &weight)) in places
        .enumerate()
        .filter(|(_, (label, _))| **label != IGNORE)
    {
        supervised.push(row);
        labelled.push((label as usize, weight));
    }
}

/// Turns logits into their gradients and adds up the losses, run by run.
fn token_losses(running: &mut Running, labelled: &[(usize, f32)], logits: &mut [f32]) {
    let (losses, scale, isa) = (&mut running.losses, running.scale, running.w.isa);
    let vocabulary = logits.len() / labelled.len().max(1);
    let mut places = labelled
        .iter()
        .zip(logits.chunks_exact_mut(vocabulary.max(1)));
    for (index, sequence) in running.batch.sequences.iter().enumerate() {
        let mut previous = None;
        for (token, (&label, &branch)) in sequence.labels.iter().zip(&sequence.branch).enumerate() {
            if label == IGNORE {
                continue;
            }
            let (&(label, weight), logits) = places.next().expect("one row of logits per label");
            let (loss, right) = cross_entropy(isa, logits, label, weight * scale);
            losses.language_sum += f64::from(weight) * f64::from(loss);
            losses.language_weight += f64::from(weight);
            losses.tokens += 1;
            losses.correct_tokens += usize::from(right);
            let goes_on = previous == Some((token.wrapping_sub(1), branch));
            match losses.branch_correct.last_mut().filter(|_| goes_on) {
                Some(run) => run.2 &= right,
                None => losses.branch_correct.push((index, branch, right)),
            }
            previous = Some((token, branch));
        }
    }
}
