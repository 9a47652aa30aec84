//! A loaded model that answers requests.

mod costs;
mod images;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image_prep::Views;
use image_prep::tiling::Grid;
use model::gguf::GgufFile;
use model::{Bundle, Checkpoint, Model};

use crate::ahead::Ahead;
use crate::calibration::Calibration;
use crate::cancel::Cancel;
use crate::encoding::{Encoding, ImageEncoder};
use crate::error::EngineError;
use crate::files::{ModelFiles, PromptFiles};
use crate::gguf::GgufModel;
use crate::grammar::{Grammar, Grammars, Guide, Target};
use crate::identity::Weights;
use crate::memory::{self, Memory, Row};
use crate::network::{Network, NetworkShape};
use crate::prefill::{Overlap, STEP_TOKENS};
use crate::prompt::{ImageInfo, Prompt, PromptParts};
use crate::record::Record;
use crate::request::{Event, Reply, Request, RequestRef};
use crate::room::MemoryRoom;
use crate::sequence::{Begin, Events, Sequence};
use crate::threads::Threads;
use crate::vision::{Looking, Most, View};
use crate::wake::Waker;

pub use costs::{Cheaper, Cost, Look};
pub use images::EncodedImage;

/// A model ready to answer.
pub struct Engine<N: Network = Model> {
    pub(crate) network: Arc<N>,
    pub(crate) files: PromptFiles,
    pub(crate) eos: Vec<u32>,
    pub(crate) step_tokens: usize,
    pub(crate) overlap: Overlap,
    pub(crate) encoder: ImageEncoder<N>,
    pub(crate) ahead: Ahead,
    grammars: Grammars,
    room: MemoryRoom,
    calibration: Option<Calibration>,
    pub(crate) load_ms: f64,
    /// Its own among all engines of the process.
    pub(crate) number: u64,
    pub(crate) weights: Weights,
}

/// A request's prompt, made and not read.
pub(crate) struct Prepared {
    pub prompt: Prompt,
    /// How each picture is looked at.
    pub views: Vec<View>,
    /// What the encoder makes of each.
    pub names: Vec<u128>,
    /// What stands at its positions.
    pub rows: Vec<Row>,
    /// Tokens that the completion may have, at least 1.
    pub max_tokens: usize,
}

impl Prepared {
    /// Most positions that prompt and answer take.
    pub fn most_tokens(&self) -> usize {
        self.prompt.ids.len() + self.max_tokens - 1
    }
}

/// Numbers that engines have had. 0 is nobody's.
static ENGINES: AtomicU64 = AtomicU64::new(1);

impl Engine<Model> {
    /// Loads a model folder, or a bundle or a GGUF file, which are told by their content.
    pub fn load(folder: &Path) -> Result<Self, EngineError> {
        let started = Instant::now();
        if GgufFile::is_gguf(folder) {
            return Self::load_gguf(folder, None);
        }
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

    /// Loads a GGUF file, and the one of its image encoder: the one that is named, or `mmproj*.gguf` beside it.
    pub fn load_gguf(path: &Path, projector: Option<&Path>) -> Result<Self, EngineError> {
        let started = Instant::now();
        let source = GgufModel::open(path, projector)?;
        let files = source.prompt_files()?;
        let network = Model::load(&source.checkpoint)?;
        let weights = Weights::Files(source.paths);
        Self::finish(network, files, weights, started)
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
            grammars: Grammars::default(),
            room: MemoryRoom::default(),
            calibration: None,
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
        let (prompt, views) = self.prepare(request)?;
        let rows = memory::rows(&prompt, &names(request, &views));
        Ok(memory.shared(self.number, &rows, &prompt))
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
        self.answer(memory, request, cancel, (Box::new(events), None))
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
        let watched = (Box::new(events) as Events, Some(record));
        self.answer(&mut Memory::new(), request, cancel, watched)
    }

    /// Answers alone.
    fn answer<'a>(
        &'a self,
        memory: &mut Memory<N>,
        request: &'a Request,
        cancel: &Cancel,
        (events, record): (Events<'a>, Option<&'a mut Record>),
    ) -> Result<Reply, EngineError> {
        let started = Instant::now();
        let prepared = self.prepare_rows(request)?;
        let cache = memory.take(self.number, &self.network, &prepared.rows, &prepared.prompt);
        let begin = Begin {
            request: RequestRef::Borrowed(request),
            cancel: cancel.clone(),
            events,
            record,
            waker: Waker::new(),
            started,
        };
        std::thread::scope(|scope| {
            let mut sequence = Sequence::begin(scope, self, (prepared, cache), begin);
            sequence.run()?;
            let (reply, rows, cache) = sequence.finish();
            memory.keep(rows, cache);
            Ok(reply.expect("an answer that has ended is there"))
        })
    }

