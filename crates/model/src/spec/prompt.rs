//! How pictures stand in a prompt, as data.

use super::{ModelSpec, ProjectorKind, RopeAxes};
use image_prep::{View, Views};

/// What a family does between messages and token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSpec {
    /// What the chat template writes where a picture stands.
    pub spot: Spot,
    /// What stands there instead when the prompt is tokenized.
    pub layout: Layout,
    /// The spelling of the token of a picture's rows, where config.json does not tell its id.
    pub image_token: Option<String>,
    /// The token for the beginning of a text.
    pub begin: Begin,
    /// The chat template of folders that have none.
    pub template: Option<String>,
}

impl Default for PromptSpec {
    /// What the native format does.
    fn default() -> PromptSpec {
        PromptSpec {
            spot: Spot::Tagged,
            layout: Layout::whole("", ""),
            image_token: None,
            begin: Begin::AsWritten,
            template: None,
        }
    }
}

/// The text by which a picture's place is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The tokens `image_start_token_id`, `image_token_id`, `image_end_token_id`, of which the second is repeated.
    Tagged,
    /// The token `image_token_id`.
    Token,
    /// This text, all of which is replaced by what the layout says.
    Text(String),
}

/// Whether the tokenizer's own token for the beginning comes before a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The template writes what is wanted.
    AsWritten,
    /// It comes, unless the template has written it.
    ByTokenizer,
}

/// The text of one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All of the picture's rows between two texts.
    Whole {
        /// Before them.
        before: String,
        /// After them.
        after: String,
    },
    /// The whole picture, then its slices row by row.
    Slices(Slices),
    /// Every tile under its place in the grid, the whole picture last: SmolVLM.
    Tiles {
        /// Before every view, and after the last.
        border: String,
        /// Before the rows of the whole picture.
        whole: String,
    },
    /// Rows and newlines, tokenized apart from the text around them and from each other: VILA.
    Apart {
        /// Newlines after each view of a picture that stands alone, or after all of them where they are put together.
        alone: usize,
        /// Newlines after a picture among others.
        among: usize,
    },
}

/// The texts around a picture and its slices: MiniCPM-V.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slices {
    /// Before and after the picture's number; none where it is not told.
    pub number: Option<[String; 2]>,
    /// Before and after the rows of the whole picture.
    pub whole: [String; 2],
    /// Before and after the rows of a slice.
    pub slice: [String; 2],
    /// Between two rows of slices.
    pub between: String,
}

impl Slices {
    /// The text of the `index`th picture; every view has so many rows.
    fn text(&self, views: &Views, index: usize, rows: usize) -> Vec<Segment> {
        let around = |[before, after]: &[String; 2]| {
            let (before, after) = (before.clone(), after.clone());
            [
                Segment::Text(before),
                Segment::Rows(rows),
                Segment::Text(after),
            ]
        };
        let number = self.number.as_ref();
        let number = number.map(|[before, after]| Segment::Text(format!("{before}{index}{after}")));
        let mut segments: Vec<Segment> = number.into_iter().chain(around(&self.whole)).collect();
        let columns = views.grid.columns.max(1) as usize;
        for slice in 0..views.list.len().saturating_sub(1) {
            if slice > 0 && slice % columns == 0 {
                segments.push(Segment::Text(self.between.clone()));
            }
            segments.extend(around(&self.slice));
        }
        segments
    }
}

impl Layout {
    /// All of the picture's rows between two texts.
    pub fn whole(before: &str, after: &str) -> Layout {
        Layout::Whole {
            before: before.into(),
            after: after.into(),
        }
    }
}

/// A stretch of the text of one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Characters, tokenized with what stands around them.
    Text(String),
    /// So many image tokens.
    Rows(usize),
    /// Where what comes before and what comes after are tokenized apart.
    Break,
}

/// From the rows of views to the rows of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assembly {
    /// One view after the other.
    Views,
    /// The first view; then the map of the others without the rows of padding, and `image_newline` after every line of it:
    /// LLaVA-NeXT.
    Unpadded {
        /// The map is shrunk to about the size of so many tiles where it is much larger: LLaVA-OneVision.
        most_tiles: Option<usize>,
    },
    /// Features of three scales side by side, before the projector: NVILA.
    Scales,
}

