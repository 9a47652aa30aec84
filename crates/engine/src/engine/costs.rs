//! What a request would cost, before anything is computed.

use image_prep::{Picture, TilePlan};

use super::Engine;
use crate::calibration::{Calibration, Prediction, Work};
use crate::error::EngineError;
use crate::network::Network;
use crate::prompt::{ImageInfo, Piece, Prompt};
use crate::request::Request;
use crate::vision::View;

/// A request's prompt and how its pictures are looked at.
#[derive(Clone, Debug)]
pub struct Look {
    /// Made but not read.
    pub prompt: Prompt,
    /// How each picture is cut.
    pub images: Vec<ImageInfo>,
    /// Where each picture lies on its tiles.
    pub plans: Vec<TilePlan>,
}

/// What a request would cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens for images.
    pub image_tokens: usize,
    /// Of the prompt's, tokens that are remembered and need not be read.
    pub cached_tokens: usize,
    /// How each picture is cut.
    pub images: Vec<ImageInfo>,
    /// Which of them are encoded already, or being encoded.
    pub encoded: Vec<bool>,
    /// How long it will take; none without a calibration.
    pub predicted: Option<Prediction>,
}

/// The same request with fewer tiles for each picture.
#[derive(Clone, Debug)]
pub struct Cheaper {
    /// What to set `vision.max_tiles` to.
    pub max_tiles: usize,
    /// What it would cost then.
    pub cost: Cost,
}

/// An answer's length when the request names none.
const ANSWER_TOKENS: usize = 128;

impl<N: Network> Engine<N> {
    /// Predicts times by this calibration, which must be of these weights, this machine and so many threads.
    pub fn with_calibration(mut self, calibration: Option<Calibration>) -> Self {
        self.calibration = calibration;
        self
    }

