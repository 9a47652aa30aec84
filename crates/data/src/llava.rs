//! Folders of examples as other trainers read them: `llava.json`, `images/*.png`, and `eval.jsonl` for `bluelm eval`.
//!
//! `llava.json` is a list of `{id, image, conversations: [{from, value}]}`: one conversation per picture with answers
//! alone, and one per thought-about question, whose answer begins with `<think>…</think>`. A run that was interrupted
//! goes on where it stopped: every file is written under another name first, and `recipe.json` says what the folder holds.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::example::{Example, Kind, Question};
use crate::generator::Generator;
use crate::random::Random;
use crate::recipe::Recipe;
use crate::stream::Stream;

/// How much of each example is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlavaOptions {
    /// Number of the first example.
    pub first: u64,
    /// How many examples.
    pub count: u64,
    /// Most questions in the conversation about a picture.
    pub questions: usize,
    /// Most conversations with a thought per picture, one question each.
    pub thoughts: usize,
    /// Most lines per picture in `eval.jsonl`, each of another kind.
    pub evaluation: usize,
}

impl LlavaOptions {
    /// The first `count` examples: eight questions, two thoughts and three lines of evaluation per picture.
    pub fn first(count: u64) -> LlavaOptions {
        LlavaOptions {
            first: 0,
            count,
            questions: 8,
            thoughts: 2,
            evaluation: 3,
        }
    }
}

/// Turns of one conversation about a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) from: String,
    pub(crate) value: String,
}

#[derive(Serialize)]
struct Record<'a> {
    id: String,
    image: &'a str,
    conversations: Vec<Turn>,
}

#[derive(Serialize)]
struct Line<'a> {
    image: &'a str,
    question: &'a str,
    answer: &'a str,
    kind: Kind,
}

/// What a folder holds: written first, compared when a run goes on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    seed: u64,
    options: LlavaOptions,
    recipe: Recipe,
}

/// Writes the first `count` examples into a folder; `progress` is told how many pictures are complete.
///
/// # Errors
/// [`DataError::NotEmpty`] and [`DataError::OtherRun`] if the folder holds something else, [`DataError::File`] if the
/// file system refuses, for instance because it is full.
pub fn write_llava(
    directory: &Path,
    generator: &Generator,
    count: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), DataError> {
    write_llava_with(directory, generator, &LlavaOptions::first(count), progress)
}

/// Like [`write_llava`], with a say in which examples and how many questions.
///
/// # Errors
/// As [`write_llava`].
pub fn write_llava_with(
    directory: &Path,
    generator: &Generator,
    options: &LlavaOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<(), DataError> {
    claim(directory, generator, options)?;
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    let folder = directory.to_owned();
    let end = options.first.saturating_add(options.count);
    let work = move |index, example: Example| {
        let path = folder.join(image_name(index));
        // A picture under its own name is complete: it was renamed to it. Those past the end were only drawn ahead.
        let written = if index >= end || path.exists() {
            Ok(())
        } else {
            write_png(&path, &example)
        };
        written.map(|()| (example.questions, index))
    };
    let stream = Stream::map(generator.clone(), options.first, threads, 4 * threads, work);
    let mut records = ListFile::create(directory.join("llava.json"), "[\n", ",\n", "\n]\n")?;
    let mut lines = ListFile::create(directory.join("eval.jsonl"), "", "\n", "\n")?;
    let count = usize::try_from(options.count).unwrap_or(usize::MAX);
    for (done, drawn) in stream.take(count).enumerate() {
        let (questions, index) = drawn?;
        let mut random = Random::new(!generator.seed(), index);
        put_records(&mut records, &questions, index, options, &mut random)?;
        put_lines(&mut lines, &questions, index, options, &mut random)?;
        progress(done as u64 + 1);
    }
    records.finish()?;
    lines.finish()
}

/// Name of a picture relative to the folder.
fn image_name(index: u64) -> String {
    format!("images/{index:08}.png")
}

/// Makes the folder, or checks that it holds the same run.
fn claim(directory: &Path, generator: &Generator, options: &LlavaOptions) -> Result<(), DataError> {
    let manifest = Manifest {
        seed: generator.seed(),
        options: options.clone(),
        recipe: generator.recipe().clone(),
    };
    let path = directory.join("recipe.json");
    let images = directory.join("images");
    if path.exists() {
        let text = std::fs::read_to_string(&path).map_err(|source| file("read", &path, source))?;
        let found: Manifest =
            serde_json::from_str(&text).map_err(|error| DataError::Malformed {
                path: path.clone(),
                found: error.to_string(),
            })?;
        return match difference(&found, &manifest) {
            None => {
                std::fs::create_dir_all(&images).map_err(|source| file("make", &images, source))
            }
            Some(found) => Err(DataError::OtherRun {
                path: directory.to_owned(),
                found,
            }),
        };
    }
    match std::fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(DataError::NotEmpty {
                    path: directory.to_owned(),
                });
            }
        }
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(file("read", directory, source)),
    }
    std::fs::create_dir_all(directory).map_err(|source| file("make", directory, source))?;
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| DataError::Malformed {
        path: path.clone(),
        found: error.to_string(),
    })?;
    write_atomically(&path, text.as_bytes())?;
    std::fs::create_dir_all(&images).map_err(|source| file("make", &images, source))
}

