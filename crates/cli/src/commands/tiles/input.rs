//! What the command is asked about: pictures, sizes, corpora of sizes.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::Context;
use image_prep::tiling::Grid;

/// Largest file that is read: far above any picture that fits the limits, and above a corpus of ten million lines.
const MAX_FILE_BYTES: u64 = 1 << 29;
/// Wrong lines of a corpus that are told; there may be thousands.
const LINES_TOLD: usize = 5;
/// Most columns or rows on the command line.
const MAX_GRID_SIDE: u32 = 100;

/// A mistake in what was asked about, with advice.
#[derive(Debug)]
pub struct InputError {
    message: String,
    hint: String,
}

impl InputError {
    /// A mistake: thing, expected, found; and what to do.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> InputError {
        InputError {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for InputError {}

/// One size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    name: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How often it occurs, where a corpus says so.
    pub count: Option<u64>,
}

impl Subject {
    /// Whether it is more than a size.
    pub fn has_name(&self) -> bool {
        self.name.is_some()
    }

    /// The file, or the size.
    pub fn name(&self) -> String {
        let size = || format!("{}x{}", self.width, self.height);
        self.name.clone().unwrap_or_else(size)
    }
}

/// One argument of the command.
#[derive(Debug)]
pub enum Input {
    /// A picture file: its upright size and its bytes.
    Picture { subject: Subject, bytes: Vec<u8> },
    /// A bare size.
    Size(Subject),
    /// A table of sizes.
    Corpus {
        /// Its path.
        name: String,
        /// Its rows.
        subjects: Vec<Subject>,
    },
}

impl Input {
    /// Reads what an argument means. A size is told from a path by its look, a corpus by its ending `.tsv`.
    pub fn read(argument: &Path) -> anyhow::Result<Input> {
        let text = argument.to_string_lossy().into_owned();
        if let Some(size) = size(&text) {
            let (width, height) = size?;
            return Ok(Input::Size(Subject {
                name: None,
                width,
                height,
                count: None,
            }));
        }
        let bytes = read_file(argument)?;
        let is_corpus = |ending: &std::ffi::OsStr| ending.eq_ignore_ascii_case("tsv");
        if argument.extension().is_some_and(is_corpus) {
            let subjects = corpus(&text, &bytes)?;
            let name = text;
            return Ok(Input::Corpus { name, subjects });
        }
        let (width, height) = image_prep::dimensions(&bytes).with_context(|| text.clone())?;
        let subject = Subject {
            name: Some(text),
            width,
            height,
            count: None,
        };
        Ok(Input::Picture { subject, bytes })
    }

    /// The sizes in it.
    pub fn subjects(&self) -> &[Subject] {
        match self {
            Input::Picture { subject, .. } | Input::Size(subject) => std::slice::from_ref(subject),
            Input::Corpus { subjects, .. } => subjects,
        }
    }
}

/// `None` when the text does not look like a size; an error when it does and is none that a picture can have.
fn size(text: &str) -> Option<Result<(u32, u32), InputError>> {
    let (width, height) = text.split_once(['x', 'X', '\u{d7}'])?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(width) || !is_number(height) {
        return None;
    }
    let side = |text: &str| text.parse().ok().filter(|&side: &u32| side > 0);
    let sides = side(width).zip(side(height));
    Some(sides.ok_or_else(|| {
        InputError::new(
            format!("{text}: expected sides from 1 to {} pixels", u32::MAX),
            "a size is WIDTHxHEIGHT, such as 1080x2400",
        )
    }))
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin()
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)),
    };
    if let Err(error) = read {
        let found = match error.kind() {
            ErrorKind::NotFound => "no such file".to_owned(),
            ErrorKind::IsADirectory => "a folder".to_owned(),
            _ => error.to_string(),
        };
        let message = format!("{name}: expected a picture, a size or a corpus, found {found}");
        let hint = match error.kind() {
            ErrorKind::IsADirectory => {
                "name the files in it, for example with a pattern: folder/*.jpg"
            }
            _ => "a size is WIDTHxHEIGHT, such as 1080x2400; everything else is the path of a file",
        };
        return Err(InputError::new(message, hint).into());
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("{name}: expected at most {MAX_FILE_BYTES} bytes, found more");
        return Err(InputError::new(message, "split a corpus into parts").into());
    }
    Ok(bytes)
}

/// Where the columns of a corpus are.
#[derive(Clone, Copy)]
struct Columns {
    name: Option<usize>,
    width: usize,
    height: usize,
    count: Option<usize>,
}

