//! What cameras, printers and screens do to a picture: turning, blur, loss of contrast, grain, lost colour detail.

use std::sync::LazyLock;

use crate::paint::{Canvas, Edges};
use crate::random::{Random, sine_cosine};

/// What will be done to one picture; chosen before layout, because a turned picture needs wider margins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effects {
    /// Radians, clockwise; zero for none.
    pub(crate) turn: f32,
    /// Weight of each neighbour in a three-point blur, in 256ths; zero for none.
    blur: u32,
    /// Share of the contrast that is lost, in 256ths.
    fade: u32,
    /// Grey value that contrast is lost towards.
    haze: u8,
    /// Standard deviation of the grain in levels, times 16.
    grain: i32,
    /// The same grain in all three channels, as of a sensor in grey.
    grey_grain: bool,
    /// Colour at half the resolution, as JPEG stores it.
    coarse_color: bool,
    pub(crate) edges: Edges,
}

impl Effects {
    /// No effect at all.
    pub(crate) const NONE: Effects = Effects {
        turn: 0.0,
        blur: 0,
        fade: 0,
        haze: 128,
        grain: 0,
        grey_grain: true,
        coarse_color: false,
        edges: Edges::Plain,
    };

    /// Chooses effects: about a third of the pictures stay clean at half noise.
    pub(crate) fn choose(random: &mut Random, noise: f32) -> Effects {
        let edges = random.pick(&[
            Edges::Plain,
            Edges::Plain,
            Edges::Plain,
            Edges::Strong,
            Edges::Thin,
            Edges::Hard,
        ]);
        let mut effects = Effects {
            edges,
            ..Effects::NONE
        };
        if random.chance(noise * 0.35) {
            effects.turn = random.real(-0.035, 0.035);
        }
        if random.chance(noise * 0.4) {
            effects.blur = (random.real(0.2, 1.0) * (20.0 + 50.0 * noise)) as u32;
        }
        if random.chance(noise * 0.4) {
            effects.fade = (random.unit() * 110.0 * noise) as u32;
            effects.haze = random.between(30, 225) as u8;
        }
        if random.chance(noise * 0.7) {
            effects.grain = (random.unit() * random.unit() * 260.0 * noise) as i32;
            effects.grey_grain = random.chance(0.6);
        }
        effects.coarse_color = random.chance(noise * 0.3);
        effects
    }

    /// Applies the effects to pixels and marks.
    pub(crate) fn apply(&self, canvas: &mut Canvas, random: &mut Random) {
        if self.turn != 0.0 {
            turn(canvas, self.turn);
        }
        if self.coarse_color {
            coarsen_color(canvas);
        }
        if self.blur > 0 {
            blur(canvas, self.blur);
        }
        if self.fade > 0 {
            fade(canvas, self.fade, self.haze);
        }
        if self.grain > 0 {
            grain(canvas, self.grain, self.grey_grain, random);
        }
    }
}

/// Turns around the centre with bilinear sampling; what comes from outside repeats the edge.
fn turn(canvas: &mut Canvas, angle: f32) {
    let (sine, cosine) = sine_cosine(f64::from(angle));
    let (width, height) = (canvas.width as i64, canvas.height as i64);
    const ONE: f64 = 65536.0;
    let (sine_fixed, cosine_fixed) = ((sine * ONE).round() as i64, (cosine * ONE).round() as i64);
    let (center_x, center_y) = ((width - 1) * 32768, (height - 1) * 32768);
    let mut turned = vec![0u8; canvas.rgb.len()];
    for (y, line) in turned.chunks_exact_mut(canvas.width * 3).enumerate() {
        // Source of pixel (x, y): centre + turn back of (x, y) − centre, in 16.16.
        let below = (y as i64 * 65536) - center_y;
        let mut source_x = center_x + ((-center_x * cosine_fixed + below * sine_fixed) >> 16);
        let mut source_y = center_y + ((center_x * sine_fixed + below * cosine_fixed) >> 16);
        for pixel in line.chunks_exact_mut(3) {
            sample(&canvas.rgb, (width, height), source_x, source_y, pixel);
            source_x += cosine_fixed;
            source_y -= sine_fixed;
        }
    }
    canvas.rgb = turned;
    turn_marks(canvas, sine as f32, cosine as f32);
}

