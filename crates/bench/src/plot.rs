//! Figures as pictures: bars over a batch size, a prompt's length, a depth.

use crate::figure::{Figure, Report, Unit};
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
    for step in 0..=4 {
        let value = 1.1 * most * f64::from(step) / 4.0;
        let at = y(value);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#e5e7eb"/><text x="{}" y="{:.1}" text-anchor="end" fill="#6b7280">{value:.0}</text>"##,
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
            figure.x.unwrap_or(0)
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
