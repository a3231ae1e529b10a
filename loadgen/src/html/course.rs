//! The charts of a run: latencies by percentile, and everything over time.

use serde_json::Value;

use super::chart::{Band, Chart, Hint, Line};
use super::scale::{Scale, binary_unit, time_unit};
use crate::report::document::Document;
use crate::report::figure::Latency;
use crate::report::figures;
use crate::units::Unit;

/// More intervals than this are drawn together.
const POINT_COUNT_MAX: usize = 400;

/// Ways to draw a line that the style sheet has.
const STYLE_COUNT: usize = 4;

/// A chart over time: what it shows of each interval.
struct Panel {
    title: &'static str,
    unit: Unit,
    height: f64,
    /// Means over the interval are drawn as steps.
    steps: bool,
    lines: &'static [Track],
}

/// A line of a panel.
struct Track {
    /// Where the value stands in the JSON of an interval.
    at: &'static str,
    name: &'static str,
    style: u8,
}

const fn track(at: &'static str, name: &'static str, style: u8) -> Track {
    Track { at, name, style }
}

/// Every chart over time, in the order in which they are shown.
const PANELS: &[Panel] = &[
    Panel {
        title: "Deliveries",
        unit: Unit::PerSecond,
        height: 210.0,
        steps: true,
        lines: &[track("/delivered_per_s", "delivered", 1)],
    },
    Panel {
        title: "Publishes",
        unit: Unit::PerSecond,
        height: 160.0,
        steps: true,
        lines: &[track("/published_per_s", "published", 1)],
    },
    Panel {
        title: "Latency from the intended send time",
        unit: Unit::Nanoseconds,
        height: 240.0,
        steps: false,
        lines: &[
            track("/latency_ns/max", "maximum", 3),
            track("/latency_ns/p99", "p99", 2),
            track("/latency_ns/p50", "p50", 1),
            track("/raw_latency_ns/p99", "p99 from the actual send time", 4),
        ],
    },
    Panel {
        title: "CPU",
        unit: Unit::Cores,
        height: 180.0,
        steps: true,
        lines: &[track("/broker/cores", "broker", 1), track("/generator_cores", "generator", 2)],
    },
    Panel {
        title: "Memory of the broker",
        unit: Unit::Bytes,
        height: 180.0,
        steps: false,
        lines: &[
            track("/broker/rss_bytes", "resident (RSS)", 1),
            track("/broker/pss_bytes", "proportional (PSS)", 2),
        ],
    },
    Panel {
        title: "Descriptors of the broker",
        unit: Unit::Count,
        height: 150.0,
        steps: false,
        lines: &[track("/broker/descriptors", "open descriptors", 1)],
    },
    Panel {
        title: "Deliveries missing so far",
        unit: Unit::Count,
        height: 150.0,
        steps: false,
        lines: &[track("/missing", "missing", 2)],
    },
];

/// Latencies of all runs by percentile, in charts of what belongs together; empty if there are
/// none.
pub(super) fn percentile_charts(document: &Document) -> String {
    let several = document.runs().len() > 1;
    let mut latencies = figures::latencies(document.first());
    // A line for each run: with more than these there would be too many.
    latencies.retain(|latency| !several || !latency.is_supplement());
    let (operations, rest): (Vec<_>, Vec<_>) =
        latencies.into_iter().partition(|latency| latency.at.starts_with("/steps/"));
    let (incident, messages): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|latency| latency.at.starts_with("/impact/"));
    let mut charts = percentile_chart(document, "Messages", &messages);
    charts.push_str(&percentile_chart(document, "Messages around the incident", &incident));
    for chunk in operations.chunks(STYLE_COUNT) {
        charts.push_str(&percentile_chart(document, "Operations", chunk));
    }
    charts
}

fn percentile_chart(document: &Document, what: &str, latencies: &[Latency]) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for latency in latencies {
        let curves = document.runs().iter().map(|run| curve(run, &latency.at));
        let pieces: Vec<_> = curves.filter(|points| points.len() > 1).collect();
        if !pieces.is_empty() {
            let style = (lines.len() % STYLE_COUNT) as u8 + 1;
            lines.push(Line { name: latency.span.clone().into_owned(), style, pieces });
        }
    }
    let Some((min, max)) = bounds(&lines) else {
        return String::new();
    };
    let counts = latencies.iter().filter_map(|it| document.figure(&format!("{}/count", it.at)));
    let count = counts.map(|count| count.max).fold(0.0, f64::max);
    let runs = if document.runs().len() > 1 { ", a line for each run" } else { "" };
    let chart = Chart {
        title: format!("{what} by percentile{runs}"),
        y_name: "latency".to_owned(),
        x_name: "share that was at least as fast".to_owned(),
        x: Scale::nines(count),
        y: Scale::latency(min, max),
        height: 330.0,
        lines,
        bands: Vec::new(),
        hints: Vec::new(),
    };
    chart.render()
}

