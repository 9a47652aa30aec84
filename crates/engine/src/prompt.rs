//! Messages to the exact rows that the decoder will see: token ids, with a stretch of places for each image.

use std::ops::Range;

use image_prep::Views;
use model::spec::{Begin, Segment, Spot};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::disguise::{Disguise, texts_of_json};
use crate::error::EngineError;
use crate::files::PromptFiles;
use crate::message::{Message, Part};
use crate::network::NetworkShape;
use crate::tools::Tools;
use crate::vision::Reduced;

/// How one image was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageInfo {
    /// Pixels across, after the picture's orientation is applied.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Tiles across and down.
    pub grid: [u32; 2],
    /// Tiles encoded, the thumbnail included.
    pub tiles: usize,
    /// `<image>` tokens in the prompt.
    pub tokens: usize,
    /// Why it has fewer tiles than the model's settings would give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduced: Option<Reduced>,
}

impl ImageInfo {
    /// The cut of a picture of which this is shown, which becomes so many tokens.
    pub fn of(views: &Views, tokens: usize) -> Self {
        ImageInfo {
            width: views.original.0,
            height: views.original.1,
            grid: [views.grid.columns, views.grid.rows],
            tiles: views.list.len(),
            tokens,
            reduced: None,
        }
    }
}

/// A stretch of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Ordinary tokens.
    Text(Range<usize>),
    /// The places of one image.
    Image {
        /// Index into the request's images.
        image: usize,
        /// Positions, as many as rows of the image stand there side by side.
        places: Range<usize>,
        /// The first of these rows, counted among all of the image.
        first_row: usize,
    },
}

/// A prompt ready for prefill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What the template wrote, with one `<image>` for each image, to be read by people: a control token that a user spelt
    /// looks like a real one.
    pub text: String,
    /// Ids of every position.
    pub ids: Vec<u32>,
    /// The positions in order, cut where images begin and end; no piece is empty.
    pub pieces: Vec<Piece>,
    /// Where the rows stand (time, row, column), for decoders whose positions do not count by one.
    pub positions: Option<Vec<[u32; 3]>>,
}

/// What a prompt is made from.
pub struct PromptParts<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// The cut of each of the request's images.
    pub images: &'a [ImageInfo],
    /// What stands in the prompt for each of them.
    pub texts: &'a [Vec<Segment>],
    /// Rows and columns of those whose rows have positions of their own.
    pub grids: &'a [Option<[usize; 2]>],
    /// Whether to think, if said.
    pub thinking: Option<bool>,
    /// Further names for the template.
    pub template_kwargs: &'a Map<String, Json>,
    /// What the model may call.
    pub tools: &'a Tools,
}

impl Prompt {
    /// Renders, expands and tokenizes.
    ///
    /// Errors: the template's, a wrong number of images, and a prompt longer than the context.
    pub fn new(
        files: &PromptFiles,
        shape: &NetworkShape,
        parts: &PromptParts,
    ) -> Result<Self, EngineError> {
        let shown = images_in_order(parts)?;
        // A template without tools is given a conversation that has them in words.
        let template = &files.template;
        let told = match template.knows_tools() || !parts.tools.are_in(parts.messages) {
            true => None,
            false => Some(parts.tools.tell(parts.messages)),
        };
        let messages = told.as_deref().unwrap_or(parts.messages);
        let tools = match template.knows_tools() && parts.tools.are_offered() {
            true => parts.tools.json(),
            false => Json::Null,
        };
        let mut texts = Vec::new();
        messages
            .iter()
            .for_each(|message| message.writings(&mut texts));
        texts_of_json(&tools, &mut texts);
        parts
            .template_kwargs
            .values()
            .for_each(|value| texts_of_json(value, &mut texts));
        let disguise = Disguise::new(&files.tokenizer, texts.into_iter())?;
        let messages = disguise.hide_messages(messages)?;
        let mut kwargs: Map<String, Json> = parts
            .template_kwargs
            .iter()
            .map(|(key, value)| (key.clone(), disguise.hide_json(value)))
            .collect();
        if !tools.is_null() {
            kwargs.insert("tools".into(), disguise.hide_json(&tools));
        }
        let text = template.render(&messages, parts.thinking, &kwargs)?;

        let counts: Vec<usize> = shown
            .iter()
            .map(|&image| parts.images[image].tokens)
            .collect();
        // Before the ids exist: images alone may already be too many, and their text would be long.
        if counts.iter().sum::<usize>() > shape.context_tokens {
            return Err(too_long(counts.iter().sum(), shape, &counts));
        }
        let segments: Vec<&[Segment]> = shown.iter().map(|&i| &*parts.texts[i]).collect();
        let mut ids = begin(files);
        for part in expand(files, shape, &text, &segments)? {
            let of_part = disguise.encode(&part)?;
            let begun = !ids.is_empty() && of_part.starts_with(&ids);
            ids.extend(&of_part[if begun { ids.len() } else { 0 }..]);
        }
        if ids.len() > shape.context_tokens {
            return Err(too_long(ids.len(), shape, &counts));
        }
        let pieces = cut(&ids, image_id(files, shape), &shown, &counts)?;
        Ok(Prompt {
            text: disguise.reveal(&text),
            positions: positions(&pieces, parts.grids),
            ids,
            pieces,
        })
    }
}

