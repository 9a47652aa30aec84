//! One request being answered, a step at a time: so one that is alone and many that share each reading of the weights are
//! the same code, and the same bits.
//!
//! A sequence says what the network is to read next ([`Sequence::next`]), and takes what it gave ([`Sequence::take`]): chunks
//! of the prompt first, then token after token.

use std::thread::Scope;
use std::time::{Duration, Instant};

use model::{Inputs, LogitRows, NoTaps, Taps};

use crate::cancel::Cancel;
use crate::decode::{Decoding, Reading, Then, Writer, Written};
use crate::encoding::{Batch, Pixels};
use crate::engine::{Engine, Prepared, milliseconds, rate};
use crate::error::EngineError;
use crate::memory::{self, Row};
use crate::network::{Cache, Network, Segment};
use crate::prefill::{Images, Patience, Prefill, Sources};
use crate::prompt::Piece;
use crate::record::Record;
use crate::request::{Event, FinishReason, Reply, RequestRef, Timings, Usage};
use crate::wake::Waker;

/// Whoever sees an answer grow.
pub(crate) type Events<'a> = Box<dyn FnMut(Event) + 'a>;

/// What a sequence is begun with, beside its prompt and its cache.
pub(crate) struct Begin<'a> {
    pub request: RequestRef<'a>,
    pub cancel: Cancel,
    pub events: Events<'a>,
    pub record: Option<&'a mut Record>,
    /// Woken when an image that is awaited is there.
    pub waker: Waker,
    pub started: Instant,
}

/// One request being answered.
pub(crate) struct Sequence<'a, N: Network> {
    engine: &'a Engine<N>,
    request: RequestRef<'a>,
    cancel: Cancel,
    events: Events<'a>,
    record: Option<&'a mut Record>,
    started: Instant,
    prepared: Prepared,
    cache: N::Cache,
    cached_tokens: usize,
    prefill: Prefill,
    stage: Stage<'a>,
    /// Rows that it wants to be read.
    asked: usize,
}

/// How far it is.
enum Stage<'a> {
    /// Reading its prompt.
    Prefill,
    /// Writing; the ids before `read` of what it wants to be read have been.
    Decode {
        writer: Box<Writer<'a>>,
        reading: Reading,
        read: usize,
    },
    /// At its end.
    Done(Box<Written>),
}

/// What a sequence wants.
pub(crate) enum Wants<'s, C> {
    /// The network to read this; values of a prompt may be kept.
    Read(Segment<'s, C>, Option<&'s mut Record>),
    /// An image that is not there yet.
    Image,
}

impl<'a, N: Network> Sequence<'a, N> {
    /// Begins to encode the images of a request; `cache` holds a beginning of its prompt.
    pub fn begin(
        scope: &'a Scope<'a, '_>,
        engine: &'a Engine<N>,
        (prepared, cache): (Prepared, N::Cache),
        begin: Begin<'a>,
    ) -> Self {
        let images = Images {
            encoder: &engine.encoder,
            ahead: &engine.ahead,
            request: begin.request.clone(),
            views: prepared.views.clone(),
            names: prepared.names.clone(),
            cancel: begin.cancel.clone(),
            pixels: match begin.record {
                Some(_) => Pixels::Keep,
                None => Pixels::Drop,
            },
            waker: begin.waker,
        };
        let cached_tokens = cache.tokens();
        let prompt = (&prepared.prompt, cached_tokens);
        Sequence {
            prefill: Prefill::begin(scope, images, prompt, engine.overlap),
            engine,
            request: begin.request,
            cancel: begin.cancel,
            events: begin.events,
            record: begin.record,
            started: begin.started,
            prepared,
            cache,
            cached_tokens,
            stage: Stage::Prefill,
            asked: 0,
        }
    }

    /// Whether its prompt has been read.
    pub fn is_decoding(&self) -> bool {
        matches!(self.stage, Stage::Decode { .. })
    }

    /// Whether the answer has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }

