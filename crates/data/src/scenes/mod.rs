//! One file per kind of scene: what it shows, how it is laid out, what can be asked about it.

mod bars;
mod bars_questions;
mod form;
mod form_questions;
mod lines;
mod prices;
mod prices_layout;
mod prices_questions;
mod shapes;
mod sign;
mod sums;
mod table;
mod table_questions;

use crate::example::SceneKind;
use crate::layout::Content;
use crate::random::Random;
use crate::recipe::Recipe;

/// Invents the content of a scene.
pub(crate) fn invent(kind: SceneKind, random: &mut Random, recipe: &Recipe) -> Box<dyn Content> {
    match kind {
        SceneKind::Glyphs => Box::new(lines::glyphs(random, recipe)),
        SceneKind::Words => Box::new(lines::words(random, recipe)),
        SceneKind::Sign => Box::new(sign::invent(random, recipe)),
        SceneKind::Receipt => Box::new(prices::receipt(random, recipe)),
        SceneKind::Menu => Box::new(prices::menu(random, recipe)),
        SceneKind::Shapes => Box::new(shapes::invent(random, recipe)),
        SceneKind::Table => Box::new(table::invent(random, recipe)),
        SceneKind::Bars => Box::new(bars::invent(random, recipe)),
        SceneKind::Form => Box::new(form::invent(random, recipe)),
        SceneKind::Sums => Box::new(sums::invent(random, recipe)),
    }
}
