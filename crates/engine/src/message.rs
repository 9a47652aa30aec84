//! A conversation as the engine takes it: turns made of texts and images, and of calls of tools.

use crate::disguise::texts_of_json;
use crate::tools::ToolCall;
use serde_json::{Value as Json, json};

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions that stand before the conversation.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
}

impl Role {
    /// The name that chat templates know.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Words.
    Text(String),
    /// An image, by its index in the request's list of images.
    Image(usize),
    /// A call of the model's.
    Call(ToolCall),
    /// The call whose result a tool's turn is.
    ResultOf {
        /// The call's id.
        id: String,
        /// The function, where it is known.
        name: Option<String>,
    },
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown, in order.
    pub content: Vec<Part>,
}

impl Message {
    /// The turn as chat templates and the OpenAI API know it; arguments of calls stay JSON, `image` writes the part of an image.
    pub fn to_json(&self, image: &dyn Fn(usize) -> Json) -> Json {
        let shown: Vec<Json> = self
            .content
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(json!({"type": "text", "text": text})),
                Part::Image(index) => Some(image(*index)),
                Part::Call(_) | Part::ResultOf { .. } => None,
            })
            .collect();
        let calls: Vec<Json> = self
            .content
            .iter()
            .filter_map(|part| match part {
                Part::Call(call) => {
                    let function = json!({"name": call.name, "arguments": call.arguments});
                    Some(json!({"type": "function", "id": call.id, "function": function}))
                }
                _ => None,
            })
            .collect();
        let content = match shown.as_slice() {
            [one] if one["type"] == "text" => one["text"].clone(),
            [] if !calls.is_empty() || self.role == Role::Tool => json!(""),
            _ => Json::Array(shown),
        };
        let mut json = json!({"role": self.role.name(), "content": content});
        if !calls.is_empty() {
            json["tool_calls"] = Json::Array(calls);
        }
        for part in &self.content {
            if let Part::ResultOf { id, name } = part {
                json["tool_call_id"] = json!(id);
                if let Some(name) = name {
                    json["name"] = json!(name);
                }
            }
        }
        json
    }

    /// A turn of words alone.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message {
            role,
            content: vec![Part::Text(text.into())],
        }
    }

    /// The texts of the turn, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// All that somebody wrote, what stands in calls included.
    pub fn writings<'m>(&'m self, texts: &mut Vec<&'m str>) {
        for part in &self.content {
            match part {
                Part::Text(text) => texts.push(text),
                Part::Image(_) => {}
                Part::Call(call) => {
                    texts.extend([call.id.as_str(), &call.name]);
                    texts_of_json(&call.arguments, texts);
                }
                Part::ResultOf { id, name } => {
                    texts.push(id);
                    texts.extend(name.as_deref());
                }
            }
        }
    }

    /// The indices of the turn's images, in order.
    pub fn images(&self) -> impl Iterator<Item = usize> {
        self.content.iter().filter_map(|part| match part {
            Part::Image(index) => Some(*index),
            _ => None,
        })
    }
}