    /// The switch that ends it.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// What it wants next, at most `chunk_tokens` rows of its prompt at once. Not for one that has ended.
    pub fn next(
        &mut self,
        chunk_tokens: usize,
        patience: Patience,
    ) -> Result<Wants<'_, N::Cache>, EngineError> {
        self.cancel.check()?;
        let network = &*self.engine.network;
        let hidden = network.shape().hidden;
        let (inputs, logits) = match &self.stage {
            Stage::Prefill => {
                let Some(inputs) = self.prompt_rows(chunk_tokens, patience)? else {
                    return Ok(Wants::Image);
                };
                let read = self.cache.tokens() + inputs.len() / hidden;
                let wanted = match (&self.record, read == self.prepared.prompt.ids.len()) {
                    (Some(_), _) => LogitRows::All,
                    (None, true) => LogitRows::Last,
                    (None, false) => LogitRows::None,
                };
                (inputs, wanted)
            }
            Stage::Decode { reading, read, .. } => {
                let ids = &reading.ids[*read..];
                let count = match reading.wanted {
                    LogitRows::All => ids.len(),
                    _ => ids.len().min(self.engine.step_tokens),
                };
                let wanted = match count == ids.len() {
                    true => reading.wanted,
                    false => LogitRows::None,
                };
                (network.embed(&ids[..count]), wanted)
            }
            Stage::Done(_) => unreachable!("an answer that has ended wants nothing"),
        };
        self.asked = inputs.len() / hidden;
        let before = self.cache.tokens();
        // Beyond the prompt they count by one.
        let positions = match (&self.stage, &self.prepared.prompt.positions) {
            (Stage::Prefill, Some(all)) => Some(&all[before..before + self.asked]),
            _ => None,
        };
        let pictures = match self.stage {
            Stage::Prefill => self.prepared.prompt.pictures(before..before + self.asked),
            _ => Vec::new(),
        };
        let segment = Segment {
            inputs,
            positions,
            pictures,
            cache: &mut self.cache,
            logits,
        };
        let record = match self.stage {
            Stage::Prefill => self.record.as_deref_mut(),
            _ => None,
        };
        Ok(Wants::Read(segment, record))
    }

    /// The next rows of the prompt; none while an image is awaited.
    fn prompt_rows(
        &mut self,
        chunk_tokens: usize,
        patience: Patience,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let next = self.with_sources(chunk_tokens, patience, |prefill, sources| {
            prefill.next(sources)
        })?;
        if let (Some(record), Some(rows)) = (&mut self.record, &next) {
            keep_rows(record, "inputs_embeds", &*self.engine.network, rows);
        }
        Ok(next)
    }

    /// Whether a chunk of its prompt could be read now.
    pub fn has_chunk(&mut self, chunk_tokens: usize) -> Result<bool, EngineError> {
        self.cancel.check()?;
        self.with_sources(chunk_tokens, Patience::None, |prefill, sources| {
            prefill.fill(sources)
        })
    }

    fn with_sources<T>(
        &mut self,
        chunk_tokens: usize,
        patience: Patience,
        work: impl FnOnce(&mut Prefill, &mut Sources<N>) -> T,
    ) -> T {
        let network = &*self.engine.network;
        let record = &mut self.record;
        let sources = &mut Sources {
            network,
            prompt: &self.prepared.prompt,
            chunk_tokens,
            patience,
            keep: &mut |batch| keep_batch(record, batch, network),
        };
        work(&mut self.prefill, sources)
    }

    /// Takes the logits of what it wanted to be read, which took so long.
    pub fn take(&mut self, logits: Vec<f32>, time: Duration) -> Result<(), EngineError> {
        match &mut self.stage {
            Stage::Prefill => self.take_prefill(logits, time),
            Stage::Decode { reading, read, .. } => {
                *read += self.asked;
                match *read == reading.ids.len() {
                    true => self.write(logits),
                    false => Ok(()),
                }
            }
            Stage::Done(_) => Ok(()),
        }
    }

    fn take_prefill(&mut self, mut logits: Vec<f32>, time: Duration) -> Result<(), EngineError> {
        self.prefill.decoder_time += time;
        let shape = self.engine.network.shape();
        if let Some(record) = &mut self.record {
            record.append("prefill_logits", &[self.asked, shape.vocabulary], &logits);
            logits.drain(..logits.len() - shape.vocabulary);
        }
        let (done, total) = (self.cache.tokens(), self.prepared.prompt.ids.len());
        (self.events)(Event::Prefill { done, total });
        if done < total {
            return Ok(());
        }
        let decoding = Decoding {
            files: &self.engine.files,
            eos: &self.engine.eos,
            request: self.request.clone(),
            cancel: self.cancel.clone(),
            prompt_tokens: total,
            max_tokens: self.prepared.max_tokens,
        };
        let guide = self.prepared.guide.take();
        self.stage = Stage::Decode {
            writer: Box::new(decoding.begin(&self.prepared.prompt, guide)?),
            reading: Reading {
                kept: total,
                ids: Vec::new(),
                wanted: LogitRows::None,
            },
            read: 0,
        };
        self.write(logits)
    }

    /// Lets the writer choose.
    fn write(&mut self, logits: Vec<f32>) -> Result<(), EngineError> {
        let Stage::Decode { writer, .. } = &mut self.stage else {
            return Ok(());
        };
        match writer.next(logits, &mut self.events)? {
            Then::Read(next) => {
                self.cache.truncate(next.kept);
                if let Stage::Decode { reading, read, .. } = &mut self.stage {
                    (*reading, *read) = (next, 0);
                }
            }
            Then::End(reason) => {
                let stage = std::mem::replace(&mut self.stage, Stage::Prefill);
                if let Stage::Decode { writer, .. } = stage {
                    let written = writer.finish(reason, &mut self.events)?;
                    self.cache.truncate(written.read_tokens);
                    self.stage = Stage::Done(Box::new(written));
                }
            }
        }
        Ok(())
    }

    /// Answers alone, waiting for images.
    pub fn run(&mut self) -> Result<(), EngineError> {
        self.run_until(Self::is_done)
    }

    /// Reads the prompt alone, and chooses the first token.
    pub fn read_prompt(&mut self) -> Result<(), EngineError> {
        self.run_until(|sequence| !matches!(sequence.stage, Stage::Prefill))
    }

    fn run_until(&mut self, end: impl Fn(&Self) -> bool) -> Result<(), EngineError> {
        let (network, threads) = (&*self.engine.network, &self.engine.encoder.threads);
        let cancel = self.cancel.clone();
        while !end(self) {
            let Wants::Read(segment, record) =
                self.next(self.engine.step_tokens, Patience::Wait)?
            else {
                unreachable!("images were waited for");
            };
            let started = Instant::now();
            let mut silent = NoTaps;
            let taps: &mut dyn Taps = match record {
                Some(record) => record,
                None => &mut silent,
            };
            let inputs = Inputs {
                rows: &segment.inputs,
                positions: segment.positions,
                pictures: &segment.pictures,
            };
            let (cache, logits) = (segment.cache, segment.logits);
            let forward = || network.forward(inputs, cache, logits, &cancel, taps);
            let logits = threads.run(forward)?;
            self.take(logits, started.elapsed())?;
        }
        Ok(())
    }

    /// What it has in its cache, for others to copy.
    pub fn cache(&self) -> &N::Cache {
        &self.cache
    }

    /// Most positions that it will take.
    pub fn most_tokens(&self) -> usize {
        self.prepared.most_tokens()
    }

    /// Positions of another prompt that stand in its cache already.
    pub fn shared(&self, other: &Prepared) -> usize {
        let read = self.cache.tokens().min(self.prepared.rows.len());
        memory::shared(&self.prepared.rows[..read], &other.rows, &other.prompt)
    }

    /// What stands in its cache now.
    fn rows_in_cache(&mut self) -> Vec<Row> {
        let mut rows = std::mem::take(&mut self.prepared.rows);
        let ids = match &self.stage {
            Stage::Prefill => &[],
            Stage::Decode { writer, .. } => writer.output_ids(),
            Stage::Done(written) => &written.output_ids[..],
        };
        rows.extend(ids.iter().map(|&id| Row { id, picture: 0 }));
        // A guess may lie beyond.
        self.cache.truncate(rows.len());
        rows.truncate(self.cache.tokens());
        rows
    }

    /// The answer, where it has ended; and its cache with what stands in it, for a later request.
    pub fn finish(mut self) -> (Option<Reply>, Vec<Row>, N::Cache) {
        let rows = self.rows_in_cache();
        let reply = match self.stage {
            Stage::Done(written) => {
                if let Some(record) = self.record {
                    record.keep_ids("input_ids", &self.prepared.prompt.ids);
                    record.keep_ids("output_ids", &written.output_ids);
                }
                let times = Times {
                    load_ms: self.engine.load_ms,
                    image: self.prefill.image_time,
                    prefill: self.prefill.decoder_time,
                    first_token: written.first_token - self.started,
                };
                let mut reply = reply(self.prepared, self.cached_tokens, *written, &times);
                if let (FinishReason::Length, Some(grammar)) =
                    (reply.finish_reason, &self.request.format)
                {
                    reply.cut_inside = grammar.place_of_cut(&reply.text);
                }
                Some(reply)
            }
            _ => None,
        };
        (reply, rows, self.cache)
    }
}