impl Columns {
    /// From a line of column names; `None` when it is none.
    fn from_header(fields: &[&str]) -> Option<Columns> {
        let find = |names: &[&str]| {
            fields
                .iter()
                .position(|field| names.contains(&field.trim().to_lowercase().as_str()))
        };
        let (width, height) = (find(&["width", "w"])?, find(&["height", "h"])?);
        let count = find(&["count", "n"]);
        let used = [Some(width), Some(height), count];
        Some(Columns {
            name: (0..fields.len()).find(|&at| !used.contains(&Some(at))),
            width,
            height,
            count,
        })
    }

    /// From the first row where there are no names: a name comes first, if the first field is no number.
    fn from_row(fields: &[&str]) -> Columns {
        let named = usize::from(fields[0].trim().parse::<u64>().is_err());
        Columns {
            name: (named == 1).then_some(0),
            width: named,
            height: named + 1,
            count: (fields.len() > named + 2).then_some(named + 2),
        }
    }

    fn row(&self, fields: &[&str]) -> Result<Subject, String> {
        let field = |at: usize, what: &str| match fields.get(at) {
            Some(field) => Ok(field.trim()),
            None => Err(format!(
                "expected a {what} in column {}, found {} columns",
                at + 1,
                fields.len()
            )),
        };
        let side = |at: usize, what: &str| {
            let text = field(at, what)?;
            let side = text.parse().ok().filter(|&side: &u32| side > 0);
            side.ok_or_else(|| format!("expected a {what} from 1 to {}, found {text:?}", u32::MAX))
        };
        let count = |at: usize| {
            let text = field(at, "count")?;
            text.parse()
                .map_err(|_| format!("expected a count, found {text:?}"))
        };
        Ok(Subject {
            name: self
                .name
                .map(|at| field(at, "name").map(str::to_owned))
                .transpose()?,
            width: side(self.width, "width")?,
            height: side(self.height, "height")?,
            count: self.count.map(count).transpose()?,
        })
    }
}

/// The rows of a table of sizes; all that is wrong with it in one error.
fn corpus(name: &str, bytes: &[u8]) -> Result<Vec<Subject>, InputError> {
    const HINT: &str = "each line is WIDTH<tab>HEIGHT or NAME<tab>WIDTH<tab>HEIGHT, and a count may follow; \
                        a first line may name the columns";
    let mut columns: Option<Columns> = None;
    let (mut subjects, mut wrong) = (Vec::new(), Vec::new());
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_start_matches('\u{feff}').trim_end_matches('\r');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split('\t').collect();
        if columns.is_none() {
            columns = Columns::from_header(&fields);
            if columns.is_some() {
                continue;
            }
        }
        match columns
            .get_or_insert_with(|| Columns::from_row(&fields))
            .row(&fields)
        {
            Ok(subject) => subjects.push(subject),
            Err(problem) => wrong.push(format!("line {}: {problem}", index + 1)),
        }
    }
    if !wrong.is_empty() {
        let more = match wrong.len().saturating_sub(LINES_TOLD) {
            0 => String::new(),
            1 => "; and 1 more line".to_owned(),
            more => format!("; and {more} more lines"),
        };
        wrong.truncate(LINES_TOLD);
        return Err(InputError::new(
            format!("{name}: {}{more}", wrong.join("; ")),
            HINT,
        ));
    }
    if subjects.is_empty() {
        return Err(InputError::new(
            format!("{name}: expected lines with sizes, found none"),
            HINT,
        ));
    }
    Ok(subjects)
}

/// `--max-grid`.
pub fn grid(text: &str) -> Result<Grid, String> {
    let expected = || format!("expected COLUMNSxROWS, such as 4x4, each from 1 to {MAX_GRID_SIDE}");
    let (columns, rows) = text
        .split_once(['x', 'X', ':', '\u{d7}'])
        .ok_or_else(expected)?;
    let side = |text: &str| {
        let side = text.parse().ok();
        side.filter(|side| (1..=MAX_GRID_SIDE).contains(side))
            .ok_or_else(expected)
    };
    Ok(Grid {
        columns: side(columns)?,
        rows: side(rows)?,
    })
}

/// `--alpha`.
pub fn alpha(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|alpha| (0.0..=1.0).contains(alpha));
    number.ok_or_else(|| "expected a number from 0 to 1, such as 0.1".to_owned())
}