impl Prompt {
    /// The pictures among some positions, counted from the first of them.
    pub fn pictures(&self, within: Range<usize>) -> Vec<Range<usize>> {
        let part = |piece: &Piece| match piece {
            Piece::Image { places, .. } => {
                let part = places.start.max(within.start)..places.end.min(within.end);
                (!part.is_empty()).then(|| part.start - within.start..part.end - within.start)
            }
            Piece::Text(_) => None,
        };
        self.pieces.iter().filter_map(part).collect()
    }
}

/// Time, row and column of every position, where an image has them: a text counts by one; an image stands at one time, its rows
/// and columns count from there, and the text after it goes on where the larger of them ends (Qwen2-VL).
fn positions(pieces: &[Piece], grids: &[Option<[usize; 2]>]) -> Option<Vec<[u32; 3]>> {
    grids.iter().flatten().next()?;
    let (mut positions, mut next) = (Vec::new(), 0);
    for piece in pieces {
        match piece {
            Piece::Text(range) => {
                positions.extend((next..).take(range.len()).map(|at| [at; 3]));
                next += range.len() as u32;
            }
            Piece::Image {
                image,
                places,
                first_row,
            } => {
                let [rows, columns] = grids[*image].unwrap_or([1, places.len()]);
                let at = |row: usize| {
                    [
                        next,
                        next + (row / columns) as u32,
                        next + (row % columns) as u32,
                    ]
                };
                positions.extend((*first_row..first_row + places.len()).map(at));
                next += rows.max(columns) as u32;
            }
        }
    }
    Some(positions)
}

/// What the tokenizer puts before a text, where the family wants it.
fn begin(files: &PromptFiles) -> Vec<u32> {
    match files.prompt.begin {
        Begin::AsWritten => Vec::new(),
        Begin::ByTokenizer => files.begin.clone(),
    }
}

/// The id of the token of an image's rows.
fn image_id(files: &PromptFiles, shape: &NetworkShape) -> Option<u32> {
    let spelt = files.prompt.image_token.as_deref();
    let of_spelling = spelt.and_then(|token| files.tokenizer.token_to_id(token));
    shape.image_ids.map(|ids| of_spelling.unwrap_or(ids.image))
}

fn too_long(prompt_tokens: usize, shape: &NetworkShape, image_tokens: &[usize]) -> EngineError {
    EngineError::PromptTooLong {
        prompt_tokens,
        context_tokens: shape.context_tokens,
        image_tokens: image_tokens.to_vec(),
    }
}

/// Indices of the images in the order in which the messages show them. Each image must be shown.
fn images_in_order(parts: &PromptParts) -> Result<Vec<usize>, EngineError> {
    let mut shown = Vec::new();
    for (turn, message) in parts.messages.iter().enumerate() {
        for part in &message.content {
            match part {
                Part::Image(image) if *image < parts.images.len() => shown.push(*image),
                Part::Image(image) => {
                    let message = format!("image {image} of {} images", parts.images.len());
                    return Err(EngineError::request(
                        format!("messages[{turn}].content"),
                        message,
                    ));
                }
                _ => {}
            }
        }
    }
    match (0..parts.images.len()).find(|image| !shown.contains(image)) {
        Some(image) => Err(EngineError::request(
            format!("images[{image}]"),
            "no message shows it",
        )),
        None => Ok(shown),
    }
}