impl Assembly {
    /// Features of a patch that are put side by side.
    pub fn scales(self) -> usize {
        match self {
            Assembly::Scales => 3,
            Assembly::Views | Assembly::Unpadded { .. } => 1,
        }
    }
}

impl ModelSpec {
    /// Rows and columns of patches of a view. What is left over at the right and at the bottom is not seen.
    pub fn patches(&self, view: &View) -> [usize; 2] {
        let patch = self.vision.as_ref().map_or(1, |vision| vision.patch);
        [
            view.cut.height as usize / patch,
            view.cut.width as usize / patch,
        ]
    }

    /// Rows and columns of decoder rows that a view becomes.
    pub fn view_grid(&self, view: &View) -> [usize; 2] {
        let merge = self
            .projector
            .as_ref()
            .map_or(1, |projector| projector.merge);
        self.patches(view).map(|side| side.div_ceil(merge))
    }

    /// Decoder rows that a view becomes.
    pub fn view_tokens(&self, view: &View) -> usize {
        match self.projector.as_ref().map(|projector| projector.kind) {
            Some(ProjectorKind::Resampler { queries }) => queries,
            _ => self.view_grid(view).iter().product(),
        }
    }

    /// Rows and columns of a picture whose rows have positions of their own; none where positions count by one.
    pub fn position_grid(&self, views: &Views) -> Option<[usize; 2]> {
        match (self.decoder.rope_axes, views.list.as_slice()) {
            (RopeAxes::Bands(_) | RopeAxes::Turns(_), [view]) => Some(self.view_grid(view)),
            _ => None,
        }
    }

    /// Decoder rows that a picture becomes.
    pub fn image_tokens(&self, views: &Views) -> usize {
        let of_view = |view| self.view_tokens(view);
        match self.assembly {
            Assembly::Views => views.list.iter().map(of_view).sum(),
            Assembly::Scales => {
                let tiles = if views.list.len() == 1 {
                    1
                } else {
                    views.grid.tiles() as usize
                };
                tiles * views.list.first().map_or(0, of_view)
            }
            Assembly::Unpadded { most_tiles } => {
                let [rows, columns] = views
                    .list
                    .first()
                    .map_or([0; 2], |view| self.view_grid(view));
                let plan = crate::assembly::Unpadding::plan([rows, columns], most_tiles, views);
                rows * columns + plan.tokens()
            }
        }
    }

    /// What stands in the prompt for a picture, the `index`th of `count`.
    pub fn image_text(&self, views: &Views, (index, count): (usize, usize)) -> Vec<Segment> {
        match &self.prompt.layout {
            Layout::Tiles { border, whole } => {
                let rows = views.list.first().map_or(0, |view| self.view_tokens(view));
                let columns = views.grid.columns.max(1) as usize;
                let mut segments = Vec::new();
                let tiles = views.list.len().saturating_sub(1);
                for tile in 0..tiles {
                    let (row, column) = (tile / columns + 1, tile % columns + 1);
                    let place = format!("{border}<row_{row}_col_{column}>");
                    segments.extend([Segment::Text(place), Segment::Rows(rows)]);
                    if column == columns {
                        segments.push(Segment::Text("\n".into()));
                    }
                }
                let before = if tiles > 0 { "\n" } else { "" };
                segments.push(Segment::Text(format!("{before}{border}{whole}")));
                segments.extend([Segment::Rows(rows), Segment::Text(border.clone())]);
                segments
            }
            Layout::Apart { alone, among } => {
                let stretches = match self.assembly {
                    Assembly::Views => views
                        .list
                        .iter()
                        .map(|view| self.view_tokens(view))
                        .collect(),
                    _ => vec![self.image_tokens(views)],
                };
                let newlines = if count > 1 { *among } else { *alone };
                let mut segments = vec![Segment::Break];
                for rows in stretches {
                    segments.extend([Segment::Rows(rows), Segment::Break]);
                    for _ in 0..newlines {
                        segments.extend([Segment::Text("\n".into()), Segment::Break]);
                    }
                }
                segments
            }
            Layout::Slices(slices) => {
                let rows = views.list.first().map_or(0, |view| self.view_tokens(view));
                slices.text(views, index, rows)
            }
            Layout::Whole { before, after } => vec![
                Segment::Text(before.clone()),
                Segment::Rows(self.image_tokens(views)),
                Segment::Text(after.clone()),
            ],
        }
    }
}
