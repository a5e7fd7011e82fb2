//! The filled checklist as a table on the terminal, grouped by gate.

#![forbid(unsafe_code)]

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};

use crate::gates::sheet::Outcome;
use crate::gates::table::{GATES, Kind, TITLES};
use crate::harness::stats::Verdict;
use crate::report::markdown::Section;
use crate::report::units;

/// Returns the whole checklist; `width` is the terminal's, or `None` for lines of any length.
#[must_use]
pub fn render(outcomes: &[Outcome], width: Option<u16>) -> String {
    let mut text = String::new();
    for (gate, title) in GATES.iter().zip(TITLES) {
        let lines: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.entry.gate == *gate).collect();
        if !lines.is_empty() {
            text.push_str(&format!("\nGate {gate}: {title}\n{}\n", group(&lines, width)));
        }
    }
    text.push_str(&summary(outcomes));
    text
}

/// Returns a further table of the report.
#[must_use]
pub fn section(section: &Section, width: Option<u16>) -> String {
    let mut text = format!("\n{}\n", section.title);
    if !section.rows.is_empty() {
        let mut table = empty_table(width);
        table.set_header(&section.header);
        section.rows.iter().for_each(|row| {
            table.add_row(row);
        });
        text.push_str(&format!("{table}\n"));
    }
    text
}

fn empty_table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    match width {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table
}

fn group(lines: &[&Outcome], width: Option<u16>) -> Table {
    let mut table = empty_table(width);
    table.set_header([
        "",
        "measure",
        "keys",
        "threshold",
        "measured [95 %]",
        "verdict",
        "beside it, in the same run",
    ]);
    for line in lines {
        let keys = line.entry.keys.map_or_else(String::new, units::keys);
        let mut remarks = units::beside(line);
        if !line.reason.is_empty() {
            remarks.push(line.reason.clone());
        }
        if let Some(prediction) = line.prediction {
            remarks.push(format!(
                "predicted (not measured): {}",
                units::value(prediction, line.entry.unit)
            ));
        }
        table.add_row([
            Cell::new(mark(line.entry.kind)),
            Cell::new(line.entry.name),
            Cell::new(keys),
            Cell::new(units::threshold(line.entry)),
            Cell::new(units::measured(line)),
            verdict_cell(line),
            Cell::new(remarks.join("; ")),
        ]);
    }
    table
}

/// The word for a line's verdict; a red flag is up or down, an aim is met or missed.
#[must_use]
pub fn verdict_word(outcome: &Outcome) -> &'static str {
    match (outcome.entry.kind, outcome.verdict) {
        (Kind::RedFlag, Verdict::Pass) => "flag down",
        (Kind::RedFlag, Verdict::Fail) => "RED FLAG",
        (Kind::Aim, Verdict::Pass) => "met",
        (Kind::Aim, Verdict::Fail) => "missed",
        (_, verdict) => verdict.label(),
    }
}

fn verdict_cell(outcome: &Outcome) -> Cell {
    let cell = Cell::new(verdict_word(outcome));
    match (outcome.entry.kind, outcome.verdict) {
        (_, Verdict::Pass) => cell.fg(Color::Green),
        (Kind::Aim, Verdict::Fail) => cell.fg(Color::Yellow),
        (_, Verdict::Fail | Verdict::Invalid) => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        (_, Verdict::Inconclusive) => cell.fg(Color::Yellow),
        (_, Verdict::NotBuilt | Verdict::NotMeasurable) => cell.fg(Color::DarkGrey),
        (_, Verdict::Shown) => cell,
    }
}

/// One word for the kind of a line.
#[must_use]
pub fn mark(kind: Kind) -> &'static str {
    match kind {
        Kind::Gate => "gate",
        Kind::RedFlag => "flag",
        Kind::Aim => "aim",
    }
}

/// Returns the counts of all verdicts, kind by kind, and the names of what decides the exit status.
#[must_use]
pub fn summary(outcomes: &[Outcome]) -> String {
    let mut text = String::from("\n");
    for (kind, name) in [(Kind::Gate, "gates"), (Kind::RedFlag, "red flags"), (Kind::Aim, "aims")] {
        let counts: Vec<String> = [
            Verdict::Pass,
            Verdict::Fail,
            Verdict::Inconclusive,
            Verdict::Invalid,
            Verdict::NotMeasurable,
            Verdict::NotBuilt,
            Verdict::Shown,
        ]
        .iter()
        .filter_map(|verdict| {
            let count = outcomes
                .iter()
                .filter(|line| line.entry.kind == kind && line.verdict == *verdict)
                .count();
            (count > 0).then(|| format!("{count} {}", verdict.as_str().replace('_', " ")))
        })
        .collect();
        if !counts.is_empty() {
            text.push_str(&format!("{name}: {}\n", counts.join(", ")));
        }
    }
    let names = |verdicts: &[Verdict]| -> Vec<&str> {
        outcomes
            .iter()
            .filter(|line| line.entry.kind != Kind::Aim && verdicts.contains(&line.verdict))
            .map(|line| line.entry.id)
            .collect()
    };
    for (title, verdicts) in [
        ("failed", &[Verdict::Fail][..]),
        ("undecided", &[Verdict::Inconclusive, Verdict::Invalid][..]),
    ] {
        let names = names(verdicts);
        if !names.is_empty() {
            text.push_str(&format!("{title}: {}\n", names.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::sheet::{Figure, Selection, Sheet};
    use crate::harness::stats::Estimate;

    fn filled() -> Vec<Outcome> {
        let mut sheet = Sheet::new(Selection {
            gates: vec!["4".to_owned()],
            red_flags_only: false,
        });
        let estimate = Estimate {
            median: 25.0,
            low: 24.0,
            high: 26.0,
            rounds: 7,
            exact: false,
        };
        sheet.record(
            "a1_a0_100k",
            Figure::measured(estimate).beside("sharded-txn", Some(Estimate::exact(900.0, 7))),
        );
        sheet.outcomes()
    }

    #[test]
    fn table_shows_threshold_figure_verdict_and_neighbours() {
        let text = render(&filled(), None);
        for part in [
            "Gate 4: facade tax",
            "<= 10.0x",
            "25.0x [24.0x, 26.0x]",
            "FAIL",
            "RED FLAG",
            "missed",
            "sharded-txn 900x",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("Gate 1"));
    }

    #[test]
    fn summary_names_what_decides_the_exit_status() {
        let text = summary(&filled());
        assert!(text.contains("failed: a1_a0_100k, a1_a0_100k_red_flag\n"), "{text}");
        assert!(text.contains("gates: 1 fail, 2 invalid"), "{text}");
        assert!(text.contains("undecided: b_a1_100k"), "{text}");
    }

    #[test]
    fn narrow_terminal_wraps_instead_of_overflowing() {
        let text = group(&filled().iter().collect::<Vec<_>>(), Some(80)).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
