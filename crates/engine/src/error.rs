//! What can go wrong between a request and its answer, each with advice that a program can print apart.

use std::path::PathBuf;

/// An engine error: the message names the thing, what was expected and what was found; [`EngineError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file of a model folder is not there.
    #[error("{folder}: not a model folder: there is no {file}")]
    MissingFile {
        /// The folder that was opened.
        folder: PathBuf,
        /// The file, or the files that would do, in words.
        file: &'static str,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file of the model does not parse or lacks what it must have.
    #[error("{file}: {message}")]
    Configuration {
        /// The file's name.
        file: &'static str,
        /// What is wrong, with the line for a syntax error.
        message: String,
    },
    /// tokenizer.json is broken, or failed on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template is broken, or failed on the messages.
    #[error("chat template, line {line}: {message}")]
    Template {
        /// 1-based line in the template.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Two files of one model disagree.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What was compared, with the files' names.
        what: &'static str,
        /// What one file asks for.
        expected: String,
        /// What the other file has.
        found: String,
    },
    /// preprocessor_config.json cannot be used.
    #[error(transparent)]
    Preprocessor(image_prep::ImageError),
    /// A picture of the request could not be used.
    #[error("{name}: {source}")]
    Image {
        /// The picture: its path, or its place in the request.
        name: String,
        /// What is wrong with it.
        source: image_prep::ImageError,
    },
    /// The weights could not be loaded or used.
    #[error("{0}")]
    Model(model::ModelError),
    /// The prompt does not fit the model's context.
    #[error(
        "the prompt is {prompt_tokens} tokens, the model's context is {context_tokens}{}",
        of_images(image_tokens)
    )]
    PromptTooLong {
        /// Tokens of the whole prompt.
        prompt_tokens: usize,
        /// max_position_embeddings of the model.
        context_tokens: usize,
        /// Tokens of each image, in order.
        image_tokens: Vec<usize>,
    },
    /// The request asks for something that cannot be done.
    #[error("{what}: {message}")]
    Request {
        /// The part of the request, such as `messages[0].content`.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// The network gave a number that is not finite.
    #[error("the network's output is not a number at position {position}")]
    NotFinite {
        /// Position in the context, from 0.
        position: usize,
    },
    /// A saved session that cannot be used.
    #[error("{path}: {message}")]
    Session {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The caller asked to stop before the answer was done.
    #[error("cancelled")]
    Cancelled,
}

impl From<model::ModelError> for EngineError {
    fn from(error: model::ModelError) -> Self {
        match error {
            model::ModelError::Cancelled => EngineError::Cancelled,
            error => EngineError::Model(error),
        }
    }
}

fn of_images(tokens: &[usize]) -> String {
    match tokens {
        [] => String::new(),
        [one] => format!(" (the image: {one})"),
        many => format!(
            " (the images: {})",
            many.iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

impl EngineError {
    /// An error in the request's part `what`.
    pub(crate) fn request(what: impl Into<String>, message: impl Into<String>) -> Self {
        EngineError::Request {
            what: what.into(),
            message: message.into(),
        }
    }

    /// A syntax error, or an error of shape, in a JSON file.
    pub(crate) fn json(file: &'static str, error: &serde_json::Error) -> Self {
        EngineError::Configuration {
            file,
            message: format!("not valid JSON: {error}"),
        }
    }

    /// What the user can do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            EngineError::MissingFile { .. } => Some(
                "a model folder has config.json, model.safetensors, tokenizer.json, tokenizer_config.json, \
                 chat_template.jinja and preprocessor_config.json"
                    .into(),
            ),
            EngineError::Tokenizer(_) => {
                Some("tokenizer.json is written by the `tokenizers` library; copy it again from where the model came".into())
            }
            EngineError::Template { .. } => {
                Some("chat_template.jinja is a Jinja template over `messages`; compare it with the model's original".into())
            }
            EngineError::PromptTooLong { image_tokens, .. } if !image_tokens.is_empty() => {
                Some("use fewer or smaller images, or a shorter text; `bluelm explain IMAGE` shows an image's tokens".into())
            }
            EngineError::PromptTooLong { .. } => Some("use a shorter text".into()),
            EngineError::NotFinite { .. } => Some("the weights may be damaged, or their training diverged".into()),
            EngineError::Mismatch { .. } => Some("the files may come from two different models".into()),
            EngineError::Image { source, .. } | EngineError::Preprocessor(source) => source.hint(),
            EngineError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("check the spelling; a relative path begins at the current folder".into())
            }
            EngineError::Session { .. } => {
                Some("a session can be restored by the model that saved it; ask again from the beginning".into())
            }
            EngineError::Model(error) => error.hint(),
            _ => None,
        }
    }
}
