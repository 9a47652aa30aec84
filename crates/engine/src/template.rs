//! Messages to prompt text, by a model's chat_template.jinja.
//!
//! Templates are written for Jinja2 as transformers sets it up: block lines leave no whitespace (`trim_blocks`,
//! `lstrip_blocks`), `raise_exception` exists, Python string methods work. A template is a program from outside: it can
//! neither read files nor run for long.

use std::io::{Result as IoResult, Write};

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::error::EngineError;
use crate::message::Message;

/// Instructions that one rendering may take; a long conversation takes some thousands.
const FUEL: u64 = 20_000_000;
/// Names that the engine itself gives to a template.
const RESERVED: [&str; 5] = [
    "messages",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "enable_thinking",
];
const NAME: &str = "chat_template";

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    knows_thinking: bool,
    knows_tools: bool,
}

impl ChatTemplate {
    /// Compiles a template; `bos` and `eos` are the spellings of the tokens for the beginning and the end of a text.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(template_error)?;
        let variables = environment
            .get_template(NAME)
            .map_err(template_error)?
            .undeclared_variables(false);
        let [knows_thinking, knows_tools] =
            ["enable_thinking", "tools"].map(|name| variables.contains(name));
        Ok(ChatTemplate {
            environment,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            knows_thinking,
            knows_tools,
        })
    }

    /// Its source.
    pub(crate) fn source(&self) -> String {
        let template = self.environment.get_template(NAME);
        // Compiling has added it.
        template.map_or(String::new(), |template| template.source().into())
    }

    /// The spelling of the token for the beginning of a text.
    pub(crate) fn bos(&self) -> &str {
        &self.bos
    }

    /// Whether the template asks for `tools`, and so has its own words for them.
    pub fn knows_tools(&self) -> bool {
        self.knows_tools
    }

    /// Whether the template asks for `enable_thinking`, that is, whether the model thinks when told to.
    pub fn knows_thinking(&self) -> bool {
        self.knows_thinking
    }

    /// The prompt text of a conversation, open for the model's answer.
    ///
    /// `thinking` is given to the template as `enable_thinking`, and not defined when `None`; `extra` are further names.
    /// A turn of one text is a string to the template, any other a list of parts, as in transformers.
    pub fn render(
        &self,
        messages: &[Message],
        thinking: Option<bool>,
        extra: &Map<String, Json>,
    ) -> Result<String, EngineError> {
        let mut context = Map::new();
        for (name, value) in extra {
            if RESERVED.contains(&name.as_str()) {
                return Err(EngineError::request(
                    "chat_template_kwargs",
                    format!("`{name}` is set by the engine"),
                ));
            }
            context.insert(name.clone(), value.clone());
        }
        if thinking == Some(true) && !self.knows_thinking {
            return Err(EngineError::request(
                "enable_thinking",
                "this model's chat template has no thinking mode",
            ));
        }
        context.insert(
            "messages".into(),
            messages
                .iter()
                .map(|message| message.to_json(&|_| json!({"type": "image"})))
                .collect(),
        );
        context.insert("add_generation_prompt".into(), Json::Bool(true));
        context.insert("bos_token".into(), json!(self.bos));
        context.insert("eos_token".into(), json!(self.eos));
        if let Some(thinking) = thinking {
            context.insert("enable_thinking".into(), Json::Bool(thinking));
        }
        let template = self
            .environment
            .get_template(NAME)
            .map_err(template_error)?;
        template
            .render(Value::from_serialize(&context))
            .map_err(template_error)
    }
}

/// JSON as `json.dumps(value, ensure_ascii=False)` of Python writes it, which is how models saw it in training.
pub(crate) fn python_json(value: &Json) -> String {
    let mut bytes = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    // Neither a Vec nor a JSON value can fail to be written.
    let _ = value.serialize(&mut writer);
    String::from_utf8(bytes).unwrap_or_default()
}

/// A space after commas and colons.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> IoResult<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> IoResult<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> IoResult<()> {
        out.write_all(b": ")
    }
}

/// The filter `tojson` as transformers defines it. Without `indent`, on one line.
fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let failed = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())
    };
    let json = serde_json::to_value(value).map_err(failed)?;
    match options.get::<Option<usize>>("indent")? {
        None => Ok(python_json(&json)),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let mut bytes = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut writer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            json.serialize(&mut writer).map_err(failed)?;
            Ok(String::from_utf8(bytes).unwrap_or_default())
        }
    }
}