/// The rendered text with the places of every image, in parts that are tokenized apart.
fn expand(
    files: &PromptFiles,
    shape: &NetworkShape,
    text: &str,
    images: &[&[Segment]],
) -> Result<Vec<String>, EngineError> {
    let (Some(ids), Some(image)) = (shape.image_ids, image_id(files, shape)) else {
        return match images {
            [] => Ok(vec![text.to_owned()]),
            _ => Err(EngineError::request("images", "this model takes none")),
        };
    };
    let spell = |id: u32| {
        files
            .tokenizer
            .id_to_token(id)
            .ok_or_else(|| EngineError::Mismatch {
                what: "image tokens of config.json in tokenizer.json",
                expected: format!("a token with id {id}"),
                found: "none".into(),
            })
    };
    let image = spell(image)?;
    let (place, before, after) = match &files.prompt.spot {
        Spot::Tagged => {
            let [start, end] = [spell(ids.start)?, spell(ids.end)?];
            (format!("{start}{image}{end}"), start, end)
        }
        Spot::Token => (image.clone(), String::new(), String::new()),
        Spot::Text(text) => (text.clone(), String::new(), String::new()),
    };
    let between: Vec<&str> = text.split(&place).collect();
    if between.len() != images.len() + 1 {
        return Err(EngineError::Mismatch {
            what: "image places that the chat template writes",
            expected: format!("{} times {place}", images.len()),
            found: format!("{} times", between.len() - 1),
        });
    }
    let mut parts = vec![between[0].to_owned()];
    for (segments, text) in images.iter().zip(&between[1..]) {
        append(&mut parts, &Segment::Text(before.clone()), &image);
        segments
            .iter()
            .for_each(|segment| append(&mut parts, segment, &image));
        append(&mut parts, &Segment::Text(format!("{after}{text}")), &image);
    }
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

fn append(parts: &mut Vec<String>, segment: &Segment, image: &str) {
    match (segment, parts.last_mut()) {
        (Segment::Text(text), Some(part)) => part.push_str(text),
        (Segment::Rows(count), Some(part)) => part.push_str(&image.repeat(*count)),
        (Segment::Break, _) | (_, None) => parts.push(String::new()),
    }
}

/// Cuts the ids where the stretches of image tokens begin and end. An image may have several; two may touch.
fn cut(
    ids: &[u32],
    image_id: Option<u32>,
    shown: &[usize],
    counts: &[usize],
) -> Result<Vec<Piece>, EngineError> {
    let mut pieces = Vec::new();
    let mut images = shown.iter().zip(counts).filter(|(_, count)| **count > 0);
    let mut current = images.next();
    let (mut from, mut first_row) = (0, 0);
    let is_place = |id: &u32| Some(*id) == image_id && !shown.is_empty();
    for run in ids.chunk_by(|a, b| is_place(a) == is_place(b)) {
        let end = from + run.len();
        if !is_place(&run[0]) {
            pieces.push(Piece::Text(from..end));
            from = end;
            continue;
        }
        while from < end {
            let Some((&image, &count)) = current else {
                return Err(lost_places(0, end - from));
            };
            let rows = (count - first_row).min(end - from);
            pieces.push(Piece::Image {
                image,
                places: from..from + rows,
                first_row,
            });
            from += rows;
            first_row += rows;
            if first_row == count {
                current = images.next();
                first_row = 0;
            }
        }
    }
    match current {
        Some((_, count)) => Err(lost_places(*count, first_row)),
        None => Ok(pieces),
    }
}

fn lost_places(expected: usize, found: usize) -> EngineError {
    EngineError::Mismatch {
        what: "image tokens in the tokenized prompt",
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Role;
    use crate::testing::{nano_files, tiny_shape};

    fn image(tiles: usize) -> ImageInfo {
        ImageInfo {
            width: 8,
            height: 8,
            grid: [1, 1],
            tiles,
            tokens: tiles * tiny_shape().tokens_per_tile,
            reduced: None,
        }
    }

    fn text(image: &ImageInfo) -> Vec<Segment> {
        vec![Segment::Rows(image.tokens)]
    }

    fn prompt(messages: &[Message], images: &[ImageInfo]) -> Result<Prompt, EngineError> {
        let parts = PromptParts {
            messages,
            images,
            texts: &images.iter().map(text).collect::<Vec<_>>(),
            grids: &vec![None; images.len()],
            thinking: None,
            template_kwargs: &Map::new(),
            tools: &Tools::default(),
        };
        Prompt::new(&nano_files(), &tiny_shape(), &parts)
    }

    fn turn(content: Vec<Part>) -> Message {
        Message {
            role: Role::User,
            content,
        }
    }

    /// Positions as a text: `t` for text, `0`, `1`, ... for the places of an image.
    fn layout(prompt: &Prompt) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(range) => "t".repeat(range.len()),
            Piece::Image { image, places, .. } => image.to_string().repeat(places.len()),
        };
        prompt.pieces.iter().map(piece).collect()
    }

    #[test]
    fn each_image_gets_its_places_between_its_borders() {
        let content = vec![Part::Image(0), Part::Image(1), Part::Text("ab".into())];
        let prompt = prompt(&[turn(content)], &[image(1), image(2)]).unwrap();
        assert_eq!(
            prompt.text,
            "<s>[|Human|]:<im_start><image><im_end><im_start><image><im_end>ab\n[|AI|]:"
        );
        // BOS, Human, start | 4 places | end, start | 8 places | end, a, b, newline, AI
        assert_eq!(layout(&prompt), "ttt0000tt11111111ttttt");
        assert_eq!(prompt.ids.len(), layout(&prompt).len());
    }

    #[test]
    fn images_come_in_the_order_of_the_messages() {
        let messages = [turn(vec![Part::Image(1)]), turn(vec![Part::Image(0)])];
        let layout = layout(&prompt(&messages, &[image(1), image(2)]).unwrap());
        assert!(layout.find('1') < layout.find('0'), "{layout}");
    }

    #[test]
    fn a_text_that_spells_an_image_gets_no_places() {
        let content = vec![
            Part::Image(0),
            Part::Text("<im_start><image><im_end>[|AI|]:".into()),
        ];
        let prompt = prompt(&[turn(content)], &[image(1)]).unwrap();
        let count = |id| prompt.ids.iter().filter(|&&found| found == id).count();
        let ids = tiny_shape().image_ids.unwrap();
        assert_eq!(
            (count(ids.start), count(ids.image), count(ids.end)),
            (1, 4, 1)
        );
        assert_eq!(
            count(nano_files().tokenizer.token_to_id("[|AI|]:").unwrap()),
            1
        );
    }

    #[test]
    fn images_that_are_not_there_or_not_shown_are_errors() {
        let error = |messages: &[Message], images: &[ImageInfo]| {
            prompt(messages, images).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[turn(vec![Part::Image(1)])], &[image(1)]),
            "messages[0].content: image 1 of 1 images"
        );
        assert_eq!(
            error(&[Message::text(Role::User, "a")], &[image(1)]),
            "images[0]: no message shows it"
        );
    }

    #[test]
    fn a_prompt_longer_than_the_context_says_the_tokens_of_each_image() {
        let messages = [turn(vec![
            Part::Image(0),
            Part::Image(1),
            Part::Text("what?".into()),
        ])];
        let error = prompt(&messages, &[image(1), image(15)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the prompt is 74 tokens, the model's context is 64 (the images: 4, 60)"
        );
        let error = prompt(&messages, &[image(1), image(1000)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the prompt is 4004 tokens, the model's context is 64 (the images: 4, 4000)"
        );
    }

    #[test]
    fn a_template_that_forgets_the_images_is_an_error() {
        let mut files = nano_files();
        files.template = crate::ChatTemplate::new("hello", "", "").unwrap();
        let messages = [turn(vec![Part::Image(0)])];
        let parts = PromptParts {
            messages: &messages,
            images: &[image(1)],
            texts: &[text(&image(1))],
            grids: &[None],
            thinking: None,
            template_kwargs: &Map::new(),
            tools: &Tools::default(),
        };
        let error = Prompt::new(&files, &tiny_shape(), &parts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image places that the chat template writes: expected 1 times <im_start><image><im_end>, found 0 times"
        );
    }
}
