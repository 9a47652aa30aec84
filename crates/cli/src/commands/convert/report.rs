//! How far a bundle is from the model that it was made of: cosines of what each part gives, divergence of the next token's
//! probabilities, and right answers to questions about drawn pictures.

use std::collections::BTreeMap;
use std::fmt;

use engine::{Cancel, Engine};
use model::{Inputs, LogitRows, Taps};
use serde::Serialize;

use super::questions::{Answer, Asked, ask, features, held_out};

/// Questions about one picture: they share its encoding.
const QUESTIONS_OF_A_PICTURE: usize = 6;

/// What was lost.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Questions asked.
    pub questions: usize,
    /// Pictures that they were about.
    pub pictures: usize,
    /// Cosine of the rows that each part gives, the mean over all rows, in the order of computation.
    pub cosines: Vec<(String, f64)>,
    /// Cosine of the logits where answers are written.
    pub logits_cosine: f64,
    /// Kullback-Leibler divergence of the next token's probabilities from the reference's, in nats, mean over those places.
    pub kl: f64,
    /// Share of those places with the same likeliest token.
    pub same_token: f64,
    /// The reference.
    pub reference: Quality,
    /// The bundle.
    pub bundle: Quality,
}

/// How well answers are known.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quality {
    /// Nats of a token of the right answer, the ones before it given.
    pub loss: f64,
    /// Share of questions whose whole answer is the likeliest, token by token.
    pub right: f64,
}

/// Sums on the way to a report.
#[derive(Default)]
struct Sums {
    cosines: BTreeMap<String, (f64, usize)>,
    logits_cosine: f64,
    kl: f64,
    same_token: usize,
    tokens: usize,
    questions: usize,
    pictures: usize,
    reference: Quality,
    bundle: Quality,
}

/// What one of the two models makes of a picture and the questions about it.
struct Seen {
    taps: Kept,
    /// `[answer tokens, vocabulary]` for each question.
    logits: Vec<Vec<f32>>,
    asked: Vec<Asked>,
}

/// Intermediates that are compared.
#[derive(Default)]
struct Kept(BTreeMap<String, (usize, Vec<f32>)>);

impl Taps for Kept {
    fn wants(&self, name: &str) -> bool {
        name != "merged"
    }

    fn tap(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        if self.wants(name) {
            let width = shape.last().copied().unwrap_or(1);
            self.0.insert(name.into(), (width, data.to_vec()));
        }
    }
}

/// Asks both models `questions` questions; `progress` is told how many are done.
pub fn measure(
    reference: &Engine,
    bundle: &Engine,
    questions: usize,
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize),
) -> anyhow::Result<Report> {
    let generator = held_out()?;
    let mut sums = Sums::default();
    for index in 0.. {
        let example = generator.example(index);
        let left = questions - sums.questions;
        let count = QUESTIONS_OF_A_PICTURE
            .min(left)
            .min(example.questions.len());
        let expected = look(reference, &example, count, cancel)?;
        let found = look(bundle, &example, count, cancel)?;
        sums.add(&expected, &found);
        progress(sums.questions);
        if sums.questions >= questions {
            break;
        }
    }
    Ok(sums.report())
}

fn look(
    engine: &Engine,
    example: &data::Example,
    questions: usize,
    cancel: &Cancel,
) -> anyhow::Result<Seen> {
    let (network, cancelled) = (engine.network(), || cancel.is_cancelled());
    let (d, vocabulary) = (network.spec().hidden_size(), network.spec().vocab_size());
    let mut taps = Kept::default();
    let features = features(engine, example, cancel, &mut taps)?;
    let asked = example.questions[..questions]
        .iter()
        .map(|question| ask(engine, example, question, Answer::Plain, &features))
        .collect::<Result<Vec<_>, _>>()?;
    let longest = asked.iter().map(|asked| asked.rows.len() / d).max();
    let mut cache = network.new_cache(longest.unwrap_or(0));
    let mut logits = Vec::new();
    for (at, asked) in asked.iter().enumerate() {
        let shared = asked.shared_rows;
        if at == 0 && shared > 0 {
            let rows = Inputs {
                rows: &asked.rows[..shared * d],
                positions: asked.shared_positions(),
                pictures: &asked.pictures,
            };
            network.forward_at(rows, &mut cache, LogitRows::None, &cancelled, &mut taps)?;
        }
        cache.truncate(shared);
        let rows = &asked.rows[shared * d..];
        let all = LogitRows::All;
        let mut own = network.forward(rows, &mut cache, all, &cancelled, &mut model::NoTaps)?;
        // The last row of the prompt gives the answer's first token.
        own.drain(..(asked.prompt_rows - shared - 1) * vocabulary);
        logits.push(own);
    }
    Ok(Seen {
        taps,
        logits,
        asked,
    })
}

