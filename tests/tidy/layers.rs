//! Tables of layers: which module may import which.

/// What each module may import besides itself; the lowest first.
pub(crate) type Layers<'a> = &'a [(&'a str, &'a [&'a str])];

/// Which rooms of the load generator each room may import besides itself.
pub(crate) const LOADGEN_LAYERS: Layers<'_> = &[
    ("units", &[]),
    ("sample", &[]),
    ("pace", &[]),
    ("plan", &["units"]),
    ("recording", &["plan", "pace"]),
    ("client", &["recording", "plan", "pace"]),
    ("executor", &["client", "recording", "plan", "pace", "sample"]),
    ("report", &["recording", "plan", "pace", "sample", "units"]),
    ("html", &["report", "units"]),
    ("output", &["html", "report", "recording", "pace", "sample", "units"]),
    ("run", &["output", "report", "executor", "recording", "plan", "pace", "sample", "units"]),
    ("scenario", &["output", "plan"]),
    ("cli", &["scenario", "output", "plan"]),
    ("main", &["cli", "run", "output", "report"]),
    (
        "golden",
        &["cli", "scenario", "output", "html", "report", "recording", "plan", "pace", "sample"],
    ),
];

/// Arrows of a table that lead to a row below the one that they start from.
pub(crate) fn arrows_that_point_up(table: Layers<'_>) -> Vec<String> {
    let place = |name: &str| table.iter().position(|(other, _)| *other == name);
    let up = |&(layer, target): &(&str, &str)| place(target) >= place(layer);
    let arrows = table
        .iter()
        .flat_map(|&(layer, allowed)| allowed.iter().map(move |&target| (layer, target)));
    let wrong = arrows.filter(|arrow| place(arrow.1).is_none() || up(arrow));
    wrong.map(|(layer, target)| format!("{layer} -> {target} does not point down")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_may_lead_to_rows_above_only() {
        let up = arrows_that_point_up(&[("a", &[]), ("b", &["a", "c", "d"]), ("c", &["b"])]);
        assert_eq!(up, ["b -> c does not point down", "b -> d does not point down"]);
        assert_eq!(arrows_that_point_up(&[("a", &["a"])]).len(), 1);
    }
}
