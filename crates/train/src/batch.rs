//! Turns drawn examples into the rows of a training step: prompt tokens, labels, weights, pixels and patch labels.
//!
//! A picture is encoded once and asked several questions: the prompts of all its questions begin alike (the picture), so the
//! common beginning is written once and every question continues it as a branch that does not see the others.

use crate::TrainError;
use crate::config::{LossWeight, Stage};
use crate::labels::{self, Shown, block_marks, patch_labels};
use crate::network::{MicroBatch, PatchLabels, Sequence, Sight};
use data::{Example, Generator, Kind, MarkClass, Question, Sign};
use engine::{ChatTemplate, Message, Part, Role, Tokenizer};
use image_prep::{Preprocessor, TilePlan};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Label of a position that nothing is learned from.
pub const NO_LABEL: i32 = -100;

/// What every stage of a run shares: how text and pictures become rows.
pub struct Encoding {
    /// The start folder's tokenizer.
    pub tokenizer: Tokenizer,
    /// The start folder's chat template.
    pub template: ChatTemplate,
    /// The start folder's preprocessor.
    pub preprocessor: Preprocessor,
    /// Stands for one projected image token.
    pub image_token: u32,
    /// Ends every answer.
    pub end_token: u32,
    /// Image tokens of one tile.
    pub tokens_per_tile: usize,
    /// Side of an encoder patch in pixels.
    pub patch: usize,
    /// Side of the square of patches that becomes one image token.
    pub merge: usize,
    /// Opens and closes a thought.
    pub thought: (String, String),
}

impl Encoding {
    /// The ids that name a mark: its character's, or those of its colour and its shape, or a sign's.
    fn words(&self, mark: &MarkClass) -> Result<Vec<u32>, TrainError> {
        match mark {
            MarkClass::Glyph(glyph) => Ok(self.tokenizer.encode(&glyph.to_string())?),
            MarkClass::Shape { shape, color } => {
                let mut words = self.abbreviated(color.name(), color.name())?;
                words.extend(self.abbreviated(shape.plural(), shape.name())?);
                Ok(words)
            }
            MarkClass::Sign(Sign::Checked) => Ok(self.tokenizer.encode("[x]")?),
            MarkClass::Sign(Sign::Unchecked) => Ok(self.tokenizer.encode("[]")?),
            MarkClass::Sign(Sign::BarEnd) => self.abbreviated("bar", "bar"),
        }
    }

    /// The id of `word`, or where it is not one token the first and the last of `spelled`, which differ for all shapes and colours.
    fn abbreviated(&self, word: &str, spelled: &str) -> Result<Vec<u32>, TrainError> {
        let whole = self.tokenizer.encode(word)?;
        if whole.len() == 1 {
            return Ok(whole);
        }
        let ids = self.tokenizer.encode(spelled)?;
        Ok(ids.first().into_iter().chain(ids.last()).copied().collect())
    }
}

/// Which question a run of labels belongs to, for the accuracy per kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What kind of question it is.
    pub kind: Kind,
    /// Whether the answer is written after a thought.
    pub thinking: bool,
}

/// The work of one optimizer step.
pub struct StepBatch {
    /// Independent parts whose gradients are summed in this order.
    pub parts: Vec<MicroBatch>,
    /// For each part and each of its sequences: the questions, branch 1 first.
    pub asked: Vec<Vec<Vec<Asked>>>,
    /// Sum of all label weights: what the summed loss is divided by.
    pub weight: f64,
    /// Decoder rows.
    pub rows: usize,
    /// Tiles through the encoder.
    pub tiles: usize,
}

/// Makes the batches of one stage; the same step gives the same batch in any order of asking.
pub struct BatchMaker<'a> {
    encoding: &'a Encoding,
    stage: &'a Stage,
    generator: Generator,
    seed: u64,
}

/// What stands before a question.
#[derive(Clone, Copy)]
enum Seen<'a> {
    /// A picture of so many tiles.
    Tiles(usize),
    /// The same as text.
    Text(&'a str),
}

/// One example, ready to be placed in a part.
#[derive(Default)]
struct Row {
    sequence: Sequence,
    asked: Vec<Asked>,
    pixels: Vec<f32>,
    classes: Vec<i32>,
    target: Sight,
}

