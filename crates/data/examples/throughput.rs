//! How many examples a second one thread and the stream make, and how large they are.
//!
//! `cargo run --release -p data --example throughput -- [count] [threads]`

use std::time::Instant;

use data::{Generator, Recipe, Stream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |index: usize, default: u64| {
        std::env::args()
            .nth(index)
            .map_or(Ok(default), |text| text.parse())
    };
    let (count, threads) = (number(1, 4000)?, number(2, 2)?);
    let generator = Generator::new(1, Recipe::default())?;
    let start = Instant::now();
    let (mut pixels, mut questions, mut marks) = (0u64, 0, 0);
    for index in 0..count {
        let example = generator.example(index);
        pixels += u64::from(example.picture.width) * u64::from(example.picture.height);
        questions += example.questions.len() as u64;
        marks += example.marks.len() as u64;
    }
    let alone = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let stream = Stream::new(generator, 0, threads as usize, 64);
    let drawn = stream.take(count as usize).count();
    let streamed = start.elapsed().as_secs_f64();
    println!(
        "one thread: {:.3} ms an example; {threads} threads: {:.3} ms; on average {} pixels, {} questions, {} marks",
        alone * 1e3 / count as f64,
        streamed * 1e3 / drawn as f64,
        pixels / count,
        questions / count,
        marks / count
    );
    Ok(())
}