    /// Name of the weights in hexadecimal. Reads the weight files of a folder, and the header of a bundle.
    pub fn weights_name(&self) -> Result<String, EngineError> {
        let name = self.weights.name()?;
        Ok(name.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The prompt of a request and how its pictures are looked at. Errors as [`Engine::generate`] before it begins.
    pub fn look(&self, request: &Request) -> Result<Look, EngineError> {
        let (prompt, views) = self.prepare(request)?;
        let plan = |(view, picture): (&View, &Picture)| {
            view.preprocessor.plan(picture.width, picture.height)
        };
        Ok(Look {
            prompt,
            plans: views.iter().zip(&request.images).map(plan).collect(),
            images: views.into_iter().map(|view| view.info).collect(),
        })
    }

    /// What a request would cost when so many tokens of its prompt are remembered. Errors as [`Engine::look`].
    pub fn cost(&self, request: &Request, cached_tokens: usize) -> Result<Cost, EngineError> {
        let (prompt, views) = self.prepare(request)?;
        let names = super::names(request, &views);
        let encoded: Vec<bool> = names.iter().map(|&name| self.knows(name)).collect();
        // An image among the remembered tokens need not be encoded either.
        let needed = |piece: &Piece| match piece {
            Piece::Image {
                image,
                places,
                first_row: 0,
            } if places.start >= cached_tokens && !encoded[*image] => {
                Some(views[*image].info.tiles)
            }
            _ => None,
        };
        let work = Work {
            tiles: prompt.pieces.iter().filter_map(needed).collect(),
            batch_tiles: self.encoder.encoding.batch_tiles,
            prompt_tokens: prompt.ids.len(),
            cached_tokens: cached_tokens.min(prompt.ids.len()),
            answer_tokens: request.max_tokens.unwrap_or(ANSWER_TOKENS),
        };
        let of_images = |piece: &Piece| match piece {
            Piece::Image { places, .. } => places.len(),
            Piece::Text(_) => 0,
        };
        Ok(Cost {
            prompt_tokens: prompt.ids.len(),
            image_tokens: prompt.pieces.iter().map(of_images).sum(),
            cached_tokens: work.cached_tokens,
            images: views.into_iter().map(|view| view.info).collect(),
            encoded,
            predicted: self.calibration.as_ref().map(|it| it.predict(&work)),
        })
    }

    /// The same request with half as many tiles for each picture, a quarter, and one: those of them that cost less.
    pub fn cheaper(
        &self,
        request: &Request,
        cached_tokens: usize,
    ) -> Result<Vec<Cheaper>, EngineError> {
        let mut last = self.cost(request, cached_tokens)?;
        let most = last.images.iter().map(|image| image.tiles).max();
        let most = most.unwrap_or(0);
        let mut found = Vec::new();
        for max_tiles in [most.div_ceil(2), most.div_ceil(4), 1] {
            let mut smaller = request.clone();
            smaller.vision.max_tiles = Some(max_tiles);
            let cost = self.cost(&smaller, cached_tokens)?;
            if cost.image_tokens < last.image_tokens {
                last = cost.clone();
                found.push(Cheaper { max_tiles, cost });
            }
        }
        Ok(found)
    }

    /// Whether what the encoder makes of a picture is there or coming.
    pub(super) fn knows(&self, name: u128) -> bool {
        let cache = self.ahead.cache.as_ref();
        self.ahead.find(name).is_some() || cache.is_some_and(|cache| cache.has(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Point;
    use crate::image_cache::ImageCache;
    use crate::testing::{FakeNetwork, nano_files, picture};

    fn engine() -> Engine<FakeNetwork> {
        let one = |y| vec![Point { x: 1, y }];
        let calibration = Calibration {
            version: Calibration::version(),
            model: String::new(),
            machine: String::new(),
            threads: 1,
            encode_ms_per_tile: one(100.0),
            prefill_tokens_per_s: one(1000.0),
            prefill_by_step: Vec::new(),
            step_tokens: 128,
            decode_tokens_per_s: one(10.0),
            base_bytes: 5,
            cache_bytes_per_token: 1,
        };
        Engine::new(FakeNetwork::new("yes</s>"), nano_files(), &[])
            .unwrap()
            .with_image_cache(ImageCache::new(1 << 20))
            .unwrap()
            .with_calibration(Some(calibration))
    }

    fn request() -> Request {
        Request {
            max_tokens: Some(11),
            ..Request::question(vec![picture(16, 12, 7), picture(8, 8, 7)], "hi")
        }
    }

    #[test]
    fn a_request_costs_its_images_its_prompt_and_its_answer() {
        let engine = engine();
        let cost = engine.cost(&request(), 0).unwrap();
        let predicted = cost.predicted.unwrap();
        assert_eq!(
            (cost.image_tokens, &cost.encoded[..]),
            (24, &[false, false][..])
        );
        assert_eq!(predicted.encode_ms, 600.0);
        assert_eq!(predicted.prefill_ms, cost.prompt_tokens as f64);
        assert_eq!(predicted.answer_ms, predicted.first_token_ms + 1000.0);
        assert_eq!(predicted.peak_bytes, 5 + cost.prompt_tokens as u64 + 10);
        // What is remembered costs nothing, its images included.
        let all = engine.cost(&request(), cost.prompt_tokens - 1).unwrap();
        assert_eq!(all.cached_tokens, cost.prompt_tokens - 1);
        assert_eq!(all.predicted.unwrap().encode_ms, 0.0);
        assert_eq!(all.predicted.unwrap().prefill_ms, 1.0);
        // Nor does an image that is kept.
        let ahead = engine.encode_ahead(picture(16, 12, 7)).unwrap();
        let cost = engine.cost(&request(), 0).unwrap();
        assert_eq!(cost.encoded, [true, false]);
        assert_eq!(cost.predicted.unwrap().encode_ms, 100.0);
        drop(ahead);
    }

    #[test]
    fn cheaper_ways_have_fewer_tokens_each_and_none_costs_as_much() {
        let found = engine().cheaper(&request(), 0).unwrap();
        let told: Vec<(usize, usize)> = found
            .iter()
            .map(|it| (it.max_tiles, it.cost.image_tokens))
            .collect();
        assert_eq!(told, [(3, 16), (2, 8)]);
        assert!(
            found[0].cost.predicted.unwrap().encode_ms > found[1].cost.predicted.unwrap().encode_ms
        );
        let text = Request::question(vec![], "hi");
        assert!(engine().cheaper(&text, 0).unwrap().is_empty());
    }
}
