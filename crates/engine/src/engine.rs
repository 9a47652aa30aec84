//! A loaded model that answers requests.

mod images;
mod trace;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image_prep::tiling::Grid;
use image_prep::{Picture, Views};
use model::{Bundle, Checkpoint, Model};

use crate::ahead::Ahead;
use crate::cancel::Cancel;
use crate::decode::Decoding;
use crate::encoding::{Encoding, ImageEncoder};
use crate::error::EngineError;
use crate::files::{ModelFiles, PromptFiles};
use crate::identity::Weights;
use crate::memory::{self, Memory, Row};
use crate::network::{Cache, Network, NetworkShape};
use crate::prefill::{Overlap, Prefill, Prefilled, STEP_TOKENS};
use crate::prompt::{ImageInfo, Piece, Prompt, PromptParts};
use crate::record::Record;
use crate::request::{Event, Reply, Request, Timings, Usage};
use crate::threads::Threads;

pub use images::EncodedImage;

/// A model ready to answer.
pub struct Engine<N: Network = Model> {
    network: Arc<N>,
    files: PromptFiles,
    eos: Vec<u32>,
    step_tokens: usize,
    overlap: Overlap,
    encoder: ImageEncoder<N>,
    ahead: Ahead,
    load_ms: f64,
    /// Its own among all engines of the process.
    pub(crate) number: u64,
    pub(crate) weights: Weights,
}

/// Numbers that engines have had. 0 is nobody's.
static ENGINES: AtomicU64 = AtomicU64::new(1);

