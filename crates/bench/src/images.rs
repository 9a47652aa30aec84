//! What an engine makes of a whole picture: from its bytes to rows, in batches of several sizes, with the pipeline and
//! without; and to the first token of an answer, with the decoder waiting for the image and without.

use crate::error::BenchError;
use crate::figure::{Figure, Unit};
use engine::{Cancel, Encoding, Engine, EngineError, Network, Overlap, Request, Schedule};
use image_prep::Picture;

/// What is measured.
#[derive(Clone, Debug)]
pub struct ImagePlan {
    /// Width and height of the picture.
    pub size: (u32, u32),
    /// Tiles that are encoded together.
    pub batches: Vec<usize>,
    /// How the encoder is used otherwise.
    pub encoding: Encoding,
    /// Tokens of a prompt, the image's among them, whose answer's first token is waited for.
    pub prompt: Option<usize>,
    /// Rounds.
    pub runs: usize,
}

/// One thing to be measured in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Encode { batch: usize, schedule: Schedule },
    FirstToken { prompt: usize, overlap: Overlap },
}

impl Job {
    fn name(self, plan: &ImagePlan) -> String {
        let (width, height) = plan.size;
        match self {
            Job::Encode { batch, schedule } => {
                let how = match schedule {
                    Schedule::Sequence => "in sequence",
                    Schedule::Pipeline => "pipelined",
                };
                format!("picture of {width} x {height} to rows, batches of {batch}, {how}")
            }
            Job::FirstToken { prompt, overlap } => {
                let how = match overlap {
                    Overlap::None => "image first",
                    Overlap::Steps => "prefill beside the image",
                };
                format!("first token after {prompt} tokens, {how}")
            }
        }
    }
}

fn jobs(plan: &ImagePlan) -> Vec<Job> {
    let schedules = [Schedule::Sequence, Schedule::Pipeline];
    let encode = plan.batches.iter().flat_map(|&batch| {
        let job = move |schedule| Job::Encode { batch, schedule };
        schedules.map(job)
    });
    let first = plan.prompt.into_iter().flat_map(|prompt| {
        let job = move |overlap| Job::FirstToken { prompt, overlap };
        [Overlap::None, Overlap::Steps].map(job)
    });
    encode.chain(first).collect()
}

/// Measures an engine as the plan says, round by round. `progress` hears the name of what comes next. Not to be called in the
/// engine's own threads.
pub fn measure_images<N: Network>(
    mut engine: Engine<N>,
    plan: &ImagePlan,
    cancel: &Cancel,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>, BenchError> {
    let picture = noisy_picture(plan.size);
    let request = match plan.prompt {
        Some(tokens) => question(&engine, &picture, tokens)?,
        None => Request::default(),
    };
    let request = Request {
        max_tokens: Some(1),
        ..request
    };
    let jobs = jobs(plan);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); jobs.len()];
    for round in 0..=plan.runs {
        for (job, times) in jobs.iter().zip(&mut times) {
            progress(&format!(
                "round {round} of {}: {}",
                plan.runs,
                job.name(plan)
            ));
            let time = match *job {
                Job::Encode { batch, schedule } => {
                    let encoding = Encoding {
                        batch_tiles: batch,
                        schedule,
                        ..plan.encoding
                    };
                    engine.encode(&picture, encoding, cancel)?.milliseconds
                }
                Job::FirstToken { overlap, .. } => {
                    engine = engine.with_overlap(overlap);
                    let reply = engine.generate(&request, cancel, &mut |_| {})?;
                    reply.timings.first_token_ms
                }
            };
            if round > 0 {
                times.push(time);
            }
        }
    }
    Ok(figures(plan, &jobs, &times))
}

