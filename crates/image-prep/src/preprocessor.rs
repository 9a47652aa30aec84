//! `preprocessor_config.json`: the settings of one model, checked, and the pixel values they give.

use crate::prepare::Rendering;
use crate::recipe::Recipe;
use crate::resize::Filter;
use crate::tiling::{Grid, GridChoice};
use crate::views::Views;
use crate::{ImageError, Picture, TileLayout, TilePlan, TileReader, Tiles};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The only `image_processor_type` that means these settings.
const PROCESSOR_TYPE: &str = "BlueLMVImageProcessor";
/// Largest tile side: four times the largest vision encoder that we know of, and small enough that no size overflows.
const MAX_TILE_PIXELS: u32 = 4096;
/// Most columns or rows, and most tiles of a ratio rule.
const MAX_COUNT: u32 = 1024;
/// Most pixels in all tiles of one picture together: 0.8 GB of values, far above any model (6x6 tiles of 512 are 10 million).
const MAX_PIXELS_PER_PICTURE: u64 = 1 << 26;

/// The settings of one model: how a picture becomes tiles.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    recipe: Recipe,
    rescale_factor: f64,
    mean: [f64; 3],
    std: [f64; 3],
    rendering: Rendering,
}

impl Preprocessor {
    /// Reads `preprocessor_config.json`.
    ///
    /// `tiling` is `relaxed` (needs `alpha` and `max_grid`), `llava-next` (`max_grid`) or `internvl` (`max_tiles`; `min_tiles`
    /// defaults to 1; no `pad_color`, for it stretches). `resample` has Pillow's numbers: 1 Lanczos, 2 bilinear, 3 bicubic.
    /// Every key is required, so that a misspelt one is noticed; keys of other processors are ignored.
    ///
    /// # Errors
    /// [`ImageError::SettingsNotJson`], or [`ImageError::Settings`] with every missing or wrong key.
    pub fn from_json(text: &str) -> Result<Preprocessor, ImageError> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let reason = format!("text that is not JSON ({error})");
            ImageError::SettingsNotJson { reason }
        })?;
        let Value::Object(object) = value else {
            let reason = format!("JSON of another kind ({})", shorten(&value));
            return Err(ImageError::SettingsNotJson { reason });
        };
        let mut reader = Reader {
            object,
            problems: Vec::new(),
        };
        let preprocessor = reader.preprocessor();
        match preprocessor {
            Some(preprocessor) if reader.problems.is_empty() => Ok(preprocessor),
            _ => Err(ImageError::Settings {
                problems: reader.problems,
            }),
        }
    }

    /// Settings that were read elsewhere.
    ///
    /// # Errors
    /// [`ImageError::Settings`] where pictures would need more memory than a sane model's, or pixels are not finite.
    pub fn new(recipe: Recipe, pixels: PixelValues) -> Result<Preprocessor, ImageError> {
        let mut reader = Reader {
            object: Map::new(),
            problems: Vec::new(),
        };
        reader.check_memory(&recipe);
        let PixelValues {
            filter,
            pad_color,
            rescale_factor,
            mean,
            std,
        } = pixels;
        let rendering = Rendering {
            filter,
            pad_color,
            values: reader.values(rescale_factor, mean, std),
        };
        match reader.problems.is_empty() {
            true => Ok(Preprocessor {
                recipe,
                rescale_factor,
                mean,
                std,
                rendering,
            }),
            false => Err(ImageError::Settings {
                problems: reader.problems,
            }),
        }
    }

    /// The settings as `preprocessor_config.json` has them; [`Preprocessor::from_json`] reads those of tiles back equal. Of other
    /// recipes it is a text that tells them apart.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
        set("image_processor_type", json!(PROCESSOR_TYPE));
        let pair = |grid: &Grid| json!([grid.columns, grid.rows]);
        let Recipe::Tiles(layout) = &self.recipe else {
            set("recipe", json!(format!("{:?}", self.recipe)));
            return self.finish_json(object);
        };
        match &layout.choice {
            GridChoice::RelaxedEffectiveArea { max_grid, slack } => {
                set("tiling", json!("relaxed"));
                set("alpha", json!(slack));
                set("tile_size", json!(layout.tile));
                set("max_grid", pair(max_grid));
            }
            GridChoice::LargestEffectiveArea { max_grid } => {
                set("tiling", json!("llava-next"));
                set("tile_size", json!(layout.tile));
                set("max_grid", pair(max_grid));
            }
            GridChoice::NearestAspectRatio {
                min_tiles,
                max_tiles,
            } => {
                set("tiling", json!("internvl"));
                set("tile_size", json!(layout.tile));
                set("min_tiles", json!(min_tiles));
                set("max_tiles", json!(max_tiles));
            }
        }
        set("thumbnail", json!(layout.thumbnail));
        self.finish_json(object)
    }

    /// The keys that all recipes have.
    fn finish_json(&self, mut object: Map<String, Value>) -> String {
        let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
        set("resample", json!(self.rendering.filter.pillow_number()));
        set("pad_color", json!(self.rendering.pad_color));
        set("rescale_factor", json!(self.rescale_factor));
        set("image_mean", json!(self.mean));
        set("image_std", json!(self.std));
        format!("{:#}\n", Value::Object(object))
    }

    /// The same settings with grids of at most `most`: fewer tiles, never more. Recipes without a grid stay as they are.
    pub fn at_most(mut self, most: Grid) -> Preprocessor {
        if let Recipe::Tiles(layout) = &mut self.recipe {
            layout.choice = layout.choice.clone().at_most(most);
        }
        self
    }

    /// The settings for pictures of which so many stand in a prompt: others where a family then shows less of each.
    pub fn among(&self, pictures: usize) -> Cow<'_, Preprocessor> {
        match self.recipe.among(pictures) {
            None => Cow::Borrowed(self),
            Some(recipe) => Cow::Owned(self.with_recipe(recipe)),
        }
    }

    /// The same pixel values by another recipe.
    pub(crate) fn with_recipe(&self, recipe: Recipe) -> Preprocessor {
        Preprocessor {
            recipe,
            ..self.clone()
        }
    }

    /// What happens to a picture of `width` x `height` (after its EXIF orientation), in the words of tiles.
    pub fn plan(&self, width: u32, height: u32) -> TilePlan {
        match &self.recipe {
            Recipe::Tiles(layout) => layout.plan(width, height),
            recipe => recipe.views(width, height).plan(),
        }
    }

    /// What is encoded of a picture of `width` x `height` (after its EXIF orientation).
    pub fn views(&self, width: u32, height: u32) -> Views {
        self.recipe.views(width, height)
    }

    /// The pixel values of a picture. Panics when the picture's sides and bytes disagree.
    pub fn prepare(&self, picture: &Picture) -> Tiles {
        let mut tiles = self.tiles(picture);
        let mut pixels = Vec::new();
        tiles.read(usize::MAX, &mut pixels);
        Tiles {
            plan: self.plan(picture.width, picture.height),
            pixels,
        }
    }

    /// The same, some views at a time. Panics when the picture's sides and bytes disagree.
    pub fn tiles<'a>(&'a self, picture: &'a Picture) -> TileReader<'a> {
        let views = self.views(picture.width, picture.height);
        TileReader::new(&self.rendering, picture, views)
    }

    /// Side of a tile in pixels; 0 where the views of a picture are not all of one size.
    pub fn tile_size(&self) -> usize {
        match &self.recipe {
            Recipe::Tiles(layout) => layout.tile as usize,
            Recipe::CentreCrop { crop, .. } => *crop as usize,
            Recipe::Pinpoints(pinpoints) => pinpoints.tile as usize,
            Recipe::Stretch { width, height } if width == height => *width as usize,
            Recipe::Alone(several) => several.tile() as usize,
            Recipe::Splits(splits) => splits.tile as usize,
            _ => 0,
        }
    }

    /// How pictures become views.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}

