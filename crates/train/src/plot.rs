//! The loss curve as an SVG that any browser shows: loss on a logarithmic axis over steps, stages as bands.

use crate::metrics::Line;
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 45.0;

/// Which value of a line a curve shows, its name and colour.
type Curve = (&'static str, &'static str, fn(&Line) -> Option<f64>);

const CURVES: [Curve; 3] = [
    ("answer loss", "#2563eb", |line| {
        (line.event == "train").then_some(line.loss)
    }),
    ("patch loss", "#9ca3af", |line| {
        (line.event == "train").then_some(line.patch_loss)
    }),
    ("held-out answer loss", "#dc2626", |line| {
        (line.event == "held_out").then_some(line.loss)
    }),
];

/// The picture of a run; `lines` in the order of their steps.
pub fn loss_curve(title: &str, lines: &[Line]) -> String {
    let last = lines.iter().map(|line| line.step).max().unwrap_or(1).max(1) as f64;
    let values = lines
        .iter()
        .flat_map(|line| CURVES.iter().filter_map(|curve| curve.2(line)))
        .filter(|v| *v > 0.0 && v.is_finite());
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    let axes = Axes {
        last,
        low: if low < high {
            low.log10().floor()
        } else {
            -1.0
        },
        high: if low < high { high.log10().ceil() } else { 1.0 },
    };
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>"##
    );
    let _ = writeln!(
        svg,
        r##"<text x="{LEFT}" y="22" font-size="16">{}</text>"##,
        escape(title)
    );
    stages(&mut svg, &axes, lines);
    axes.draw(&mut svg);
    for (at, (name, color, value)) in CURVES.iter().enumerate() {
        let points: Vec<String> = lines
            .iter()
            .filter_map(|line| {
                value(line)
                    .filter(|v| *v > 0.0)
                    .map(|v| format!("{:.1},{:.1}", axes.x(line.step as f64), axes.y(v)))
            })
            .collect();
        if points.is_empty() {
            continue;
        }
        let _ = writeln!(
            svg,
            r##"<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{}"/>"##,
            points.join(" ")
        );
        let x = LEFT + 160.0 * at as f64;
        let _ = writeln!(
            svg,
            r##"<rect x="{x}" y="30" width="14" height="4" fill="{color}"/><text x="{}" y="37">{name}</text>"##,
            x + 20.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

struct Axes {
    last: f64,
    low: f64,
    high: f64,
}

impl Axes {
    fn x(&self, step: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * step / self.last
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value.log10()) / (self.high - self.low)
    }

    fn draw(&self, svg: &mut String) {
        for power in self.low as i32..=self.high as i32 {
            let value = 10f64.powi(power);
            let y = self.y(value);
            let _ = writeln!(
                svg,
                r##"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#e5e7eb"/><text x="{}" y="{:.1}" text-anchor="end">{value}</text>"##,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            );
        }
        for quarter in 0..=4 {
            let step = self.last * f64::from(quarter) / 4.0;
            let _ = writeln!(
                svg,
                r##"<text x="{:.1}" y="{}" text-anchor="middle">{step:.0}</text>"##,
                self.x(step),
                HEIGHT - BOTTOM + 18.0
            );
        }
        let _ = writeln!(
            svg,
            r##"<text x="{}" y="{}" text-anchor="middle">optimizer step</text>"##,
            WIDTH / 2.0,
            HEIGHT - 8.0
        );
    }
}

/// A band and a name for every second stage.
fn stages(svg: &mut String, axes: &Axes, lines: &[Line]) {
    let mut begin = 0;
    for (at, group) in lines.chunk_by(|a, b| a.stage == b.stage).enumerate() {
        let end = group.last().map_or(begin, |line| line.step);
        let (x0, x1) = (axes.x(begin as f64), axes.x(end as f64));
        let fill = if at % 2 == 0 { "#f8fafc" } else { "#eef2f7" };
        let _ = writeln!(
            svg,
            r##"<rect x="{x0:.1}" y="{TOP}" width="{:.1}" height="{}" fill="{fill}"/><text x="{:.1}" y="{}" fill="#6b7280">{}</text>"##,
            x1 - x0,
            HEIGHT - TOP - BOTTOM,
            x0 + 4.0,
            TOP + 14.0,
            escape(&group[0].stage)
        );
        begin = end;
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