impl Engine<Model> {
    /// Loads a model folder, or a bundle, which is told by its content.
    pub fn load(folder: &Path) -> Result<Self, EngineError> {
        let started = Instant::now();
        if folder.is_file() {
            let bundle = Bundle::open(folder)?;
            let files = PromptFiles::from_bundle(&bundle)?;
            let weights = Weights::Bundle(folder.into());
            return Self::finish(Model::from_bundle(&bundle)?, files, weights, started);
        }
        // The small files first: their mistakes show at once, those of the weights after seconds.
        let files = PromptFiles::open(folder)?;
        let needed: [&[&'static str]; 2] = [&["config.json"], &model::WEIGHT_FILES];
        if let Some(missing) = needed.iter().find(|names| {
            let places = [folder.into(), folder.join("llm")];
            let there = |name| {
                places
                    .iter()
                    .any(|place: &PathBuf| place.join(name).exists())
            };
            !names.iter().any(there)
        }) {
            return Err(EngineError::MissingFile {
                folder: folder.into(),
                file: missing[0],
            });
        }
        let network = Model::load(&Checkpoint::open(folder)?)?;
        Self::finish(network, files, Weights::Folder(folder.into()), started)
    }

    /// Loads a model that is in memory.
    pub fn from_files(contents: ModelFiles) -> Result<Self, EngineError> {
        let started = Instant::now();
        let files = PromptFiles::from_files(&contents)?;
        let weights = Weights::of_memory(&contents);
        let network = Model::load(&Checkpoint::from_memory(
            &contents.config,
            contents.weights,
        )?)?;
        Self::finish(network, files, weights, started)
    }

    fn finish(
        network: Model,
        files: PromptFiles,
        weights: Weights,
        started: Instant,
    ) -> Result<Self, EngineError> {
        let eos = network.spec().stop_token_ids.clone();
        let mut engine = Self::new(network, files, &eos)?;
        engine.weights = weights;
        engine.load_ms = milliseconds(started.elapsed());
        Ok(engine)
    }
}

impl<N: Network> Engine<N> {
    /// Puts an engine together from its parts; `eos` are ids that end an answer beside those of the generation settings and
    /// the tokenizer's end token.
    ///
    /// Errors when the parts belong to different models.
    pub fn new(network: N, files: PromptFiles, eos: &[u32]) -> Result<Self, EngineError> {
        check(&network.shape(), &files)?;
        let named = files
            .eos_token
            .as_deref()
            .and_then(|token| files.tokenizer.token_to_id(token));
        let mut eos: Vec<u32> = eos
            .iter()
            .chain(&files.generation.eos_token_ids)
            .copied()
            .chain(named)
            .collect();
        eos.sort_unstable();
        eos.dedup();
        let network = Arc::new(network);
        Ok(Engine {
            encoder: ImageEncoder {
                network: network.clone(),
                preprocessor: files.preprocessor.clone(),
                threads: Threads::of_all_cores()?,
                encoding: Encoding::default(),
                at_work: Arc::default(),
            },
            network,
            files,
            eos,
            step_tokens: STEP_TOKENS,
            overlap: Overlap::default(),
            ahead: Ahead::default(),
            load_ms: 0.0,
            number: ENGINES.fetch_add(1, Ordering::Relaxed),
            weights: Weights::unnamed(),
        })
    }

    /// Prefills in steps of so many rows. The answer's bits do not depend on it.
    pub fn with_step_tokens(mut self, step_tokens: usize) -> Self {
        self.step_tokens = step_tokens.max(1);
        self
    }

    /// Cuts pictures into grids of at most `most`: fewer tiles than the model's settings allow, never more.
    pub fn with_grids_at_most(mut self, most: Grid) -> Self {
        self.files.preprocessor = self.files.preprocessor.at_most(most);
        self.encoder.preprocessor = self.files.preprocessor.clone();
        self
    }

    /// The network.
    pub fn network(&self) -> &N {
        &self.network
    }

    /// Tokenizer, template and settings.
    pub fn files(&self) -> &PromptFiles {
        &self.files
    }

    /// Milliseconds that loading took.
    pub fn load_ms(&self) -> f64 {
        self.load_ms
    }

    /// How a picture of this size is cut, without reading it.
    pub fn plan(&self, width: u32, height: u32) -> ImageInfo {
        let views = self.files.preprocessor.views(width, height);
        ImageInfo::of(&views, self.network.image_tokens(&views))
    }

    /// The prompt of a request, made but not read. Errors as [`Engine::generate`] before it begins.
    pub fn prompt(&self, request: &Request) -> Result<Prompt, EngineError> {
        Ok(self.prepare(request)?.0)
    }

    /// How many tokens of a request's prompt a memory would save: of several memories, the one to answer it in.
    pub fn remembered_tokens(
        &self,
        memory: &Memory<N>,
        request: &Request,
    ) -> Result<usize, EngineError> {
        let (prompt, _) = self.prepare(request)?;
        let rows = self.rows(&prompt, &request.images);
        Ok(memory.shared(self.number, &rows, &prompt))
    }

    fn rows(&self, prompt: &Prompt, pictures: &[Picture]) -> Vec<Row> {
        let preprocessor = self.files.preprocessor.among(pictures.len());
        memory::rows(prompt, pictures, &preprocessor)
    }

    /// Answers a request; `events` sees the answer as it grows.
    pub fn generate(
        &self,
        request: &Request,
        cancel: &Cancel,
        events: &mut dyn FnMut(Event),
    ) -> Result<Reply, EngineError> {
        self.generate_in(&mut Memory::new(), request, cancel, events)
    }

    /// Answers a request in a conversation: what the memory shares with the request is not read again.
    pub fn generate_in(
        &self,
        memory: &mut Memory<N>,
        request: &Request,
        cancel: &Cancel,
        events: &mut dyn FnMut(Event),
    ) -> Result<Reply, EngineError> {
        Turn {
            engine: self,
            request,
            cancel,
            events,
            record: None,
            started: Instant::now(),
        }
        .run(memory)
    }

    /// Answers a request and keeps the intermediate values of its prompt: `input_ids`, `pixel_values`, `image_embeds`,
    /// `inputs_embeds`, `hidden.i`, `prefill_logits` of every position, `output_ids`.
    pub fn generate_with_taps(
        &self,
        request: &Request,
        cancel: &Cancel,
        events: &mut dyn FnMut(Event),
        record: &mut Record,
    ) -> Result<Reply, EngineError> {
        let record = Some(record);
        Turn {
            engine: self,
            request,
            cancel,
            events,
            record,
            started: Instant::now(),
        }
        .run(&mut Memory::new())
    }

    /// How the pictures of a request are cut.
    pub fn images(&self, request: &Request) -> Vec<ImageInfo> {
        let plan = |views: &Views| ImageInfo::of(views, self.network.image_tokens(views));
        self.views(request).iter().map(plan).collect()
    }

    pub(crate) fn views(&self, request: &Request) -> Vec<Views> {
        let preprocessor = self.files.preprocessor.among(request.images.len());
        let views = |picture: &Picture| preprocessor.views(picture.width, picture.height);
        request.images.iter().map(views).collect()
    }

    fn prepare(&self, request: &Request) -> Result<(Prompt, Vec<ImageInfo>), EngineError> {
        request.check(self.network.shape().vocabulary)?;
        let (views, images) = (self.views(request), self.images(request));
        let grids: Vec<_> = (views.iter())
            .map(|views| self.network.position_grid(views))
            .collect();
        let texts = views.iter().enumerate();
        let texts: Vec<_> = texts
            .map(|(index, views)| self.network.image_text(views, (index, images.len())))
            .collect();
        let parts = PromptParts {
            messages: &request.messages,
            images: &images,
            texts: &texts,
            grids: &grids,
            thinking: request.effective_thinking(&self.files.template),
            template_kwargs: &request.template_kwargs,
        };
        let prompt = Prompt::new(&self.files, &self.network.shape(), &parts)?;
        Ok((prompt, images))
    }
}

/// Files of one model agree in these numbers.
fn check(shape: &NetworkShape, files: &PromptFiles) -> Result<(), EngineError> {
    let tile = files.preprocessor.tile_size();
    if shape.image_ids.is_some() && tile != 0 && tile != shape.tile_side {
        return Err(EngineError::Mismatch {
            what: "tile_size in preprocessor_config.json against image_size in config.json",
            expected: shape.tile_side.to_string(),
            found: tile.to_string(),
        });
    }
    let of_images = shape
        .image_ids
        .map_or(0, |ids| ids.start.max(ids.image).max(ids.end));
    let largest = files.tokenizer.id_limit().saturating_sub(1).max(of_images);
    if largest as usize >= shape.vocabulary {
        return Err(EngineError::Mismatch {
            what: "token ids against vocab_size in config.json",
            expected: format!("ids below {}", shape.vocabulary),
            found: largest.to_string(),
        });
    }
    Ok(())
}

/// One request being answered.
struct Turn<'a, N: Network> {
    engine: &'a Engine<N>,
    request: &'a Request,
    cancel: &'a Cancel,
    events: &'a mut dyn FnMut(Event),
    record: Option<&'a mut Record>,
    started: Instant,
}

impl<N: Network> Turn<'_, N> {
    fn run(mut self, memory: &mut Memory<N>) -> Result<Reply, EngineError> {
        let (prompt, images) = self.engine.prepare(self.request)?;
        let context = self.engine.network.shape().context_tokens;
        // The last token chosen takes no position: nothing is asked after it.
        let room = context - prompt.ids.len() + 1;
        let max_tokens = self
            .request
            .max_tokens
            .map_or(room, |asked| asked.min(room));
        let rows = self.engine.rows(&prompt, &self.request.images);
        let engine = self.engine.number;
        let mut cache = memory.take(engine, &self.engine.network, &rows, &prompt);
        let cached_tokens = cache.tokens();
        let prefilled = self.prefill(&prompt, &mut cache)?;
        let decoding = Decoding {
            network: &*self.engine.network,
            threads: &self.engine.encoder.threads,
            files: &self.engine.files,
            eos: &self.engine.eos,
            request: self.request,
            prompt: &prompt,
            cancel: self.cancel,
            max_tokens,
            step_tokens: self.engine.step_tokens,
        };
        let written = decoding.run(prefilled.logits, &mut cache, self.events)?;
        if let Some(record) = self.record {
            record.keep_ids("input_ids", &prompt.ids);
            record.keep_ids("output_ids", &written.output_ids);
        }
        memory.keep(rows, &written.output_ids, cache);
        let image_tokens = |piece: &Piece| match piece {
            Piece::Image { places, .. } => places.len(),
            Piece::Text(_) => 0,
        };
        Ok(Reply {
            usage: Usage {
                prompt_tokens: prompt.ids.len(),
                image_tokens: prompt.pieces.iter().map(image_tokens).sum(),
                cached_tokens,
                completion_tokens: written.output_ids.len(),
                reasoning_tokens: written.reasoning_tokens,
            },
            text: written.text,
            reasoning: written.reasoning,
            finish_reason: written.finish_reason,
            thinking: written.thinking,
            speculation: written.guesses,
            logprobs: written.logprobs,
            images,
            timings: Timings {
                load_ms: self.engine.load_ms,
                image_ms: milliseconds(prefilled.image_time),
                prefill_ms: milliseconds(prefilled.decoder_time),
                first_token_ms: milliseconds(written.first_token - self.started),
                decode_tokens_per_s: rate(
                    written.output_ids.len().saturating_sub(1),
                    written.first_token.elapsed(),
                ),
            },
            output_ids: written.output_ids,
        })
    }

    fn prefill(&mut self, prompt: &Prompt, cache: &mut N::Cache) -> Result<Prefilled, EngineError> {
        let total = prompt.ids.len();
        // What was encoded ahead was encoded as a picture alone.
        let (alone, nothing) = (&self.engine.encoder, Ahead::default());
        let encoder = alone.among(self.request.images.len());
        let ahead = match encoder {
            Cow::Borrowed(_) => &self.engine.ahead,
            Cow::Owned(_) => &nothing,
        };
        let events = &mut *self.events;
        Prefill {
            network: &*self.engine.network,
            encoder: &encoder,
            ahead,
            prompt,
            pictures: &self.request.images,
            step_tokens: self.engine.step_tokens,
            overlap: self.engine.overlap,
            cancel: self.cancel,
            progress: &mut |done| events(Event::Prefill { done, total }),
            record: self.record.as_deref_mut(),
        }
        .run(cache)
    }
}

/// Milliseconds to the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Tokens by second to the hundredth.
fn rate(tokens: usize, time: Duration) -> f64 {
    if tokens == 0 {
        0.0
    } else {
        (tokens as f64 / time.as_secs_f64().max(1e-9) * 100.0).round() / 100.0
    }
}

#[cfg(test)]
mod tests;