fn template_error(error: minijinja::Error) -> EngineError {
    let message = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    EngineError::Template {
        line: error.line().unwrap_or(1),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Part, Role};
    use crate::testing::NANO_TEMPLATE;

    fn native() -> ChatTemplate {
        ChatTemplate::new(NANO_TEMPLATE, "<s>", "</s>").unwrap()
    }

    fn render(messages: &[Message], thinking: Option<bool>) -> String {
        native().render(messages, thinking, &Map::new()).unwrap()
    }

    fn past(answer: &str) -> Vec<Message> {
        vec![
            Message::text(Role::User, "a"),
            Message::text(Role::Assistant, answer),
            Message::text(Role::User, "b"),
        ]
    }

    /// The table by which the reference checks its own template in Jinja2.
    #[test]
    fn the_native_template_renders_as_the_reference_does() {
        let user = |content| {
            vec![Message {
                role: Role::User,
                content,
            }]
        };
        let text = |s: &str| Part::Text(s.into());
        let image = Part::Image(0);
        let spots = "<im_start><image><im_end>".repeat(2);
        assert_eq!(
            render(&user(vec![text("a")]), None),
            "<s>[|Human|]:a\n[|AI|]:"
        );
        assert_eq!(
            render(&user(vec![text("a")]), Some(true)),
            "<s>[|Human|]:a\n[|AI|]:[|BlueThink|]"
        );
        assert_eq!(
            render(&user(vec![text("a")]), Some(false)),
            "<s>[|Human|]:a\n[|AI|]:"
        );
        assert_eq!(
            render(
                &user(vec![image.clone(), text("a"), image, text("b")]),
                None
            ),
            format!("<s>[|Human|]:{spots}ab\n[|AI|]:")
        );
        assert_eq!(
            render(&past(" x "), None),
            "<s>[|Human|]:a\n[|AI|]: x </s>[|Human|]:b\n[|AI|]:"
        );
        assert_eq!(
            render(&past("<think>\nt\n</think>\n\nx </think> y\n"), None),
            "<s>[|Human|]:a\n[|AI|]:x </think> y</s>[|Human|]:b\n[|AI|]:"
        );
        assert_eq!(
            render(&past("t</think>x"), Some(true)),
            "<s>[|Human|]:a\n[|AI|]:x</s>[|Human|]:b\n[|AI|]:[|BlueThink|]"
        );
        assert_eq!(
            render(&past("<think>\nnever closed"), None),
            "<s>[|Human|]:a\n[|AI|]:</s>[|Human|]:b\n[|AI|]:"
        );
        let silent = [
            Message::text(Role::User, "a"),
            Message {
                role: Role::Assistant,
                content: vec![],
            },
        ];
        assert_eq!(render(&silent, None), "<s>[|Human|]:a\n[|AI|]:</s>[|AI|]:");
        assert_eq!(
            render(&[Message::text(Role::System, "s")], None),
            "<s>s\n[|AI|]:"
        );
    }

    #[test]
    fn a_broken_template_says_the_line() {
        let error = ChatTemplate::new("a\n{% if x %}\nb", "", "").err().unwrap();
        assert_eq!(
            error.to_string(),
            "chat template, line 3: syntax error: unexpected end of input, expected end of block"
        );
    }

    #[test]
    fn a_template_can_refuse_messages_in_its_own_words() {
        let template =
            ChatTemplate::new("\n{{ raise_exception('no turns, please') }}", "", "").unwrap();
        let error = template.render(&past("x"), None, &Map::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "chat template, line 2: invalid operation: no turns, please"
        );
    }

    #[test]
    fn an_endless_template_runs_out_of_fuel() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
        let error = ChatTemplate::new(source, "", "")
            .unwrap()
            .render(&[], None, &Map::new())
            .unwrap_err();
        assert!(error.to_string().contains("fuel"), "{error}");
    }

    #[test]
    fn thinking_is_refused_where_the_template_does_not_know_it() {
        let template = ChatTemplate::new("{{ messages[0].content.strip() }}", "", "").unwrap();
        assert_eq!(
            template
                .render(&past("x"), Some(false), &Map::new())
                .unwrap(),
            "a"
        );
        let error = template
            .render(&past("x"), Some(true), &Map::new())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "enable_thinking: this model's chat template has no thinking mode"
        );
    }

    #[test]
    fn further_names_reach_the_template_but_not_the_reserved_ones() {
        let template = ChatTemplate::new("{{ mood }}{{ bos_token }}", "<s>", "").unwrap();
        let extra = |name: &str| Map::from_iter([(name.to_owned(), json!("x"))]);
        assert_eq!(template.render(&[], None, &extra("mood")).unwrap(), "x<s>");
        let error = template.render(&[], None, &extra("bos_token")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "chat_template_kwargs: `bos_token` is set by the engine"
        );
    }
}
