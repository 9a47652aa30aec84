//! How closely the pictures of a request are looked at: what is asked for, what fits, and what was chosen.
//!
//! A picture's cost is decided by its tiles, or, for a family that takes pictures in their own size, by its pixels. A request can bound it for each picture
//! (`detail`, [`Vision::max_tiles`], [`Vision::max_tokens`]). Where the prompt would not fit the context or the memory all the
//! same, pictures that are looked at with [`Detail::Auto`] get fewer tiles, or the request is refused: [`Policy`]. Whatever was
//! taken away is told in [`ImageInfo::reduced`], never done silently.

use std::borrow::Cow;

use image_prep::{Picture, Preprocessor, Reduction, Views};
use serde::Serialize;

use crate::error::EngineError;
use crate::identity;
use crate::prompt::{ImageInfo, Piece, Prompt};
use crate::request::Request;

/// How closely one picture is looked at, by OpenAI's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// On one tile, or as small as the model's settings show any picture.
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
    /// Most tokens of each picture; one tile is always left, or what the model shows of the smallest picture. A model that shows
    /// all pictures alike refuses less than that.
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
    /// The tokens that it would have had, where tiles do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_tokens: Option<usize>,
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
    /// What is encoded of it.
    pub shown: Views,
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
    /// For as many pictures as the request has.
    pub settings: Cow<'a, Preprocessor>,
    /// Tokens of a picture of which this is shown.
    pub image_tokens: Box<dyn Fn(&Views) -> usize + 'a>,
    pub request: &'a Request,
}

