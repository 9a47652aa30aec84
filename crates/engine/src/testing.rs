//! What the tests of this crate share: real tokenizers and templates, and a network whose answer is known.

use std::sync::{Barrier, Condvar, Mutex, OnceLock};
use std::time::Duration;

use image_prep::Picture;
use model::{Inputs, LogitRows, NoTaps, Patches, Taps};
use serde_json::{Map, Value as Json, json};

use crate::cancel::Cancel;
use crate::error::EngineError;
use crate::files::{ModelFiles, PromptFiles};
use crate::network::{Cache, ImageIds, Network, NetworkShape, Segment};
use crate::tokenizer::Tokenizer;

/// The native chat template, as the embedded model has it.
pub(crate) const NANO_TEMPLATE: &str = include_str!("../../../configs/nano/chat_template.jinja");
/// Without a stop text of its own: thoughts are ended with the usual sentence.
const GENERATION: &str = r#"{
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "thinking": {"start": "<think>", "end": "</think>"}
}"#;
const NANO_TOKENIZER: &[u8] = include_bytes!("../../../configs/nano/tokenizer.json");

/// The byte-level tokenizer of the embedded model.
pub(crate) fn nano_tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(NANO_TOKENIZER).unwrap()
}

/// A tokenizer built as sentencepiece does: spaces are characters, one is put before the text and taken off again, and
/// characters that the vocabulary lacks are bytes.
pub(crate) fn sentencepiece_tokenizer() -> Tokenizer {
    let mut vocabulary = Map::new();
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    for token in ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab"]
        .into_iter()
        .map(String::from)
        .chain(bytes)
    {
        let id = vocabulary.len();
        vocabulary.insert(token, json!(id));
    }
    let added: Vec<Json> = (0..3)
        .zip(["<unk>", "<s>", "</s>"])
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                  "vocab": vocabulary, "merges": [["a", "b"], ["▁", "ab"]]}});
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

/// The numbers of [`FakeNetwork`].
pub(crate) fn tiny_shape() -> NetworkShape {
    NetworkShape {
        hidden: 2,
        vocabulary: 528,
        context_tokens: 64,
        tokens_per_tile: 4,
        tile_side: 8,
        image_ids: Some(ImageIds {
            start: 3,
            image: 4,
            end: 5,
        }),
    }
}

/// The small files of the embedded model, for tiles of 8 pixels in grids up to 2 × 2.
pub(crate) fn nano_files() -> PromptFiles {
    PromptFiles::from_files(&ModelFiles {
        config: "".into(),
        weights: [].as_slice().into(),
        tokenizer: NANO_TOKENIZER.into(),
        tokenizer_config: include_str!("../../../configs/nano/tokenizer_config.json").into(),
        template: NANO_TEMPLATE.into(),
        preprocessor: include_str!("../../../configs/nano/preprocessor_config.json")
            .replace("\"tile_size\": 256", "\"tile_size\": 8")
            .into(),
        generation: GENERATION.into(),
    })
    .unwrap()
}

/// A picture of one colour.
pub(crate) fn picture(width: u32, height: u32, level: u8) -> Picture {
    Picture {
        width,
        height,
        rgb: vec![level; (width * height * 3) as usize],
    }
}

/// A network that knows its answer beforehand and remembers what it was asked.
///
/// An input row is `[id, 0]`; an image's row is `[first pixel of its tile, 1]`.
pub(crate) struct FakeNetwork {
    pub(crate) shape: NetworkShape,
    answer: Vec<u32>,
    said: Mutex<usize>,
    /// Rows of each forward call, with the position of the first.
    pub(crate) steps: Mutex<Vec<(usize, usize)>>,
    /// For each call for several conversations, the rows of each.
    pub(crate) shared_steps: Mutex<Vec<Vec<usize>>>,
    step_taken: Condvar,
    /// How often logits were asked for.
    pub(crate) logits: Mutex<usize>,
    /// Tiles of each batch that came to the patch embedding.
    pub(crate) embedded: Mutex<Vec<usize>>,
    /// Tiles of each batch that came to the encoder's blocks.
    pub(crate) encoded: Mutex<Vec<usize>>,
    /// Batches between patch embedding and the end of the blocks: now, and at most.
    pub(crate) batches: Mutex<(usize, usize)>,
    /// Layers of the encoder begun.
    pub(crate) layers: Mutex<usize>,
    /// Where a layer and a test wait for each other.
    pub(crate) in_layer: Barrier,
    /// How often the encoder's weights were given back.
    pub(crate) released: Mutex<usize>,
    /// What the image encoder does before it works.
    pub(crate) encoder: Encoder,
    /// What a step of the decoder takes.
    pub(crate) step_time: Duration,
    /// Says what follows from the last two ids instead, in a way that this number decides; after some ids there is little
    /// choice, so that it repeats itself.
    pub(crate) habits: Option<u64>,
    /// Says what follows from position and last two ids instead, any token of the vocabulary; what ends a value of JSON is
    /// likelier than the rest.
    pub(crate) noise: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Encoder {
    /// Works at once.
    Ready,
    /// Waits until the decoder has taken so many rows.
    AfterRows(usize),
    /// Works, but fails at its call with this number, from 1.
    FailsAt(usize),
    /// Goes through so many layers, asking before each whether to stop; meets the test at [`FakeNetwork::in_layer`] twice
    /// in each of them.
    Layers(usize),
}

/// The rows of a conversation.
pub(crate) struct FakeCache {
    pub(crate) rows: Vec<[f32; 2]>,
    capacity: usize,
}

impl FakeNetwork {
    /// `answer` is tokenized; its last token is said for ever.
    pub(crate) fn new(answer: &str) -> Self {
        Self::saying(nano_tokenizer().encode(answer).unwrap())
    }

