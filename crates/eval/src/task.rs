//! Task files: one JSON object a line, `{image, question, answer, kind}`, optionally `think`.
//!
//! Further keys are allowed and ignored, so that a file may say where its pictures come from. Empty lines are skipped.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{EvalError, LineProblem};

/// Longest task file that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A question with the answer it should get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// 1-based line in the task file.
    pub line: usize,
    /// The picture's path as the file writes it.
    pub image: String,
    /// The picture's path from the current folder.
    pub image_path: PathBuf,
    /// What to ask.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// The skill it asks for; replies are counted by it.
    pub kind: String,
    /// Whether to think before answering, where this question says so.
    pub think: Option<bool>,
}

/// A task file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where it is.
    pub path: PathBuf,
    /// Its questions in order, at least one.
    pub questions: Vec<Question>,
}

/// A line as it is written.
#[derive(Deserialize)]
#[serde(expecting = "an object {image, question, answer, kind}")]
struct Line {
    image: String,
    question: String,
    answer: Text,
    kind: String,
    think: Option<bool>,
}

/// An answer may be written as a number too.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected `answer` to be a text or a number")]
enum Text {
    Text(String),
    Number(serde_json::Number),
}

impl Task {
    /// Reads a task file. Its pictures must be there; they are not decoded.
    ///
    /// Errors name every bad line at once.
    pub fn read(path: &Path) -> Result<Task, EvalError> {
        let bytes = read_capped(path).map_err(|source| EvalError::Read {
            path: path.into(),
            source,
        })?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut questions = Vec::new();
        let mut problems = Vec::new();
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match question(folder, index + 1, line) {
                Ok(question) => questions.push(question),
                Err(message) => problems.push(LineProblem {
                    line: index + 1,
                    message,
                }),
            }
        }
        let path = path.to_owned();
        if !problems.is_empty() {
            return Err(EvalError::BadLines { path, problems });
        }
        if questions.is_empty() {
            return Err(EvalError::NoQuestions { path });
        }
        Ok(Task { path, questions })
    }
}

fn read_capped(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!(
            "expected at most {MAX_BYTES} bytes, found more"
        )));
    }
    Ok(bytes)
}

fn question(folder: &Path, number: usize, line: &[u8]) -> Result<Question, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let line: Line = serde_json::from_str(text).map_err(|error| message_alone(&error))?;
    let answer = match line.answer {
        Text::Text(text) => text,
        Text::Number(number) => number.to_string(),
    };
    for (key, value) in [
        ("image", &line.image),
        ("question", &line.question),
        ("answer", &answer),
        ("kind", &line.kind),
    ] {
        if value.trim().is_empty() {
            return Err(format!("expected `{key}` to say something, found nothing"));
        }
    }
    let image_path = folder.join(&line.image);
    if !image_path.is_file() {
        return Err(format!("there is no picture {}", image_path.display()));
    }
    Ok(Question {
        line: number,
        image: line.image,
        image_path,
        question: line.question,
        answer,
        kind: line.kind,
        think: line.think,
    })
}

/// serde_json's message without its "at line 1": each of our lines is a document of its own.
fn message_alone(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((message, _)) if error.column() > 0 => {
            format!("{message} at column {}", error.column())
        }
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<Task, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), "").unwrap();
        let path = folder.path().join("task.jsonl");
        std::fs::write(&path, text).unwrap();
        Task::read(&path)
    }

    #[test]
    fn a_line_is_a_question_whatever_else_it_says() {
        let task = read(concat!(
            "\u{feff}{\"image\":\"a.png\",\"question\":\"Q?\",\"answer\":\"A\",\"kind\":\"read\",\"font\":\"Lato\"}\r\n\n",
            "{\"image\":\"a.png\",\"question\":\"Q?\",\"answer\":3.50,\"kind\":\"sum\",\"think\":true}"
        ))
        .unwrap();
        let [first, second] = &task.questions[..] else {
            panic!("{task:?}")
        };
        assert_eq!(
            (first.line, first.answer.as_str(), first.think),
            (1, "A", None)
        );
        assert_eq!(
            (second.line, second.answer.as_str(), second.think),
            (3, "3.5", Some(true))
        );
        assert_eq!(first.image_path, task.path.parent().unwrap().join("a.png"));
    }

    #[test]
    fn every_bad_line_is_named_at_once() {
        let good = r#"{"image":"a.png","question":"Q?","answer":"A","kind":"read"}"#;
        let lines: [&[u8]; 8] = [
            b"{\"image\":\"a.png\"",
            good.as_bytes(),
            br#"{"image":"a.png","question":"Q?","kind":"read"}"#,
            br#"{"image":"a.png","question":"Q?","answer":[1],"kind":"read"}"#,
            br#"{"image":"a.png","question":" ","answer":"A","kind":"read"}"#,
            br#"{"image":"b.png","question":"Q?","answer":"A","kind":"read"}"#,
            b"\xff\xfe",
            br#""a.png""#,
        ];
        let Err(EvalError::BadLines { problems, path }) = read(lines.join(&b"\n"[..])) else {
            panic!("bad lines were taken for good ones")
        };
        let found: Vec<String> = problems.iter().map(LineProblem::to_string).collect();
        let missing = path.parent().unwrap().join("b.png");
        assert_eq!(
            found,
            [
                "line 1: EOF while parsing an object at column 16",
                "line 3: missing field `answer` at column 47",
                "line 4: expected `answer` to be a text or a number at column 45",
                "line 5: expected `question` to say something, found nothing",
                &format!("line 6: there is no picture {}", missing.display()),
                "line 7: invalid utf-8 sequence of 1 bytes from index 0",
                "line 8: invalid type: string \"a.png\", expected an object {image, question, answer, kind} at column 7",
            ]
        );
    }

    #[test]
    fn a_file_without_questions_is_an_error() {
        assert!(matches!(read("\n \n"), Err(EvalError::NoQuestions { .. })));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_advice() {
        let error = Task::read(Path::new("nowhere/task.jsonl")).unwrap_err();
        assert!(error.to_string().starts_with("nowhere/task.jsonl: "));
        assert!(error.hint().unwrap().contains("spelling"));
    }
}
