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
pub(crate) fn compose(
    content: &mut dyn Content,
    recipe: &Recipe,
    effects: &Effects,
    random: &mut Random,
) -> Drawing {
    let limit = recipe.canvas as f32;
    let smallest = recipe.min_line_height / LINE;
    let largest = recipe.max_line_height / LINE;
    let margin = effects.turn.abs();
    // Longest side per pixel of text size; shrink until the smallest legible text fits.
    let most = limit.min(recipe.max_side as f32) / smallest;
    let mut ratio = long_side(&content.lay_out(smallest), margin) / smallest;
    while ratio > most && content.shrink() {
        ratio = long_side(&content.lay_out(smallest), margin) / smallest;
    }
    let mut size = choose_size(ratio, (smallest, largest), recipe, random);
    let mut drawing = content.lay_out(size);
    for _ in 0..8 {
        let side = long_side(&drawing, margin);
        if side <= recipe.max_side as f32 || size <= 7.0 {
            break;
        }
        size *= (recipe.max_side as f32 / side).min(0.97);
        drawing = content.lay_out(size);
    }
    frame(&mut drawing, size, recipe, margin, random);
    drawing
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
