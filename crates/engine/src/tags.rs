//! The texts around a model's thoughts: from its own files, or known from other models' templates.

use serde_json::{Map, Value as Json};

use crate::error::EngineError;
use crate::tokenizer::Tokenizer;

const FILE: &str = "generation_config.json";

/// How a model writes its thoughts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkingTags {
    /// Before a thought, `<think>`.
    pub start: String,
    /// After it, `</think>`.
    pub end: String,
    /// What the engine puts into the model's mouth to end a thought that may not go on; it contains `end`.
    pub stop_text: String,
}

/// Tags of models whose generation_config.json does not say them: start, end.
const KNOWN: [(&str, &str); 6] = [
    // DeepSeek R1, Qwen3 and most others.
    ("<think>", "</think>"),
    // Kimi-VL.
    ("◁think▷", "◁/think▷"),
    // Magistral.
    ("[THINK]", "[/THINK]"),
    // Seed-OSS.
    ("<seed:think>", "</seed:think>"),
    // Command A Reasoning.
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    // ERNIE and other models that spell it out.
    ("<thinking>", "</thinking>"),
];

/// What Qwen3 says when its budget is spent (its quickstart's "thinking budget" snippet).
const STOP_SENTENCE: &str = "\n\nConsidering the limited time by the user, I have to give the solution based on the \
                             thinking directly now.\n";

impl ThinkingTags {
    /// Tags with the usual stop text.
    pub fn new(start: impl Into<String>, end: impl Into<String>) -> Self {
        let end = end.into();
        ThinkingTags {
            start: start.into(),
            stop_text: format!("{STOP_SENTENCE}{end}\n\n"),
            end,
        }
    }

    /// The block `thinking` of a generation_config.json: `start`, `end`, and `stop_text` if the usual one will not do.
    pub(crate) fn from_json(map: &Map<String, Json>) -> Result<Option<Self>, EngineError> {
        let Some(block) = map.get("thinking").filter(|block| !block.is_null()) else {
            return Ok(None);
        };
        let wrong = |message: String| EngineError::Configuration {
            file: FILE,
            message,
        };
        let text = |name: &str| match block.get(name).and_then(Json::as_str) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(wrong(format!("thinking.{name} is not a text"))),
        };
        let mut tags = ThinkingTags::new(text("start")?, text("end")?);
        if block.get("stop_text").is_some_and(|stop| !stop.is_null()) {
            tags.stop_text = text("stop_text")?;
        }
        if !tags.stop_text.contains(&tags.end) {
            let (stop, end) = (&tags.stop_text, &tags.end);
            return Err(wrong(format!(
                "thinking.stop_text: expected a text with {end:?}, found {stop:?}"
            )));
        }
        Ok(Some(tags))
    }

    /// Tags that a model's template writes or looks for, or that are tokens of its tokenizer.
    pub(crate) fn recognise(template: &str, tokenizer: &Tokenizer) -> Option<Self> {
        let written =
            |(start, end): &&(&str, &str)| template.contains(start) && template.contains(end);
        let tokens = |(start, end): &&(&str, &str)| {
            tokenizer.token_to_id(start).is_some() && tokenizer.token_to_id(end).is_some()
        };
        let found = KNOWN
            .iter()
            .find(tokens)
            .or_else(|| KNOWN.iter().find(written));
        found.map(|(start, end)| ThinkingTags::new(*start, *end))
    }

    /// The end of the stop text alone, without its sentence: the end tag and the white space around it.
    pub(crate) fn bare_end(&self) -> &str {
        let tag = self.stop_text.rfind(&self.end).unwrap_or(0);
        &self.stop_text[self.stop_text[..tag].trim_end().len()..]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{nano_tokenizer, sentencepiece_tokenizer};

    fn read(block: Json) -> Result<Option<ThinkingTags>, String> {
        let map = Map::from_iter([("thinking".to_owned(), block)]);
        ThinkingTags::from_json(&map).map_err(|error| error.to_string())
    }

    #[test]
    fn a_models_own_stop_text_is_read_and_must_end_the_thought() {
        let tags = read(json!({"start": "<t>", "end": "</t>", "stop_text": "Enough.</t>"}));
        assert_eq!(tags.unwrap().unwrap().stop_text, "Enough.</t>");
        assert_eq!(
            read(json!({"start": "<t>", "end": "</t>", "stop_text": "Enough."})).unwrap_err(),
            "generation_config.json: thinking.stop_text: expected a text with \"</t>\", found \"Enough.\""
        );
        assert_eq!(
            read(json!({"start": "<t>", "end": "</t>", "stop_text": 3})).unwrap_err(),
            "generation_config.json: thinking.stop_text is not a text"
        );
        assert_eq!(read(Json::Null), Ok(None));
    }

    #[test]
    fn without_a_stop_text_the_usual_sentence_ends_a_thought() {
        let tags = read(json!({"start": "<t>", "end": "</t>"}))
            .unwrap()
            .unwrap();
        assert!(
            tags.stop_text
                .starts_with("\n\nConsidering the limited time")
        );
        assert!(tags.stop_text.ends_with("now.\n</t>\n\n"));
    }

    #[test]
    fn the_bare_end_is_the_tag_with_its_white_space() {
        assert_eq!(
            ThinkingTags::new("<think>", "</think>").bare_end(),
            "\n</think>\n\n"
        );
        let mut tags = ThinkingTags::new("<t>", "</t>");
        tags.stop_text = "Enough.</t>".into();
        assert_eq!(tags.bare_end(), "</t>");
    }

    #[test]
    fn tags_are_recognised_in_the_template_or_the_tokenizer() {
        let found = |template: &str, tokenizer: &Tokenizer| {
            ThinkingTags::recognise(template, tokenizer).map(|tags| tags.start)
        };
        let plain = sentencepiece_tokenizer();
        assert_eq!(found("{{ messages }}", &plain), None);
        assert_eq!(found("<think>\n\n</think>", &plain).unwrap(), "<think>");
        assert_eq!(
            found("{{ x.split('◁/think▷') }}◁think▷", &plain).unwrap(),
            "◁think▷"
        );
        assert_eq!(found("", &nano_tokenizer()).unwrap(), "<think>");
    }
}