/// From bytes to the numbers that an encoder takes.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelValues {
    /// How pictures are resized.
    pub filter: Filter,
    /// What lies beside a picture on its canvas.
    pub pad_color: [u8; 3],
    /// Bytes are multiplied with it first.
    pub rescale_factor: f64,
    /// Then this is taken away, for each channel.
    pub mean: [f64; 3],
    /// Then it is divided by this.
    pub std: [f64; 3],
}

/// Takes keys out of the JSON object and writes down what is wrong with them.
struct Reader {
    object: Map<String, Value>,
    problems: Vec<String>,
}

impl Reader {
    fn preprocessor(&mut self) -> Option<Preprocessor> {
        if let Some(found) = self.object.get("image_processor_type")
            && found != PROCESSOR_TYPE
        {
            let problem = format!(
                "image_processor_type: expected \"{PROCESSOR_TYPE}\", found {}",
                shorten(found)
            );
            self.problems.push(problem);
        }
        let tile = self.count("tile_size", MAX_TILE_PIXELS);
        let choice = self.choice();
        let thumbnail = self.take("thumbnail", "true or false", Value::as_bool);
        let filter = self.take(
            "resample",
            "1 (Lanczos), 2 (bilinear) or 3 (bicubic)",
            |value| Filter::from_pillow_number(value.as_u64()?),
        );
        let pad_color = match choice {
            Some(GridChoice::NearestAspectRatio { .. })
                if !self.object.contains_key("pad_color") =>
            {
                Some([0; 3])
            }
            _ => self.take("pad_color", "three whole numbers from 0 to 255", |value| {
                triple(value, |value| u8::try_from(value.as_u64()?).ok())
            }),
        };
        let positive = |value: &Value| {
            value
                .as_f64()
                .filter(|&number| number > 0.0 && number.is_finite())
        };
        let rescale_factor = self.take("rescale_factor", "a number above 0", positive);
        let mean = self.take("image_mean", "three numbers", |value| {
            triple(value, Value::as_f64)
        });
        let std = self.take("image_std", "three numbers above 0", |value| {
            triple(value, positive)
        });
        let layout = TileLayout {
            choice: choice?,
            tile: tile?,
            thumbnail: thumbnail?,
        };
        let recipe = Recipe::Tiles(layout);
        self.check_memory(&recipe);
        let (rescale_factor, mean, std) = (rescale_factor?, mean?, std?);
        let rendering = Rendering {
            filter: filter?,
            pad_color: pad_color?,
            values: self.values(rescale_factor, mean, std),
        };
        Some(Preprocessor {
            recipe,
            rescale_factor,
            mean,
            std,
            rendering,
        })
    }

