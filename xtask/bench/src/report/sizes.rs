//! All streams as one picture: bytes a second over the size of a message, both on logarithmic scales. One SVG file, no library.

use std::fmt::Write;

use crate::contestant::Kind;
use crate::run::{Line, Results};

/// The rows of the picture, and how many bytes a message of each has.
const ROWS: &[(&str, u32)] = &[
    ("stream-8b", 3),
    ("stream", 6),
    ("stream-1kib", 10),
    ("stream-64kib", 16),
    ("stream-1mib", 20),
    ("stream-64mib", 26),
];

/// A curve, what its contestant is called in the rows of short messages and in those of long ones, and its colour.
const CURVES: &[(&str, [&str; 2], &str)] = &[
    ("pipe()", ["pipe()", "pipe() into a buffer"], "#d1495b"),
    ("pipe(), owned", ["pipe() owned", "pipe() owned"], "#ee8fa0"),
    ("Queue", ["Queue", "Queue into a buffer"], "#8c1c35"),
    ("limit: a ring", ["ring", "ring of bytes"], "#7c8794"),
    ("pipe of the kernel", ["pipe of the kernel"; 2], "#1f4e8c"),
    ("Unix socket", ["Unix socket"; 2], "#5b8fd6"),
    ("ipc-channel", ["ipc-channel"; 2], "#2a9d8f"),
    ("iceoryx2, polling", ["iceoryx2, polling"; 2], "#7b4fb5"),
    ("Python Pipe", ["Python Pipe"; 2], "#c98a00"),
    ("Python Queue", ["Python Queue"; 2], "#e6bd4a"),
    ("faster-fifo", ["faster-fifo"; 2], "#a8662a"),
];

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 46.0;
/// A name is so high.
const NAME: f64 = 15.0;

/// One contestant through the sizes: the exponent of the size, and bytes a second.
struct Curve {
    name: &'static str,
    colour: &'static str,
    kind: Kind,
    points: Vec<(f64, f64)>,
}

/// The picture, where at least two of its rows were measured.
pub(super) fn svg(results: &Results) -> Option<String> {
    let measured = |name: &str| results.rows.iter().find(|(row, _)| row.name == name).map(|(_, lines)| lines);
    let rows: Vec<(u32, &Vec<Line>)> =
        ROWS.iter().filter_map(|&(name, exponent)| Some((exponent, measured(name)?))).collect();
    if rows.len() < 2 {
        return None;
    }
    let curves: Vec<Curve> =
        CURVES.iter().filter_map(|(name, names, colour)| curve(name, names, colour, &rows)).collect();
    Some(drawn(&curves, rows.first()?.0.into(), rows.last()?.0.into()))
}

fn curve(
    name: &'static str,
    names: &[&str; 2],
    colour: &'static str,
    rows: &[(u32, &Vec<Line>)],
) -> Option<Curve> {
    let (mut kind, mut points) = (None, Vec::new());
    for (exponent, lines) in rows {
        let line = lines.iter().find(|line| names.contains(&line.contestant.name));
        if let Some((line, summary)) = line.and_then(|line| Some((line, line.summary()?))) {
            kind = Some(line.contestant.kind);
            points.push(((*exponent).into(), f64::from(*exponent).exp2() / summary.median * 1e9));
        }
    }
    Some(Curve { name, colour, kind: kind?, points })
}

fn drawn(curves: &[Curve], first: f64, last: f64) -> String {
    let all = || curves.iter().flat_map(|curve| curve.points.iter().map(|(_, rate)| rate.log10()));
    let lowest = all().fold(f64::INFINITY, f64::min).floor();
    let highest = all().fold(0.0, f64::max).ceil();
    let x = |exponent: f64| LEFT + (WIDTH - LEFT - RIGHT) * (exponent - first) / (last - first);
    let y =
        |rate: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (rate.log10() - lowest) / (highest - lowest);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">Streams, one to one: bytes a second over the size of a message</text>\n\
         <text x=\"12\" y=\"43\" fill=\"#666\">median, both scales logarithmic; more is better</text>\n"
    );
    let right = WIDTH - RIGHT;
    // Writing to a string cannot fail, here and below.
    for decade in lowest as i32..=highest as i32 {
        let at = y(10_f64.powi(decade));
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            bytes(10_f64.powi(decade), 1000.0, "B/s"),
        );
    }
    for &(_, exponent) in ROWS.iter().filter(|(_, exponent)| (first..=last).contains(&f64::from(*exponent))) {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(exponent.into()),
            HEIGHT - BOTTOM + 20.0,
            bytes(f64::from(exponent).exp2(), 1024.0, "B"),
        );
    }
    for (curve, name_at) in curves.iter().zip(names_at(curves, &y)) {
        let ours = matches!(curve.kind, Kind::Ours { .. });
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|&(exponent, rate)| format!("{:.1},{:.1}", x(exponent), y(rate)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{}/>\n\
             <text x=\"{}\" y=\"{name_at:.1}\" fill=\"{}\">{}</text>",
            points.join(" "),
            curve.colour,
            if ours { 3 } else { 1 },
            if curve.kind == Kind::Limit { " stroke-dasharray=\"6 4\"" } else { "" },
            right + 8.0,
            curve.colour,
            curve.name,
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Where the names stand: at the ends of their curves, from above, none over another.
fn names_at(curves: &[Curve], y: &impl Fn(f64) -> f64) -> Vec<f64> {
    let end = |curve: &Curve| curve.points.last().map_or(HEIGHT, |&(_, rate)| y(rate) + 4.0);
    let mut order: Vec<usize> = (0..curves.len()).collect();
    order.sort_by(|&one, &two| end(&curves[one]).total_cmp(&end(&curves[two])));
    let (mut places, mut free) = (vec![0.0; curves.len()], TOP);
    for index in order {
        places[index] = end(&curves[index]).max(free);
        free = places[index] + NAME;
    }
    places
}

fn bytes(value: f64, thousand: f64, unit: &str) -> String {
    let step = (value.ln() / thousand.ln() + 1e-9).floor();
    let prefix = ["", "k", "M", "G", "T"].get(step as usize).unwrap_or(&"?");
    let prefix = if thousand > 1000.0 {
        prefix.to_uppercase() + if step > 0.0 { "i" } else { "" }
    } else {
        prefix.to_string()
    };
    format!("{:.0} {prefix}{unit}", value / thousand.powf(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_prefixes() {
        assert_eq!(bytes(8.0, 1024.0, "B"), "8 B");
        assert_eq!(bytes(1024.0, 1024.0, "B"), "1 KiB");
        assert_eq!(bytes(f64::from(64 << 20), 1024.0, "B"), "64 MiB");
        assert_eq!(bytes(1e10, 1000.0, "B/s"), "10 GB/s");
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let curve = |rate| Curve { name: "x", colour: "#000", kind: Kind::Peer, points: vec![(3.0, rate)] };
        let places = names_at(&[curve(1e9), curve(1.01e9), curve(1e3)], &|rate| 600.0 - rate.log10() * 50.0);
        assert!(places[1] + NAME <= places[0] && places[0] + NAME <= places[2], "{places:?}");
    }

    #[test]
    fn a_curve_is_drawn_from_left_to_right() {
        let curve =
            Curve { name: "one", colour: "#000", kind: Kind::Limit, points: vec![(3.0, 1e8), (26.0, 1e10)] };
        let svg = drawn(&[curve], 3.0, 26.0);
        assert!(svg.contains("points=\"70.0,474.0 670.0,60.0\""), "{svg}");
        assert!(svg.contains("stroke-dasharray") && svg.contains(">64 MiB<"));
    }
}
