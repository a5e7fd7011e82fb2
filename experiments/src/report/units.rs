//! Numbers as people read them.

#![forbid(unsafe_code)]

use crate::gates::sheet::Outcome;
use crate::gates::table::Entry;
use crate::harness::stats::Direction;

/// Formats a value in a unit of the checklist: `1.23 us`, `2.10 M/s`, `1.85x`.
#[must_use]
pub fn value(value: f64, unit: &str) -> String {
    match unit {
        "ns" if value >= 1e6 => format!("{} ms", digits(value / 1e6)),
        "ns" if value >= 1e3 => format!("{} us", digits(value / 1e3)),
        "ns" => format!("{} ns", digits(value)),
        "ops/s" if value >= 1e6 => format!("{} M/s", digits(value / 1e6)),
        "ops/s" if value >= 1e3 => format!("{} k/s", digits(value / 1e3)),
        "ops/s" => format!("{} /s", digits(value)),
        "ratio" => format!("{}x", digits(value)),
        "bytes" => format!("{} B", digits(value)),
        "allocations/op" if value == 0.0 => "0 /op".to_owned(),
        "allocations/op" => format!("{value:.4} /op"),
        "share" => format!("{:.1} %", value * 100.0),
        "versions/key" => format!("{} /key", digits(value)),
        _ if value == 1.0 => "yes".to_owned(),
        _ if value == 0.0 => "no".to_owned(),
        _ => digits(value),
    }
}

/// Three significant digits, without an exponent.
#[must_use]
pub fn digits(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Formats a count of keys: `1 k`, `100 k`, `1 M`.
#[must_use]
pub fn keys(keys: u64) -> String {
    match keys {
        millions if millions.is_multiple_of(1_000_000) => format!("{} M", millions / 1_000_000),
        thousands if thousands.is_multiple_of(1_000) => format!("{} k", thousands / 1_000),
        other => other.to_string(),
    }
}

/// Formats the threshold of a line: `<= 3.00 us`, `>= 1.80x`, `holds`, `none`.
#[must_use]
pub fn threshold(entry: &Entry) -> String {
    match (entry.direction, entry.threshold) {
        (Direction::AtLeast, Some(bound)) => format!(">= {}", value(bound, entry.unit)),
        (Direction::AtMost, Some(bound)) => format!("<= {}", value(bound, entry.unit)),
        (Direction::Shown, _) => "none".to_owned(),
        _ => "holds".to_owned(),
    }
}

/// Formats what was measured with its interval: `412 ns [405, 431]`.
#[must_use]
pub fn measured(outcome: &Outcome) -> String {
    let unit = outcome.entry.unit;
    match (outcome.measured, outcome.ci95) {
        (Some(median), Some([low, high])) if low < high => {
            format!("{} [{}, {}]", value(median, unit), value(low, unit), value(high, unit))
        }
        (Some(median), _) => value(median, unit),
        _ => "-".to_owned(),
    }
}

/// Formats the same measure of the other engines, one `name value` each.
#[must_use]
pub fn beside(outcome: &Outcome) -> Vec<String> {
    let unit = outcome.entry.unit;
    outcome
        .engines
        .iter()
        .map(|(name, figure)| format!("{name} {}", value(*figure, unit)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_carry_the_unit_that_fits() {
        assert_eq!(value(412.4, "ns"), "412 ns");
        assert_eq!(value(3_000.0, "ns"), "3.00 us");
        assert_eq!(value(2_500_000.0, "ns"), "2.50 ms");
        assert_eq!(value(3.25e6, "ops/s"), "3.25 M/s");
        assert_eq!(value(250_000.0, "ops/s"), "250 k/s");
        assert_eq!(value(1.8, "ratio"), "1.80x");
        assert_eq!(value(96.25, "bytes"), "96.2 B");
        assert_eq!(value(1.0, "bytes"), "1.00 B");
        assert_eq!(value(0.0, "allocations/op"), "0 /op");
        assert_eq!(value(1.0001, "allocations/op"), "1.0001 /op");
        assert_eq!(value(1.0, "versions/key"), "1.00 /key");
        assert_eq!(value(0.125, "share"), "12.5 %");
        assert_eq!(value(1.0, ""), "yes");
        assert_eq!(keys(100_000), "100 k");
        assert_eq!(keys(1_000_000), "1 M");
        assert_eq!(keys(12), "12");
    }
}
