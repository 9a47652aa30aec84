//! Single characters and lines of unrelated words: where reading is learnt.

use crate::drawing::{Align, Drawing};
use crate::example::{Kind, Question};
use crate::fonts::Face;
use crate::layout::Content;
use crate::questions::{ask, reading};
use crate::random::Random;
use crate::recipe::Recipe;
use crate::style::{self, Palette};
use crate::vocabulary;

/// Lines of text one under another, each with its own size.
pub(crate) struct Lines {
    lines: Vec<Line>,
    palette: Palette,
    align: Align,
    spacing: f32,
    margin: f32,
    single: bool,
}

struct Line {
    words: Vec<String>,
    face: Face,
    scale: f32,
    strong: bool,
}

impl Line {
    fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// One to four big characters, or a short random string.
pub(crate) fn glyphs(random: &mut Random, recipe: &Recipe) -> Lines {
    let face = style::face(random, recipe);
    let text = if random.chance(recipe.chinese) {
        let signs = vocabulary::chinese_signs();
        random.pick(signs).chars().take(2).collect()
    } else if random.chance(0.25) {
        let marks: Vec<char> = ('!'..='~')
            .filter(|character| character.is_ascii_punctuation())
            .collect();
        let length = random.between(1, 2);
        let code = vocabulary::code(random, length);
        format!("{code}{}", random.pick(&marks))
    } else {
        let length = random.between(1, 4);
        vocabulary::code(random, length)
    };
    let line = Line {
        words: vec![text],
        face,
        scale: random.size(1.0, 2.5),
        strong: false,
    };
    Lines {
        lines: vec![line],
        align: Align::Center,
        single: true,
        ..plain(random)
    }
}

/// One to six lines of words, numbers, dates, prices and codes.
pub(crate) fn words(random: &mut Random, recipe: &Recipe) -> Lines {
    let count = 1 + random.weighted(&[0.3, 0.25, 0.2, 0.12, 0.08, 0.05]);
    let body = style::face(random, recipe);
    let even = random.chance(0.6);
    let chinese = random.chance(recipe.chinese);
    let mut lines = Vec::new();
    for _ in 0..count {
        let words = (0..1 + random.weighted(&[0.4, 0.35, 0.2, 0.05]))
            .map(|_| token(random, chinese))
            .collect();
        let face = if even {
            body
        } else {
            style::heading(body, random, recipe)
        };
        let scale = if even { 1.0 } else { random.size(1.0, 1.8) };
        lines.push(Line {
            words,
            face,
            scale,
            strong: random.chance(0.2),
        });
    }
    let align = random.pick(&[Align::Left, Align::Left, Align::Center, Align::Right]);
    Lines {
        lines,
        align,
        ..plain(random)
    }
}

fn plain(random: &mut Random) -> Lines {
    Lines {
        lines: Vec::new(),
        palette: Palette::choose(random),
        align: Align::Left,
        spacing: random.size(1.0, 1.8),
        margin: random.size(0.2, 1.5),
        single: false,
    }
}

fn token(random: &mut Random, chinese: bool) -> String {
    if chinese && random.chance(0.6) {
        return (random.pick(vocabulary::chinese_goods())).to_owned();
    }
    let length = random.between(1, 8);
    match random.weighted(&[0.5, 0.25, 0.25]) {
        0 => {
            let word = vocabulary::any_word(random);
            punctuated(random, word)
        }
        1 => vocabulary::code(random, length),
        _ => vocabulary::number_text(random),
    }
}

fn punctuated(random: &mut Random, word: String) -> String {
    match random.below(40) {
        0 => format!("{word}!"),
        1 => format!("{word}?"),
        2 => format!("{word}."),
        3 => format!("{word},"),
        4 => format!("{word}:"),
        5 => format!("({word})"),
        6 => format!("\"{word}\""),
        7 => format!("{word}'s"),
        8 => format!("{word}-{}", vocabulary::word(random)),
        9 => format!("{word}/{}", vocabulary::word(random)),
        10 => format!("{word}@{}.com", vocabulary::word(random)),
        11 => format!("{}&{word}", vocabulary::word(random)),
        12 => format!("{word}_{}", vocabulary::word(random)),
        13 => format!("[{word}]"),
        14 => format!("*{word}*"),
        15 => format!("{word};"),
        16 => format!("{word}={}", random.below(100)),
        17 => format!("{}+{}", random.below(100), random.below(100)),
        18 => format!("<{word}>"),
        _ => word,
    }
}

impl Lines {
    fn texts(&self) -> Vec<String> {
        self.lines.iter().map(Line::text).collect()
    }
}

impl Content for Lines {
    fn lay_out(&self, size: f32) -> Drawing {
        let mut drawing = Drawing::new(self.palette.ground);
        let margin = self.margin * size;
        let widths: Vec<f32> = self
            .lines
            .iter()
            .map(|line| line.face.at(size * line.scale).width(&line.text()))
            .collect();
        let width = widths.iter().fold(0.0f32, |most, &width| most.max(width));
        let x = match self.align {
            Align::Left => margin,
            Align::Center => margin + width / 2.0,
            Align::Right => margin + width,
        };
        let mut top = margin;
        for line in &self.lines {
            let face = line.face.at(size * line.scale);
            let ink = if line.strong {
                self.palette.strong
            } else {
                self.palette.ink
            };
            drawing.text(x, top, self.align, face, ink, &line.text());
            top += face.line() * self.spacing;
        }
        drawing.width = width + 2.0 * margin;
        // The last line keeps its own height, not its spacing.
        let last = self
            .lines
            .last()
            .map_or(0.0, |line| line.face.at(size * line.scale).line());
        drawing.height = top - last * (self.spacing - 1.0) + margin;
        drawing
    }

    fn shrink(&mut self) -> bool {
        if self.margin > 0.3 {
            self.margin = 0.2;
            return true;
        }
        let longest = self
            .lines
            .iter()
            .map(|line| line.text().chars().count())
            .max()
            .unwrap_or(0);
        if self.lines.len() > 1 && self.lines.len() * 2 > longest {
            self.lines.pop();
            return true;
        }
        let Some(line) = self
            .lines
            .iter_mut()
            .max_by_key(|line| line.text().chars().count())
        else {
            return false;
        };
        if line.words.len() > 1 {
            line.words.pop();
        } else if line.scale > 1.0 {
            line.scale = 1.0;
        } else if longest > 1 {
            line.words[0].pop();
        } else {
            return false;
        }
        true
    }

    fn questions(&self, random: &mut Random) -> Vec<Question> {
        let texts = self.texts();
        let mut questions = if self.single {
            Vec::new()
        } else {
            reading(random, &texts)
        };
        if texts.len() <= 3 && self.twin().chars().count() <= 60 {
            let wordings = [
                "What does it say?",
                "What is written here?",
                "Read the text.",
                "What is the text?",
                "What text is shown?",
            ];
            let question = ask(Kind::Read, random.pick(&wordings), texts.join(" "));
            questions.push(question.thinking(texts.join(" / ")));
        }
        for pair in texts.windows(2).take(2) {
            questions.push(ask(
                Kind::Transcribe,
                format!("What comes after {}?", pair[0]),
                pair[1].clone(),
            ));
        }
        questions
    }

    fn twin(&self) -> String {
        self.texts().join("\n")
    }
}
