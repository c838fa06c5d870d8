//! A row as bars on a logarithmic scale: one SVG file, no library.

use std::fmt::Write;

use super::units::{shown, value};
use crate::contestant::Kind;
use crate::rows::{Row, Unit};
use crate::run::Line;

const WIDTH: f64 = 760.0;
const NAMES: f64 = 180.0;
const FIGURES: f64 = 90.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;
const TOP: f64 = 56.0;

pub(super) fn svg(row: &Row, lines: &[Line]) -> String {
    let measured: Vec<(&Line, f64)> =
        lines.iter().filter_map(|line| Some((line, line.summary()?.median))).collect();
    let height = TOP + STEP * measured.len() as f64 + 12.0;
    let direction = if row.unit == Unit::Time { "less is better" } else { "more is better" };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{}</text>\n\
         <text x=\"12\" y=\"43\" fill=\"#666\">median, logarithmic scale; {direction}</text>\n",
        row.title
    );
    let value = |nanos: f64| value(row.unit, nanos);
    let lowest = measured.iter().map(|&(_, nanos)| value(nanos)).fold(f64::INFINITY, f64::min);
    let highest = measured.iter().map(|&(_, nanos)| value(nanos)).fold(0.0, f64::max);
    for (index, &(line, nanos)) in measured.iter().enumerate() {
        // The shortest bar still shows; a decade is as long everywhere.
        let share = (value(nanos) / lowest * 2.0).ln() / (highest / lowest * 2.0).ln();
        let (y, width) = (TOP + STEP * index as f64, (WIDTH - NAMES - FIGURES) * share);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{NAMES}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            NAMES - 8.0,
            y + 14.0,
            line.contestant.name,
            colour(line.contestant.kind),
            NAMES + width + 6.0,
            y + 14.0,
            shown(row.unit, nanos),
        );
    }
    out.push_str("</svg>\n");
    out
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours { .. } => "#d1495b",
        Kind::Limit => "#9aa5b1",
        Kind::Peer => "#3d6fb6",
        Kind::Threads => "#76b7b2",
        Kind::Python => "#e0b040",
    }
}