impl Sums {
    fn add(&mut self, expected: &Seen, found: &Seen) {
        for (name, (width, expected)) in &expected.taps.0 {
            let Some((_, found)) = found.taps.0.get(name) else {
                continue;
            };
            let (sum, count) = self.cosines.entry(name.clone()).or_default();
            for (expected, found) in expected.chunks(*width).zip(found.chunks(*width)) {
                *sum += cosine(expected, found);
                *count += 1;
            }
        }
        self.pictures += 1;
        for (at, asked) in expected.asked.iter().enumerate() {
            let width = expected.logits[at].len() / asked.answer.len();
            let (mut expected_right, mut found_right) = (true, true);
            let rows = expected.logits[at]
                .chunks(width)
                .zip(found.logits[at].chunks(width));
            for ((expected, found), id) in rows.zip(&asked.answer) {
                self.logits_cosine += cosine(expected, found);
                let (p, q) = (log_softmax(expected), log_softmax(found));
                self.kl += p
                    .iter()
                    .zip(&q)
                    .map(|(p, q)| p.exp() * (p - q))
                    .sum::<f64>();
                let (first, second) = (likeliest(expected), likeliest(found));
                self.same_token += usize::from(first == second);
                let id = *id as usize;
                self.reference.loss -= p[id];
                self.bundle.loss -= q[id];
                expected_right &= first == id;
                found_right &= second == id;
                self.tokens += 1;
            }
            self.questions += 1;
            self.reference.right += f64::from(u8::from(expected_right));
            self.bundle.right += f64::from(u8::from(found_right));
        }
    }

    fn report(self) -> Report {
        let (tokens, questions) = (self.tokens.max(1) as f64, self.questions.max(1) as f64);
        let quality = |sum: Quality| Quality {
            loss: sum.loss / tokens,
            right: sum.right / questions,
        };
        let mut cosines: Vec<_> = self
            .cosines
            .into_iter()
            .map(|(name, (sum, count))| (name, sum / count.max(1) as f64))
            .collect();
        cosines.sort_by_key(|(name, _)| place(name));
        Report {
            questions: self.questions,
            pictures: self.pictures,
            cosines,
            logits_cosine: self.logits_cosine / tokens,
            kl: self.kl / tokens,
            same_token: self.same_token as f64 / tokens,
            reference: quality(self.reference),
            bundle: quality(self.bundle),
        }
    }
}

/// Where a name stands in the order of computation.
fn place(name: &str) -> (usize, usize) {
    match name.strip_prefix("hidden.") {
        None if name == "vision_features" => (0, 0),
        None => (1, 0),
        Some(layer) => layer.parse().map_or((3, 0), |layer| (2, layer)),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 1.0 }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits.iter().map(|logit| f64::from(logit - highest));
    let sum: f64 = shifted.clone().map(f64::exp).sum();
    shifted.map(|logit| logit - sum.ln()).collect()
}

/// The first of the likeliest tokens, as the sampler takes it.
fn likeliest(logits: &[f32]) -> usize {
    let better = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).fold(0, better)
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        writeln!(out, "{:<18} cosine", "after")?;
        for (name, cosine) in &self.cosines {
            writeln!(out, "{name:<18} {cosine:.5}")?;
        }
        writeln!(out, "{:<18} {:.5}", "logits", self.logits_cosine)?;
        writeln!(out)?;
        writeln!(out, "{:<18} {:.5} nats", "KL of next token", self.kl)?;
        writeln!(
            out,
            "{:<18} {:.2}%",
            "same likeliest",
            100.0 * self.same_token
        )?;
        writeln!(out)?;
        writeln!(
            out,
            "{:<18} {:>8} {:>8}   {} questions about {} pictures",
            "", "loss", "right", self.questions, self.pictures
        )?;
        for (name, quality) in [("before", self.reference), ("bundle", self.bundle)] {
            let right = format!("{:.1}%", 100.0 * quality.right);
            writeln!(out, "{name:<18} {:>8.4} {right:>8}", quality.loss)?;
        }
        Ok(())
    }
}
