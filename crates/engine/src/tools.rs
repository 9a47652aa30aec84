//! Functions that a model may ask its caller to call.
//!
//! The format is that of Hermes and Qwen, which most open models are trained on or follow when told to:
//!
//! ```text
//! <tool_call>
//! {"name": "get_weather", "arguments": {"city": "Paris"}}
//! </tool_call>
//! ```
//!
//! A chat template that asks for `tools` writes them its own way. For any other, [`Tools::tell`] puts Qwen2.5's words into the
//! system text, past calls into the model's turns, and results into a user's turn. Either way a grammar keeps calls to this
//! format and their arguments to the tool's schema: where a call is required from the first token on, else from the tag on.
//! [`CallSplitter`] tells text and calls apart.

mod calls;

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use crate::error::EngineError;
use crate::grammar::{Grammar, inline_schema};
use crate::message::{Message, Part, Role};
use crate::template::python_json;

pub use calls::{CallBlock, CallPiece, CallSplitter, WrittenCall};

/// Before a call.
const TAG: &str = "<tool_call>";
/// From the tag to the function's name.
const HEAD: &str = "\n{\"name\": \"";
/// From the name to the arguments.
const MIDDLE: &str = "\", \"arguments\": ";
/// After the arguments.
const END: &str = "}\n</tool_call>";
/// Between calls that must be there.
const BETWEEN: &str = "\n";
/// Most calls in one answer.
pub const MAX_CALLS: usize = 16;
/// Most tools of a request.
pub const MAX_TOOLS: usize = 128;
/// Longest name.
const MAX_NAME_BYTES: usize = 128;

/// A function that can be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments, of type object.
    pub parameters: Map<String, Json>,
}

/// Whether to call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// Never. The model is not told of the tools.
    None,
    /// At least one.
    Required,
    /// This one, once.
    Named(String),
}

/// How many calls one answer may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// Up to [`MAX_CALLS`].
    #[default]
    Several,
    /// At most one.
    One,
}

/// The tools of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tools {
    /// What can be called.
    pub list: Vec<Tool>,
    /// Whether to call.
    pub choice: ToolChoice,
    /// How often.
    pub calls: Calls,
}

/// A call that the model made in an earlier turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// What its result refers to.
    pub id: String,
    /// The function.
    pub name: String,
    /// What it was called with: an object, or a text where that was not JSON.
    pub arguments: Json,
}

impl Tools {
    /// Whether the model is told of tools and may call them.
    pub fn are_offered(&self) -> bool {
        !self.list.is_empty() && self.choice != ToolChoice::None
    }

    /// Whether a conversation has to do with tools.
    pub(crate) fn are_in(&self, messages: &[Message]) -> bool {
        let called = |part: &Part| matches!(part, Part::Call(_));
        self.are_offered()
            || messages
                .iter()
                .any(|message| is_result(message) || message.content.iter().any(called))
    }

