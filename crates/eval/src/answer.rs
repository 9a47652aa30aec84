//! Who answers: an engine, or a fake one in tests.

use std::path::PathBuf;

use engine::{Cancel, Engine, EngineError, Memory, Network, Request, read_picture_stream};
use image_prep::{Limits, Picture};

/// A question to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The task's line about it.
    pub question: &'a crate::Question,
    /// The content of the picture file.
    pub picture: &'a [u8],
    /// Whether to think before the answer.
    pub think: bool,
}

/// Answers questions about pictures.
pub trait Answer {
    /// The answer without its thought.
    ///
    /// [`EngineError::Cancelled`] ends the evaluation in good order, any other error as a failure.
    fn answer(&mut self, ask: Ask) -> Result<String, EngineError>;
}

/// An engine that answers, always with its likeliest tokens.
///
/// Questions about the same picture should follow one another: it is then decoded and encoded once.
pub struct EngineAnswer<'a, N: Network> {
    engine: &'a Engine<N>,
    cancel: &'a Cancel,
    max_tokens: usize,
    memory: Memory<N>,
    picture: Option<(PathBuf, Picture)>,
}

impl<'a, N: Network> EngineAnswer<'a, N> {
    /// Answers of at most `max_tokens` tokens, thought included, until `cancel` is thrown.
    pub fn new(engine: &'a Engine<N>, max_tokens: usize, cancel: &'a Cancel) -> Self {
        EngineAnswer {
            engine,
            cancel,
            max_tokens,
            memory: Memory::new(),
            picture: None,
        }
    }

    fn picture(&mut self, ask: &Ask) -> Result<Picture, EngineError> {
        let path = &ask.question.image_path;
        match &self.picture {
            Some((last, picture)) if last == path => Ok(picture.clone()),
            _ => {
                let name = path.display().to_string();
                let picture = read_picture_stream(&name, ask.picture, &Limits::default())?;
                self.picture = Some((path.clone(), picture.clone()));
                Ok(picture)
            }
        }
    }
}

impl<N: Network> Answer for EngineAnswer<'_, N> {
    fn answer(&mut self, ask: Ask) -> Result<String, EngineError> {
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let picture = self.picture(&ask)?;
        let mut request = Request::question(vec![picture], &ask.question.question);
        request.thinking = Some(ask.think);
        request.max_tokens = Some(self.max_tokens);
        let reply =
            self.engine
                .generate_in(&mut self.memory, &request, self.cancel, &mut |_| {})?;
        Ok(reply.text)
    }
}
