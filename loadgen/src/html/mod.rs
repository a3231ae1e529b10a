//! The report as one HTML file: nothing in it is loaded from anywhere, so it can be mailed, kept
//! and opened in ten years. Everything comes from the JSON document; the figures from their table.

mod chart;
mod course;
mod escape;
mod scale;

use std::fmt::Write as _;

use serde_json::Value;

use self::escape::escape;
use crate::report::document::{Document, Outcome, Spread};
use crate::report::figure::{Figure, Group, Latency, QUANTILES};
use crate::report::figures;
use crate::units::{Unit, count};

const STYLE: &str = include_str!("style.css");

/// Renders the whole page.
pub(crate) fn page(document: &Document) -> String {
    let title = escape(&document.title());
    let body = [
        heading(document),
        verdict(document),
        headline(document),
        latency(document),
        course(document),
        all_figures(document),
        facts(document),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} - \
         {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        document.verdict_word()
    )
}

impl Document {
    fn verdict_word(&self) -> &'static str {
        match self.outcome() {
            Outcome::Ok => "ok",
            Outcome::Violated => "violated",
            Outcome::Failed => "failed",
        }
    }
}

fn heading(document: &Document) -> String {
    let parts = document.load().into_iter().map(|part| escape(&part.replace("->", "→")));
    let load = parts.collect::<Vec<_>>().join(" · ");
    let started = document.first()["started_unix_s"].as_u64().unwrap_or_default();
    format!(
        "<header>\n<h1>{}</h1>\n<p>{load}</p>\n<p class=\"muted\">{} · ringmq-loadgen {}</p>\n\
         </header>\n",
        escape(&document.title()),
        date(started),
        escape(document.first()["generator"]["version"].as_str().unwrap_or_default()),
    )
}

