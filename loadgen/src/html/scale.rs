//! Axes: from a value to a place between 0 and 1, and the values worth a mark.

use crate::units::{Unit, count, duration};

/// Marks that a linear axis aims at.
const TICK_COUNT: f64 = 5.0;
const LATENCY_TICKS_MIN: usize = 3;
const KIB: f64 = 1024.0;

/// A mark on an axis.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Scale {
    /// From the first to the second; a step apart, `divisor` units to one that is shown.
    Linear { from: f64, to: f64, step: f64, divisor: f64 },
    /// Nanoseconds by powers of ten; the bounds are exponents.
    Logarithmic { from: f64, to: f64 },
    /// Quantiles, by how many nines they have; the bound is that number.
    Nines { to: f64 },
}

impl Scale {
    /// Makes an axis from 0 to a round number that is not below `max`.
    pub(super) fn from_zero(max: f64, unit: Unit) -> Self {
        let divisor = if unit == Unit::Bytes { binary_unit(max).0 } else { 1.0 };
        let step = round_step(max / divisor) * divisor;
        let to = (max / step).ceil().max(1.0) * step;
        Self::Linear { from: 0.0, to, step, divisor }
    }

    /// Makes an axis of seconds that ends exactly with the run.
    pub(super) fn time(to: f64) -> Self {
        let (divisor, _) = time_unit(to);
        let step = round_step(to / divisor / 2.0) * divisor;
        Self::Linear { from: 0.0, to: to.max(1e-3), step, divisor }
    }

    /// Makes an axis of nanoseconds that holds everything from `min` to `max`.
    pub(super) fn latency(min: f64, max: f64) -> Self {
        let from = min.max(1.0).log10();
        let to = max.max(1.0).log10();
        // A half decade at least: noise must not look like drama.
        let spare = ((0.5 - (to - from)) / 2.0).max(0.05);
        Self::Logarithmic { from: (from - spare).max(0.0), to: to + spare }
    }

    /// Makes an axis of as many nines as `count` values can show.
    pub(super) fn nines(count: f64) -> Self {
        Self::Nines { to: count.max(10.0).log10() }
    }

    /// Maps a value to 0 at the beginning of the axis, 1 at the end.
    pub(super) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { from, to, .. } => (value - from) / (to - from),
            Self::Logarithmic { from, to } => (value.max(1.0).log10() - from) / (to - from),
            Self::Nines { to } => -(1.0 - value).max(1e-12).log10() / to,
        };
        place.clamp(0.0, 1.0)
    }

    pub(super) fn ticks(self) -> Vec<Tick> {
        match self {
            Self::Linear { from, to, step, divisor } => linear_ticks(from, to, step, divisor),
            Self::Logarithmic { from, to } => latency_ticks(from, to),
            Self::Nines { to } => nines_ticks(to),
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that some [`TICK_COUNT`] of them make `range`.
fn round_step(range: f64) -> f64 {
    if !(range > 0.0 && range.is_finite()) {
        return 1.0;
    }
    let raw = range / TICK_COUNT;
    let power = 10f64.powf(raw.log10().floor());
    let round = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * 0.999);
    round.unwrap_or(10.0) * power
}

fn linear_ticks(from: f64, to: f64, step: f64, divisor: f64) -> Vec<Tick> {
    let decimals = (-(step / divisor * 1.001).log10().floor()).clamp(0.0, 9.0) as usize;
    let last = ((to - from) / step + 1e-9).floor() as u32;
    let tick = |number| {
        let value = from + f64::from(number) * step;
        let shown = value / divisor;
        let label = if decimals == 0 { count(shown as u64) } else { format!("{shown:.decimals$}") };
        Tick { value, label }
    };
    (0..=last).map(tick).collect()
}

/// Where there are few powers of ten, what lies between them is marked, too.
fn latency_ticks(from: f64, to: f64) -> Vec<Tick> {
    let factors: [&'static [f64]; 3] =
        [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]];
    let values = |factors: &'static [f64]| -> Vec<f64> {
        let powers = from.floor() as i32..=to.ceil() as i32;
        let values = powers.flat_map(|power| factors.iter().map(move |it| it * 10f64.powi(power)));
        values.filter(|value| (from..=to).contains(&value.log10())).collect()
    };
    let choices = factors.map(values);
    let enough = choices.iter().find(|values| values.len() >= LATENCY_TICKS_MIN);
    let [.., finest] = &choices;
    let tick = |&value: &f64| Tick { value, label: round_duration(value) };
    enough.unwrap_or(finest).iter().map(tick).collect()
}

