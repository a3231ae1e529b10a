//! A line chart as SVG, with nothing in it that has to be loaded. Colours come from the style
//! sheet of the page, so that a chart is right in the light and in the dark.

use std::fmt::Write as _;

use super::escape::escape;
use super::scale::Scale;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
/// Above the plot is room for the names of the bands.
const TOP: f64 = 22.0;
const BOTTOM: f64 = 42.0;
/// Room that a letter of a label takes, about.
const LETTER: f64 = 7.0;

pub(super) struct Chart {
    pub(super) title: String,
    /// What the vertical axis counts, and in which unit.
    pub(super) y_name: String,
    pub(super) x_name: String,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) height: f64,
    pub(super) lines: Vec<Line>,
    pub(super) bands: Vec<Band>,
    pub(super) hints: Vec<Hint>,
}

pub(super) struct Line {
    pub(super) name: String,
    /// 1 to 4: the colour, and the pattern, so that lines differ without colours, too.
    pub(super) style: u8,
    /// In pieces: where nothing was measured there is a gap.
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

/// A part of the horizontal axis that is not the one to look at.
pub(super) struct Band {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) shaded: bool,
}

/// What a pointer that rests on a part of the chart is told.
pub(super) struct Hint {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) text: String,
}

impl Chart {
    /// Renders it as a figure with its title and legend.
    pub(super) fn render(&self) -> String {
        let mut svg = String::new();
        self.write_bands(&mut svg);
        self.write_axes(&mut svg);
        self.lines.iter().for_each(|line| self.write_line(&mut svg, line));
        self.hints.iter().for_each(|hint| self.write_hint(&mut svg, hint));
        let title = escape(&self.title);
        format!(
            "<figure>\n<figcaption><h3>{title}</h3>{}</figcaption>\n<div class=\"scroll\"><svg \
             viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">\n{svg}</svg></div>\n\
             </figure>\n",
            self.legend(),
            self.height,
        )
    }

    fn legend(&self) -> String {
        if self.lines.len() < 2 {
            return String::new();
        }
        let mut named: Vec<(&str, u8)> = Vec::new();
        for line in &self.lines {
            let entry = (line.name.as_str(), line.style);
            if !named.contains(&entry) {
                named.push(entry);
            }
        }
        let entry = |(name, style): (&str, u8)| {
            format!(
                "<li><svg class=\"key\" viewBox=\"0 0 28 10\" aria-hidden=\"true\"><path class=\"\
                 line s{style}\" d=\"M0 5H28\"/></svg>{}</li>",
                escape(name)
            )
        };
        let entries: String = named.into_iter().map(entry).collect();
        format!("<ul class=\"legend\">{entries}</ul>")
    }

    fn x_at(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_at(&self, value: f64) -> f64 {
        self.floor() - self.y.place(value) * (self.floor() - TOP)
    }

    /// Returns where the vertical axis begins.
    fn floor(&self) -> f64 {
        self.height - BOTTOM
    }

    fn write_bands(&self, svg: &mut String) {
        for band in &self.bands {
            let (from, to) = (self.x_at(band.from), self.x_at(band.to));
            let width = to - from;
            if width <= 0.0 {
                continue;
            }
            if band.shaded {
                let height = self.floor() - TOP;
                let _ = writeln!(
                    svg,
                    "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
                     height=\"{height:.1}\"/>"
                );
            }
            if width > LETTER * (band.name.len() as f64 + 1.0) {
                let (x, y) = (from, TOP - 7.0);
                let name = escape(&band.name);
                let _ =
                    writeln!(svg, "<text class=\"phase\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>");
            }
        }
    }

    fn write_axes(&self, svg: &mut String) {
        let (floor, right) = (self.floor(), WIDTH - RIGHT);
        for tick in self.y.ticks() {
            let y = self.y_at(tick.value);
            let label = escape(&tick.label);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"y\" x=\"{:.1}\" \
                 y=\"{:.1}\">{label}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        self.write_x_ticks(svg);
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {floor:.1}H{right}\"/><text class=\"name\" \
             x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text class=\"name\" \
             transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            self.height - 5.0,
            escape(&self.x_name),
            TOP.midpoint(floor),
            escape(&self.y_name),
        );
    }

    /// A label that would touch the one before it is left out.
    fn write_x_ticks(&self, svg: &mut String) {
        let floor = self.floor();
        let mut free_from = f64::MIN;
        for tick in self.x.ticks() {
            let x = self.x_at(tick.value);
            let half = tick.label.len() as f64 * LETTER / 2.0;
            let _ = write!(svg, "<path class=\"tick\" d=\"M{x:.1} {floor:.1}v5\"/>");
            if x - half < free_from {
                continue;
            }
            free_from = x + half + LETTER;
            let (y, label) = (floor + 18.0, escape(&tick.label));
            let _ = writeln!(svg, "<text class=\"x\" x=\"{x:.1}\" y=\"{y:.1}\">{label}</text>");
        }
    }

    fn write_line(&self, svg: &mut String, line: &Line) {
        let style = line.style;
        for piece in &line.pieces {
            if let &[(x, y)] = piece.as_slice() {
                let (x, y) = (self.x_at(x), self.y_at(y));
                let _ = writeln!(
                    svg,
                    "<circle class=\"dot s{style}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>"
                );
                continue;
            }
            let mut path = String::new();
            for (number, &(x, y)) in piece.iter().enumerate() {
                let letter = if number == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", self.x_at(x), self.y_at(y));
            }
            let _ = writeln!(svg, "<path class=\"line s{style}\" d=\"{path}\"/>");
        }
    }

    fn write_hint(&self, svg: &mut String, hint: &Hint) {
        let (from, to) = (self.x_at(hint.from), self.x_at(hint.to));
        let (width, height) = (to - from, self.floor() - TOP);
        let _ = writeln!(
            svg,
            "<rect class=\"hint\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"><title>{}</title></rect>",
            escape(&hint.text)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Unit;

    fn chart(lines: Vec<Line>) -> Chart {
        Chart {
            title: "Rate <of> things".to_owned(),
            y_name: "per second".to_owned(),
            x_name: "seconds".to_owned(),
            x: Scale::time(10.0),
            y: Scale::from_zero(100.0, Unit::PerSecond),
            height: 200.0,
            lines,
            bands: vec![Band { name: "drain".to_owned(), from: 9.0, to: 10.0, shaded: true }],
            hints: vec![Hint { from: 0.0, to: 1.0, text: "a & b".to_owned() }],
        }
    }

    fn line(name: &str, pieces: Vec<Vec<(f64, f64)>>) -> Line {
        Line { name: name.to_owned(), style: 1, pieces }
    }

    #[test]
    fn points_come_where_the_axes_say() {
        let svg = chart(vec![line("a", vec![vec![(0.0, 0.0), (10.0, 100.0)]])]).render();
        // Left and right ends of the plot; the floor is 200 - 42, the ceiling 22.
        assert!(svg.contains("d=\"M76.0 158.0L940.0 22.0\""), "{svg}");
        assert!(svg.contains("Rate &lt;of&gt; things") && svg.contains("a &amp; b"), "{svg}");
        assert!(!svg.contains("legend"), "one line needs none");
    }

    #[test]
    fn gaps_stay_gaps_and_a_single_point_is_a_dot() {
        let pieces = vec![vec![(0.0, 1.0), (1.0, 1.0)], vec![(5.0, 50.0)]];
        let svg = chart(vec![line("a", pieces), line("b", vec![])]).render();
        assert_eq!(svg.matches("<path class=\"line s1\" d=\"M76").count(), 1);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("<ul class=\"legend\">"));
    }
}