/// Formats a time as "2026-11-23 06:13 UTC".
fn date(unix_s: u64) -> String {
    let (mut days, second) = (unix_s / 86_400, unix_s % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (day, hour, minute) = (days + 1, second / 3600, second / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

fn verdict(document: &Document) -> String {
    let (class, sign, word) = match document.outcome() {
        Outcome::Ok => ("ok", "✓", "OK"),
        Outcome::Violated => ("bad", "✕", "Violated"),
        Outcome::Failed => ("bad", "✕", "Failed"),
    };
    let complaints = document.complaints();
    let details = match document.outcome() {
        Outcome::Ok => vec!["The broker kept every promise that its QoS makes.".to_owned()],
        _ => complaints,
    };
    let mut html = banner(class, &format!("{sign} {word}"), &details);
    let reasons = document.reasons();
    if !reasons.is_empty() {
        let mut details = vec![
            "These figures say what the generator can do, not what the broker can do.".to_owned(),
        ];
        details.extend(reasons);
        html.push_str(&banner("warn", "! Generator-bound", &details));
    }
    if document.first()["generator"]["build"] == "debug" {
        let details = ["Measure with a release build.".to_owned()];
        html.push_str(&banner("warn", "! Debug build", &details));
    }
    html
}

fn banner(class: &str, title: &str, details: &[String]) -> String {
    let details: String = details.iter().map(|line| format!("<p>{}</p>", escape(line))).collect();
    format!("<section class=\"verdict {class}\"><strong>{title}</strong>{details}</section>\n")
}

fn headline(document: &Document) -> String {
    let tile = |figure: Figure| {
        let spread = document.shown(&figure)?;
        let range = range(&figure, &spread).map(|range| format!("<small>{range}</small>"));
        Some(format!(
            "<div><dt>{}</dt><dd>{}{}</dd></div>\n",
            escape(&figure.name),
            escape(&figure.unit.show(spread.median)),
            range.unwrap_or_default()
        ))
    };
    let figures = figures::headline(document.first()).into_iter();
    let tiles: String = figures.filter_map(tile).collect();
    format!("<dl class=\"headline\">\n{tiles}</dl>\n")
}

/// Formats the range of several runs, from the lowest to the highest.
fn range(figure: &Figure, spread: &Spread) -> Option<String> {
    let (min, max) = (figure.unit.show(spread.min), figure.unit.show(spread.max));
    (spread.count > 1).then(|| escape(&format!("{min} to {max}")))
}

fn latency(document: &Document) -> String {
    let charts = course::percentile_charts(document);
    if charts.is_empty() {
        return charts;
    }
    let heads: String =
        QUANTILES.iter().map(|(_, name, _)| format!("<th class=\"value\">{name}</th>")).collect();
    let latencies = figures::latencies(document.first());
    let rows: String = latencies.iter().map(|latency| latency_rows(document, latency)).collect();
    format!(
        "<h2>Latency</h2>\n{charts}<div class=\"scroll\"><table>\n<thead><tr><th></th>{heads}</tr>\
         </thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn latency_rows(document: &Document, latency: &Latency) -> String {
    let samples = document.figure(&format!("{}/count", latency.at));
    let Some(samples) = samples.filter(|samples| samples.max > 0.0) else {
        return String::new();
    };
    let spreads: Vec<Spread> =
        latency.figures().filter_map(|figure| document.figure(&figure.at)).collect();
    let row = |class: &str, name: &str, value: fn(&Spread) -> f64| {
        let cell =
            |spread| format!("<td class=\"value\">{}</td>", Unit::Nanoseconds.show(value(spread)));
        let cells: String = spreads.iter().map(cell).collect();
        let meaning = escape(latency.meaning);
        format!("<tr class=\"{class}\" title=\"{meaning}\"><th>{name}</th>{cells}</tr>\n")
    };
    let mut rows = row("", &latency.span, |spread| spread.median);
    if samples.count > 1 {
        rows.push_str(&row("range", "lowest run", |spread| spread.min));
        rows.push_str(&row("range", "highest run", |spread| spread.max));
    }
    rows
}

/// Draws the charts over time; of several runs the first is open.
fn course(document: &Document) -> String {
    let mut html = "<h2>Over time</h2>\n<p class=\"muted\">Time counts from the first connection \
                    attempt; what lies on grey is not measured. Rest the pointer on a chart for \
                    its values.</p>\n"
        .to_owned();
    if let [run] = document.runs() {
        html.push_str(&course::time_charts(run));
        return html;
    }
    for (number, run) in document.runs().iter().enumerate() {
        let open = if number == 0 { " open" } else { "" };
        let _ = writeln!(
            html,
            "<details{open}><summary>Run {} of {}</summary>\n{}</details>",
            number + 1,
            document.runs().len(),
            course::time_charts(run)
        );
    }
    html
}

fn all_figures(document: &Document) -> String {
    let several = document.runs().len() > 1;
    let values: &[&str] = if several { &["median", "lowest to highest"] } else { &[""] };
    let heads: String =
        values.iter().map(|name| format!("<th class=\"value\">{name}</th>")).collect();
    let heads = format!("<th></th>{heads}<th></th>");
    let groups = figures::groups(document.first());
    let groups: String = groups.iter().map(|group| group_rows(document, group, several)).collect();
    format!(
        "<h2>All figures</h2>\n<div class=\"scroll\"><table>\n<thead><tr>{heads}</tr></thead>\n\
         {groups}</table></div>\n"
    )
}

fn group_rows(document: &Document, group: &Group, several: bool) -> String {
    let row = |figure: &Figure| {
        let spread = document.shown(figure)?;
        let range = several.then(|| range(figure, &spread).unwrap_or_default());
        let range = range.map_or_else(String::new, |it| format!("<td class=\"value\">{it}</td>"));
        Some(format!(
            "<tr><th>{}</th><td class=\"value\">{}</td>{range}<td class=\"meaning\">{}</td></tr>\n",
            escape(&figure.name),
            escape(&figure.unit.show(spread.median)),
            escape(figure.meaning)
        ))
    };
    let rows: String = group.figures.iter().filter_map(row).collect();
    if rows.is_empty() { rows } else { format!("<tbody>\n{rows}</tbody>\n") }
}

fn facts(document: &Document) -> String {
    let run = document.first();
    let settings = rows(&run["settings"]);
    let machine = rows(&run["machine"]);
    let names: Vec<String> = figures::latencies(run)
        .iter()
        .filter(|it| document.figure(&format!("{}/count", it.at)).is_some_and(|it| it.max > 0.0))
        .map(|latency| {
            format!(
                "<tr><th>{}</th><td>{}</td></tr>\n",
                escape(&latency.span),
                escape(latency.meaning)
            )
        })
        .collect();
    format!(
        "<h2>What the latencies mean</h2>\n<table class=\"facts\"><tbody>\n{}</tbody></table>\n\
         <h2>Settings</h2>\n<table class=\"facts\"><tbody>\n{settings}</tbody></table>\n\
         <h2>Machine</h2>\n<table class=\"facts\"><tbody>\n{machine}</tbody></table>\n\
         <footer>Percentiles are of histograms with three significant digits. All times are in \
         the JSON report as nanoseconds.</footer>\n",
        names.concat()
    )
}

/// Renders a line for each key of an object that has a value.
fn rows(object: &Value) -> String {
    let entries = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let row = |(key, value): (&String, &Value)| {
        let name = key.replace('_', " ");
        let value = match value {
            Value::String(text) => escape(text),
            Value::Number(number) => plain(key, number.as_f64().unwrap_or_default()),
            other => escape(&other.to_string()),
        };
        format!("<tr><th>{}</th><td>{value}</td></tr>\n", escape(&name))
    };
    entries.map(row).collect()
}

fn plain(key: &str, value: f64) -> String {
    if key.ends_with("_bytes") {
        return Unit::Bytes.show(value);
    }
    if value.fract() == 0.0 && value >= 0.0 { count(value as u64) } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::tests::document;

    #[test]
    fn the_page_needs_nothing_but_itself() {
        let html = page(&document(&[(5, 0)]));
        for outside in ["src=", "href=", "url(", "@import", "<script", "http:", "https:"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
        assert!(html.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn every_element_is_closed() {
        let html = page(&document(&[(5, 3), (7, 0)]));
        for element in [
            "section", "table", "tbody", "tr", "td", "th", "svg", "figure", "details", "div", "dl",
            "ul", "li", "h2", "text", "title", "p",
        ] {
            let opened = html.matches(&format!("<{element}>")).count()
                + html.matches(&format!("<{element} ")).count();
            let closed = html.matches(&format!("</{element}>")).count();
            assert_eq!(opened, closed, "{element}");
        }
    }

    #[test]
    fn the_verdict_comes_first_and_says_what_is_wrong() {
        let good = page(&document(&[(5, 0)]));
        assert!(good.contains("✓ OK") && !good.contains("Generator-bound"));
        let bad = page(&document(&[(5, 0), (5, 7)]));
        let verdict = bad.find("✕ Violated").expect("it is there");
        assert!(bad[verdict..].contains("<p>run 2: 7 lost</p>"));
        assert!(verdict < bad.find("<h2>").expect("there are sections"));
    }

    #[test]
    fn several_runs_have_ranges_and_a_course_each() {
        let html = page(&document(&[(5, 0), (30, 0), (7, 0)]));
        assert!(html.contains("<small>5.00 ms to 30.0 ms</small>"), "the headline");
        assert_eq!(html.matches("<details").count(), 3);
        assert!(html.contains("Run 3 of 3") && html.contains("highest run"));
    }

    #[test]
    fn what_others_have_named_cannot_break_out() {
        let mut document = document(&[(5, 0)]);
        document.first_mut()["settings"] = serde_json::json!({"broker": "<script>&\"x"});
        let html = page(&document);
        assert!(!html.contains("<script>"));
        assert!(html.contains("test on &lt;script&gt;&amp;&quot;x"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_826_530), "2000-02-29 12:15 UTC");
        assert_eq!(date(1_795_414_380), "2026-11-23 06:13 UTC");
        assert_eq!(date(1_798_761_599), "2026-12-31 23:59 UTC");
    }
}