fn difference(found: &Manifest, wanted: &Manifest) -> Option<String> {
    if found.seed != wanted.seed {
        return Some(format!("seed {}, asked for {}", found.seed, wanted.seed));
    }
    if found.options != wanted.options {
        let (found, wanted) = (&found.options, &wanted.options);
        return Some(format!("{found:?}, asked for {wanted:?}"));
    }
    (found.recipe != wanted.recipe).then(|| "another recipe".to_owned())
}

fn file(action: &'static str, path: &Path, source: std::io::Error) -> DataError {
    DataError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

fn write_png(path: &Path, example: &Example) -> Result<(), DataError> {
    let picture = &example.picture;
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(
            &picture.rgb,
            picture.width,
            picture.height,
            ExtendedColorType::Rgb8,
        )
        .map_err(|error| DataError::Malformed {
            path: path.to_owned(),
            found: error.to_string(),
        })?;
    write_atomically(path, &bytes)
}

/// Writes under another name and renames, so that a file is there as a whole or not at all.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let part = path.with_extension("part");
    let done = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    done.map_err(|source| {
        // Half a file on a full disk only stands in the way.
        let _ = std::fs::remove_file(&part);
        file("write", path, source)
    })
}

/// Questions in an order of chance.
fn shuffled<'a>(questions: &'a [Question], random: &mut Random) -> Vec<&'a Question> {
    let mut order: Vec<&Question> = questions.iter().collect();
    random.shuffle(&mut order);
    order
}

fn put_records(
    records: &mut ListFile,
    questions: &[Question],
    index: u64,
    options: &LlavaOptions,
    random: &mut Random,
) -> Result<(), DataError> {
    let image = image_name(index);
    let turn = |from: &str, value: String| Turn {
        from: from.to_owned(),
        value,
    };
    let chosen = shuffled(questions, random);
    let mut conversations = Vec::new();
    for question in chosen.iter().take(options.questions) {
        let marker = if conversations.is_empty() {
            "<image>\n"
        } else {
            ""
        };
        conversations.push(turn("human", format!("{marker}{}", question.question)));
        conversations.push(turn("gpt", question.answer.clone()));
    }
    if !conversations.is_empty() {
        records.put(&Record {
            id: format!("{index:08}"),
            image: &image,
            conversations,
        })?;
    }
    let thoughts = shuffled(questions, random).into_iter();
    let thoughts = thoughts
        .filter_map(|question| question.thought.as_ref().map(|thought| (question, thought)));
    for (number, (question, thought)) in thoughts.take(options.thoughts).enumerate() {
        let conversations = vec![
            turn("human", format!("<image>\n{}", question.question)),
            turn(
                "gpt",
                format!("<think>{thought}</think>{}", question.answer),
            ),
        ];
        records.put(&Record {
            id: format!("{index:08}-think-{number}"),
            image: &image,
            conversations,
        })?;
    }
    Ok(())
}

fn put_lines(
    lines: &mut ListFile,
    questions: &[Question],
    index: u64,
    options: &LlavaOptions,
    random: &mut Random,
) -> Result<(), DataError> {
    let image = image_name(index);
    let mut kinds = Vec::new();
    for question in shuffled(questions, random) {
        if kinds.len() < options.evaluation && !kinds.contains(&question.kind) {
            kinds.push(question.kind);
            let (text, answer) = (&question.question, &question.answer);
            lines.put(&Line {
                image: &image,
                question: text,
                answer,
                kind: question.kind,
            })?;
        }
    }
    Ok(())
}

/// A file of JSON values with something between them, renamed to its name when it is complete.
struct ListFile {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<std::fs::File>,
    between: &'static str,
    end: &'static str,
    empty: bool,
}

impl ListFile {
    fn create(
        path: PathBuf,
        start: &str,
        between: &'static str,
        end: &'static str,
    ) -> Result<ListFile, DataError> {
        let part = path.with_extension("part");
        let made = std::fs::File::create(&part).and_then(|file| {
            let mut file = BufWriter::new(file);
            file.write_all(start.as_bytes())?;
            Ok(file)
        });
        let opened = made.map_err(|source| file("write", &part, source))?;
        Ok(ListFile {
            path,
            part,
            file: opened,
            between,
            end,
            empty: true,
        })
    }

    fn put(&mut self, value: &impl Serialize) -> Result<(), DataError> {
        let between = if self.empty { "" } else { self.between };
        self.empty = false;
        let written = self.file.write_all(between.as_bytes());
        let written = written.and_then(|()| {
            serde_json::to_writer(&mut self.file, value).map_err(std::io::Error::from)
        });
        written.map_err(|source| file("write", &self.part, source))
    }

    fn finish(mut self) -> Result<(), DataError> {
        let ended = self
            .file
            .write_all(self.end.as_bytes())
            .and_then(|()| self.file.flush());
        let ended = ended.and_then(|()| self.file.get_ref().sync_all());
        let ended = ended.and_then(|()| std::fs::rename(&self.part, &self.path));
        ended.map_err(|source| file("write", &self.path, source))
    }
}
