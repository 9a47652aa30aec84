//! The text of an answer as it grows: ids → characters → thought or answer → stop strings → events.

use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::request::Event;
use crate::stop::StopStrings;
use crate::tags::ThinkingTags;
use crate::text_stream::TextStream;
use crate::thought::{Split, ThoughtSplitter};
use crate::tokenizer::Tokenizer;

/// One answer.
pub(crate) struct Answer<'a> {
    stream: TextStream<'a>,
    /// Tags that are control tokens, which decoding leaves out: id and spelling.
    silent_tags: Vec<(u32, String)>,
    pub thought: ThoughtSplitter,
    stop: StopStrings,
    pub reasoning: String,
    pub text: String,
}

impl<'a> Answer<'a> {
    /// `prompt` may have opened the thought.
    pub fn new(files: &'a PromptFiles, prompt: &str, stop: &[String]) -> Result<Self, EngineError> {
        let tags = files.generation.thinking.as_ref();
        Ok(Answer {
            stream: TextStream::new(&files.tokenizer),
            silent_tags: silent_tags(tags, &files.tokenizer)?,
            thought: ThoughtSplitter::new(tags, prompt),
            stop: StopStrings::new(stop),
            reasoning: String::new(),
            text: String::new(),
        })
    }

    /// Takes a token that the model chose. What it made certain is to be shown with [`Answer::show`].
    pub fn push(&mut self, id: u32) -> Result<Split, EngineError> {
        let characters = self.characters(id)?;
        Ok(self.thought.push(&characters))
    }

    /// Takes a token that the engine put in.
    pub fn push_forced(&mut self, id: u32) -> Result<Split, EngineError> {
        let characters = self.characters(id)?;
        Ok(self.thought.push_uncounted(&characters))
    }

    /// Takes back the last tokens of the open thought, those of a character that is not complete; how many they were.
    pub fn forget_unfinished(&mut self) -> usize {
        let count = self.stream.forget_waiting();
        self.thought.forget_tokens(count);
        count
    }

    /// Whether the last tokens are a character that is not complete.
    pub fn is_unfinished(&self) -> bool {
        self.stream.is_waiting()
    }

    /// Whether a stop string has ended it.
    pub fn is_stopped(&self) -> bool {
        self.stop.found()
    }

    /// Lets out all that was held back.
    pub fn finish(&mut self, events: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        let characters = self.stream.finish()?;
        // These belong to tokens that have been counted.
        let split = self.thought.push_uncounted(&characters);
        self.show(split, events);
        let split = self.thought.finish();
        self.show(split, events);
        let text = self.stop.finish();
        self.show_text(&text, events);
        Ok(())
    }

    /// Gives out what became certain.
    pub fn show(&mut self, split: Split, events: &mut dyn FnMut(Event)) {
        if !split.reasoning.is_empty() {
            events(Event::Reasoning(&split.reasoning));
            self.reasoning.push_str(&split.reasoning);
        }
        let text = self.stop.push(&split.text);
        self.show_text(&text, events);
    }

    fn show_text(&mut self, text: &str, events: &mut dyn FnMut(Event)) {
        if !text.is_empty() {
            events(Event::Text(text));
            self.text.push_str(text);
        }
    }

    fn characters(&mut self, id: u32) -> Result<String, EngineError> {
        match self.silent_tags.iter().find(|(tag, _)| *tag == id) {
            Some((_, spelling)) => Ok(self.stream.finish()? + spelling),
            None => self.stream.push(id),
        }
    }
}

fn silent_tags(
    tags: Option<&ThinkingTags>,
    tokenizer: &Tokenizer,
) -> Result<Vec<(u32, String)>, EngineError> {
    let mut silent = Vec::new();
    for tag in tags.iter().flat_map(|tags| [&tags.start, &tags.end]) {
        if let Some(id) = tokenizer.token_to_id(tag)
            && tokenizer.decode(&[id])?.is_empty()
        {
            silent.push((id, tag.clone()));
        }
    }
    Ok(silent)
}
