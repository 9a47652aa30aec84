//! How closely the pictures of a request are looked at: what is asked for, what fits, and what was chosen.
//!
//! A tile is a fixed number of tokens, so a picture's cost is decided by its grid. A request can bound it for each picture
//! (`detail`, [`Vision::max_tiles`], [`Vision::max_tokens`]). Where the prompt would not fit the context or the memory all the
//! same, pictures that are looked at with [`Detail::Auto`] get fewer tiles, or the request is refused: [`Policy`]. Whatever was
//! taken away is told in [`ImageInfo::reduced`], never done silently.

use image_prep::{Picture, Preprocessor};
use serde::Serialize;

use crate::error::EngineError;
use crate::identity;
use crate::prompt::{ImageInfo, Piece, Prompt};
use crate::request::Request;

/// How closely one picture is looked at, by OpenAI's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// On one tile.
    Low,
    /// In as many tiles as the model's settings give it, or fewer where they would not fit.
    #[default]
    Auto,
    /// In as many tiles as the model's settings give it.
    High,
}

impl Detail {
    /// The detail of OpenAI's name; `original` is the Responses API's for what is `high` elsewhere.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "low" => Some(Detail::Low),
            "auto" => Some(Detail::Auto),
            "high" | "original" => Some(Detail::High),
            _ => None,
        }
    }
}

/// What happens when a request's pictures do not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// They get fewer tiles, as many as fit, and the reply says so.
    #[default]
    Fewer,
    /// An error with the limit.
    Refuse,
}

/// How closely the pictures of a request are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vision {
    /// By the index of the picture; [`Detail::Auto`] for those beyond.
    pub details: Vec<Detail>,
    /// Most tiles of each picture, thumbnail included.
    pub max_tiles: Option<usize>,
    /// Most tokens of each picture; one tile is always left.
    pub max_tokens: Option<usize>,
    /// What happens when they do not fit all the same.
    pub policy: Policy,
}

/// Why a picture has fewer tiles than the model's settings would give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reduced {
    /// What asked for fewer.
    pub because: Because,
    /// The tiles that it would have had.
    pub from_tiles: usize,
}

/// What asked for fewer tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// `detail: low`.
    Detail,
    /// [`Vision::max_tiles`].
    MaxTiles,
    /// [`Vision::max_tokens`].
    MaxTokens,
    /// The model's context, of which some is left for the answer.
    Context,
    /// The memory that is free.
    Memory,
}

/// How one picture is looked at.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub preprocessor: Preprocessor,
    pub info: ImageInfo,
}

impl View {
    /// Names what the encoder makes of the picture: pixels and preparation.
    pub fn name(&self, picture: &Picture) -> u128 {
        identity::of_picture(picture, &self.preprocessor)
    }
}

/// What views are chosen by.
pub(crate) struct Looking<'a> {
    pub settings: &'a Preprocessor,
    pub tokens_per_tile: usize,
    pub request: &'a Request,
}

/// The most tokens that a prompt may have, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    /// Positions of the model.
    pub context_tokens: usize,
    /// Prompt and answer together, as memory allows.
    pub memory_tokens: Option<usize>,
}

/// Left for the answer when pictures are made smaller for the context's sake, or a quarter of a short context. The same for
/// every request, so that a longer answer asked for later does not make the same picture another one.
const ANSWER_TOKENS: usize = 256;

