//! A photo of 12 megapixels to what a model sees. Targets: every line well under 150 ms on one core of a laptop.

use divan::Bencher;
use image_prep::Picture;
use image_prep::resize::{Filter, resize};

fn main() {
    divan::main();
}

fn photo() -> Picture {
    let (width, height) = (4000, 3000);
    let bytes =
        (0..3 * u64::from(width * height)).map(|index| ((index * 2_654_435_761) >> 7) as u8);
    Picture::new(width, height, bytes.collect()).unwrap()
}

#[divan::bench(sample_count = 10, args = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3])]
fn photo_to_1536(bencher: Bencher, filter: Filter) {
    let photo = photo();
    bencher.bench_local(|| resize(&photo, 1536, 1152, filter));
}

#[divan::bench(sample_count = 10, args = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3])]
fn photo_to_thumbnail(bencher: Bencher, filter: Filter) {
    let photo = photo();
    bencher.bench_local(|| resize(&photo, 384, 288, filter));
}
