//! Pictures with questions that `convert` draws itself: what a model meets while its weights are rounded, and what it is asked
//! afterwards. The two never share a picture.

use std::ops::Range;

use data::{Example, Generator, Recipe};
use engine::{Cancel, Engine, Piece, Prompt, Request};
use model::convert::Sequence;
use model::{NoTaps, Taps};

/// Seed of the pictures that weights are rounded with.
const CALIBRATION_SEED: u64 = 0x0c0a_1111;
/// Seed of the pictures that are asked about.
const HELD_OUT_SEED: u64 = 0x0be1_0da7;
/// Rows that weights are rounded with: several times as many as the widest matrix of a 3B model has inputs.
const CALIBRATION_ROWS: usize = 48_000;

/// One question as rows for the decoder.
pub struct Asked {
    /// Rows of the prompt, `[prompt_rows, d]`, then those of the answer but its last token.
    pub rows: Vec<f32>,
    /// Where the rows of the prompt stand, for decoders whose positions do not count by one.
    pub positions: Option<Vec<[u32; 3]>>,
    /// Which of them are pictures.
    pub pictures: Vec<Range<usize>>,
    /// Rows of the prompt.
    pub prompt_rows: usize,
    /// Rows at the beginning that all questions about this picture share.
    pub shared_rows: usize,
    /// Tokens of the answer, the one that ends it last.
    pub answer: Vec<u32>,
}

impl Asked {
    /// Where the shared rows stand; what comes after them is text, which goes on from there.
    pub fn shared_positions(&self) -> Option<&[[u32; 3]]> {
        let positions = self.positions.as_ref()?;
        Some(&positions[..self.shared_rows])
    }
}

/// Examples that weights are not rounded with and models are not trained with.
pub fn held_out() -> anyhow::Result<Generator> {
    Ok(Generator::new(HELD_OUT_SEED, Recipe::default())?)
}

/// Rows of prompts and answers for [`model::convert::Conversion`]; `progress` is told rows done and rows wanted.
pub fn calibration(
    engine: &Engine,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize, usize),
) -> anyhow::Result<Vec<Sequence>> {
    let generator = Generator::new(CALIBRATION_SEED, Recipe::default())?;
    let d = engine.network().spec().hidden_size();
    let (mut sequences, mut done) = (Vec::new(), 0);
    for index in 0.. {
        let example = generator.example(index);
        let features = features(engine, &example, cancel, &mut NoTaps)?;
        let asked = example
            .questions
            .iter()
            .flat_map(|question| answers(engine, question))
            .map(|(question, answer)| ask(engine, &example, question, answer, &features))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(first) = asked.first() else {
            continue;
        };
        let shared = first.shared_rows;
        let shared_rows = first.rows[..shared * d].to_vec();
        let positions = first.shared_positions().map(<[_]>::to_vec);
        let branch = |asked: Asked| asked.rows[shared * d..].to_vec();
        let branches: Vec<_> = asked.into_iter().map(branch).collect();
        let own = branches.iter().map(|rows| rows.len() / d).sum::<usize>();
        done += shared + own;
        sequences.push(Sequence {
            shared: shared_rows,
            positions,
            branches,
            // All questions together count as much as the picture.
            branch_weight: (shared as f32 / own as f32).max(1.0),
        });
        progress(done.min(CALIBRATION_ROWS), CALIBRATION_ROWS);
        if done >= CALIBRATION_ROWS {
            break;
        }
    }
    Ok(sequences)
}

/// The picture as decoder rows; nothing for a model that sees nothing.
pub fn features(
    engine: &Engine,
    example: &Example,
    cancel: &Cancel,
    taps: &mut dyn Taps,
) -> anyhow::Result<Vec<f32>> {
    if engine.network().spec().vision.is_none() {
        return Ok(Vec::new());
    }
    let preprocessor = engine.files().preprocessor.among(1);
    let mut tiles = preprocessor.tiles(&example.picture);
    let cancelled = || cancel.is_cancelled();
    let (network, mut features) = (engine.network(), Vec::new());
    while tiles.left() > 0 {
        let (count, size) = tiles.alike(usize::MAX);
        let mut pixels = Vec::new();
        tiles.read(count, &mut pixels);
        let patches = network.embed_patches(&pixels, size);
        features.extend(network.encode_patches(patches, &cancelled, taps)?);
    }
    Ok(network.assemble(tiles.views(), features))
}