    /// The answer in ids, one for each call to [`Network::forward`]; the last is said for ever.
    pub(crate) fn saying(answer: Vec<u32>) -> Self {
        FakeNetwork {
            shape: tiny_shape(),
            answer,
            step_time: Duration::ZERO,
            habits: None,
            noise: None,
            said: Mutex::new(0),
            steps: Mutex::default(),
            shared_steps: Mutex::default(),
            step_taken: Condvar::new(),
            logits: Mutex::default(),
            embedded: Mutex::default(),
            encoded: Mutex::default(),
            batches: Mutex::default(),
            layers: Mutex::default(),
            in_layer: Barrier::new(2),
            released: Mutex::default(),
            encoder: Encoder::Ready,
        }
    }

    fn wait_for_rows(&self, rows: usize) -> bool {
        let short = |steps: &mut Vec<(usize, usize)>| {
            steps.iter().map(|(_, count)| count).sum::<usize>() < rows
        };
        let limit = Duration::from_secs(20);
        !self
            .step_taken
            .wait_timeout_while(self.steps.lock().unwrap(), limit, short)
            .unwrap()
            .1
            .timed_out()
    }
}

impl Cache for FakeCache {
    fn tokens(&self) -> usize {
        self.rows.len()
    }
    fn truncate(&mut self, tokens: usize) {
        self.rows.truncate(tokens);
    }
    fn copy(&self, tokens: usize) -> Option<Self> {
        Some(FakeCache {
            rows: self.rows[..tokens].to_vec(),
            capacity: self.capacity,
        })
    }
    fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.rows.iter().flatten();
        numbers.flat_map(|number| number.to_le_bytes()).collect()
    }
}

impl Network for FakeNetwork {
    type Cache = FakeCache;

    fn shape(&self) -> NetworkShape {
        self.shape
    }

    /// The first pixel of each tile.
    fn embed_patches(&self, pixels: &[f32], size: (u32, u32)) -> Patches {
        let tile = 3 * self.shape.tile_side.pow(2);
        assert_eq!(
            size,
            (self.shape.tile_side as u32, self.shape.tile_side as u32)
        );
        assert!(pixels.len().is_multiple_of(tile));
        let tiles = pixels.len() / tile;
        self.embedded.lock().unwrap().push(tiles);
        let mut batches = self.batches.lock().unwrap();
        batches.0 += 1;
        batches.1 = batches.1.max(batches.0);
        Patches {
            tiles,
            grid: [1, 1],
            rows: pixels.iter().step_by(tile).copied().collect(),
        }
    }

    fn encode_patches(&self, patches: Patches, cancel: &Cancel) -> Result<Vec<f32>, EngineError> {
        let call = {
            let mut encoded = self.encoded.lock().unwrap();
            encoded.push(patches.tiles);
            encoded.len()
        };
        match self.encoder {
            Encoder::FailsAt(fails) if fails == call => return Err(EngineError::Cancelled),
            Encoder::FailsAt(_) => {}
            Encoder::Ready => {}
            Encoder::AfterRows(rows) => {
                assert!(self.wait_for_rows(rows), "the decoder waited for the image")
            }
            Encoder::Layers(layers) => {
                for _ in 0..layers {
                    cancel.check()?;
                    *self.layers.lock().unwrap() += 1;
                    self.in_layer.wait();
                    self.in_layer.wait();
                }
            }
        }
        self.batches.lock().unwrap().0 -= 1;
        let tokens = self.shape.tokens_per_tile;
        let rows = patches
            .rows
            .iter()
            .flat_map(|&pixel| [[pixel, 1.0]].repeat(tokens));
        Ok(rows.flatten().collect())
    }