fn sample(rgb: &[u8], size: (i64, i64), x: i64, y: i64, pixel: &mut [u8]) {
    let (x, y) = (
        x.clamp(0, (size.0 - 1) << 16),
        y.clamp(0, (size.1 - 1) << 16),
    );
    let (left, top) = ((x >> 16) as usize, (y >> 16) as usize);
    let (part_x, part_y) = (((x >> 8) & 255) as u32, ((y >> 8) & 255) as u32);
    let width = size.0 as usize;
    let start = (top * width + left) * 3;
    let right = if left + 1 < width { start + 3 } else { start };
    let down = if top + 1 < size.1 as usize {
        width * 3
    } else {
        0
    };
    for channel in 0..3 {
        let at = |index: usize| u32::from(rgb[index + channel]);
        let upper = at(start) * (256 - part_x) + at(right) * part_x;
        let lower = at(start + down) * (256 - part_x) + at(right + down) * part_x;
        pixel[channel] = ((upper * (256 - part_y) + lower * part_y + 32768) >> 16) as u8;
    }
}

fn turn_marks(canvas: &mut Canvas, sine: f32, cosine: f32) {
    let (limit_x, limit_y) = (canvas.width as f32, canvas.height as f32);
    let (center_x, center_y) = (limit_x / 2.0, limit_y / 2.0);
    for mark in &mut canvas.marks {
        // The centre moves; of the extent, only the turned box's own size matters at such small angles.
        let (x, y) = (
            (mark.x0 + mark.x1) / 2.0 - center_x,
            (mark.y0 + mark.y1) / 2.0 - center_y,
        );
        let (half_x, half_y) = ((mark.x1 - mark.x0) / 2.0, (mark.y1 - mark.y0) / 2.0);
        let (x, y) = (
            center_x + x * cosine - y * sine,
            center_y + x * sine + y * cosine,
        );
        let reach_x = half_x * cosine + half_y * sine.abs();
        let reach_y = half_y * cosine + half_x * sine.abs();
        mark.x0 = (x - reach_x).clamp(0.0, limit_x);
        mark.x1 = (x + reach_x).clamp(mark.x0, limit_x);
        mark.y0 = (y - reach_y).clamp(0.0, limit_y);
        mark.y1 = (y + reach_y).clamp(mark.y0, limit_y);
    }
}

/// Three-point blur along rows, then along columns.
fn blur(canvas: &mut Canvas, side: u32) {
    let stride = canvas.width * 3;
    let middle = 256 - 2 * side;
    let smooth = |before: u8, here: u8, after: u8| {
        ((u32::from(before) + u32::from(after)) * side + u32::from(here) * middle + 128) >> 8
    };
    let mut rows = canvas.rgb.clone();
    for (line, source) in rows
        .chunks_exact_mut(stride)
        .zip(canvas.rgb.chunks_exact(stride))
    {
        if stride < 9 {
            continue;
        }
        let neighbours = source.iter().zip(&source[3..]).zip(&source[6..]);
        for (value, ((&before, &here), &after)) in line[3..].iter_mut().zip(neighbours) {
            *value = smooth(before, here, after) as u8;
        }
    }
    for row in 1..canvas.height.saturating_sub(1) {
        let start = row * stride;
        let (above, here, below) = (
            &rows[start - stride..start],
            &rows[start..start + stride],
            &rows[start + stride..start + 2 * stride],
        );
        let target = &mut canvas.rgb[start..start + stride];
        for (((value, &above), &here), &below) in target.iter_mut().zip(above).zip(here).zip(below)
        {
            *value = smooth(above, here, below) as u8;
        }
    }
}

fn fade(canvas: &mut Canvas, part: u32, haze: u8) {
    let table: [u8; 256] = std::array::from_fn(|value| {
        ((value as u32 * (256 - part) + u32::from(haze) * part + 128) >> 8) as u8
    });
    for value in &mut canvas.rgb {
        *value = table[usize::from(*value)];
    }
}

const GRAIN: usize = 8192;

/// Sums of twelve even numbers: near enough to a bell curve, with a deviation of 64.
static GRAIN_TABLE: LazyLock<Vec<i32>> = LazyLock::new(|| {
    let mut random = Random::new(0x6772_6169_6e00, 0);
    (0..GRAIN)
        .map(|_| {
            (0..12)
                .map(|_| random.between(0, 64) as i32 - 32)
                .sum::<i32>()
        })
        .collect()
});

fn grain(canvas: &mut Canvas, strength: i32, grey: bool, random: &mut Random) {
    let scaled: Vec<i16> = GRAIN_TABLE
        .iter()
        .map(|&value| ((value * strength) >> 10) as i16)
        .collect();
    let triple: Vec<i16> = scaled.iter().flat_map(|&value| [value; 3]).collect();
    let table = if grey { &triple } else { &scaled };
    for line in canvas.rgb.chunks_exact_mut(canvas.width * 3) {
        for part in line.chunks_mut(4096) {
            let start = random.below((table.len() - 4096) / 3) * 3;
            for (value, &noise) in part.iter_mut().zip(&table[start..]) {
                *value = (i16::from(*value) + noise).clamp(0, 255) as u8;
            }
        }
    }
}