    fn choice(&mut self) -> Option<GridChoice> {
        const NAMES: &str = "\"relaxed\", \"llava-next\" or \"internvl\"";
        let tiling = self.take("tiling", NAMES, |value| match value.as_str()? {
            known @ ("relaxed" | "llava-next" | "internvl") => Some(known.to_owned()),
            _ => None,
        })?;
        Some(match tiling.as_str() {
            "relaxed" => {
                let slack = self.take("alpha", "a number from 0 to 1", |value| {
                    value.as_f64().filter(|alpha| (0.0..=1.0).contains(alpha))
                });
                GridChoice::RelaxedEffectiveArea {
                    max_grid: self.max_grid()?,
                    slack: slack?,
                }
            }
            "llava-next" => GridChoice::LargestEffectiveArea {
                max_grid: self.max_grid()?,
            },
            _ => {
                let max_tiles = self.count("max_tiles", MAX_COUNT)?;
                let min_tiles = match self.object.contains_key("min_tiles") {
                    true => self.count("min_tiles", max_tiles)?,
                    false => 1,
                };
                GridChoice::NearestAspectRatio {
                    min_tiles,
                    max_tiles,
                }
            }
        })
    }

    fn max_grid(&mut self) -> Option<Grid> {
        let expected = format!("two whole numbers from 1 to {MAX_COUNT}, columns and rows");
        self.take("max_grid", &expected, |value| {
            let [columns, rows] = value.as_array()?.as_slice() else {
                return None;
            };
            Some(Grid {
                columns: whole(columns, MAX_COUNT)?,
                rows: whole(rows, MAX_COUNT)?,
            })
        })
    }

    /// No picture may need more memory than a sane model would.
    fn check_memory(&mut self, recipe: &Recipe) {
        let pixels = recipe.most_pixels();
        if pixels <= MAX_PIXELS_PER_PICTURE {
            return;
        }
        let found = match recipe {
            Recipe::Tiles(TileLayout { tile, choice, .. }) => {
                let tiles = choice.max_tiles() + 1;
                format!("{tiles} tiles of {tile}x{tile}, which are {pixels}")
            }
            _ => pixels.to_string(),
        };
        self.problems.push(format!(
            "tile_size and the largest grid: expected at most {MAX_PIXELS_PER_PICTURE} pixels for one picture, found {found}"
        ));
    }

    /// The value of every byte in every channel; they have to be finite, or the network would answer with NaN.
    fn values(&mut self, rescale: f64, mean: [f64; 3], std: [f64; 3]) -> Box<[[f32; 256]; 3]> {
        let mut values = Box::new([[0.0; 256]; 3]);
        for (channel, values) in values.iter_mut().enumerate() {
            for (byte, value) in values.iter_mut().enumerate() {
                *value = ((byte as f64 * rescale - mean[channel]) / std[channel]) as f32;
            }
        }
        if !values.iter().flatten().all(|value| value.is_finite()) {
            self.problems.push(
                "rescale_factor, image_mean and image_std: expected finite pixel values, found an overflow".to_owned(),
            );
        }
        values
    }

    fn count(&mut self, key: &str, most: u32) -> Option<u32> {
        let expected = format!("a whole number from 1 to {most}");
        self.take(key, &expected, |value| whole(value, most))
    }

    /// The value of a key as `read` understands it; otherwise one more problem.
    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let found = self.object.get(key);
        let value = found.and_then(read);
        if value.is_none() {
            let found = found.map_or("nothing".to_owned(), shorten);
            self.problems
                .push(format!("{key}: expected {expected}, found {found}"));
        }
        value
    }
}

/// A whole number from 1 to `most`.
fn whole(value: &Value, most: u32) -> Option<u32> {
    u32::try_from(value.as_u64()?)
        .ok()
        .filter(|number| (1..=most).contains(number))
}

fn triple<T: Copy + Default>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<[T; 3]> {
    let values = value.as_array().filter(|values| values.len() == 3)?;
    let mut triple = [T::default(); 3];
    for (to, value) in triple.iter_mut().zip(values) {
        *to = read(value)?;
    }
    Some(triple)
}

/// A value of a hostile file, short enough for a message.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(57).chain("...".chars()).collect()
}
