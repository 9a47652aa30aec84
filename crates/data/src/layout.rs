//! From content to a drawing of the right size: text neither too small for the model to see nor larger than asked.
//!
//! The model fits a picture into at most `canvas` pixels, so the height of a line that counts is the one after fitting.

use crate::drawing::Drawing;
use crate::effects::Effects;
use crate::example::Question;
use crate::fonts::LINE;
use crate::random::Random;
use crate::recipe::Recipe;

/// What a scene shows, before its size is known. Laying out must not depend on chance: it is done several times.
pub(crate) trait Content {
    /// Places everything at a nominal text size in pixels.
    fn lay_out(&self, size: f32) -> Drawing;

    /// Leaves something away because the drawing is too large for legible text; false if nothing is left to remove.
    fn shrink(&mut self) -> bool;

    /// Every question that the picture answers.
    fn questions(&self, random: &mut Random) -> Vec<Question>;

    /// The content as plain text.
    fn twin(&self) -> String;
}

/// Largest ratio of the sides, and a little less to be safe from rounding.
const MAX_ASPECT: f32 = 3.96;

/// Lays content out at a size that the recipe allows and puts it into a frame.
///
/// `None` if even the shortest form of the content does not fit: then something else must be invented.
pub(crate) fn compose(
    content: &mut dyn Content,
    recipe: &Recipe,
    effects: &Effects,
    random: &mut Random,
) -> Option<Drawing> {
    let smallest = recipe.min_line_height / LINE;
    let large = if random.chance(recipe.large) {
        Recipe::LARGE
    } else {
        1.0
    };
    let largest = recipe.max_line_height * large / LINE;
    let margin = effects.turn.abs();
    let most = recipe.max_side as f32;
    // Longest side per pixel of text size; shrink until the smallest legible text fits.
    let limit = most.min(recipe.canvas as f32) / smallest;
    let mut ratio = long_side(&content.lay_out(smallest), margin) / smallest;
    while ratio > limit {
        if !content.shrink() {
            return None;
        }
        ratio = long_side(&content.lay_out(smallest), margin) / smallest;
    }
    let mut size = choose_size(ratio, (smallest, largest), recipe, random);
    let mut drawing = content.lay_out(size);
    // Glyph sizes are whole pixels, so the ratio above is only nearly right at other sizes.
    while long_side(&drawing, margin) > most {
        size *= (most / long_side(&drawing, margin)).min(0.98);
        if size < smallest * 0.9 {
            return None;
        }
        drawing = content.lay_out(size);
    }
    frame(&mut drawing, size, recipe, margin, random);
    Some(drawing)
}

/// A text size in picture pixels: mostly as the model will see it, sometimes larger, as photographs are.
fn choose_size(ratio: f32, range: (f32, f32), recipe: &Recipe, random: &mut Random) -> f32 {
    let fitting = recipe.canvas as f32 / ratio;
    let largest = (recipe.max_side as f32 / ratio).max(range.0);
    let seen = random.size(range.0, range.1.min(fitting).max(range.0));
    let oversize = fitting <= range.1 && recipe.max_side > recipe.canvas && random.chance(0.3);
    let size = if oversize {
        fitting * random.real(1.0, 1.6)
    } else {
        seen
    };
    size.min(largest)
}

/// The longest side that a drawing will have once it is padded for its aspect ratio and a turn.
fn long_side(drawing: &Drawing, margin: f32) -> f32 {
    let (width, height) = padded(drawing, margin);
    width.max(height)
}

fn padded(drawing: &Drawing, margin: f32) -> (f32, f32) {
    let width = drawing.width + margin * drawing.height;
    let height = drawing.height + margin * drawing.width;
    (
        width.max(height / MAX_ASPECT),
        height.max(width / MAX_ASPECT),
    )
}