/// Averages the colour differences of 2×2 pixels and keeps each pixel's brightness.
fn coarsen_color(canvas: &mut Canvas) {
    let stride = canvas.width * 3;
    for pair in canvas.rgb.chunks_mut(stride * 2) {
        if pair.len() < stride * 2 {
            break;
        }
        let (upper, lower) = pair.split_at_mut(stride);
        for (above, below) in upper.chunks_exact_mut(6).zip(lower.chunks_exact_mut(6)) {
            let green = |pixels: &[u8]| [i32::from(pixels[1]), i32::from(pixels[4])];
            let greens = [green(above), green(below)].concat();
            for channel in [0, 2] {
                let values = [
                    above[channel],
                    above[channel + 3],
                    below[channel],
                    below[channel + 3],
                ]
                .map(i32::from);
                let difference: i32 = values
                    .iter()
                    .zip(&greens)
                    .map(|(value, green)| value - green)
                    .sum();
                let difference = (difference + 2) >> 2;
                for (index, green) in greens.iter().enumerate() {
                    let row = if index < 2 { &mut *above } else { &mut *below };
                    row[channel + 3 * (index % 2)] = (green + difference).clamp(0, 255) as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{Mark, MarkClass};

    fn canvas(width: usize, height: usize) -> Canvas {
        let rgb = (0..width * height * 3)
            .map(|index| (index * 7 % 251) as u8)
            .collect();
        Canvas {
            width,
            height,
            rgb,
            marks: Vec::new(),
        }
    }

    #[test]
    fn an_even_ground_stays_even_under_every_effect_but_grain() {
        let mut even = Canvas {
            width: 40,
            height: 30,
            rgb: vec![180; 3600],
            marks: Vec::new(),
        };
        turn(&mut even, 0.03);
        coarsen_color(&mut even);
        blur(&mut even, 60);
        assert!(even.rgb.iter().all(|&value| value == 180));
        fade(&mut even, 128, 20);
        assert!(even.rgb.iter().all(|&value| value == 100));
    }

    #[test]
    fn a_turn_moves_a_dot_and_its_mark_together() {
        let mut picture = Canvas {
            width: 201,
            height: 101,
            rgb: vec![255; 201 * 101 * 3],
            marks: Vec::new(),
        };
        for y in 48..53 {
            for x in 178..183 {
                picture.rgb[(y * 201 + x) * 3..][..3].fill(0);
            }
        }
        picture.marks.push(Mark {
            class: MarkClass::Glyph('.'),
            x0: 178.0,
            y0: 48.0,
            x1: 183.0,
            y1: 53.0,
            line: -4.0,
            size: 20.0,
        });
        turn(&mut picture, 0.035);
        let dark: Vec<_> = (0..201 * 101)
            .filter(|index| picture.rgb[index * 3] < 100)
            .collect();
        assert!(!dark.is_empty());
        let mark = picture.marks[0];
        assert!(
            mark.y0 > 49.0,
            "80 pixels right of the centre a clockwise turn goes down: {mark:?}"
        );
        for index in dark {
            let (x, y) = ((index % 201) as f32, (index / 201) as f32);
            assert!(
                x + 1.0 >= mark.x0 && x <= mark.x1 && y + 1.0 >= mark.y0 && y <= mark.y1,
                "{x} {y} {mark:?}"
            );
        }
    }

    #[test]
    fn grain_has_the_asked_deviation() {
        let mut even = Canvas {
            width: 300,
            height: 200,
            rgb: vec![128; 180_000],
            marks: Vec::new(),
        };
        grain(&mut even, 8 * 16, false, &mut Random::new(1, 1));
        let variance = even
            .rgb
            .iter()
            .map(|&value| (f64::from(value) - 128.0).powi(2))
            .sum::<f64>()
            / 180_000.0;
        // Truncation towards minus infinity adds a quarter of a level of bias: 8 ± 0.5.
        assert!((variance.sqrt() - 8.0).abs() < 0.5, "{}", variance.sqrt());
    }

    #[test]
    fn effects_survive_pictures_of_one_pixel() {
        for (width, height) in [(1, 1), (2, 1), (1, 3), (3, 2)] {
            let mut small = canvas(width, height);
            turn(&mut small, -0.02);
            coarsen_color(&mut small);
            blur(&mut small, 40);
            grain(&mut small, 40, true, &mut Random::new(0, 0));
            assert_eq!(small.rgb.len(), width * height * 3);
        }
    }
}