/// How a question is answered.
#[derive(Clone, Copy)]
pub enum Answer {
    /// At once.
    Plain,
    /// After the thought that the generator wrote for it.
    Thoughtful,
}

/// Plainly, and with a thought where there is one and the model thinks.
fn answers<'a>(
    engine: &Engine,
    question: &'a data::Question,
) -> impl Iterator<Item = (&'a data::Question, Answer)> {
    let files = engine.files();
    // A vocabulary may have tags of thoughts that the model's template knows nothing of.
    let thinks = files.generation.thinking.is_some() && files.template.knows_thinking();
    let thinks = thinks && question.thought.is_some();
    let thoughtful = thinks.then_some(Answer::Thoughtful);
    let answers = std::iter::once(Answer::Plain).chain(thoughtful);
    answers.map(move |answer| (question, answer))
}

/// A question about a picture that was encoded.
pub fn ask(
    engine: &Engine,
    example: &Example,
    question: &data::Question,
    answer: Answer,
    features: &[f32],
) -> anyhow::Result<Asked> {
    let (network, files) = (engine.network(), engine.files());
    let (images, text) = match network.spec().vision.is_some() {
        true => (vec![example.picture.clone()], question.question.clone()),
        // Who sees nothing is told.
        false => (
            Vec::new(),
            format!("{}\n{}", example.twin, question.question),
        ),
    };
    let mut request = Request::question(images, text);
    request.thinking = Some(matches!(answer, Answer::Thoughtful));
    let prompt = engine.prompt(&request)?;
    let text = match (answer, &question.thought, &files.generation.thinking) {
        (Answer::Thoughtful, Some(thought), Some(tags)) => {
            format!("{}{thought}{}{}", tags.start, tags.end, question.answer)
        }
        _ => question.answer.clone(),
    };
    let mut answer = files.tokenizer.encode(&text)?;
    let end = files.eos_token.as_deref();
    answer.extend(end.and_then(|token| files.tokenizer.token_to_id(token)));
    let mut rows = rows(engine, &prompt, features);
    rows.extend(network.embed(&answer[..answer.len().saturating_sub(1)]));
    let shared = |piece: &Piece| match piece {
        Piece::Image { places, .. } => Some(places.end),
        Piece::Text(_) => None,
    };
    Ok(Asked {
        rows,
        positions: prompt.positions.clone(),
        pictures: prompt.pictures(0..prompt.ids.len()),
        prompt_rows: prompt.ids.len(),
        shared_rows: prompt.pieces.iter().filter_map(shared).max().unwrap_or(0),
        answer,
    })
}

fn rows(engine: &Engine, prompt: &Prompt, features: &[f32]) -> Vec<f32> {
    let (d, mut rows) = (engine.network().spec().hidden_size(), Vec::new());
    for piece in &prompt.pieces {
        match piece {
            Piece::Text(range) => rows.extend(engine.network().embed(&prompt.ids[range.clone()])),
            Piece::Image {
                places, first_row, ..
            } => rows.extend_from_slice(&features[first_row * d..][..places.len() * d]),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_model_that_can_be_told_to_think_is_shown_thoughts() {
        let generator = Generator::new(CALIBRATION_SEED, Recipe::default()).unwrap();
        let thoughtful = (0..)
            .flat_map(|index| generator.example(index).questions)
            .find(|question| question.thought.is_some())
            .unwrap();
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
        for (folder, count) in [("engine_2_5/model", 2), ("families/qwen2_5_vl/model", 1)] {
            let engine = Engine::load(&golden.join(folder)).unwrap();
            assert!(engine.files().generation.thinking.is_some(), "{folder}");
            assert_eq!(answers(&engine, &thoughtful).count(), count, "{folder}");
        }
    }
}