/// How long things took.
struct Times {
    load_ms: f64,
    image: Duration,
    prefill: Duration,
    first_token: Duration,
}

fn reply(prepared: Prepared, cached_tokens: usize, written: Written, times: &Times) -> Reply {
    let prompt = &prepared.prompt;
    let image_tokens = |piece: &Piece| match piece {
        Piece::Image { places, .. } => places.len(),
        Piece::Text(_) => 0,
    };
    Reply {
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
        cut_inside: None,
        speculation: written.guesses,
        logprobs: written.logprobs,
        images: prepared.views.into_iter().map(|view| view.info).collect(),
        timings: Timings {
            load_ms: times.load_ms,
            image_ms: milliseconds(times.image),
            prefill_ms: milliseconds(times.prefill),
            first_token_ms: milliseconds(times.first_token),
            decode_tokens_per_s: rate(
                written.output_ids.len().saturating_sub(1),
                written.first_token.elapsed(),
            ),
        },
        output_ids: written.output_ids,
    }
}

fn keep_batch(record: &mut Option<&mut Record>, encoded: &Batch, network: &impl Network) {
    let Some(record) = record else { return };
    if let Some((pixels, shape)) = &encoded.pixels {
        record.append("pixel_values", shape, pixels);
    }
    keep_rows(record, "image_embeds", network, &encoded.features);
}

fn keep_rows(record: &mut Record, name: &str, network: &impl Network, rows: &[f32]) {
    let count = rows.len() / network.shape().hidden;
    let first = network.first_rows(rows);
    record.append(name, &[count, first.len() / count.max(1)], &first);
}
