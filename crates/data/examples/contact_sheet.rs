//! Draws many examples on one sheet, to be looked at.
//!
//! `cargo run --release -p data --example contact_sheet -- OUT.png [scene|all|easy] [seed] [count] [columns] [marks]`

use std::collections::BTreeMap;

use data::{Generator, Recipe, SceneKind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |index: usize, default: &str| {
        arguments
            .get(index)
            .cloned()
            .unwrap_or_else(|| default.to_owned())
    };
    let mut recipe = Recipe::default();
    match text(1, "all").as_str() {
        "all" => {}
        "easy" => recipe = Recipe::easy(128),
        name => {
            let kind: SceneKind = serde_json::from_value(name.into())?;
            recipe.scenes = BTreeMap::from([(kind, 1.0)]);
        }
    }
    let (seed, count, columns) = (
        text(2, "1").parse()?,
        text(3, "24").parse::<usize>()?,
        text(4, "6").parse::<usize>()?,
    );
    let generator = Generator::new(seed, recipe)?;
    const CELL: u32 = 320;
    let rows = count.div_ceil(columns) as u32;
    let mut sheet = image::RgbImage::from_pixel(
        columns as u32 * CELL,
        rows * CELL,
        image::Rgb([128, 0, 128]),
    );
    for index in 0..count {
        let example = generator.example(index as u64);
        let picture = &example.picture;
        let mut whole =
            image::RgbImage::from_raw(picture.width, picture.height, picture.rgb.clone())
                .ok_or("bytes do not fit")?;
        if text(5, "") == "marks" {
            outline_marks(&mut whole, &example.marks);
        }
        let scale = (f64::from(CELL - 6) / f64::from(picture.width.max(picture.height))).min(1.0);
        let size = |side: u32| ((f64::from(side) * scale) as u32).max(1);
        let small = image::imageops::resize(
            &whole,
            size(picture.width),
            size(picture.height),
            image::imageops::FilterType::Triangle,
        );
        let (column, row) = ((index % columns) as u32, (index / columns) as u32);
        image::imageops::replace(
            &mut sheet,
            &small,
            i64::from(column * CELL),
            i64::from(row * CELL),
        );
        println!(
            "== {index} {:?} {}x{}",
            example.scene, picture.width, picture.height
        );
        println!("{}", example.twin);
        for question in &example.questions {
            println!(
                "   {} | {} | {} | {}",
                question.kind.name(),
                question.question,
                question.thought.as_deref().unwrap_or("-"),
                question.answer
            );
        }
    }
    sheet.save(text(0, "sheet.png"))?;
    Ok(())
}

/// Draws the box of every mark.
fn outline_marks(picture: &mut image::RgbImage, marks: &[data::Mark]) {
    let (width, height) = picture.dimensions();
    for mark in marks {
        let (left, right) = (mark.x0 as u32, (mark.x1 as u32).min(width - 1));
        let (top, bottom) = (mark.y0 as u32, (mark.y1 as u32).min(height - 1));
        for x in left.min(width - 1)..=right {
            picture.put_pixel(x, top.min(height - 1), image::Rgb([255, 0, 0]));
            picture.put_pixel(x, bottom, image::Rgb([255, 0, 0]));
        }
        for y in top.min(height - 1)..=bottom {
            picture.put_pixel(left.min(width - 1), y, image::Rgb([255, 0, 0]));
            picture.put_pixel(right, y, image::Rgb([255, 0, 0]));
        }
    }
}