/// Puts the drawing somewhere into a picture that may be larger than it, within the recipe's sides and aspect ratios.
fn frame(drawing: &mut Drawing, size: f32, recipe: &Recipe, margin: f32, random: &mut Random) {
    let (mut width, mut height) = padded(drawing, margin);
    let long = width.max(height);
    // Room before the fitted text would become smaller than the smallest line.
    let seen = size * recipe.min_line_height.recip() * LINE * recipe.canvas as f32;
    let room = seen.min(recipe.max_side as f32).max(long);
    if random.chance(0.4) {
        let wish =
            |side: f32, random: &mut Random| (side * random.size(1.0, 1.8)).min(room).max(side);
        width = wish(width, random);
        height = wish(height, random);
    }
    let least = (recipe.min_side as f32).min(room);
    if width.max(height) < least {
        let factor = least / width.max(height);
        if random.chance(0.5) {
            (width, height) = (width * factor, height * factor);
        } else if width >= height {
            width = least;
        } else {
            height = least;
        }
    }
    width = width.max(height / MAX_ASPECT);
    height = height.max(width / MAX_ASPECT);
    let (width, height) = (width.ceil(), height.ceil());
    let spare = (width - drawing.width, height - drawing.height);
    let hold = (margin * drawing.height / 2.0, margin * drawing.width / 2.0);
    let place = |spare: f32, hold: f32, random: &mut Random| {
        let part = if random.chance(0.5) {
            0.5
        } else {
            random.unit()
        };
        let hold = hold.min(spare / 2.0);
        hold + (spare - 2.0 * hold) * part
    };
    let left = place(spare.0, hold.0, random);
    let top = place(spare.1, hold.1, random);
    drawing.place_in(width, height, left.floor(), top.floor());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::Element;
    use crate::example::SceneKind;
    use crate::scenes;

    /// Draws many scenes of each kind and hands each drawing to a check.
    fn for_every_drawing(recipe: &Recipe, mut check: impl FnMut(&str, &Drawing)) {
        for scene in SceneKind::ALL {
            let mut composed = 0;
            for index in 0..2500 {
                let mut random = Random::new(17, index);
                let mut content = scenes::invent(scene, &mut random, recipe);
                let drawing = compose(content.as_mut(), recipe, &Effects::NONE, &mut random);
                if let Some(drawing) = drawing {
                    composed += 1;
                    check(&format!("{scene:?} {index}: {}", content.twin()), &drawing);
                }
            }
            assert!(composed > 2350, "{scene:?}: only {composed} of 2500 fit");
        }
    }

    /// Boxes of all texts: left, top of the ink's line, right, bottom.
    fn texts(drawing: &Drawing) -> Vec<([f32; 4], f32, String)> {
        let text = |element: &Element| match element {
            Element::Text {
                x, y, face, text, ..
            } => {
                // Capitals reach about 0.75 of the size up, descenders 0.25 down.
                let place = [
                    *x,
                    y - 0.72 * face.size,
                    x + face.width(text),
                    y + 0.2 * face.size,
                ];
                Some((place, face.size, text.clone()))
            }
            _ => None,
        };
        drawing.elements.iter().filter_map(text).collect()
    }

    #[test]
    fn text_stays_large_enough_to_read_after_fitting() {
        for recipe in [
            Recipe::default(),
            Recipe {
                canvas: 256,
                max_side: 400,
                ..Recipe::default()
            },
        ] {
            for_every_drawing(&recipe, |name, drawing| {
                let long = drawing.width.max(drawing.height);
                let fit = (recipe.canvas as f32 / long).min(1.0);
                for (_, size, text) in texts(drawing) {
                    let line = size * LINE * fit;
                    // A tenth is lost where a drawing is shrunk once more because glyph sizes are whole pixels.
                    assert!(
                        line >= recipe.min_line_height * 0.88,
                        "{line} {text:?} {name}"
                    );
                }
            });
        }
    }

    #[test]
    fn text_is_never_cut_and_never_written_over_other_text() {
        for_every_drawing(&Recipe::default(), |name, drawing| {
            let texts = texts(drawing);
            for (index, ([left, top, right, bottom], size, text)) in texts.iter().enumerate() {
                let inside = *left >= -0.5
                    && *top >= -0.5
                    && *right <= drawing.width + 0.1 * size
                    && *bottom <= drawing.height + 0.5;
                assert!(
                    inside,
                    "{text:?} at {left} {top} {right} {bottom} of {}x{} {name}",
                    drawing.width, drawing.height
                );
                for (other, _, second) in &texts[index + 1..] {
                    let slack = 0.12 * size;
                    let apart = *right <= other[0] + slack
                        || other[2] <= *left + slack
                        || *bottom <= other[1] + slack
                        || other[3] <= *top + slack;
                    assert!(apart, "{text:?} and {second:?} in {name}");
                }
            }
        });
    }

    #[test]
    fn the_least_room_that_a_recipe_may_leave_is_enough_for_a_character() {
        let recipe = Recipe {
            min_line_height: 32.0,
            max_line_height: 32.0,
            canvas: 64,
            max_side: 64,
            min_side: 32,
            ..Recipe::default()
        };
        let generator = crate::Generator::new(1, recipe).expect("a right recipe");
        for index in 0..300 {
            assert!(generator.example(index).picture.width <= 64);
        }
    }
}
