//! The generator: from a seed, a recipe and an index to an example.

use std::cell::RefCell;

use image_prep::Picture;

use crate::drawing::Drawing;
use crate::effects::Effects;
use crate::error::DataError;
use crate::example::{Example, Question, SceneKind};
use crate::fonts::GlyphCache;
use crate::layout::{Content, compose};
use crate::paint::paint;
use crate::questions::without_doubt;
use crate::random::Random;
use crate::recipe::Recipe;
use crate::scenes;

/// Draws examples. Cheap to share: it holds no pictures, and each thread keeps its own cache of glyphs.
#[derive(Clone, Debug)]
pub struct Generator {
    seed: u64,
    recipe: Recipe,
    kinds: Vec<SceneKind>,
    weights: Vec<f32>,
}

thread_local! {
    static GLYPHS: RefCell<GlyphCache> = RefCell::default();
}

impl Generator {
    /// A generator for a recipe that was checked.
    ///
    /// # Errors
    /// [`DataError::Recipe`] and [`DataError::UnknownFont`] name the first field that cannot be used.
    pub fn new(seed: u64, recipe: Recipe) -> Result<Generator, DataError> {
        recipe.check()?;
        let (kinds, weights) = recipe
            .scenes
            .iter()
            .map(|(&kind, &weight)| (kind, weight))
            .unzip();
        Ok(Generator {
            seed,
            recipe,
            kinds,
            weights,
        })
    }

    /// The seed it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The recipe it was made with.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Questions about a content that is not drawn, and the content as plain text: a hundredth of an example's work.
    pub fn text(&self, index: u64) -> (Vec<Question>, String) {
        let mut random = Random::new(self.seed, index);
        let scene = self.kinds[random.weighted(&self.weights)];
        let content = scenes::invent(scene, &mut random, &self.recipe);
        (
            without_doubt(content.questions(&mut random)),
            content.twin(),
        )
    }

    /// The example with this number: always the same one.
    pub fn example(&self, index: u64) -> Example {
        let mut random = Random::new(self.seed, index);
        let scene = self.kinds[random.weighted(&self.weights)];
        let effects = Effects::choose(&mut random, self.recipe.noise);
        let (content, drawing) = self.fitting(scene, &effects, &mut random);
        let mut canvas = GLYPHS.with_borrow_mut(|glyphs| paint(&drawing, effects.edges, glyphs));
        effects.apply(&mut canvas, &mut random);
        Example {
            questions: without_doubt(content.questions(&mut random)),
            twin: content.twin(),
            marks: canvas.marks,
            picture: Picture {
                width: canvas.width as u32,
                height: canvas.height as u32,
                rgb: canvas.rgb,
            },
            scene,
        }
    }
    /// Invents until something fits into the recipe's sizes; a recipe that leaves no room at all gets a character.
    fn fitting(
        &self,
        scene: SceneKind,
        effects: &Effects,
        random: &mut Random,
    ) -> (Box<dyn Content>, Drawing) {
        let mut kind = scene;
        for attempt in 0u32.. {
            let mut content = scenes::invent(kind, random, &self.recipe);
            if let Some(drawing) = compose(content.as_mut(), &self.recipe, effects, random) {
                return (content, drawing);
            }
            if attempt >= 20 {
                kind = SceneKind::Glyphs;
            }
        }
        unreachable!("a single character fits into every recipe that passes its check")
    }
}