/// 2000000 -> "2 ms".
fn round_duration(ns: f64) -> String {
    let text = duration(ns.round() as u64);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    format!("{number} {unit}")
}

fn nines_ticks(to: f64) -> Vec<Tick> {
    let mut ticks = vec![
        Tick { value: 0.0, label: "0 %".to_owned() },
        Tick { value: 0.5, label: "50 %".to_owned() },
    ];
    for nines in 1..=to.floor() as i32 {
        let percent = 100.0 - 100.0 / 10f64.powi(nines);
        let decimals = (nines - 2).max(0) as usize;
        let value = 1.0 - 10f64.powi(-nines);
        ticks.push(Tick { value, label: format!("{percent:.decimals$} %") });
    }
    ticks
}

/// Seconds of one unit of the time axis, and its name.
pub(super) fn time_unit(max_s: f64) -> (f64, &'static str) {
    match max_s {
        7200.0.. => (3600.0, "hours"),
        300.0.. => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    }
}

/// Bytes of the unit that suits `max`, and its name.
pub(super) fn binary_unit(max: f64) -> (f64, &'static str) {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut divisor = 1.0;
    let mut place = 0;
    while max / divisor >= KIB && place + 1 < units.len() {
        divisor *= KIB;
        place += 1;
    }
    (divisor, units[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn linear_axes_begin_at_zero_and_have_round_marks() {
        let scale = Scale::from_zero(19_750.0, Unit::PerSecond);
        assert_eq!(labels(scale), ["0", "5,000", "10,000", "15,000", "20,000"]);
        assert_eq!(scale.place(20_000.0), 1.0);
        assert_eq!(scale.place(5_000.0), 0.25);
        let cores = labels(Scale::from_zero(0.93, Unit::Cores));
        assert_eq!(cores, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(Scale::from_zero(0.0, Unit::Count)), ["0", "1"], "nothing has an axis");
        let mib = 1024.0 * 1024.0;
        assert_eq!(
            labels(Scale::from_zero(9.0 * mib, Unit::Bytes)),
            ["0", "2", "4", "6", "8", "10"]
        );
    }

    #[test]
    fn time_ends_where_the_run_ends() {
        let scale = Scale::time(12.3);
        assert_eq!(scale.place(12.3), 1.0);
        assert_eq!(labels(scale)[..3], ["0", "2", "4"]);
        assert_eq!(labels(Scale::time(1200.0))[..3], ["0", "2", "4"], "minutes");
    }

    #[test]
    fn latencies_are_marked_in_their_units() {
        assert_eq!(labels(Scale::latency(1.5e6, 3e6)), ["1.5 ms", "2 ms", "3 ms"]);
        let wide = labels(Scale::latency(20e3, 900e6));
        assert_eq!(wide, ["100 us", "1 ms", "10 ms", "100 ms", "1 s"]);
        let scale = Scale::latency(1e6, 1e6);
        assert!((scale.place(1e6) - 0.5).abs() < 1e-9, "a single value lies in the middle");
    }

    #[test]
    fn every_nine_takes_the_same_room() {
        let scale = Scale::nines(100_000.0);
        assert_eq!(labels(scale), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
        let steps = [0.9, 0.99, 0.999, 0.9999].map(|quantile| scale.place(quantile));
        assert!(steps.windows(2).all(|pair| (pair[1] - pair[0] - 0.2).abs() < 1e-6), "{steps:?}");
        assert_eq!((scale.place(0.0), scale.place(1.0)), (0.0, 1.0));
    }
}