impl Looking<'_> {
    /// As was asked for, whether or not it fits.
    pub fn asked(&self) -> Vec<View> {
        let vision = &self.request.vision;
        let pictures = self.request.images.iter().enumerate();
        pictures
            .map(|(index, picture)| {
                let tiles_of = |tokens: usize| tokens / self.tokens_per_tile.max(1);
                let limits = [
                    (self.detail(index) == Detail::Low).then_some((1, Because::Detail)),
                    vision.max_tiles.map(|tiles| (tiles, Because::MaxTiles)),
                    vision
                        .max_tokens
                        .map(|tokens| (tiles_of(tokens), Because::MaxTokens)),
                ];
                let least = limits.into_iter().flatten().min_by_key(|(tiles, _)| *tiles);
                self.view(self.settings, picture, least)
            })
            .collect()
    }

    fn detail(&self, index: usize) -> Detail {
        let details = &self.request.vision.details;
        details.get(index).copied().unwrap_or_default()
    }

    fn view(
        &self,
        settings: &Preprocessor,
        picture: &Picture,
        most: Option<(usize, Because)>,
    ) -> View {
        let (width, height) = (picture.width, picture.height);
        let preprocessor = match most {
            Some((tiles, _)) => settings.at_most_tiles(tiles, width, height),
            None => settings.clone(),
        };
        let mut info = ImageInfo::plan(&preprocessor, self.tokens_per_tile, width, height);
        let from_tiles = self.settings.plan(width, height).tiles;
        info.reduced = most
            .filter(|_| info.tiles < from_tiles)
            .map(|(_, because)| Reduced {
                because,
                from_tiles,
            });
        View { preprocessor, info }
    }

    /// The same with at most so many tiles for each picture that may be made smaller.
    fn at_most(&self, views: &[View], tiles: usize, because: Because) -> Vec<View> {
        let pictures = self.request.images.iter().enumerate().zip(views);
        pictures
            .map(|((index, picture), view)| {
                match self.detail(index) == Detail::Auto && view.info.tiles > tiles {
                    true => self.view(&view.preprocessor, picture, Some((tiles, because))),
                    false => view.clone(),
                }
            })
            .collect()
    }

    /// Chooses views so that the prompt fits; `make` makes the prompt.
    ///
    /// Errors: those of `make`, and a prompt for which memory would not suffice.
    pub fn fit(
        &self,
        most: Most,
        make: &dyn Fn(&[View]) -> Result<Prompt, EngineError>,
    ) -> Result<(Prompt, Vec<View>), EngineError> {
        let asked = self.asked();
        let made = make(&asked);
        let fits = |prompt: &Prompt| {
            most.memory_tokens
                .is_none_or(|tokens| prompt.ids.len() <= tokens)
        };
        let (tokens, because) = match made {
            Ok(prompt) if fits(&prompt) => return Ok((prompt, asked)),
            Ok(prompt) if !self.may_reduce() => return Err(too_much(&prompt, most)),
            Ok(_) => (most.memory_tokens.unwrap_or(0), Because::Memory),
            Err(EngineError::PromptTooLong { .. }) if self.may_reduce() => most.with_an_answer(),
            Err(error) => return Err(error),
        };
        // How many tokens the text has is known when a prompt could be made.
        let smallest = self.at_most(&asked, 1, because);
        let prompt = make(&smallest)?;
        let text = prompt.ids.len() - image_tokens(&prompt, &smallest);
        let largest = asked.iter().map(|view| view.info.tiles).max().unwrap_or(1);
        for tiles in (2..largest).rev() {
            let views = self.at_most(&asked, tiles, because);
            if text + image_tokens(&prompt, &views) <= tokens {
                return Ok((make(&views)?, views));
            }
        }
        match fits(&prompt) {
            true => Ok((prompt, smallest)),
            false => Err(too_much(&prompt, most)),
        }
    }

    fn may_reduce(&self) -> bool {
        let automatic = |index| self.detail(index) == Detail::Auto;
        self.request.vision.policy == Policy::Fewer && (0..self.request.images.len()).any(automatic)
    }
}

impl Most {
    /// The tokens that a prompt may have so that there is room for its answer.
    fn with_an_answer(self) -> (usize, Because) {
        let context = self.context_tokens - ANSWER_TOKENS.min(self.context_tokens / 4);
        match self.memory_tokens {
            Some(memory) if memory < context => (memory, Because::Memory),
            _ => (context, Because::Context),
        }
    }
}

/// Tokens that a prompt's images would have with these views.
fn image_tokens(prompt: &Prompt, views: &[View]) -> usize {
    let of_piece = |piece: &Piece| match piece {
        Piece::Image { image, .. } => views[*image].info.tokens,
        Piece::Text(_) => 0,
    };
    prompt.pieces.iter().map(of_piece).sum()
}

fn too_much(prompt: &Prompt, most: Most) -> EngineError {
    let message = format!(
        "the prompt is {} tokens, the free memory suffices for {}",
        prompt.ids.len(),
        most.memory_tokens.unwrap_or(0)
    );
    EngineError::request("vision", message)
}

#[cfg(test)]
mod tests;
