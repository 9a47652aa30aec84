//! The engine over a random model, and pictures to ask it about.

use crate::support::write_random_model;
use engine::Engine;
use image_prep::Picture;

/// An engine over the random model of seed 1.
pub fn load() -> Engine {
    let folder = tempfile::tempdir().unwrap();
    write_random_model(folder.path(), 1);
    Engine::load(folder.path()).unwrap()
}

/// A picture whose pixels all differ.
pub fn picture(width: u32, height: u32) -> Picture {
    let rgb = (0..width * height * 3)
        .map(|at| (at.wrapping_mul(2654435761) >> 24) as u8)
        .collect();
    Picture::new(width, height, rgb).unwrap()
}
