//! What an example is: a picture, questions with answers, marks of what is drawn, and its text twin.

use image_prep::Picture;
use serde::{Deserialize, Serialize};

/// One training example.
#[derive(Clone, Debug)]
pub struct Example {
    /// The picture, 8-bit RGB.
    pub picture: Picture,
    /// Every question that the picture answers without doubt, in no meaningful order.
    pub questions: Vec<Question>,
    /// Every drawn glyph (spaces excepted) and every shape, in picture pixels.
    pub marks: Vec<Mark>,
    /// The content as plain text, for training a decoder on the same questions without pictures.
    pub twin: String,
    /// Which kind of scene it is.
    pub scene: SceneKind,
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What skill it asks for.
    pub kind: Kind,
    /// The question as a person would type it.
    pub question: String,
    /// What to write between `<think>` and `</think>`; `None` where a thought does not help.
    pub thought: Option<String>,
    /// The answer, complete without the thought. Amounts stand as printed, without the currency sign.
    pub answer: String,
}

/// The skill that a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Read a text: "What does the sign say?"
    Read,
    /// Find one value by its name: "How much is the coffee?"
    Lookup,
    /// Read a printed total: "What is the total?"
    Total,
    /// Add amounts: "What do all items cost together?"
    Sum,
    /// Count shapes or lines: "How many red circles are there?"
    Count,
    /// Compare amounts or shapes: "Which item is the most expensive?"
    Compare,
    /// Read a bar chart: "What is the value of March?"
    Chart,
    /// Read a table: "What is in row 3, column Price?"
    Table,
    /// Read a form or a screenshot: "What is the email?"
    Form,
    /// Read everything, or one line of it.
    Transcribe,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Kind; 10] = [
        Kind::Read,
        Kind::Lookup,
        Kind::Total,
        Kind::Sum,
        Kind::Count,
        Kind::Compare,
        Kind::Chart,
        Kind::Table,
        Kind::Form,
        Kind::Transcribe,
    ];

    /// The name in task files, the same as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Lookup => "lookup",
            Kind::Total => "total",
            Kind::Sum => "sum",
            Kind::Count => "count",
            Kind::Compare => "compare",
            Kind::Chart => "chart",
            Kind::Table => "table",
            Kind::Form => "form",
            Kind::Transcribe => "transcribe",
        }
    }
}

/// Kinds of scenes that the generator draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SceneKind {
    /// One to four big characters: the first step of a curriculum.
    Glyphs,
    /// Lines of unrelated words, numbers, dates.
    Words,
    /// A sign of one to three lines.
    Sign,
    /// A receipt.
    Receipt,
    /// A menu or price list.
    Menu,
    /// A table with a header row.
    Table,
    /// A bar chart.
    Bars,
    /// A form as on a screen.
    Form,
    /// Coloured shapes.
    Shapes,
    /// Additions to be done, one under another.
    Sums,
}

impl SceneKind {
    /// Every kind of scene.
    pub const ALL: [SceneKind; 10] = [
        SceneKind::Glyphs,
        SceneKind::Words,
        SceneKind::Sign,
        SceneKind::Receipt,
        SceneKind::Menu,
        SceneKind::Table,
        SceneKind::Bars,
        SceneKind::Form,
        SceneKind::Shapes,
        SceneKind::Sums,
    ];
}

/// What a mark marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkClass {
    /// A drawn character, or the space between two words of a line.
    Glyph(char),
    /// A coloured shape of a shapes scene.
    Shape {
        /// Its outline.
        shape: Shape,
        /// Its colour.
        color: Color,
    },
    /// Something that is neither text nor a shape and yet says something.
    Sign(Sign),
}

/// What a mark says that is neither text nor a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A box with a tick in it, a switch that is on.
    Checked,
    /// A box without a tick, a switch that is off.
    Unchecked,
    /// The free end of a bar of a chart.
    BarEnd,
}

/// A drawn thing with its box in pixels of the final picture: `x0 <= x1`, `y0 <= y1`, inside the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// What it is.
    pub class: MarkClass,
    /// Left edge.
    pub x0: f32,
    /// Upper edge.
    pub y0: f32,
    /// Right edge.
    pub x1: f32,
    /// Lower edge.
    pub y1: f32,
    /// From the box's middle down to the middle of its line of text, the same height for all glyphs of a line; 0 for a shape.
    pub line: f32,
    /// Text size, the side of an em; for a shape its longer side.
    pub size: f32,
}

/// Outlines of shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Diamond,
    Cross,
    Hexagon,
    Heart,
}

impl Shape {
    /// Every shape, in the order of their class numbers.
    pub const ALL: [Shape; 8] = [
        Shape::Circle,
        Shape::Square,
        Shape::Triangle,
        Shape::Star,
        Shape::Diamond,
        Shape::Cross,
        Shape::Hexagon,
        Shape::Heart,
    ];

    /// The word for one.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Circle => "circle",
            Shape::Square => "square",
            Shape::Triangle => "triangle",
            Shape::Star => "star",
            Shape::Diamond => "diamond",
            Shape::Cross => "cross",
            Shape::Hexagon => "hexagon",
            Shape::Heart => "heart",
        }
    }

    /// The word for several.
    pub fn plural(self) -> &'static str {
        match self {
            Shape::Circle => "circles",
            Shape::Square => "squares",
            Shape::Triangle => "triangles",
            Shape::Star => "stars",
            Shape::Diamond => "diamonds",
            Shape::Cross => "crosses",
            Shape::Hexagon => "hexagons",
            Shape::Heart => "hearts",
        }
    }
}

/// Named colours of shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Color {
    Red,
    Green,
    Blue,
    Yellow,
    Orange,
    Purple,
    Pink,
    Brown,
    Black,
    White,
    Gray,
}

impl Color {
    /// Every colour, in the order of their class numbers.
    pub const ALL: [Color; 11] = [
        Color::Red,
        Color::Green,
        Color::Blue,
        Color::Yellow,
        Color::Orange,
        Color::Purple,
        Color::Pink,
        Color::Brown,
        Color::Black,
        Color::White,
        Color::Gray,
    ];

    /// The English word.
    pub fn name(self) -> &'static str {
        match self {
            Color::Red => "red",
            Color::Green => "green",
            Color::Blue => "blue",
            Color::Yellow => "yellow",
            Color::Orange => "orange",
            Color::Purple => "purple",
            Color::Pink => "pink",
            Color::Brown => "brown",
            Color::Black => "black",
            Color::White => "white",
            Color::Gray => "gray",
        }
    }
}