fn curve(run: &Value, at: &str) -> Vec<(f64, f64)> {
    let points = run.pointer(&format!("{at}/curve")).and_then(Value::as_array);
    let pair = |point: &Value| Some((point[0].as_f64()?, point[1].as_f64()?));
    points.into_iter().flatten().filter_map(pair).collect()
}

/// Returns the smallest and the largest value of all lines.
fn bounds(lines: &[Line]) -> Option<(f64, f64)> {
    let points = lines.iter().flat_map(|line| line.pieces.iter().flatten());
    let values = points.map(|&(_, value)| value);
    values.fold(None, |bounds, value| {
        let (min, max) = bounds.unwrap_or((value, value));
        Some((min.min(value), max.max(value)))
    })
}

/// Draws every chart over time of one run.
pub(super) fn time_charts(run: &Value) -> String {
    let intervals = run["intervals"].as_array().map(Vec::as_slice).unwrap_or_default();
    let groups: Vec<&[Value]> =
        intervals.chunks(intervals.len().div_ceil(POINT_COUNT_MAX).max(1)).collect();
    PANELS.iter().filter_map(|panel| panel.chart(run, &groups)).map(|it| it.render()).collect()
}

impl Panel {
    /// Returns `None` if there is nothing to show.
    fn chart(&self, run: &Value, groups: &[&[Value]]) -> Option<Chart> {
        let lines: Vec<Line> = self.lines.iter().filter_map(|it| self.line(it, groups)).collect();
        let (min, max) = bounds(&lines).filter(|&(_, max)| max > 0.0)?;
        let end_s = span(groups.last()?)?.1;
        let y = match self.unit {
            Unit::Nanoseconds => Scale::latency(min, max),
            unit => Scale::from_zero(max, unit),
        };
        Some(Chart {
            title: self.title.to_owned(),
            y_name: self.y_name(max).to_owned(),
            x_name: time_unit(end_s).1.to_owned(),
            x: Scale::time(end_s),
            y,
            height: self.height,
            lines,
            bands: bands(run, end_s),
            hints: groups.iter().filter_map(|group| self.hint(group)).collect(),
        })
    }