    /// The prompt of a request with what its answer needs beside it.
    pub(crate) fn prepare_rows(&self, request: &Request) -> Result<Prepared, EngineError> {
        let (prompt, views) = self.prepare(request)?;
        let names = names(request, &views);
        // The last token chosen takes no position: nothing is asked after it.
        let room = self.network.shape().context_tokens - prompt.ids.len() + 1;
        Ok(Prepared {
            rows: memory::rows(&prompt, &names),
            max_tokens: request.max_tokens.map_or(room, |asked| asked.min(room)),
            prompt,
            views,
            names,
        })
    }

    /// What is shown of each picture of a request.
    pub(crate) fn views(&self, request: &Request) -> Result<Vec<Views>, EngineError> {
        let (_, views) = self.prepare(request)?;
        Ok(views.into_iter().map(|view| view.shown).collect())
    }

    fn looking<'a>(&'a self, request: &'a Request) -> Looking<'a> {
        Looking {
            settings: self.files.preprocessor.among(request.images.len()),
            image_tokens: Box::new(|views| self.network.image_tokens(views)),
            request,
        }
    }

    /// The prompt, with how each picture is looked at so that it fits.
    fn prepare(&self, request: &Request) -> Result<(Prompt, Vec<View>), EngineError> {
        let shape = self.network.shape();
        request.check(shape.vocabulary)?;
        self.guide(request)?;
        let most = Most {
            context_tokens: shape.context_tokens,
            memory_tokens: self.memory_tokens(request),
        };
        self.looking(request).fit(most, &|views: &[View]| {
            let images: Vec<ImageInfo> = views.iter().map(|view| view.info.clone()).collect();
            let shown = views.iter().map(|view| &view.shown);
            let grids = shown.clone();
            let grids: Vec<_> = grids
                .map(|shown| self.network.position_grid(shown))
                .collect();
            let texts = shown.enumerate();
            let texts: Vec<_> = texts
                .map(|(index, shown)| self.network.image_text(shown, (index, images.len())))
                .collect();
            let parts = PromptParts {
                messages: &request.messages,
                images: &images,
                texts: &texts,
                grids: &grids,
                thinking: request.effective_thinking(&self.files.template),
                template_kwargs: &request.template_kwargs,
                tools: &request.tools,
            };
            Prompt::new(&self.files, &shape, &parts)
        })
    }

    /// What keeps the answer to the request's grammar, if it has one.
    pub(crate) fn guide(&self, request: &Request) -> Result<Option<Guide>, EngineError> {
        let Some(grammar) = request.tools.grammar(request.format.as_ref())? else {
            return Ok(None);
        };
        let target = Target {
            tokenizer: &self.files.tokenizer,
            vocabulary: self.network.shape().vocabulary,
            eos: &self.eos,
        };
        let compile = |grammar: &Grammar| self.grammars.compile(grammar, target);
        let matcher = compile(&grammar).map_err(|error| {
            // Of several schemas the one that is wrong.
            let alone = request.tools.grammars(request.format.as_ref());
            let wrong = alone.iter().find_map(|grammar| compile(grammar).err());
            wrong.unwrap_or(error)
        })?;
        let start = self.files.generation.thinking.as_ref();
        let start = start.map(|tags| tags.start.as_str());
        Guide::new(grammar.name(), matcher, target.tokenizer, start).map(Some)
    }
}

/// What the encoder makes of each picture, by name.
fn names(request: &Request, views: &[View]) -> Vec<u128> {
    let pictures = request.images.iter().zip(views);
    pictures.map(|(picture, view)| view.name(picture)).collect()
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

/// Milliseconds to the microsecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Tokens by second to the hundredth.
pub(crate) fn rate(tokens: usize, time: Duration) -> f64 {
    if tokens == 0 {
        0.0
    } else {
        (tokens as f64 / time.as_secs_f64().max(1e-9) * 100.0).round() / 100.0
    }
}

#[cfg(test)]
mod tests;
