//! Numbers as people read them: three digits, thousands apart, the unit that suits them.

/// What a figure is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Count,
    PerSecond,
    Seconds,
    Nanoseconds,
    Bytes,
    /// CPU seconds per second.
    Cores,
    /// From 0 to 1; shown as a percentage.
    Share,
}

impl Unit {
    /// Formats `value` with its unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Count => number(value),
            Self::PerSecond => format!("{} /s", number(value)),
            Self::Seconds => format!("{} s", digits(value)),
            Self::Nanoseconds => duration(value.max(0.0).round() as u64),
            Self::Bytes => bytes(value),
            Self::Cores => format!("{} cores", digits(value)),
            Self::Share => format!("{} %", digits(value * 100.0)),
        }
    }

    /// What the README calls it.
    #[cfg(test)]
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::PerSecond => "per second",
            Self::Seconds => "seconds",
            Self::Nanoseconds => "time",
            Self::Bytes => "bytes",
            Self::Cores => "cores",
            Self::Share => "%",
        }
    }

    /// The unit of the bare number in a JSON report.
    pub(crate) fn in_json(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::PerSecond => "1/s",
            Self::Seconds => "s",
            Self::Nanoseconds => "ns",
            Self::Bytes => "bytes",
            Self::Cores => "cores",
            Self::Share => "share",
        }
    }
}

/// 1234567 -> "1,234,567".
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds, with three digits and the unit that suits them.
pub(crate) fn duration(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Small numbers with their decimals, large ones with thousands apart.
pub(crate) fn number(value: f64) -> String {
    if value >= 1000.0 || value.fract() == 0.0 {
        return count(value.round() as u64);
    }
    format!("{value:.1}")
}

/// In binary units.
pub(crate) fn bytes(value: f64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value;
    let mut unit = 0;
    while scaled.abs() >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        return format!("{scaled:.0} bytes");
    }
    format!("{} {}", digits(scaled), units[unit])
}

/// Three digits, unless there are more before the point.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        0.0..0.001 => format!("{value:.1e}"),
        0.001..0.1 => format!("{value:.3}"),
        0.1..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{}{}", if value < 0.0 { "-" } else { "" }, count(value.abs().round() as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_234), "1.23 us");
        assert_eq!(duration(12_345_000), "12.3 ms");
        assert_eq!(duration(999_999), "1000 us");
        assert_eq!(duration(1_500_000_000), "1.50 s");
        assert_eq!(number(20.0), "20");
        assert_eq!(number(20.25), "20.2");
        assert_eq!(number(123_456.7), "123,457");
    }

    #[test]
    fn units_suit_the_number() {
        assert_eq!(bytes(0.0), "0 bytes");
        assert_eq!(bytes(1023.0), "1023 bytes");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(bytes(12.5 * 1024.0 * 1024.0), "12.5 MiB");
        assert_eq!(bytes(3.0 * (1u64 << 40) as f64), "3.00 TiB");
        assert_eq!(Unit::Share.show(0.001_25), "0.12 %");
        assert_eq!(Unit::Share.show(1.0), "100 %");
        assert_eq!(Unit::Cores.show(0.057), "0.057 cores");
        assert_eq!(Unit::Seconds.show(1234.4), "1,234 s");
        assert_eq!(Unit::PerSecond.show(19_999.6), "20,000 /s");
        assert_eq!(Unit::Nanoseconds.show(-1.0), "0 ns");
    }
}