/// How much of a picture may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Tiles(usize),
    Tokens(usize),
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
    ///
    /// Errors: fewer tokens asked for than a model has for every picture.
    pub fn asked(&self) -> Result<Vec<View>, EngineError> {
        let pictures = self.request.images.iter().enumerate();
        pictures
            .map(|(index, picture)| self.asked_of(index, picture))
            .collect()
    }

    fn asked_of(&self, index: usize, picture: &Picture) -> Result<View, EngineError> {
        let vision = &self.request.vision;
        let low = match self.settings.reduction() {
            Reduction::Pixels { .. } => Limit::Tokens(1),
            Reduction::Tiles | Reduction::None => Limit::Tiles(1),
        };
        let limits = [
            (self.detail(index) == Detail::Low).then_some((low, Because::Detail)),
            vision
                .max_tiles
                .map(|tiles| (Limit::Tiles(tiles), Because::MaxTiles)),
            vision
                .max_tokens
                .map(|tokens| (Limit::Tokens(tokens), Because::MaxTokens)),
        ];
        let full = self.view(&self.settings, picture, None);
        let amount = |(limit, _): &(Limit, Because)| self.amount(*limit, &full.info);
        let view = match limits.into_iter().flatten().min_by_key(amount) {
            Some(least) => self.view(&self.settings, picture, Some(least)),
            None => full,
        };
        match vision.max_tokens {
            Some(most)
                if view.info.tokens > most && self.settings.reduction() == Reduction::None =>
            {
                let tokens = view.info.tokens;
                let message = format!(
                    "this model shows every picture in {tokens} tokens, found a limit of {most}"
                );
                Err(EngineError::request("vision.max_tokens", message))
            }
            _ => Ok(view),
        }
    }

    /// A limit in what a picture is reduced by, of which it would otherwise have what `full` says.
    fn amount(&self, limit: Limit, full: &ImageInfo) -> usize {
        match (limit, self.settings.reduction()) {
            (Limit::Tiles(_), Reduction::Pixels { .. }) => usize::MAX,
            (Limit::Tokens(tokens), Reduction::Tiles) => {
                tokens.saturating_mul(full.tiles) / full.tokens.max(1)
            }
            (Limit::Tiles(amount) | Limit::Tokens(amount), _) => amount,
        }
    }

    fn detail(&self, index: usize) -> Detail {
        let details = &self.request.vision.details;
        details.get(index).copied().unwrap_or_default()
    }

    fn view(
        &self,
        settings: &Preprocessor,
        picture: &Picture,
        most: Option<(Limit, Because)>,
    ) -> View {
        let size = (picture.width, picture.height);
        let preprocessor = match most {
            Some((limit, _)) => self.limited(settings, size, limit),
            None => settings.clone(),
        };
        let shown = preprocessor.views(size.0, size.1);
        let mut info = ImageInfo::of(&shown, (self.image_tokens)(&shown));
        let all = self.settings.views(size.0, size.1);
        let (from_tiles, from_tokens) = (all.list.len(), (self.image_tokens)(&all));
        let is_less = info.tiles < from_tiles || info.tokens < from_tokens;
        info.reduced = most.filter(|_| is_less).map(|(_, because)| Reduced {
            because,
            from_tiles,
            from_tokens: (info.tiles == from_tiles).then_some(from_tokens),
        });
        View {
            preprocessor,
            shown,
            info,
        }
    }

    /// Settings that keep to a limit as far as those of the family can.
    fn limited(
        &self,
        settings: &Preprocessor,
        (width, height): (u32, u32),
        limit: Limit,
    ) -> Preprocessor {
        let info = |settings: &Preprocessor| {
            let views = settings.views(width, height);
            ImageInfo::of(&views, (self.image_tokens)(&views))
        };
        match (limit, settings.reduction()) {
            (_, Reduction::None) | (Limit::Tiles(_), Reduction::Pixels { .. }) => settings.clone(),
            (Limit::Tiles(tiles), Reduction::Tiles) => settings.at_most_tiles(tiles, width, height),
            (Limit::Tokens(tokens), _) if info(settings).tokens <= tokens => settings.clone(),
            (Limit::Tokens(tokens), Reduction::Pixels { per_row }) => {
                let mut most = tokens;
                loop {
                    let fewer = settings.at_most_pixels((most as u64).saturating_mul(per_row));
                    if most <= 1 || info(&fewer).tokens <= tokens {
                        return fewer;
                    }
                    // Padding makes rows too.
                    most = most * 9 / 10;
                }
            }
            (Limit::Tokens(most), Reduction::Tiles) => {
                // Where tiles do not all have as many tokens this may be a tile too many.
                let mut tiles = self.amount(limit, &info(settings));
                loop {
                    let fewer = settings.at_most_tiles(tiles, width, height);
                    if tiles <= 1 || info(&fewer).tokens <= most {
                        return fewer;
                    }
                    tiles -= 1;
                }
            }
        }
    }

    /// The same with at most so much for each picture that may be made smaller.
    fn at_most(&self, views: &[View], limit: Limit, because: Because) -> Vec<View> {
        let pictures = self.request.images.iter().enumerate().zip(views);
        pictures
            .map(|((index, picture), view)| {
                let larger = match limit {
                    Limit::Tiles(tiles) => view.info.tiles > tiles,
                    Limit::Tokens(tokens) => view.info.tokens > tokens,
                };
                match self.detail(index) == Detail::Auto && larger {
                    true => self.view(&view.preprocessor, picture, Some((limit, because))),
                    false => view.clone(),
                }
            })
            .collect()
    }

    /// Ever smaller limits, from just below what was asked for to the smallest.
    fn smaller(&self, asked: &[View]) -> Vec<Limit> {
        let largest = |of: fn(&ImageInfo) -> usize| asked.iter().map(|view| of(&view.info)).max();
        match self.settings.reduction() {
            Reduction::Tiles => {
                let most = largest(|info| info.tiles).unwrap_or(1);
                (1..most.max(2)).rev().map(Limit::Tiles).collect()
            }
            // Each a tenth less: a picture's sides a twentieth.
            Reduction::Pixels { .. } => {
                let most = largest(|info| info.tokens).unwrap_or(1);
                let less = |tokens: &usize| (*tokens > 1).then_some(tokens * 9 / 10);
                let limits = std::iter::successors(less(&most), less);
                limits.chain([1]).map(Limit::Tokens).collect()
            }
            Reduction::None => Vec::new(),
        }
    }

    /// Chooses views so that the prompt fits; `make` makes the prompt.
    ///
    /// Errors: those of `make`, and a prompt for which memory would not suffice.
    pub fn fit(
        &self,
        most: Most,
        make: &dyn Fn(&[View]) -> Result<Prompt, EngineError>,
    ) -> Result<(Prompt, Vec<View>), EngineError> {
        let asked = self.asked()?;
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
        let mut limits = self.smaller(&asked);
        let Some(least) = limits.pop() else {
            unreachable!("what cannot be reduced is not");
        };
        let smallest = self.at_most(&asked, least, because);
        let prompt = make(&smallest)?;
        let text = prompt.ids.len() - image_tokens(&prompt, &smallest);
        for limit in limits {
            let views = self.at_most(&asked, limit, because);
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
        self.settings.reduction() != Reduction::None
            && self.request.vision.policy == Policy::Fewer
            && (0..self.request.images.len()).any(automatic)
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