    fn y_name(&self, max: f64) -> &'static str {
        match self.unit {
            Unit::PerSecond => "per second",
            Unit::Cores => "cores",
            Unit::Bytes => binary_unit(max).1,
            Unit::Nanoseconds => "latency",
            Unit::Count | Unit::Seconds | Unit::Share => "",
        }
    }

    /// Returns `None` if it has no values at all.
    fn line(&self, track: &Track, groups: &[&[Value]]) -> Option<Line> {
        let mut pieces: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        for group in groups {
            let (from, to) = span(group)?;
            let piece = pieces.last_mut().expect("there is always one");
            match self.value(track, group) {
                // Memory that was not looked at was there all the same.
                None if self.unit == Unit::Bytes => (),
                None => pieces.push(Vec::new()),
                Some(value) if self.steps => piece.extend([(from, value), (to, value)]),
                Some(value) => piece.push((from.midpoint(to), value)),
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        let name = track.name.to_owned();
        (!pieces.is_empty()).then_some(Line { name, style: track.style, pieces })
    }

    /// Of intervals that are drawn together the mean of what is a mean, and the worst otherwise.
    fn value(&self, track: &Track, group: &[Value]) -> Option<f64> {
        let values: Vec<f64> =
            group.iter().filter_map(|interval| interval.pointer(track.at)?.as_f64()).collect();
        if values.is_empty() {
            return None;
        }
        if self.steps {
            return Some(values.iter().sum::<f64>() / values.len() as f64);
        }
        values.into_iter().reduce(f64::max)
    }

    fn hint(&self, group: &[Value]) -> Option<Hint> {
        let (from, to) = span(group)?;
        let values = self.lines.iter().filter_map(|track| {
            let value = self.value(track, group)?;
            Some(format!("{} {}", track.name, self.unit.show(value)))
        });
        let values: Vec<String> = values.collect();
        Some(Hint { from, to, text: format!("{from:.1} to {to:.1} s: {}", values.join(", ")) })
    }
}

/// Seconds at which a group of intervals begins and ends.
fn span(group: &[Value]) -> Option<(f64, f64)> {
    Some((group.first()?["from_s"].as_f64()?, group.last()?["to_s"].as_f64()?))
}

/// The steps of the run; what comes before and after the measured part of a flow is shaded.
fn bands(run: &Value, end_s: f64) -> Vec<Band> {
    let steps = run["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut bands = Vec::new();
    for step in steps {
        let name = step["name"].as_str().unwrap_or_default();
        let from = step["from_s"].as_f64().unwrap_or_default();
        let to = from + step["seconds"].as_f64().unwrap_or_default();
        match name {
            "flow" => bands.extend(flow_bands(run, from, to.min(end_s))),
            _ => bands.push(band(name, from, to, name == "assemble")),
        }
    }
    bands
}

fn flow_bands(run: &Value, begin_s: f64, end_s: f64) -> Vec<Band> {
    let moment = |key: &str| run["moments"][key].as_f64();
    let (Some(start), Some(steady), Some(end)) =
        (moment("start_s"), moment("steady_s"), moment("end_s"))
    else {
        return Vec::new();
    };
    vec![
        // Until all executors know that it goes on.
        band("", begin_s, start, true),
        band("warm-up", start, steady, true),
        band("steady", steady, end, false),
        band("drain", end, end_s.max(end), true),
    ]
}

fn band(name: &str, from: f64, to: f64, shaded: bool) -> Band {
    Band { name: name.to_owned(), from, to, shaded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn interval(from: u32, delivered_per_s: f64, p99: Option<u64>) -> Value {
        let latency = p99.map(|p99| json!({"p50": 1000, "p99": p99, "max": p99}));
        json!({"from_s": from, "to_s": from + 1, "delivered_per_s": delivered_per_s,
            "published_per_s": 0.0, "missing": 0, "generator_cores": 0.5, "broker": null,
            "latency_ns": latency, "raw_latency_ns": latency})
    }

    fn panel(title: &str) -> &'static Panel {
        PANELS.iter().find(|panel| panel.title == title).expect("it is in the table")
    }

    #[test]
    fn rates_are_steps_and_latencies_have_gaps() {
        let intervals =
            [interval(0, 10.0, Some(5)), interval(1, 0.0, None), interval(2, 5.0, Some(7))];
        let groups: Vec<&[Value]> = intervals.chunks(1).collect();
        let rate = panel("Deliveries").line(&PANELS[0].lines[0], &groups).expect("values");
        let steps = [(0.0, 10.0), (1.0, 10.0), (1.0, 0.0), (2.0, 0.0), (2.0, 5.0), (3.0, 5.0)];
        assert_eq!(rate.pieces, [steps]);
        let latency = panel("Latency from the intended send time");
        let p99 = latency.line(&latency.lines[1], &groups).expect("values");
        assert_eq!(p99.pieces, [[(0.5, 5.0)], [(2.5, 7.0)]]);
    }

    #[test]
    fn bands_follow_the_steps_without_a_gap() {
        let run = json!({
            "steps": [{"name": "assemble", "from_s": 0.0, "seconds": 1.0},
                {"name": "flow", "from_s": 1.0, "seconds": 6.0},
                {"name": "resume", "from_s": 7.0, "seconds": 2.0}],
            "moments": {"start_s": 1.5, "steady_s": 2.0, "end_s": 6.0},
        });
        let bands = bands(&run, 9.0);
        assert!(bands.is_sorted_by(|a, b| a.to == b.from));
        let measured: Vec<&str> =
            bands.iter().filter(|band| !band.shaded).map(|band| band.name.as_str()).collect();
        assert_eq!(measured, ["steady", "resume"]);
    }

    #[test]
    fn what_was_not_measured_has_no_chart() {
        let run = json!({"intervals": [interval(0, 10.0, Some(5))], "moments": {}});
        let charts = time_charts(&run);
        assert!(charts.contains("<h3>Deliveries</h3>") && charts.contains("<h3>CPU</h3>"));
        for absent in ["Publishes", "Memory", "Descriptors", "missing so far"] {
            assert!(!charts.contains(absent), "{absent}");
        }
        assert_eq!(time_charts(&json!({"intervals": []})), "");
    }

    #[test]
    fn long_runs_are_drawn_with_fewer_points_that_keep_the_worst() {
        let intervals: Vec<Value> =
            (0..1000).map(|from| interval(from, f64::from(from), Some(from.into()))).collect();
        let groups: Vec<&[Value]> = intervals.chunks(3).collect();
        let latency = panel("Latency from the intended send time");
        assert_eq!(latency.value(&latency.lines[1], groups[0]), Some(2.0), "the worst");
        assert_eq!(
            panel("Deliveries").value(&PANELS[0].lines[0], groups[0]),
            Some(1.0),
            "the mean"
        );
        let charts = time_charts(&json!({"intervals": intervals, "moments": {}}));
        assert!(charts.matches("<title>").count() <= 4 * POINT_COUNT_MAX);
    }
}
