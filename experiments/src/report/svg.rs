//! Line plots as SVG, in plain text: a few curves over one axis, readable on white and on black, and nothing else.
//!
//! A plotting library would bring fonts and image formats for what is a hundred lines of text here.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// Size of the picture.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;

/// Room around the curves: for numbers, titles, and names on the right.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Steps on each axis, about.
const STEPS: f64 = 5.0;

/// Colours that people who see red and green alike can tell apart (Okabe and Ito), and that show on white and black.
const COLOURS: [&str; 7] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999",
];

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Above the curves.
    pub title: String,
    /// Under the horizontal axis.
    pub across: String,
    /// Beside the vertical axis.
    pub up: String,
    /// The curves.
    pub curves: Vec<Curve>,
    /// Vertical lines with their names: moments at which something changed.
    pub marks: Vec<(f64, String)>,
}

/// One axis: from zero to its end, in steps, on the picture between two places.
struct Axis {
    end: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(most: f64, from: f64, to: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = round_step(most / STEPS);
        Self {
            end: (most / step).ceil() * step,
            step,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.end).clamp(0.0, 1.0)
    }

    fn steps(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=(self.end / self.step).round() as usize).map(|number| number as f64 * self.step)
    }
}

/// Returns the next of 1, 2 and 5 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

impl Plot {
    /// Returns the picture.
    #[must_use]
    pub fn render(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let across = Axis::new(points().map(|point| point.0).fold(0.0, f64::max), LEFT, WIDTH - RIGHT);
        let up = Axis::new(points().map(|point| point.1).fold(0.0, f64::max), HEIGHT - BOTTOM, TOP);
        let mut picture = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#777777\">\n"
        );
        text(&mut picture, LEFT, TOP - 18.0, "start", &self.title);
        text(
            &mut picture,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 10.0,
            "middle",
            &self.across,
        );
        text(&mut picture, LEFT, TOP - 4.0, "start", &self.up);
        grid(&mut picture, &across, &up);
        for (at, name) in &self.marks {
            let x = across.place(*at);
            line(
                &mut picture,
                (x, TOP),
                (x, HEIGHT - BOTTOM),
                "#777777\" stroke-dasharray=\"4 3",
            );
            text(&mut picture, x + 4.0, TOP + 12.0, "start", name);
        }
        for (number, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let places: Vec<String> = curve
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", across.place(*x), up.place(*y)))
                .collect();
            // Writing to a string cannot fail.
            let _ = writeln!(
                picture,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
                places.join(" ")
            );
            let y = TOP + 16.0 * number as f64 + 8.0;
            line(
                &mut picture,
                (WIDTH - RIGHT + 12.0, y - 4.0),
                (WIDTH - RIGHT + 32.0, y - 4.0),
                colour,
            );
            text(&mut picture, WIDTH - RIGHT + 38.0, y, "start", &curve.name);
        }
        picture.push_str("</svg>\n");
        picture
    }
}

fn grid(picture: &mut String, across: &Axis, up: &Axis) {
    for value in across.steps() {
        let x = across.place(value);
        line(picture, (x, up.from), (x, up.from + 4.0), "#777777");
        text(picture, x, up.from + 18.0, "middle", &short(value));
    }
    for value in up.steps() {
        let y = up.place(value);
        line(
            picture,
            (across.from, y),
            (across.to, y),
            "#777777\" stroke-opacity=\"0.3",
        );
        text(picture, across.from - 6.0, y + 4.0, "end", &short(value));
    }
}

/// Formats a number of an axis: `1.5 M`, `20 k`, `0.5`.
fn short(value: f64) -> String {
    let plain = |value: f64| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value {
        large if large >= 1e6 => format!("{} M", plain(large / 1e6)),
        large if large >= 1e3 => format!("{} k", plain(large / 1e3)),
        small => plain(small),
    }
}

fn line(picture: &mut String, from: (f64, f64), to: (f64, f64), stroke: &str) {
    let _ = writeln!(
        picture,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(picture: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        picture,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_cover_the_values() {
        assert_eq!(round_step(0.3), 0.5);
        assert_eq!(round_step(1.0), 1.0);
        assert_eq!(round_step(7.0), 10.0);
        let axis = Axis::new(23.0, 0.0, 100.0);
        assert!(axis.end >= 23.0);
        assert_eq!((axis.place(0.0), axis.place(axis.end)), (0.0, 100.0));
        assert_eq!(Axis::new(f64::NAN, 0.0, 1.0).end, 1.0);
    }

    #[test]
    fn picture_holds_every_curve_mark_and_title() {
        let plot = Plot {
            title: "a < b & c".to_owned(),
            across: "seconds".to_owned(),
            up: "versions".to_owned(),
            curves: ["x", "y"]
                .map(|name| Curve {
                    name: name.to_owned(),
                    points: vec![(0.0, 1.0), (2.0, 3_000.0)],
                })
                .to_vec(),
            marks: vec![(1.0, "released".to_owned())],
        };
        let picture = plot.render();
        assert_eq!(picture.matches("<polyline").count(), 2);
        for part in [
            "a &lt; b &amp; c",
            "seconds",
            "versions",
            "released",
            ">x<",
            ">y<",
            "3 k",
            "</svg>",
        ] {
            assert!(picture.contains(part), "{part} is missing in\n{picture}");
        }
        assert!(!picture.contains("NaN"));
    }
}