    /// Checks names and choice. Schemas are looked at with the model.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.list.len() > MAX_TOOLS {
            let message = format!("expected at most {MAX_TOOLS}, found {}", self.list.len());
            return Err(EngineError::request("tools", message));
        }
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        for (index, tool) in self.list.iter().enumerate() {
            let place = |part: &str| format!("tools[{index}].{part}");
            let name = &tool.name;
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(good) {
                let message = format!(
                    "expected 1 to {MAX_NAME_BYTES} letters, digits, `_`, `-` or `.`, found {:?}",
                    name.chars().take(40).collect::<String>()
                );
                return Err(EngineError::request(place("name"), message));
            }
            if self.list[..index].iter().any(|other| other.name == *name) {
                return Err(EngineError::request(
                    place("name"),
                    format!("`{name}` twice"),
                ));
            }
            let kind = tool.parameters.get("type");
            if kind.is_some_and(|kind| kind != "object") {
                let message = "expected a schema of type object";
                return Err(EngineError::request(place("parameters"), message));
            }
        }
        match &self.choice {
            ToolChoice::Required if self.list.is_empty() => Err(EngineError::request(
                "tool_choice",
                "a call is required and there are no tools",
            )),
            ToolChoice::Named(name) if !self.list.iter().any(|tool| tool.name == *name) => Err(
                EngineError::request("tool_choice", format!("there is no tool `{name}`")),
            ),
            _ => Ok(()),
        }
    }

    /// What an answer with these tools must look like; `format` is for answers without a call. None where anything goes.
    pub(crate) fn grammar(&self, format: Option<&Grammar>) -> Result<Option<Grammar>, EngineError> {
        if !self.are_offered() {
            return Ok(format.cloned());
        }
        let mut rules = String::new();
        let mut bodies = Vec::new();
        for (index, tool) in self.list.iter().enumerate() {
            if matches!(&self.choice, ToolChoice::Named(name) if *name != tool.name) {
                continue;
            }
            let schema = inline_schema(&tool.schema(index)?);
            let head = literal(&format!("{HEAD}{}{MIDDLE}", tool.name));
            let end = literal(END);
            // Writing to a String cannot fail.
            let _ = writeln!(rules, "tool_{index}: {head} args_{index} {end}");
            let _ = writeln!(rules, "args_{index}: {schema}");
            bodies.push(format!("tool_{index}"));
        }
        let (tag, between) = (literal(TAG), literal(BETWEEN));
        let more = match (self.calls, &self.choice) {
            (Calls::One, _) | (_, ToolChoice::Named(_)) => 0,
            (Calls::Several, _) => MAX_CALLS - 1,
        };
        let several = match more {
            0 => "call".to_owned(),
            _ => format!("call ({between} call){{0,{more}}}"),
        };
        let call = format!("call: {tag} body\nbody: {}\n", bodies.join(" | "));
        let start = match (&self.choice, format) {
            (ToolChoice::Required | ToolChoice::Named(_), _) => format!("start: {several}\n{call}"),
            (_, Some(format)) => {
                let Some(expression) = format.expression() else {
                    let message = "a grammar of several rules together with tools: not supported";
                    return Err(EngineError::request(format.name(), message));
                };
                format!("start: answer | {several}\nanswer: {expression}\n{call}")
            }
            // Free text until the tag comes; then the lazy rule is over and a call must follow.
            (_, None) => {
                let start = match more {
                    0 => "start: text | call".to_owned(),
                    _ => format!("start: call{{0,{}}} text", more + 1),
                };
                format!(
                    "{start}\ntext: TEXT\nTEXT: /(.|\\n)*/\nhead[lazy]: TEXT {tag}\ncall: head body\nbody: {}\n",
                    bodies.join(" | ")
                )
            }
        };
        let grammar = Grammar::rules(format!("{start}{rules}")).named("tools");
        grammar.checked().map(Some)
    }

    /// The schemas in an answer's grammar, each alone: to find out which one is wrong.
    pub(crate) fn grammars(&self, format: Option<&Grammar>) -> Vec<Grammar> {
        let tools = self.list.iter().enumerate();
        let of_tools = tools.filter_map(|(index, tool)| tool.grammar(index).ok());
        format.cloned().into_iter().chain(of_tools).collect()
    }

    /// The tools as OpenAI and the chat templates have them.
    pub fn json(&self) -> Json {
        self.list.iter().map(Tool::json).collect()
    }

    /// A conversation for a chat template that knows nothing of tools.
    pub(crate) fn tell(&self, messages: &[Message]) -> Vec<Message> {
        let mut told: Vec<Message> = Vec::new();
        for message in messages {
            let message = plain(message);
            // Results of calls that were made together stand in one turn.
            match told.last_mut() {
                Some(last) if is_result(&message) && is_result(last) => {
                    last.content.push(Part::Text("\n".into()));
                    last.content.extend(message.content);
                }
                _ => told.push(message),
            }
        }
        if self.are_offered() {
            let instructions = self.instructions();
            match told.first_mut().filter(|first| first.role == Role::System) {
                Some(system) => system
                    .content
                    .push(Part::Text(format!("\n\n{instructions}"))),
                None => told.insert(0, Message::text(Role::System, instructions)),
            }
        }
        for message in &mut told {
            message.role = match message.role {
                Role::Tool => Role::User,
                role => role,
            };
        }
        told
    }

    /// Qwen2.5's words.
    fn instructions(&self) -> String {
        let tools: Vec<String> = self
            .list
            .iter()
            .map(|tool| python_json(&tool.json()))
            .collect();
        format!(
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
             You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\n\
             For each function call, return a json object with function name and arguments within \
             <tool_call></tool_call> XML tags:\n<tool_call>\n\
             {{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n</tool_call>",
            tools.join("\n")
        )
    }
}

impl Tool {
    fn json(&self) -> Json {
        let mut function = Map::new();
        function.insert("name".into(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".into(), json!(description));
        }
        function.insert("parameters".into(), Json::Object(self.parameters.clone()));
        json!({"type": "function", "function": function})
    }

    /// The schema of its arguments alone, for finding out which tool's is wrong.
    pub(crate) fn grammar(&self, index: usize) -> Result<Grammar, EngineError> {
        let schema = Json::Object(self.schema(index)?);
        Ok(Grammar::json_schema(&schema)?.named(place(index)))
    }

    /// The schema of its arguments, which are an object whether or not it says so.
    fn schema(&self, index: usize) -> Result<Map<String, Json>, EngineError> {
        let mut schema = self.parameters.clone();
        if schema.contains_key("x-guidance") {
            let place = format!("{}.x-guidance", place(index));
            return Err(EngineError::request(place, "not supported"));
        }
        schema.entry("type").or_insert(json!("object"));
        Ok(schema)
    }
}

/// Where the schema of a tool's arguments stands in a request.
fn place(index: usize) -> String {
    format!("tools[{index}].parameters")
}

/// A text as Lark writes it.
fn literal(text: &str) -> String {
    Json::String(text.to_owned()).to_string()
}

fn is_result(message: &Message) -> bool {
    message.role == Role::Tool
}

/// A turn in words alone: calls and results spelt out.
fn plain(message: &Message) -> Message {
    let mut content = Vec::new();
    for part in &message.content {
        match part {
            Part::Call(call) => {
                let between = if content.is_empty() { "" } else { "\n" };
                let object = json!({"name": call.name, "arguments": call.arguments});
                let object = python_json(&object);
                content.push(Part::Text(format!(
                    "{between}{TAG}\n{object}\n</tool_call>"
                )));
            }
            Part::ResultOf { .. } => {}
            other => content.push(other.clone()),
        }
    }
    if is_result(message) {
        content.insert(0, Part::Text("<tool_response>\n".into()));
        content.push(Part::Text("\n</tool_response>".into()));
    }
    Message {
        role: message.role,
        content: joined(content),
    }
}

/// Texts that follow each other as one: templates show a turn of one text as it is.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(Part::Text(text)), Part::Text(more)) => text.push_str(&more),
            (_, part) => joined.push(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