impl<'a> BatchMaker<'a> {
    /// Batches of `stage` for `seed`; a held-out set is the same stage with another seed.
    pub fn new(
        encoding: &'a Encoding,
        stage: &'a Stage,
        seed: u64,
    ) -> Result<BatchMaker<'a>, TrainError> {
        Ok(BatchMaker {
            encoding,
            stage,
            generator: Generator::new(seed, stage.data.clone())?,
            seed,
        })
    }

    /// The batch of optimizer step `step` of the stage.
    pub fn step(&self, step: u64) -> Result<StepBatch, TrainError> {
        let count = self.stage.micro_batches * self.stage.pictures;
        let mut rows = (0..count as u64)
            .map(|k| self.row(step * count as u64 + k))
            .collect::<Result<Vec<Row>, TrainError>>()?;
        // Deal the costliest examples first, so that the parts take about equally long.
        rows.sort_by_key(|row| {
            std::cmp::Reverse(row.pixels.len() / 64 + row.sequence.tokens.len() * 768)
        });
        let mut parts: Vec<Vec<Row>> = (0..self.stage.micro_batches).map(|_| Vec::new()).collect();
        for (at, row) in rows.into_iter().enumerate() {
            let round = at / parts.len();
            let slot = if round.is_multiple_of(2) {
                at % parts.len()
            } else {
                parts.len() - 1 - at % parts.len()
            };
            parts[slot].push(row);
        }
        Ok(self.collect(parts))
    }

    fn collect(&self, parts: Vec<Vec<Row>>) -> StepBatch {
        let mut batch = StepBatch {
            parts: Vec::new(),
            asked: Vec::new(),
            weight: 0.0,
            rows: 0,
            tiles: 0,
        };
        let patch_labels: usize = parts
            .iter()
            .flatten()
            .map(|row| {
                row.classes
                    .iter()
                    .filter(|class| **class != labels::IGNORE)
                    .count()
            })
            .sum();
        let drawn: f32 = parts.iter().flatten().map(|row| row.target.weight()).sum();
        for rows in parts {
            let mut part = MicroBatch {
                sequences: Vec::new(),
                pixels: Vec::new(),
                patch_labels: None,
                target: None,
            };
            let mut classes = Vec::new();
            let mut target = Sight::default();
            let mut asked = Vec::new();
            for row in rows {
                batch.weight += row
                    .sequence
                    .weights
                    .iter()
                    .map(|w| f64::from(*w))
                    .sum::<f64>();
                batch.rows += row.sequence.tokens.len();
                batch.tiles += row.sequence.tiles;
                part.pixels.extend(row.pixels);
                classes.extend(row.classes);
                target.append(row.target);
                if !row.sequence.tokens.is_empty() {
                    part.sequences.push(row.sequence);
                    asked.push(row.asked);
                }
            }
            if self.stage.patch_weight > 0.0 && !classes.is_empty() {
                part.patch_labels = Some(PatchLabels {
                    slots: labels::SLOTS,
                    classes,
                    weight: self.stage.patch_weight / patch_labels.max(1) as f32,
                });
            }
            if !target.is_empty() {
                part.target = Some((target, self.stage.sight_weight / drawn.max(1.0)));
            }
            batch.parts.push(part);
            batch.asked.push(asked);
        }
        batch
    }

    fn row(&self, index: u64) -> Result<Row, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ 0x7261_696e_2062_6174);
        random.set_stream(index);
        if unit(&mut random) < self.stage.text_only_share {
            let (questions, twin) = self.generator.text(index);
            // What has no words is always shown.
            if !twin.is_empty() {
                return self.text_row(index, &questions, &twin, random);
            }
        }
        let example = self.generator.example(index);
        let questions = self.choose(&example.questions, &mut random);
        let mut row = Row::default();
        let picture = &example.picture;
        let plan = self
            .encoding
            .preprocessor
            .plan(picture.width, picture.height);
        let mut told = None;
        if unit(&mut random) < self.stage.sight_share {
            told = Some(self.sight(&example, &plan)?);
        } else {
            self.show(&example, &plan, &mut row)?;
        }
        if self.stage.questions > 0 {
            let seen = Seen::Tiles(plan.tiles);
            (row.sequence, row.asked) = self.sequence(index, seen, &questions)?;
        }
        row.sequence.tiles = plan.tiles;
        row.sequence.sight = told;
        Ok(row)
    }

    /// A content that stands in the prompt as text.
    fn text_row(
        &self,
        index: u64,
        questions: &[Question],
        twin: &str,
        mut random: ChaCha8Rng,
    ) -> Result<Row, TrainError> {
        let questions = self.choose(questions, &mut random);
        let mut row = Row::default();
        if self.stage.questions > 0 {
            (row.sequence, row.asked) = self.sequence(index, Seen::Text(twin), &questions)?;
        }
        Ok(row)
    }

    /// Pixels of a picture, and the labels that the stage asks for.
    fn show(&self, example: &Example, plan: &TilePlan, row: &mut Row) -> Result<(), TrainError> {
        let preprocessor = &self.encoding.preprocessor;
        row.pixels = preprocessor.prepare(&example.picture).pixels;
        if self.stage.sight_weight > 0.0 {
            row.target = self.sight(example, plan)?;
        }
        if self.stage.patch_weight > 0.0 {
            let size = (example.picture.width, example.picture.height);
            let (side, patch) = (preprocessor.tile_size(), self.encoding.patch);
            row.classes = patch_labels(&example.marks, size, plan, side, patch);
        }
        Ok(())
    }

    /// What an encoder without mistakes would see in each image token of a picture.
    fn sight(&self, example: &Example, plan: &TilePlan) -> Result<Sight, TrainError> {
        let encoding = self.encoding;
        let side = encoding.preprocessor.tile_size();
        let block = (encoding.patch, encoding.merge);
        let size = (example.picture.width, example.picture.height);
        let mut sight = Sight::default();
        for place in block_marks(&example.marks, size, plan, side, block) {
            match place {
                Shown::Marks(marks) => {
                    let mut words = Vec::new();
                    for mark in marks {
                        words.extend(encoding.words(mark)?);
                    }
                    sight.push(&words, true);
                }
                Shown::Illegible => sight.push(&[], false),
                Shown::Outside => sight.push(&[encoding.end_token], true),
            }
        }
        Ok(sight)
    }

    /// Up to `questions` of the example's questions without repetition, by the stage's weights, each with or without a thought.
    fn choose<'e>(
        &self,
        questions: &'e [Question],
        random: &mut ChaCha8Rng,
    ) -> Vec<(&'e Question, bool)> {
        let mut keyed: Vec<(f64, &Question)> = questions
            .iter()
            .map(|question| {
                let weight = f64::from(*self.stage.kinds.get(question.kind.name()).unwrap_or(&1.0));
                // Weighted sampling without replacement: the smallest of exponential draws (Efraimidis and Spirakis).
                (-(1.0 - f64::from(unit(random))).ln() / weight, question)
            })
            .filter(|(key, _)| key.is_finite())
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        keyed.truncate(self.stage.questions);
        keyed
            .into_iter()
            .map(|(_, question)| {
                (
                    question,
                    question.thought.is_some() && unit(random) < self.stage.thinking_share,
                )
            })
            .collect()
    }

    fn sequence(
        &self,
        index: u64,
        seen: Seen,
        questions: &[(&Question, bool)],
    ) -> Result<(Sequence, Vec<Asked>), TrainError> {
        let mut prompts = Vec::with_capacity(questions.len());
        for (question, thinking) in questions {
            prompts.push(self.prompt(seen, question, *thinking)?);
        }
        let mut shared = common_prefix(&prompts);
        let places = |ids: &[u32]| {
            ids.iter()
                .filter(|id| **id == self.encoding.image_token)
                .count()
        };
        if prompts
            .first()
            .is_some_and(|first| places(&first[..shared]) != places(first))
        {
            // A template that puts the question before the picture: one question, so that the picture stands in one place only.
            prompts.truncate(1);
            shared = common_prefix(&prompts);
        }
        let mut sequence = Sequence::default();
        let mut asked = Vec::new();
        if let Some(first) = prompts.first() {
            sequence.tokens.extend(&first[..shared]);
        }
        sequence.positions.extend(0..shared as u32);
        sequence.branch.resize(shared, 0);
        sequence.labels.resize(shared, NO_LABEL);
        sequence.weights.resize(shared, 0.0);
        for ((question, thinking), prompt) in questions.iter().zip(&prompts) {
            let answer = self.answer(question, *thinking);
            if sequence.tokens.len() + prompt.len() - shared + answer.len()
                > self.stage.sequence_length
            {
                continue;
            }
            asked.push(Asked {
                kind: question.kind,
                thinking: *thinking,
            });
            push_branch(
                &mut sequence,
                &prompt[shared..],
                &answer,
                asked.len() as u32,
                shared as u32,
                self.stage.loss_weight,
            );
        }
        if sequence.labels.iter().all(|label| *label == NO_LABEL) {
            let problem = format!(
                "0 supervised tokens in {} rows and {} questions; expected at least one answer that fits sequence_length {}",
                sequence.tokens.len(),
                questions.len(),
                self.stage.sequence_length
            );
            return Err(TrainError::Example {
                name: format!("{} {index}", self.stage.name),
                problem,
            });
        }
        Ok((sequence, asked))
    }

    /// The ids of the prompt of one question, its picture's places repeated.
    fn prompt(
        &self,
        seen: Seen,
        question: &Question,
        thinking: bool,
    ) -> Result<Vec<u32>, TrainError> {
        let (content, tiles) = match seen {
            Seen::Text(twin) => {
                let text = format!("{twin}\n{}", question.question);
                (vec![Part::Text(text)], 0)
            }
            Seen::Tiles(tiles) => {
                let question = Part::Text(question.question.clone());
                (vec![Part::Image(0), question], tiles)
            }
        };
        let messages = [Message {
            role: Role::User,
            content,
        }];
        let text = self
            .encoding
            .template
            .render(&messages, Some(thinking), &Default::default())?;
        let mut ids = Vec::new();
        for id in self.encoding.tokenizer.encode(&text)? {
            let places = if id == self.encoding.image_token {
                tiles * self.encoding.tokens_per_tile
            } else {
                1
            };
            ids.resize(ids.len() + places, id);
        }
        Ok(ids)
    }

    fn answer(&self, question: &Question, thinking: bool) -> Vec<u32> {
        let text = match (&question.thought, thinking) {
            (Some(thought), true) => format!(
                "{}{thought}{}{}",
                self.encoding.thought.0, self.encoding.thought.1, question.answer
            ),
            _ => question.answer.clone(),
        };
        let mut ids = self.encoding.tokenizer.encode(&text).unwrap_or_default();
        ids.push(self.encoding.end_token);
        ids
    }
}

