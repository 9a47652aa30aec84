//! What a key of a GGUF file says.

/// A value. Whole numbers of all widths are one kind, for files differ in which they use.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number of any width.
    Whole(i128),
    /// f32 or f64.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// UTF-8 text.
    Text(String),
    /// Values of one kind.
    List(List),
}

/// Values of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum List {
    /// Whole numbers of any width; flags are 0 and 1.
    Whole(Vec<i64>),
    /// f32.
    Numbers(Vec<f32>),
    /// UTF-8 texts.
    Texts(Vec<String>),
    /// Lists.
    Lists(Vec<List>),
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Whole(_) => "a whole number",
            Value::Number(_) => "a number",
            Value::Flag(_) => "a flag",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
        }
    }
}