    fn release_encoder(&self) {
        *self.released.lock().unwrap() += 1;
    }

    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        ids.iter().flat_map(|&id| [id as f32, 0.0]).collect()
    }

    fn new_cache(&self, tokens: usize) -> FakeCache {
        FakeCache {
            rows: Vec::new(),
            capacity: tokens,
        }
    }

    fn cache_from_bytes(&self, capacity: usize, tokens: usize, bytes: &[u8]) -> Option<FakeCache> {
        let (rows, rest) = bytes.as_chunks::<8>();
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        let row = |row: &[u8; 8]| [number(&row[..4]), number(&row[4..])];
        let whole = rest.is_empty() && rows.len() == tokens && tokens <= capacity;
        whole.then(|| FakeCache {
            rows: rows.iter().map(row).collect(),
            capacity,
        })
    }

    fn forward(
        &self,
        inputs: Inputs,
        cache: &mut FakeCache,
        logits: LogitRows,
        _: &Cancel,
        _: &mut dyn Taps,
    ) -> Result<Vec<f32>, EngineError> {
        std::thread::sleep(self.step_time);
        let (rows, _) = inputs.rows.as_chunks::<2>();
        self.steps
            .lock()
            .unwrap()
            .push((cache.rows.len(), rows.len()));
        self.step_taken.notify_all();
        *self.logits.lock().unwrap() += usize::from(logits != LogitRows::None);
        cache.rows.extend_from_slice(rows);
        assert!(cache.rows.len() <= cache.capacity, "the cache is too small");
        if let Some(seed) = self.habits.or(self.noise) {
            let first = match logits {
                LogitRows::None => cache.rows.len(),
                LogitRows::Last => cache.rows.len() - 1,
                LogitRows::All => cache.rows.len() - rows.len(),
            };
            let logits_after = match self.noise {
                Some(_) => noisy_logits,
                None => habitual_logits,
            };
            let after = |at| logits_after(seed, &cache.rows[..=at], self.shape.vocabulary);
            return Ok((first..cache.rows.len()).flat_map(after).collect());
        }
        let mut said = self.said.lock().unwrap();
        let begins = cache.rows.last().is_some_and(ends_prompt);
        *said = if begins { 0 } else { *said + 1 };
        let mut row = vec![0.0; self.shape.vocabulary];
        row[self.answer[(*said).min(self.answer.len() - 1)] as usize] = 1.0;
        Ok(match logits {
            LogitRows::None => Vec::new(),
            LogitRows::Last => row,
            LogitRows::All => row.repeat(rows.len()),
        })
    }

    fn forward_batch(
        &self,
        batch: &mut [Segment<FakeCache>],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        if stop() {
            return Err(EngineError::Cancelled);
        }
        let rows = batch.iter().map(|segment| segment.inputs.len() / 2);
        self.shared_steps.lock().unwrap().push(rows.collect());
        let alone = |segment: &mut Segment<FakeCache>| {
            let (cache, logits) = (&mut *segment.cache, segment.logits);
            let inputs = segment.inputs.as_slice().into();
            self.forward(inputs, cache, logits, &Cancel::new(), &mut NoTaps)
        };
        batch.iter_mut().map(alone).collect()
    }
}

/// 7 and 8 end a prompt: `[|AI|]:` and `[|BlueThink|]`.
fn ends_prompt(row: &[f32; 2]) -> bool {
    matches!(row, [7.0 | 8.0, 0.0])
}

/// Logits of all tokens by the position and the last two rows.
fn noisy_logits(seed: u64, rows: &[[f32; 2]], vocabulary: usize) -> Vec<f32> {
    let last = rows.iter().rev().take(2).map(|row| row[0] as u64);
    let before = last.chain([rows.len() as u64]).fold(seed, |hash, id| {
        (hash ^ id)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(23)
    });
    let logit = |id: u64| {
        let hash = (before ^ id).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (hash >> 40) as f32 / (1u32 << 21) as f32
    };
    let mut logits: Vec<f32> = (0..vocabulary as u64).map(logit).collect();
    static ENDS: OnceLock<Vec<u32>> = OnceLock::new();
    for &id in ENDS.get_or_init(|| nano_tokenizer().encode("\"}],0</s>").unwrap()) {
        logits[id as usize] += 3.0;
    }
    logits
}

/// Logits of a few letters, tags and the end by the last two rows and by all of the prompt.
fn habitual_logits(habits: u64, rows: &[[f32; 2]], vocabulary: usize) -> Vec<f32> {
    let mut logits = vec![-30.0; vocabulary];
    let prompt = rows.iter().rposition(ends_prompt).unwrap_or(0);
    let prompt = rows[..prompt].iter().flatten();
    let last = rows.iter().rev().take(2).map(|row| row[0] as u64);
    let before = prompt
        .map(|number| u64::from(number.to_bits()))
        .chain(last)
        .fold(habits, |hash, number| {
            (hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
    static SAID: OnceLock<Vec<u32>> = OnceLock::new();
    let said = "abcdefg\n😀<think></think></s>";
    for &id in SAID.get_or_init(|| nano_tokenizer().encode(said).unwrap()) {
        let hash = (before ^ u64::from(id)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        logits[id as usize] = (hash >> 40) as f32 / (1u32 << 21) as f32;
    }
    logits
}