/// A figure for each job, and what the second of a pair brings in the same round.
fn figures(plan: &ImagePlan, jobs: &[Job], times: &[Vec<f64>]) -> Vec<Figure> {
    let (mut figures, mut of_pairs) = (Vec::new(), Vec::new());
    for (jobs, times) in jobs.chunks_exact(2).zip(times.chunks_exact(2)) {
        for (job, times) in jobs.iter().zip(times) {
            let group = match job {
                Job::Encode { .. } => "image",
                Job::FirstToken { .. } => "first token",
            };
            let figure = Figure::new(group, job.name(plan), Unit::Milliseconds, times);
            figures.push(match *job {
                Job::Encode {
                    batch,
                    schedule: Schedule::Pipeline,
                } => figure.at(batch),
                _ => figure,
            });
        }
        let gains: Vec<f64> = times[0].iter().zip(&times[1]).map(|(a, b)| a / b).collect();
        let name = match jobs[1] {
            Job::Encode { batch, .. } => format!("the pipeline's gain, batches of {batch}"),
            Job::FirstToken { .. } => "the gain of prefill beside the image".into(),
        };
        of_pairs.push(Figure::new("gain", name, Unit::Ratio, &gains));
    }
    figures.extend(of_pairs);
    figures
}

/// A picture that compresses to nothing.
pub fn noisy_picture((width, height): (u32, u32)) -> Picture {
    let pixels = width as usize * height as usize;
    let rgb = (0..3 * pixels).map(|at| (crate::measure::spread(at) >> 24) as u8);
    Picture::new(width, height, rgb.collect()).expect("a picture that is measured has pixels")
}

/// A question about a picture whose prompt has nearly so many tokens, never more. Where the picture alone takes more, it is a
/// question without one.
pub fn question<N: Network>(
    engine: &Engine<N>,
    picture: &Picture,
    tokens: usize,
) -> Result<Request, BenchError> {
    let of_words = |pictures: &[Picture], words: usize| {
        Request::question(pictures.to_vec(), "a ".repeat(words))
    };
    let length = |request: &Request| match engine.prompt(request) {
        Ok(prompt) => Ok(prompt.ids.len()),
        Err(EngineError::PromptTooLong { prompt_tokens, .. }) => Ok(prompt_tokens),
        Err(error) => Err(error),
    };
    let mut pictures = vec![picture.clone()];
    let sees = engine.network().shape().image_ids.is_some();
    if !sees || length(&of_words(&pictures, 1))? > tokens {
        pictures.clear();
    }
    let (mut fits, mut too_long) = (1, tokens + 1);
    while too_long - fits > 1 {
        let middle = fits.midpoint(too_long);
        match length(&of_words(&pictures, middle))? <= tokens {
            true => fits = middle,
            false => too_long = middle,
        }
    }
    Ok(of_words(&pictures, fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> ImagePlan {
        ImagePlan {
            size: (8, 4),
            batches: vec![1, 4],
            encoding: Encoding::default(),
            prompt: Some(20),
            runs: 2,
        }
    }

    #[test]
    fn a_gain_is_that_of_the_same_round() {
        let plan = plan();
        let jobs = jobs(&plan);
        assert_eq!(jobs.len(), 2 * 2 + 2);
        // Everything of the second round took twice as long: the machine slowed down, the gains are those of the first.
        let times: Vec<Vec<f64>> = [30.0, 20.0, 30.0, 24.0, 90.0, 100.0]
            .iter()
            .map(|&time| vec![time, 2.0 * time])
            .collect();
        let figures = figures(&plan, &jobs, &times);
        let gains: Vec<(f64, f64, f64)> = figures
            .iter()
            .filter(|figure| figure.group == "gain")
            .map(|figure| (figure.least, figure.median, figure.most))
            .collect();
        assert_eq!(
            gains,
            [(1.5, 1.5, 1.5), (1.25, 1.25, 1.25), (0.9, 0.9, 0.9)]
        );
        let on_the_chart: Vec<Option<usize>> = figures
            .iter()
            .filter(|figure| figure.group == "image")
            .map(|figure| figure.x)
            .collect();
        assert_eq!(on_the_chart, [None, Some(1), None, Some(4)]);
    }

    #[test]
    fn a_noisy_picture_is_whole_and_its_bytes_lie_all_over() {
        let picture = noisy_picture((40, 30));
        assert_eq!(picture.rgb.len(), 3600);
        let seen: std::collections::BTreeSet<u8> = picture.rgb.iter().copied().collect();
        assert_eq!(seen.len(), 256);
    }
}
