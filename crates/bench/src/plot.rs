//! Figures as pictures: bars over a batch size, a prompt's length, a depth.

use crate::figure::{Figure, Report, Unit};
use resvg::{tiny_skia, usvg};
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 48.0;
const BAR: &str = "#2563eb";

/// One picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// For a file's name.
    pub name: &'static str,
    /// As a browser shows it.
    pub svg: String,
}

/// Letters of the PNG files; a browser takes its own.
static FONT: &[u8] = include_bytes!("../../data/fonts/open-sans-regular.ttf");
/// Pixels of a PNG for each of the SVG.
const SCALE: f32 = 2.0;

impl Chart {
    /// The same as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut options = usvg::Options::default();
        let fonts = options.fontdb_mut();
        fonts.load_font_data(FONT.to_vec());
        let name = fonts.faces().next().map(|face| face.families[0].0.clone());
        fonts.set_sans_serif_family(name.expect("our own font has a name"));
        let tree = usvg::Tree::from_str(&self.svg, &options).expect("our own SVG is right");
        let size = tree.size();
        let mut pixels = tiny_skia::Pixmap::new(
            (size.width() * SCALE) as u32,
            (size.height() * SCALE) as u32,
        )
        .expect("a chart has a size");
        let scale = tiny_skia::Transform::from_scale(SCALE, SCALE);
        resvg::render(&tree, scale, &mut pixels.as_mut());
        pixels.encode_png().expect("pixels in memory become a PNG")
    }
}

/// A chart for each group of figures that has an axis.
pub fn charts(report: &Report) -> Vec<Chart> {
    [
        (
            "encode",
            "encode",
            "Encoding, milliseconds a tile",
            "tiles at once",
        ),
        (
            "prefill",
            "prefill",
            "Prefill, tokens a second",
            "rows of the prompt",
        ),
        (
            "prefill in other chunks",
            "chunks",
            "Prefill, tokens a second",
            "rows of a chunk",
        ),
        (
            "decode",
            "decode",
            "Decoding, tokens a second",
            "positions in the cache",
        ),
    ]
    .into_iter()
    .filter_map(|(group, name, title, axis)| {
        let figures: Vec<&Figure> = report
            .figures
            .iter()
            .filter(|figure| figure.group == group && figure.x.is_some())
            .collect();
        (!figures.is_empty()).then(|| Chart {
            name,
            svg: bars(&format!("{title}: {}", report.model), axis, &figures),
        })
    })
    .collect()
}

/// A chart of these figures, each under its place on the axis or, where it has none, its name.
pub fn chart(name: &'static str, title: &str, axis: &str, figures: &[Figure]) -> Chart {
    let figures: Vec<&Figure> = figures.iter().collect();
    Chart {
        name,
        svg: bars(title, axis, &figures),
    }
}

fn bars(title: &str, axis: &str, figures: &[&Figure]) -> String {
    let most = figures
        .iter()
        .map(|f| f.most)
        .fold(f64::MIN_POSITIVE, f64::max);
    let (plot_width, plot_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let y = |value: f64| TOP + plot_height * (1.0 - value / (1.1 * most));
    let slot = plot_width / figures.len() as f64;
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="26" font-size="16">{}</text>"##,
        escape(title)
    );
    let step = round_step(1.1 * most / 4.0);
    let lines = (0..).map(|line| f64::from(line) * step);
    for value in lines.take_while(|value| *value <= 1.1 * most) {
        let at = y(value);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#e5e7eb"/><text x="{}" y="{:.1}" text-anchor="end" fill="#6b7280">{value}</text>"##,
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (at, figure) in figures.iter().enumerate() {
        let middle = LEFT + slot * (at as f64 + 0.5);
        let top = y(figure.median);
        let decimals = if figure.unit == Unit::Ratio || figure.median < 10.0 {
            1
        } else {
            0
        };
        let _ = writeln!(
            svg,
            r##"<rect x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{BAR}"/><line x1="{middle:.1}" x2="{middle:.1}" y1="{:.1}" y2="{:.1}" stroke="#111827"/><text x="{middle:.1}" y="{:.1}" text-anchor="middle">{:.decimals$}</text><text x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
            middle - 0.3 * slot,
            0.6 * slot,
            TOP + plot_height - top,
            y(figure.least),
            y(figure.most),
            y(figure.most) - 6.0,
            figure.median,
            HEIGHT - BOTTOM + 18.0,
            figure
                .x
                .map_or_else(|| escape(&figure.name), |x| x.to_string())
        );
    }
    let _ = writeln!(
        svg,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#6b7280">{axis}</text></svg>"##,
        LEFT + plot_width / 2.0,
        HEIGHT - 10.0
    );
    svg
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter();
    let found = times.map(|t| t * power).find(|round| *round >= step);
    found.unwrap_or(10.0 * power)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceilings::Ceilings;

    fn report() -> Report {
        let figure = |batch, times: &[f64]| {
            Figure::new("encode", "encode", Unit::Milliseconds, times).at(batch)
        };
        Report {
            model: "a & b".into(),
            isa: "scalar".into(),
            ceilings: Ceilings {
                threads: 1,
                read_gb_s: 1.0,
                int8_gop_s: None,
                bf16_gop_s: None,
                f32_gop_s: 1.0,
            },
            figures: vec![figure(1, &[20.0, 30.0, 40.0]), figure(4, &[10.0])],
        }
    }

    #[test]
    fn groups_without_figures_have_no_chart_and_names_are_escaped() {
        let charts = charts(&report());
        let [chart] = &charts[..] else {
            panic!("one chart is expected: {charts:?}")
        };
        assert_eq!(chart.name, "encode");
        assert!(chart.svg.contains("a &amp; b") && chart.svg.contains(">30<"));
        assert_eq!(chart.svg.matches(BAR).count(), 2);
    }

    #[test]
    fn a_png_shows_the_bars_and_the_letters() {
        let charts = charts(&report());
        let png = charts[0].png();
        let mut reader = tiny_skia::Pixmap::decode_png(&png).expect("a PNG");
        assert_eq!((reader.width(), reader.height()), (1280, 720));
        let pixels = reader.pixels_mut();
        let blue = pixels
            .iter()
            .filter(|p| p.blue() > 200 && p.red() < 80)
            .count();
        // Two bars of 0.6 of half the plot's width; 30 and 10 of 44 high.
        let expected = 1120.0 * 0.5 * 0.6 * 512.0 * (30.0 + 10.0) / 44.0;
        assert!(
            (blue as f64 / expected - 1.0).abs() < 0.05,
            "{blue} {expected}"
        );
        // The title's letters: dark pixels above the plot.
        let dark = pixels[..1280 * 70].iter().filter(|p| p.red() < 80).count();
        assert!(dark > 500, "{dark}");
    }
}