fn push_branch(
    sequence: &mut Sequence,
    prompt: &[u32],
    answer: &[u32],
    branch: u32,
    position: u32,
    weight: LossWeight,
) {
    let weight = match weight {
        LossWeight::Token => 1.0,
        LossWeight::Sample => 1.0 / answer.len() as f32,
        LossWeight::Square => 1.0 / (answer.len() as f32).sqrt(),
    };
    // The last answer token ends the turn: it is predicted but predicts nothing, so it needs no row.
    let rows = prompt.len() + answer.len() - 1;
    for at in 0..rows {
        sequence.tokens.push(if at < prompt.len() {
            prompt[at]
        } else {
            answer[at - prompt.len()]
        });
        sequence.positions.push(position + at as u32);
        sequence.branch.push(branch);
        let supervised = at + 1 >= prompt.len();
        sequence.labels.push(if supervised {
            answer[at + 1 - prompt.len()] as i32
        } else {
            NO_LABEL
        });
        sequence.weights.push(if supervised { weight } else { 0.0 });
    }
}

/// How many ids all prompts begin with alike, leaving at least one of each.
fn common_prefix(prompts: &[Vec<u32>]) -> usize {
    let Some(first) = prompts.first() else {
        return 0;
    };
    let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
    (0..shortest.saturating_sub(1))
        .take_while(|at| prompts.iter().all(|prompt| prompt[*at] == first[*at]))
        .count()
}

/// A number in 0..1 from the stream.
fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::Start;
    use data::{Color, Shape};
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_shape_in_every_color_is_told_apart_and_fits_one_image_token() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/nano");
        let start = Start::open(&folder).expect("the start of the model inside");
        let mut told = BTreeSet::new();
        for shape in Shape::ALL {
            for color in Color::ALL {
                let words = start.encoding.words(&MarkClass::Shape { shape, color });
                let words = words.expect("words that the tokenizer knows");
                assert!(words.len() <= 4, "{shape:?} {color:?}: {words:?}");
                assert!(told.insert(words), "{shape:?} {color:?} again");
            }
        }
        for sign in [Sign::Checked, Sign::Unchecked, Sign::BarEnd] {
            let words = start.encoding.words(&MarkClass::Sign(sign));
            assert!(told.insert(words.expect("words that the tokenizer knows")));
        }
    }
}
